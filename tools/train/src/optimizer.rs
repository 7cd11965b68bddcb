//! AdamW with the original's rule of decay, its schedule, and clipping.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use candle_core::{Tensor, Var};
use serde::{Deserialize, Serialize};

/// Of the moments, and added to the root of the second one: PyTorch's defaults, as in the original.
const BETAS: (f64, f64) = (0.9, 0.999);
const EPS: f64 = 1e-8;

/// Learning rate over the run, and what holds the weights back.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Highest rate.
    pub learning_rate: f64,
    /// Where the cosine ends.
    pub least_learning_rate: f64,
    /// Where the warm-up starts.
    pub warm_up_learning_rate: f64,
    /// Steps of the linear warm-up.
    pub warm_up_steps: usize,
    /// Part of a weight that is taken off, times the rate.
    pub weight_decay: f64,
    /// Longest gradient, as the norm over all variables; the original does not clip.
    #[serde(default)]
    pub clip_norm: Option<f64>,
}

impl Schedule {
    /// Rate of step `step` (from 0) of `steps`. The cosine is not shifted by the warm-up, so there is a small jump where
    /// it ends.
    ///
    /// Source: bubogpt-spec 7.5, from bubogpt/common/optims.py, `LinearWarmupCosineLRScheduler`.
    pub fn rate(&self, step: usize, steps: usize) -> f64 {
        let Self { learning_rate, least_learning_rate, warm_up_learning_rate, warm_up_steps, .. } = *self;
        if step < warm_up_steps {
            let part = step as f64 / warm_up_steps as f64;
            return learning_rate.min(warm_up_learning_rate + (learning_rate - warm_up_learning_rate) * part);
        }
        let cosine = (std::f64::consts::PI * step as f64 / steps.max(1) as f64).cos();
        least_learning_rate + (learning_rate - least_learning_rate) * 0.5 * (1.0 + cosine)
    }
}

/// Whether weights of that name and rank decay.
///
/// Source: bubogpt-spec 7.5: two or more axes, and none of `bias`, `ln`, `bn` in the name.
pub fn decays(name: &str, rank: usize) -> bool {
    rank >= 2 && !["bias", "ln", "bn"].iter().any(|part| name.contains(part))
}

/// Running means of a variable's gradient and of its square.
#[derive(Debug, Clone, Default)]
pub struct Moments {
    /// Of the gradient.
    pub first: Vec<f32>,
    /// Of its square.
    pub second: Vec<f32>,
}

/// The optimiser's memory.
#[derive(Debug, Default)]
pub struct AdamW {
    /// By the variables' names.
    pub moments: BTreeMap<String, Moments>,
    /// Updates so far.
    pub updates: usize,
}

