//! Whether features show something that was taught: the nearest mean of its examples, by cosine, from a threshold on.
//!
//! Nearest class mean is what few-shot methods are measured against (Snell et al. 2017, Prototypical Networks; Wang et
//! al. 2019, SimpleShot) and needs no training. Tried beside it on such views as `bubo eval-taught` makes, and not better
//! or worse: centred features, the classifier's logits, whitening, the nearest example, and taking off what resembles the
//! classifier's own prototypes. Pooling the middle of a box is what counted: one example found .77 of the other views at
//! 0.7 % false alarms, where the plain mean over the box found .37 at 1 %.

use super::{Sense, Taught};

/// Cosine to the mean of examples from which on a thing in a picture is taken for it. Measured on EfficientNet-lite0.
const THING_COSINE: f32 = 0.55;
/// The same for a patch of a sound. Measured on YAMNet.
const SOUND_COSINE: f32 = 0.75;
/// What is as near to a counterexample as to an example, up to rounding, is refuted.
const TIE: f32 = 1e-5;

/// Whether the rule was measured on a model's features: cosines of other models lie elsewhere.
pub fn is_measured(model: &str) -> bool {
    matches!(model, "imagenet_efficientnet_lite0" | "yamnet")
}

/// A class that features were taken for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Match {
    /// Its place among the recogniser's classes.
    pub class: usize,
    /// Confidence, .5 at the threshold to 1 for what equals the mean of the examples.
    pub score: f32,
}

/// The taught classes of one sense, ready to be compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Recogniser {
    classes: Vec<Prototype>,
    least_cosine: f32,
}

/// A taught class as it is compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Prototype {
    /// What it is called.
    pub name: String,
    /// The broader kind.
    pub kind: Option<String>,
    /// Mean of the examples, of unit length as they are.
    mean: Vec<f32>,
    examples: Vec<Vec<f32>>,
    counterexamples: Vec<Vec<f32>>,
}

impl Recogniser {
    /// Takes the classes of one sense; none if nothing of it was taught.
    pub fn new(taught: &Taught, sense: Sense) -> Option<Self> {
        let least_cosine = match sense {
            Sense::Picture => THING_COSINE,
            Sense::Sound => SOUND_COSINE,
        };
        let units = |vectors: &[Vec<f32>]| vectors.iter().map(|vector| unit(vector)).collect::<Vec<_>>();
        let classes: Vec<Prototype> = taught
            .classes()
            .iter()
            .filter(|class| class.sense == sense)
            .map(|class| {
                let examples = units(&class.examples);
                let counterexamples = units(&class.counterexamples);
                let (name, kind) = (class.name.clone(), class.kind.clone());
                Prototype { name, kind, mean: mean(&examples), examples, counterexamples }
            })
            .collect();
        (!classes.is_empty()).then_some(Self { classes, least_cosine })
    }

    /// The classes.
    pub fn classes(&self) -> &[Prototype] {
        &self.classes
    }

    /// Every class that the features could be of, best first.
    pub fn matches(&self, features: &[f32]) -> Vec<Match> {
        let features = unit(features);
        let mut found: Vec<Match> =
            (0..self.classes.len()).filter_map(|class| self.matched(class, &features)).collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found
    }

    fn matched(&self, class: usize, features: &[f32]) -> Option<Match> {
        let Prototype { mean, examples, counterexamples, .. } = &self.classes[class];
        let nearest = |vectors: &[Vec<f32>]| vectors.iter().map(|other| dot(other, features)).fold(-1.0, f32::max);
        let cosine = dot(mean, features);
        let refuted = nearest(counterexamples) + TIE >= cosine.max(nearest(examples));
        let score = 0.5 + 0.5 * (cosine - self.least_cosine) / (1.0 - self.least_cosine);
        (cosine >= self.least_cosine && !refuted).then_some(Match { class, score: score.min(1.0) })
    }
}

impl Prototype {
    /// Cosine of features to the class, −1..1.
    pub fn cosine(&self, features: &[f32]) -> f32 {
        dot(&self.mean, &unit(features))
    }
}

/// The same direction at length 1.
fn unit(vector: &[f32]) -> Vec<f32> {
    let length = dot(vector, vector).sqrt().max(f32::MIN_POSITIVE);
    vector.iter().map(|x| x / length).collect()
}

fn mean(vectors: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0.0; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
    }
    unit(&sum)
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::super::Lesson;
    use super::super::tests::{lesson, taught};
    use super::*;

    #[test]
    fn the_nearest_mean_wins_and_strangers_stay_strangers() {
        let mut taught = taught();
        for (name, features) in
            [("Rex", [1.0, 0.2, 0.0, 0.0]), ("Rex", [1.0, 0.0, 0.2, 0.0]), ("mug", [0.0, 0.0, 1.0, 0.6])]
        {
            taught.learn(lesson(name, features)).expect("an example");
        }
        let recogniser = Recogniser::new(&taught, Sense::Picture).expect("two classes");
        let name = |features: &[f32]| {
            recogniser.matches(features).first().map(|found| recogniser.classes()[found.class].name.clone())
        };
        assert_eq!(name(&[2.0, 0.1, 0.1, 0.0]), Some("Rex".into()));
        assert_eq!(name(&[0.0, 0.1, 0.9, 0.6]), Some("mug".into()));
        assert_eq!(name(&[0.1, 1.0, 0.1, 0.0]), None);
        assert!(Recogniser::new(&taught, Sense::Sound).is_none());
        let same = recogniser.matches(&[1.0, 0.1, 0.1, 0.0]);
        assert!((same[0].score - 1.0).abs() < 1e-4, "{same:?}");
    }

    #[test]
    fn a_counterexample_takes_back_what_is_nearer_to_it() {
        let mut taught = taught();
        taught.learn(lesson("Rex", [1.0, 0.0, 0.0, 0.0])).expect("an example");
        let other = [0.8, 0.6, 0.0, 0.0];
        let is_rex = |taught: &Taught, features: &[f32]| {
            !Recogniser::new(taught, Sense::Picture).expect("one class").matches(features).is_empty()
        };
        assert!(is_rex(&taught, &other));
        taught.learn(Lesson { counterexample: true, ..lesson("Rex", other) }).expect("a counterexample");
        assert!(!is_rex(&taught, &other));
        assert!(is_rex(&taught, &[1.0, 0.1, 0.0, 0.0]));
        let same = [0.3, 0.1, 0.7, 0.2];
        taught.learn(lesson("Tom", same)).expect("an example");
        taught.learn(Lesson { counterexample: true, ..lesson("Tom", same) }).expect("a counterexample");
        assert!(!is_rex(&taught, &same), "the very example, taken back");
    }
}
