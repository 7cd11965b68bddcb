//! Masks as COCO's run lengths: columns from the left, each from the top, first the length of a run outside.
//!
//! Source of the string form: cocodataset/cocoapi, common/maskApi.c (rleToString, rleFrString).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::media::Mask;

/// Largest picture that is decoded, in pixels: beyond what any stage here makes, below what would hurt.
const MAX_PIXELS: usize = 1 << 28;

/// A mask in COCO's compressed form.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rle {
    /// Height and width.
    pub size: [usize; 2],
    /// Run lengths as text: five bits and a flag a character, differences to the run before the last.
    pub counts: String,
}

impl Rle {
    /// Encodes a mask.
    pub fn encode(mask: &Mask) -> Self {
        Self { size: [mask.height(), mask.width()], counts: counts_to_string(&run_lengths(mask)) }
    }

    /// Lengths of runs outside and inside in turn: COCO's uncompressed form.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the text is no run lengths.
    pub fn run_lengths(&self) -> Result<Vec<usize>> {
        string_to_counts(&self.counts)
    }

    /// Decodes it.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the text is no run lengths or they do not fill the size.
    pub fn decode(&self) -> Result<Mask> {
        let [height, width] = self.size;
        let damaged = |reason: &str| Error::corrupt("run-length mask", reason);
        let pixels = height.checked_mul(width).filter(|pixels| *pixels <= MAX_PIXELS);
        let pixels = pixels.ok_or_else(|| damaged("the size is larger than any picture"))?;
        let counts = self.run_lengths()?;
        if counts.iter().try_fold(0usize, |sum, count| sum.checked_add(*count)) != Some(pixels) {
            return Err(damaged("the runs do not fill the size"));
        }
        let mut inside = vec![false; pixels];
        let mut at = 0;
        for (run, count) in counts.into_iter().enumerate() {
            if run % 2 == 1 {
                for place in at..at + count {
                    inside[place % height * width + place / height] = true;
                }
            }
            at += count;
        }
        Ok(Mask::new(width, height, inside))
    }
}

/// Lengths of runs outside and inside in turn, down the columns.
fn run_lengths(mask: &Mask) -> Vec<usize> {
    let (width, height, inside) = (mask.width(), mask.height(), mask.inside());
    let (mut counts, mut run, mut current) = (Vec::new(), 0, false);
    for x in 0..width {
        for y in 0..height {
            if inside[y * width + x] != current {
                counts.push(run);
                (run, current) = (0, !current);
            }
            run += 1;
        }
    }
    counts.push(run);
    counts
}

fn counts_to_string(counts: &[usize]) -> String {
    let mut text = String::new();
    for (i, count) in counts.iter().enumerate() {
        // From the fourth run on, the difference to the run of the same kind before it.
        let mut rest = *count as i64 - if i > 2 { counts[i - 2] as i64 } else { 0 };
        loop {
            let bits = (rest & 31) as u8;
            rest >>= 5;
            let more = if bits & 16 != 0 { rest != -1 } else { rest != 0 };
            text.push(char::from(bits + 48 + if more { 32 } else { 0 }));
            if !more {
                break;
            }
        }
    }
    text
}

fn string_to_counts(text: &str) -> Result<Vec<usize>> {
    let damaged = |reason: &str| Error::corrupt("run-length mask", reason);
    let mut counts: Vec<i64> = Vec::new();
    let mut bytes = text.bytes();
    while let Some(mut byte) = bytes.next() {
        let (mut value, mut shift) = (0i64, 0);
        loop {
            let bits = byte.checked_sub(48).filter(|bits| *bits < 64);
            let bits = i64::from(bits.ok_or_else(|| damaged("a character that no mask has"))?);
            if shift > 30 {
                return Err(damaged("a run longer than any picture"));
            }
            value |= (bits & 31) << shift;
            shift += 5;
            if bits & 32 == 0 {
                if bits & 16 != 0 {
                    value |= -1 << shift;
                }
                break;
            }
            byte = bytes.next().ok_or_else(|| damaged("the text ends within a number"))?;
        }
        if counts.len() > 2 {
            value += counts[counts.len() - 2];
        }
        counts.push(value);
    }
    counts
        .into_iter()
        .map(|count| usize::try_from(count).map_err(|_| damaged("a run of less than no pixels")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Golden {
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        size: [usize; 2],
        uncompressed: Vec<usize>,
        counts: String,
    }

    fn mask_of([height, width]: [usize; 2], counts: &[usize]) -> Mask {
        let mut inside = vec![false; height * width];
        let mut at = 0;
        for (run, count) in counts.iter().enumerate() {
            for place in at..at + count {
                inside[place % height * width + place / height] = run % 2 == 1;
            }
            at += count;
        }
        Mask::new(width, height, inside)
    }

    #[test]
    fn strings_are_those_of_pycocotools() {
        let golden: Golden =
            serde_json::from_str(include_str!("../../tests/golden/coco_rle.json")).expect("the golden is valid");
        assert!(golden.cases.len() >= 10);
        for case in &golden.cases {
            let mask = mask_of(case.size, &case.uncompressed);
            let rle = Rle::encode(&mask);
            assert_eq!(rle, Rle { size: case.size, counts: case.counts.clone() });
            assert_eq!(run_lengths(&mask), case.uncompressed);
            assert_eq!(rle.decode().expect("its own encoding"), mask);
        }
    }

    #[test]
    fn damaged_strings_are_errors() {
        for (size, counts) in [
            ([2, 2], ""),
            ([2, 2], "5"),
            ([2, 2], "\u{7f}"),
            ([2, 2], "oooooooooooooo"),
            ([2, 2], "é"),
            ([2, 2], "M7"),
            ([usize::MAX, 2], "04"),
            ([100_000, 100_000], "0"),
            ([2, 2], "04o"),
        ] {
            let rle = Rle { size, counts: counts.into() };
            assert_eq!(rle.decode().expect_err(counts).code(), "corrupt");
        }
    }

    #[test]
    fn any_short_string_ends_in_a_mask_or_an_error() {
        proptest::proptest!(|(counts in "[0-o]{0,12}", height in 0usize..9, width in 0usize..9)| {
            if let Ok(mask) = (Rle { size: [height, width], counts }).decode() {
                assert_eq!((mask.width(), mask.height()), (width, height));
            }
        });
    }
}
