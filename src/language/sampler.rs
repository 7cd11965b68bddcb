//! Which token comes next.

use std::collections::BTreeSet;

use candle_transformers::generation::{LogitsProcessor, Sampling as CandleSampling};
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// How tokens are chosen. Applied in this order: banned tokens, repetition penalty, temperature, top k, top p.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct Sampling {
    /// 0 takes the most likely token; 1 samples as the model was trained; more is wilder.
    pub temperature: f32,
    /// Only the k most likely tokens remain; 0 keeps all.
    pub top_k: usize,
    /// Only the fewest tokens remain whose probabilities reach this sum; 1 keeps all.
    pub top_p: f32,
    /// Above 1, tokens that the answer already has become less likely; 1 does nothing.
    pub repetition_penalty: f32,
    /// The same seed gives the same answer.
    pub seed: u64,
}

impl Default for Sampling {
    /// The most likely token, always.
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, repetition_penalty: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// The original's settings: sampling at temperature 1 from the top 50 and then the top 0.9.
    ///
    /// Source: bubogpt @ 17c72b5, eval_scripts/conversation.py, `Chat.answer`; 50 is the default of transformers 4.28.
    pub fn original() -> Self {
        Self { temperature: 1.0, top_k: 50, top_p: 0.9, ..Self::default() }
    }

    fn check(&self) -> Result<()> {
        let fine = self.temperature >= 0.0
            && self.temperature.is_finite()
            && self.top_p > 0.0
            && self.repetition_penalty > 0.0
            && self.repetition_penalty.is_finite();
        if fine {
            return Ok(());
        }
        Err(Error::Input(format!(
            "temperature should be 0 or more, top_p and repetition_penalty above 0, found {}, {}, {}",
            self.temperature, self.top_p, self.repetition_penalty
        )))
    }
}

/// Chooses the tokens of one answer.
pub struct Sampler {
    sampling: Sampling,
    dice: LogitsProcessor,
}

impl std::fmt::Debug for Sampler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sampler").field("sampling", &self.sampling).finish_non_exhaustive()
    }
}

impl Sampler {
    /// Starts from the seed.
    ///
    /// # Errors
    /// [`Error::Input`] for settings without meaning.
    pub fn new(sampling: Sampling) -> Result<Self> {
        sampling.check()?;
        let kind = if sampling.top_p < 1.0 {
            CandleSampling::TopP { p: f64::from(sampling.top_p), temperature: 1.0 }
        } else {
            CandleSampling::All { temperature: 1.0 }
        };
        Ok(Self { dice: LogitsProcessor::from_sampling(sampling.seed, kind), sampling })
    }

    /// Chooses from the logits of one place, `vocab_size` in all whatever the axes. `answer` holds the tokens so far;
    /// `banned` ones are not chosen.
    ///
    /// Without randomness, penalty and bans the choice is made where the logits are, and 4 bytes are read back.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the logits are not numbers; those of the engine.
    pub async fn next(&mut self, logits: &Tensor, answer: &[u32], banned: &[u32]) -> Result<u32> {
        let vocabulary = logits.element_count();
        let penalised = self.sampling.repetition_penalty != 1.0 && !answer.is_empty();
        if self.sampling.temperature == 0.0 && !penalised && banned.is_empty() {
            let best = logits.reshape(&[1, vocabulary])?.argmax()?.to_u32().await?;
            return best.first().copied().ok_or_else(|| Error::shape("sampler", "there are no logits"));
        }
        let mut logits = logits.to_f32().await?;
        self.adjust(&mut logits, answer, banned);
        self.choose(&logits)
    }

    /// Bans, and the penalty of transformers' `RepetitionPenaltyLogitsProcessor`: towards unlikely, whatever the sign.
    fn adjust(&self, logits: &mut [f32], answer: &[u32], banned: &[u32]) {
        let penalty = self.sampling.repetition_penalty;
        for id in answer.iter().collect::<BTreeSet<_>>() {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit = if *logit < 0.0 { *logit * penalty } else { *logit / penalty };
            }
        }
        for id in banned {
            if let Some(logit) = logits.get_mut(*id as usize) {
                *logit = f32::NEG_INFINITY;
            }
        }
    }

    fn choose(&mut self, logits: &[f32]) -> Result<u32> {
        let best = first_of_largest(logits)?;
        if self.sampling.temperature == 0.0 {
            return Ok(best);
        }
        // The k most likely come to the front; among them the library normalises, cuts at top p and draws.
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        let by_logit = |a: &u32, b: &u32| logits[*b as usize].total_cmp(&logits[*a as usize]).then(a.cmp(b));
        if self.sampling.top_k > 0 && self.sampling.top_k < order.len() {
            order.select_nth_unstable_by(self.sampling.top_k, by_logit);
            order.truncate(self.sampling.top_k);
            // In a fixed order, so that a seed gives the same draw on every platform.
            order.sort_unstable_by(by_logit);
        }
        let largest = logits[best as usize];
        let scaled: Vec<f32> =
            order.iter().map(|id| (logits[*id as usize] - largest) / self.sampling.temperature).collect();
        let scaled = candle_core::Tensor::from_vec(scaled, order.len(), &candle_core::Device::Cpu)?;
        Ok(order[self.dice.sample(&scaled)? as usize])
    }
}

