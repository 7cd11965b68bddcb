//! The edges of a mask as closed lines.

use serde::Serialize;

use crate::media::Mask;

/// A closed line along the edges of pixels, corner points in pixels, collinear ones left out. The mask lies to the
/// right of the way; holes therefore run the other way round, and even-odd filling gives the mask back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Outline {
    /// `[x, y]` of the corners.
    pub points: Vec<[u32; 2]>,
}

/// Steps right, down, left, up: the mask is to the right of each.
const STEPS: [[i64; 2]; 4] = [[1, 0], [0, 1], [-1, 0], [0, -1]];

/// All edges of a mask, outer ones and holes, in the order in which their first pixel comes from the top. Pixels that
/// touch by a corner only belong together.
pub fn outlines(mask: &Mask) -> Vec<Outline> {
    let (width, height) = (mask.width() as i64, mask.height() as i64);
    let inside =
        |x: i64, y: i64| (0..width).contains(&x) && (0..height).contains(&y) && mask.inside()[(y * width + x) as usize];
    // Whether the edge from corner (x, y) on in a direction has the mask to its right and none to its left.
    let edge = |x: i64, y: i64, direction: usize| match direction {
        0 => inside(x, y) && !inside(x, y - 1),
        1 => inside(x - 1, y) && !inside(x, y),
        2 => inside(x - 1, y - 1) && !inside(x - 1, y),
        _ => inside(x, y - 1) && !inside(x - 1, y - 1),
    };
    let mut seen = vec![false; mask.inside().len()];
    let mut lines = Vec::new();
    for y in 0..height {
        for x in 0..width {
            // Every closed line has a step to the right somewhere: start at the first that is not yet taken.
            if seen[(y * width + x) as usize] || !edge(x, y, 0) {
                continue;
            }
            let (mut at, mut direction, mut points) = ([x, y], 0, vec![]);
            loop {
                if direction == 0 {
                    seen[(at[1] * width + at[0]) as usize] = true;
                }
                at = [at[0] + STEPS[direction][0], at[1] + STEPS[direction][1]];
                // Left first: pixels that touch by a corner are one region.
                let turns = [(direction + 3) % 4, direction, (direction + 1) % 4];
                let next = turns.into_iter().find(|turn| edge(at[0], at[1], *turn)).unwrap_or(turns[2]);
                if next != direction {
                    points.push([at[0] as u32, at[1] as u32]);
                }
                direction = next;
                if at == [x, y] && direction == 0 {
                    break;
                }
            }
            lines.push(Outline { points });
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(rows: &[&str]) -> Mask {
        let inside = rows.iter().flat_map(|row| row.chars().map(|c| c == '#')).collect();
        Mask::new(rows.first().map_or(0, |row| row.len()), rows.len(), inside)
    }

    /// Even-odd filling at the centre of every pixel.
    fn fill(lines: &[Outline], width: usize, height: usize) -> Mask {
        let mut inside = vec![false; width * height];
        for line in lines {
            for (i, a) in line.points.iter().enumerate() {
                let b = line.points[(i + 1) % line.points.len()];
                let (top, bottom) = (a[1].min(b[1]) as usize, a[1].max(b[1]) as usize);
                for y in top..bottom {
                    for x in a[0] as usize..width {
                        inside[y * width + x] ^= true;
                    }
                }
            }
        }
        Mask::new(width, height, inside)
    }

    #[test]
    fn filling_the_outlines_gives_the_mask_back() {
        let cases: [(&[&str], usize); 7] = [
            (&["."], 0),
            (&["#"], 1),
            (&["###", "#.#", "###"], 2),
            (&["#.", ".#"], 1),
            (&[".#", "#."], 1),
            (&["##..##", "##..##"], 2),
            (&["#####", "#.#.#", "##.##", "#...#", "#####"], 4),
        ];
        for (rows, count) in cases {
            let mask = mask(rows);
            let lines = outlines(&mask);
            assert_eq!(fill(&lines, mask.width(), mask.height()), mask, "{rows:?}");
            assert_eq!(lines.len(), count, "{rows:?}: {lines:?}");
        }
        assert_eq!(outlines(&mask(&["##", "##"]))[0].points.len(), 4);
        assert!(outlines(&Mask::new(0, 0, vec![])).is_empty());
    }

    #[test]
    fn filling_gives_any_mask_back() {
        proptest::proptest!(|(width in 1usize..12, inside in proptest::collection::vec(proptest::bool::ANY, 0..130))| {
            let height = inside.len() / width;
            let mask = Mask::new(width, height, inside);
            assert_eq!(fill(&outlines(&mask), width, height), mask);
        });
    }
}
