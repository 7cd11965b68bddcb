//! Colours of things, and which thing has which.

use serde::Serialize;

/// A colour in two shades, sRGB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Color {
    /// Its name.
    pub name: &'static str,
    /// For boxes, outlines and the background of labels.
    pub dark: [u8; 3],
    /// For masks and the background of phrases.
    pub light: [u8; 3],
}

const fn color(name: &'static str, dark: [u8; 3], light: [u8; 3]) -> Color {
    Color { name, dark, light }
}

/// All colours of the original, in its order. The last one, grey, is never given to a thing.
///
/// Source: magic-research/bubogpt, grounding colours @ 17c72b5.
pub const PALETTE: [Color; 12] = [
    color("red", [220, 38, 38], [254, 226, 226]),
    color("pink", [236, 64, 122], [248, 187, 208]),
    color("orange", [234, 88, 12], [255, 237, 213]),
    color("yellow", [234, 179, 8], [254, 249, 195]),
    color("blue", [37, 99, 235], [219, 234, 254]),
    color("teal", [38, 166, 154], [128, 203, 196]),
    color("indigo", [92, 107, 192], [159, 168, 218]),
    color("green", [22, 163, 74], [220, 252, 231]),
    color("purple", [171, 71, 188], [206, 147, 216]),
    color("deep_purple", [126, 87, 194], [179, 157, 219]),
    color("brown", [141, 110, 99], [188, 170, 164]),
    color("grey", [189, 189, 189], [238, 238, 238]),
];

/// Colours that are given to things, from the first on.
pub const USED_COLORS: usize = 11;

impl Color {
    /// The light shade as CSS writes it: `#fee2e2`.
    pub fn light_hex(&self) -> String {
        hex(self.light)
    }

    /// The dark shade as CSS writes it.
    pub fn dark_hex(&self) -> String {
        hex(self.dark)
    }
}

fn hex([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Gives each tag a colour, in the order in which tags are first seen; the twelfth has the first's again.
#[derive(Debug, Clone, Default)]
pub struct Palette {
    tags: Vec<String>,
}

impl Palette {
    /// A palette with the tags of all things already in it, in their order.
    pub fn of_tags<'a>(tags: impl IntoIterator<Item = &'a str>) -> Self {
        let mut palette = Self::default();
        for tag in tags {
            palette.color(tag);
        }
        palette
    }

    /// The tag's colour; a new tag gets the next one.
    pub fn color(&mut self, tag: &str) -> Color {
        let rank = self.tags.iter().position(|known| known == tag).unwrap_or_else(|| {
            self.tags.push(tag.to_owned());
            self.tags.len() - 1
        });
        PALETTE[rank % USED_COLORS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_twelfth_tag_has_the_colour_of_the_first() {
        let names: Vec<String> = (0..12).map(|i| format!("tag {i}")).collect();
        let mut palette = Palette::of_tags(names.iter().map(String::as_str));
        assert_eq!(palette.color("tag 11"), palette.color("tag 0"));
        assert_eq!(palette.color("tag 10").name, "brown");
        assert_eq!(palette.color("tag 0").light_hex(), "#fee2e2");
        assert_eq!(palette.color("tag 0").dark_hex(), "#dc2626");
    }
}
