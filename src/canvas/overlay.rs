//! What is drawn over a picture: which things, in which colours, with which labels.

use serde::Serialize;

use super::{Color, Outline, Palette, outlines};
use crate::grounding::Thing;
use crate::grounding::matcher::Entity;
use crate::media::BoxPx;

/// How an overlay looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Look {
    /// A translucent fill and a crisp outline in the thing's colour; the rest dimmed while a phrase is highlighted.
    #[default]
    Modern,
    /// As the original draws: a box of 10 pixels (after an answer, by size), masks in the light shade, blended half
    /// and half; in the preview over black.
    Original,
}

/// One thing in an overlay. Later layers lie over earlier ones.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Layer {
    /// Index of the thing.
    pub thing: usize,
    /// Tag, or the phrase of the answer.
    pub label: String,
    /// The colour of the tag.
    pub color: Color,
    /// The thing's box.
    pub box_px: BoxPx,
    /// Edges of its mask.
    pub outlines: Vec<Outline>,
}

/// All that is drawn over a picture.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Overlay {
    /// How it looks.
    pub look: Look,
    /// Share of the layer's colour in the pixels of a mask, 0..1.
    pub fill: f32,
    /// Share of its own light that a pixel outside of all masks keeps, 0..1.
    pub rest: f32,
    /// Width of outlines (modern look) or boxes (original look) in pixels.
    pub outline_width_px: usize,
    /// Height of the letters of labels in pixels.
    pub text_height_px: usize,
    /// From the lowest to the topmost.
    pub layers: Vec<Layer>,
}

/// The original's unit of width: `int(min(height, width) / 512 · factor)`.
fn scaled(size: [usize; 2], factor: f32) -> usize {
    (size[0].min(size[1]) as f32 / 512.0 * factor) as usize
}

impl Overlay {
    /// Everything that was found, before any question. `size`: height and width of the picture.
    pub fn preview(things: &[Thing], size: [usize; 2], look: Look) -> Self {
        let labelled = (0..things.len()).map(|thing| (thing, things[thing].tag.clone())).collect();
        let mut overlay = Self::new(things, labelled, size, look);
        if look == Look::Original {
            overlay.rest = 0.5;
            overlay.outline_width_px = 10;
        }
        overlay
    }

    /// What an answer names; with `highlighted`, an index into `entities`, only what that phrase means.
    pub fn answer(
        things: &[Thing],
        entities: &[Entity],
        highlighted: Option<usize>,
        size: [usize; 2],
        look: Look,
    ) -> Self {
        let mut labelled: Vec<(usize, String)> = Vec::new();
        for (index, entity) in entities.iter().enumerate() {
            if highlighted.is_some_and(|highlighted| highlighted != index) {
                continue;
            }
            for thing in entity.things.iter().filter(|thing| **thing < things.len()) {
                if !labelled.iter().any(|(known, _)| known == thing) {
                    labelled.push((*thing, entity.phrase.clone()));
                }
            }
        }
        let mut overlay = Self::new(things, labelled, size, look);
        if look == Look::Modern && highlighted.is_some() {
            overlay.rest = 0.55;
        }
        overlay
    }

    fn new(things: &[Thing], labelled: Vec<(usize, String)>, size: [usize; 2], look: Look) -> Self {
        let mut palette = Palette::of_tags(things.iter().map(|thing| thing.tag.as_str()));
        let mut layers: Vec<Layer> = labelled
            .into_iter()
            .map(|(index, label)| {
                let thing = &things[index];
                let color = palette.color(&thing.tag);
                Layer { thing: index, label, color, box_px: thing.box_px, outlines: outlines(&thing.mask) }
            })
            .collect();
        let modern = look == Look::Modern;
        if modern {
            // Large things first, so that small ones in front of them can be seen.
            layers.sort_by_key(|layer| std::cmp::Reverse(things[layer.thing].mask.area_px()));
        }
        Self {
            look,
            fill: if modern { 0.38 } else { 0.5 },
            rest: 1.0,
            outline_width_px: if modern { scaled(size, 4.0).max(2) } else { scaled(size, 10.0) },
            text_height_px: if modern { scaled(size, 18.0).max(8) } else { scaled(size, 30.0).max(8) },
            layers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Mask;

    fn things() -> Vec<Thing> {
        let thing = |tag: &str, area: usize| Thing {
            tag: tag.into(),
            aliases: vec![],
            score: 0.5,
            box_px: BoxPx::from([0.0, 0.0, 2.0, 2.0]),
            mask: Mask::new(3, 3, (0..9).map(|i| i < area).collect()),
            taught: false,
        };
        vec![thing("dog", 1), thing("cat", 5), thing("dog", 3)]
    }

    #[test]
    fn colours_follow_the_tags_and_widths_the_size() {
        let things = things();
        let preview = Overlay::preview(&things, [512, 700], Look::Original);
        let names: Vec<&str> = preview.layers.iter().map(|layer| layer.color.name).collect();
        assert_eq!(names, ["red", "pink", "red"]);
        assert_eq!((preview.outline_width_px, preview.rest), (10, 0.5));
        let modern = Overlay::preview(&things, [512, 700], Look::Modern);
        let order: Vec<usize> = modern.layers.iter().map(|layer| layer.thing).collect();
        assert_eq!((order, modern.outline_width_px), (vec![1, 2, 0], 4));
    }

    #[test]
    fn an_answer_shows_what_it_names() {
        let entity = |phrase: &str, things: Vec<usize>| Entity { phrase: phrase.into(), start: 0, end: 1, things };
        let entities = [entity("the cat", vec![1]), entity("two dogs", vec![0, 2]), entity("gone", vec![99])];
        let all = Overlay::answer(&things(), &entities, None, [1000, 600], Look::Original);
        assert_eq!(
            all.layers.iter().map(|layer| layer.label.as_str()).collect::<Vec<_>>(),
            ["the cat", "two dogs", "two dogs"]
        );
        assert_eq!((all.outline_width_px, all.text_height_px, all.rest), (11, 35, 1.0));
        let one = Overlay::answer(&things(), &entities, Some(0), [1000, 600], Look::Modern);
        assert_eq!((one.layers.len(), one.rest), (1, 0.55));
    }
}
