//! What the colours of a thing are called.

use super::{Mask, RgbImage};

/// The eleven basic colour terms of English (Berlin and Kay, Basic Color Terms, 1969).
const NAMES: [&str; 11] =
    ["black", "white", "grey", "red", "orange", "brown", "yellow", "green", "blue", "purple", "pink"];
/// A colour that covers less of the thing than this is not named beside another.
const LEAST_SHARE: f32 = 0.25;
/// More pixels than about this many tell nothing new.
const MOST_SAMPLES: usize = 20_000;

/// The one or two colours that cover most of a thing, most of it first; none for an empty mask.
///
/// - `mask`: in the size of `image`
pub fn named_colors(image: &RgbImage, mask: &Mask) -> Vec<&'static str> {
    let inside: Vec<usize> = (0..mask.inside().len()).filter(|at| mask.inside()[*at]).collect();
    let mut counts = [0usize; NAMES.len()];
    for at in inside.iter().step_by(inside.len() / MOST_SAMPLES + 1) {
        if let Some(&[r, g, b]) = image.pixels().as_chunks::<3>().0.get(*at) {
            counts[basic_color(r, g, b)] += 1;
        }
    }
    let total: usize = counts.iter().sum();
    let mut ranked: Vec<usize> = (0..NAMES.len()).filter(|color| counts[*color] > 0).collect();
    ranked.sort_by_key(|color| std::cmp::Reverse(counts[*color]));
    let covers = |color: &usize| counts[*color] as f32 >= LEAST_SHARE * total as f32;
    let named = ranked.iter().enumerate().filter(|(rank, color)| *rank == 0 || covers(color));
    named.take(2).map(|(_, color)| NAMES[*color]).collect()
}

/// Index into [`NAMES`], by hue, saturation and value: dark orange is brown, light red is pink.
fn basic_color(r: u8, g: u8, b: u8) -> usize {
    let [r, g, b] = [r, g, b].map(|x| f32::from(x) / 255.0);
    let (value, low) = (r.max(g).max(b), r.min(g).min(b));
    let chroma = value - low;
    let saturation = if value > 0.0 { chroma / value } else { 0.0 };
    let named = |name: &str| NAMES.iter().position(|known| *known == name).unwrap_or(0);
    if value < 0.2 || (value < 0.3 && chroma < 0.12) {
        return named("black");
    }
    if saturation < 0.15 || chroma < 0.08 {
        return named(if value > 0.75 { "white" } else { "grey" });
    }
    let hue_degrees = 60.0
        * if value == r {
            ((g - b) / chroma).rem_euclid(6.0)
        } else if value == g {
            (b - r) / chroma + 2.0
        } else {
            (r - g) / chroma + 4.0
        };
    let vivid = value > 0.75 && saturation > 0.6;
    named(match hue_degrees {
        ..12.0 | 345.0.. if saturation < 0.5 && value > 0.75 => "pink",
        ..12.0 | 345.0.. => "red",
        ..45.0 if vivid => "orange",
        ..45.0 if saturation < 0.25 && value > 0.85 => "white",
        ..45.0 => "brown",
        ..70.0 if value < 0.45 => "brown",
        ..70.0 => "yellow",
        ..165.0 => "green",
        ..255.0 => "blue",
        ..290.0 => "purple",
        _ if value < 0.5 => "purple",
        _ => "pink",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_have_their_common_names() {
        let cases = [
            ([5, 5, 8], "black"),
            ([250, 248, 245], "white"),
            ([128, 130, 127], "grey"),
            ([200, 20, 30], "red"),
            ([150, 40, 30], "red"),
            ([250, 140, 20], "orange"),
            ([120, 75, 40], "brown"),
            ([196, 154, 108], "brown"),
            ([250, 230, 50], "yellow"),
            ([50, 120, 40], "green"),
            ([40, 80, 200], "blue"),
            ([130, 60, 190], "purple"),
            ([250, 150, 180], "pink"),
        ];
        for ([r, g, b], name) in cases {
            assert_eq!(NAMES[basic_color(r, g, b)], name, "{r} {g} {b}");
        }
    }

    #[test]
    fn only_colours_that_cover_much_of_the_thing_are_named() {
        let mut pixels = [[255, 255, 255]; 10];
        pixels[..4].fill([0, 0, 0]);
        pixels[9] = [255, 0, 0];
        let image = RgbImage::new(10, 1, pixels.as_flattened().to_vec()).expect("ten pixels");
        let mask = |inside: [bool; 10]| Mask::new(10, 1, inside.to_vec());
        assert_eq!(named_colors(&image, &mask([true; 10])), ["white", "black"]);
        let mut last = [false; 10];
        last[9] = true;
        assert_eq!(named_colors(&image, &mask(last)), ["red"]);
        assert!(named_colors(&image, &mask([false; 10])).is_empty());
    }
}
