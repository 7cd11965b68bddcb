//! Taught sounds along time.

use super::rule::Recogniser;

/// A taught sound where it is heard.
#[derive(Debug, Clone, PartialEq)]
pub struct HeardClass {
    /// Its place among the recogniser's classes.
    pub class: usize,
    /// Highest confidence of that while, .5 to 1.
    pub score: f32,
    /// Begin and end in seconds.
    pub span_s: [f32; 2],
}

/// Taught sounds, each for as long as neighbouring patches show it, in the order of time.
///
/// - `patches`: features of each patch
/// - `spans_s`: its begin and end in seconds
pub fn heard(recogniser: &Recogniser, patches: &[Vec<f32>], spans_s: &[[f32; 2]]) -> Vec<HeardClass> {
    let mut all: Vec<HeardClass> = Vec::new();
    let mut open: Option<HeardClass> = None;
    for (features, span_s) in patches.iter().zip(spans_s) {
        let best = recogniser.matches(features).first().copied();
        match (&mut open, best) {
            (Some(known), Some(best)) if known.class == best.class => {
                known.score = known.score.max(best.score);
                known.span_s[1] = span_s[1];
            }
            (_, best) => {
                all.extend(open.take());
                open = best.map(|best| HeardClass { class: best.class, score: best.score, span_s: *span_s });
            }
        }
    }
    all.extend(open);
    all
}

/// What a stretch of a sound is taught by: the mean of its patches, each counting the same. None if no patch lies in it.
pub fn features_of(patches: &[Vec<f32>], spans_s: &[[f32; 2]], [start_s, end_s]: [f32; 2]) -> Option<Vec<f32>> {
    let inside = |[start, end]: [f32; 2]| start < end_s && end > start_s;
    // A patch that only touches the stretch shows what lies beside it.
    let within = |span: [f32; 2]| (span[0] + span[1]) / 2.0 >= start_s && (span[0] + span[1]) / 2.0 <= end_s;
    let chosen = |test: &dyn Fn([f32; 2]) -> bool| -> Vec<&Vec<f32>> {
        patches.iter().zip(spans_s).filter(|(_, span)| test(**span)).map(|(patch, _)| patch).collect()
    };
    let mut patches = chosen(&within);
    if patches.is_empty() {
        patches = chosen(&inside);
    }
    let mut sum = vec![0.0; patches.first()?.len()];
    for patch in patches {
        let length = patch.iter().map(|x| x * x).sum::<f32>().sqrt().max(f32::MIN_POSITIVE);
        sum.iter_mut().zip(patch).for_each(|(sum, x)| *sum += x / length);
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{lesson, taught};
    use super::super::{Lesson, Sense};
    use super::*;

    #[test]
    fn neighbouring_patches_are_one_sound() {
        let mut taught = taught();
        let bell = Lesson { sense: Sense::Sound, features: vec![1.0, 0.0], ..lesson("our doorbell", [0.0; 4]) };
        taught.learn(bell).expect("an example");
        let recogniser = Recogniser::new(&taught, Sense::Sound).expect("one class");
        let patches = [[1.0, 0.1], [1.0, 0.0], [0.0, 1.0], [1.0, 0.2]].map(|patch| patch.to_vec());
        let spans = [[0.0, 1.0], [0.5, 1.5], [1.0, 2.0], [1.5, 2.5]];
        let found = heard(&recogniser, &patches, &spans);
        assert_eq!(found.iter().map(|heard| heard.span_s).collect::<Vec<_>>(), [[0.0, 1.5], [1.5, 2.5]]);
        assert!((found[0].score - 1.0).abs() < 1e-5);
        assert_eq!(features_of(&patches, &spans, [1.2, 1.8]), Some(vec![0.0, 1.0]));
        assert_eq!(features_of(&patches, &spans, [2.49, 2.6]).map(|sum| sum.len()), Some(2));
        assert_eq!(features_of(&patches, &spans, [9.0, 9.5]), None);
    }
}