/// Index of the largest logit, the first of equals.
fn first_of_largest(logits: &[f32]) -> Result<u32> {
    let mut best = 0;
    for (id, logit) in logits.iter().enumerate() {
        if *logit > logits[best] {
            best = id;
        }
    }
    if logits.get(best).is_none_or(|logit| !logit.is_finite()) || logits.iter().any(|logit| logit.is_nan()) {
        return Err(Error::corrupt("language model", "its logits are not numbers; the weights may be damaged"));
    }
    Ok(best as u32)
}

/// Logarithms of the softmax of `logits`.
pub(crate) fn log_softmax(logits: &[f32]) -> Vec<f32> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // In f64, because 49,152 small addends are summed.
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    logits.iter().map(|logit| logit - largest - sum.ln() as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::Device;

    fn draw(sampling: Sampling, logits: &[f32], answer: &[u32], banned: &[u32], count: usize) -> Vec<u32> {
        let logits = Tensor::from_f32(logits, &[1, 1, logits.len()], &Device::Cpu).expect("the counts agree");
        let mut sampler = Sampler::new(sampling).expect("the settings are fine");
        (0..count)
            .map(|_| pollster::block_on(sampler.next(&logits, answer, banned)).expect("the logits are numbers"))
            .collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest_and_obeys_bans_and_penalty() {
        let logits = [1.0, 4.0, 4.0, -1.0];
        assert_eq!(draw(Sampling::default(), &logits, &[], &[], 2), [1, 1]);
        assert_eq!(draw(Sampling::default(), &logits, &[], &[1], 1), [2]);
        let penalty = Sampling { repetition_penalty: 1.5, ..Sampling::default() };
        assert_eq!(draw(penalty.clone(), &logits, &[1], &[], 1), [2]);
        assert_eq!(draw(penalty, &[-1.0, -1.2], &[0, 0], &[], 1), [1], "a negative logit is multiplied, and once");
    }

    #[test]
    fn draws_follow_the_probabilities_of_what_top_k_and_top_p_leave() {
        let logits: Vec<f32> = [0.5f32, 0.25, 0.15, 0.1].iter().map(|p| p.ln()).collect();
        let count = 4000;
        let cases = [
            (Sampling { temperature: 1.0, ..Sampling::default() }, [0.5, 0.25, 0.15, 0.1]),
            (Sampling { temperature: 1.0, top_k: 2, ..Sampling::default() }, [2.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]),
            (
                Sampling { temperature: 1.0, top_p: 0.8, ..Sampling::default() },
                [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0.0],
            ),
            // Top p goes by what top k left: .5 / .75 reaches .6 alone.
            (Sampling { temperature: 1.0, top_k: 2, top_p: 0.6, ..Sampling::default() }, [1.0, 0.0, 0.0, 0.0]),
            (Sampling { temperature: 0.5, ..Sampling::default() }, [0.7246, 0.1812, 0.0652, 0.0290]),
        ];
        for (sampling, expected) in cases {
            let drawn = draw(sampling.clone(), &logits, &[], &[], count);
            assert_eq!(drawn, draw(sampling.clone(), &logits, &[], &[], count), "one seed, two runs");
            for (id, expected) in expected.into_iter().enumerate() {
                let share = drawn.iter().filter(|drawn| **drawn == id as u32).count() as f64 / count as f64;
                // Four standard deviations of a share over 4000 draws are at most 0.032.
                assert!((share - expected).abs() < 0.032, "{sampling:?}: token {id} {share} of {expected}");
                assert!(expected > 0.0 || share == 0.0, "{sampling:?}: token {id} was cut off");
            }
        }
    }

    #[test]
    fn logits_and_settings_without_meaning_are_refused() {
        for logits in [&[f32::NAN, 1.0][..], &[f32::NEG_INFINITY; 2], &[f32::INFINITY, 0.0], &[0.0, f32::NAN]] {
            assert!(first_of_largest(logits).is_err(), "{logits:?}");
        }
        for sampling in [
            Sampling { temperature: -1.0, ..Sampling::default() },
            Sampling { temperature: f32::NAN, ..Sampling::default() },
            Sampling { top_p: 0.0, ..Sampling::default() },
            Sampling { repetition_penalty: 0.0, ..Sampling::default() },
        ] {
            assert!(Sampler::new(sampling.clone()).is_err(), "{sampling:?}");
        }
    }

    #[test]
    fn log_probabilities_sum_to_one() {
        let sum: f32 = log_softmax(&[100.0, 99.0, -300.0]).iter().map(|p| p.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    }
}