impl AdamW {
    /// Moves the variables against their gradients. Returns the norm of all gradients before clipping.
    ///
    /// - `rate`: learning rate of a variable by its name
    ///
    /// # Errors
    /// If a gradient is not finite: then nothing has been moved.
    pub fn update(
        &mut self,
        variables: &BTreeMap<String, Var>,
        gradients: &BTreeMap<String, Vec<f32>>,
        schedule: &Schedule,
        rate: impl Fn(&str) -> f64,
    ) -> Result<f64> {
        let square: f64 = gradients.values().flatten().map(|g| f64::from(*g) * f64::from(*g)).sum();
        let norm = square.sqrt();
        ensure!(norm.is_finite(), "the gradient is not finite; lower the learning rate");
        let factor = schedule.clip_norm.map_or(1.0, |most| (most / (norm + 1e-6)).min(1.0));
        self.updates += 1;
        let corrections = (1.0 - BETAS.0.powf(self.updates as f64), 1.0 - BETAS.1.powf(self.updates as f64));
        for (name, gradient) in gradients {
            let variable =
                variables.get(name).with_context(|| format!("a gradient of {name}, which does not learn"))?;
            let moments = self.moments.entry(name.clone()).or_default();
            moments.first.resize(gradient.len(), 0.0);
            moments.second.resize(gradient.len(), 0.0);
            let rate = rate(name);
            let kept = if decays(name, variable.rank()) { 1.0 - rate * schedule.weight_decay } else { 1.0 };
            let mut numbers = variable.flatten_all()?.to_vec1::<f32>()?;
            let places = numbers.iter_mut().zip(gradient).zip(moments.first.iter_mut().zip(&mut moments.second));
            for ((number, gradient), (first, second)) in places {
                let gradient = f64::from(*gradient) * factor;
                *first = (BETAS.0 * f64::from(*first) + (1.0 - BETAS.0) * gradient) as f32;
                *second = (BETAS.1 * f64::from(*second) + (1.0 - BETAS.1) * gradient * gradient) as f32;
                let direction = f64::from(*first) / corrections.0 / ((f64::from(*second) / corrections.1).sqrt() + EPS);
                *number = (f64::from(*number) * kept - rate * direction) as f32;
            }
            variable.set(&Tensor::from_vec(numbers, variable.shape(), variable.device())?)?;
        }
        Ok(norm)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn schedule() -> Schedule {
        Schedule {
            learning_rate: 0.1,
            least_learning_rate: 0.01,
            warm_up_learning_rate: 0.001,
            warm_up_steps: 10,
            weight_decay: 0.5,
            clip_norm: None,
        }
    }

    #[test]
    fn rates_follow_the_original() {
        let schedule = schedule();
        assert!((schedule.rate(0, 100) - 0.001).abs() < 1e-12);
        assert!((schedule.rate(5, 100) - 0.0505).abs() < 1e-12);
        // Not shifted by the warm-up: at step 10 of 100 the cosine has come down by a fortieth already.
        let expected = 0.01 + 0.09 * 0.5 * (1.0 + (0.1 * std::f64::consts::PI).cos());
        assert!((schedule.rate(10, 100) - expected).abs() < 1e-12);
        assert!((schedule.rate(100, 100) - 0.01).abs() < 1e-12);
    }

    #[test]
    fn only_matrices_decay() {
        assert!(decays("llama_proj.weight", 2) && decays("query_tokens", 3));
        assert!(!decays("llama_proj.bias", 1) && !decays("ln_vision.weight", 2) && !decays("norm.weight", 1));
    }

    /// One step of y = w · x with the loss (y − 3)² / 2 at w = 2, x = 4, by hand: the gradient is (8 − 3) · 4 = 20; the
    /// first moments are 2 and 0.4, corrected 20 and 400, so the direction is 1; w becomes 2 · (1 − 0.1 · 0.5) − 0.1. The
    /// second step has the gradient (7.2 − 3) · 4 = 16.8: moments 3.48 and 0.681840, corrected 18.315789 and 341.090545,
    /// direction 0.991722, w = 1.8 · 0.95 − 0.0991722.
    #[test]
    fn two_steps_are_as_computed_by_hand() {
        let w = Var::from_vec(vec![2f32], (1, 1), &Device::Cpu).unwrap();
        let x = Tensor::from_vec(vec![4f32], (1, 1), &Device::Cpu).unwrap();
        let variables = BTreeMap::from([("w".to_owned(), w.clone())]);
        let mut optimizer = AdamW::default();
        for (gradient, expected) in [(20.0, 1.8), (16.8, 1.610_827_8)] {
            let miss = (x.matmul(&w).unwrap() - 3.0).unwrap();
            let loss = (miss.sqr().unwrap() * 0.5).unwrap().sum_all().unwrap();
            let found = loss.backward().unwrap().get(&w).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert!((found[0] - gradient).abs() < 1e-4, "{found:?}");
            let gradients = BTreeMap::from([("w".to_owned(), found)]);
            optimizer.update(&variables, &gradients, &schedule(), |_| 0.1).unwrap();
            let w = w.flatten_all().unwrap().to_vec1::<f32>().unwrap()[0];
            assert!((w - expected).abs() < 1e-5, "{w}, by hand {expected}");
        }
    }

    #[test]
    fn long_gradients_are_shortened_and_broken_ones_refused() {
        let schedule = Schedule { clip_norm: Some(1.0), weight_decay: 0.0, ..schedule() };
        let a = Var::from_vec(vec![0f32, 0.0], 2, &Device::Cpu).unwrap();
        let variables = BTreeMap::from([("a".to_owned(), a.clone())]);
        let mut optimizer = AdamW::default();
        let gradients = BTreeMap::from([("a".to_owned(), vec![30.0, 40.0])]);
        assert_eq!(optimizer.update(&variables, &gradients, &schedule, |_| 0.1).unwrap(), 50.0);
        let first = &optimizer.moments["a"].first;
        assert!((first[0] - 0.06).abs() < 1e-6 && (first[1] - 0.08).abs() < 1e-6, "{first:?}");
        let before = a.to_vec1::<f32>().unwrap();
        let broken = BTreeMap::from([("a".to_owned(), vec![f32::NAN, 0.0])]);
        assert!(optimizer.update(&variables, &broken, &schedule, |_| 0.1).is_err());
        assert_eq!(a.to_vec1::<f32>().unwrap(), before);
    }
}
