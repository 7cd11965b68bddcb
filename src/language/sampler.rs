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

/// A token that may go on with a beam.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// Which beam.
    pub beam: usize,
    /// The token.
    pub id: u32,
    /// The beam's score with it.
    pub score: f32,
}

/// Chooses the tokens of one answer.
pub struct Sampler {
    sampling: Sampling,
    dice: LogitsProcessor,
    /// For what has been cut already: draws among all.
    plain_dice: LogitsProcessor,
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
        let plain_dice = LogitsProcessor::from_sampling(sampling.seed, CandleSampling::All { temperature: 1.0 });
        Ok(Self { dice: LogitsProcessor::from_sampling(sampling.seed, kind), plain_dice, sampling })
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
    pub(super) fn adjust(&self, logits: &mut [f32], answer: &[u32], banned: &[u32]) {
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

    /// Up to `count` different tokens that may go on with the beams, the best first.
    ///
    /// - `rows`: of each beam, the score that it would have with each token
    /// - `is_first`: all beams are the same; without randomness only the first then counts
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the scores are not numbers.
    pub(super) fn next_of_beams(&mut self, rows: &[Vec<f32>], count: usize, is_first: bool) -> Result<Vec<Candidate>> {
        for row in rows {
            first_of_largest(row)?;
        }
        let is_drawn = self.sampling.temperature > 0.0;
        let rows = if is_first && !is_drawn { &rows[..1] } else { rows };
        let mut candidates: Vec<Candidate> = Vec::new();
        for (beam, row) in rows.iter().enumerate() {
            let kept = if is_drawn { self.cut(row) } else { likeliest(row, count) };
            candidates.extend(kept.into_iter().map(|(id, score)| Candidate { beam, id, score }));
        }
        if is_drawn {
            candidates = self.drawn(candidates, count)?;
        }
        candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
        candidates.truncate(count);
        Ok(candidates)
    }

    /// What temperature, top k and top p leave of a beam's tokens, two of them at least: of fewer no two beams could go on.
    /// As in the original the temperature changes the whole score, not the last token's part alone.
    fn cut(&self, row: &[f32]) -> Vec<(u32, f32)> {
        let Sampling { temperature, top_k, top_p, .. } = self.sampling;
        let mut kept = likeliest(row, if top_k == 0 { row.len() } else { top_k.max(2) });
        kept.iter_mut().for_each(|(_, score)| *score /= temperature);
        let shares = log_softmax(&kept.iter().map(|(_, score)| *score).collect::<Vec<_>>());
        let mut before = 0.0;
        let within = shares.iter().take_while(|share| {
            let is_within = before < top_p;
            before += share.exp();
            is_within
        });
        let within = within.count();
        kept.truncate(within.max(2));
        kept
    }

    /// Draws `count` of the candidates, none twice, each with the probability that its score says.
    fn drawn(&mut self, mut candidates: Vec<Candidate>, count: usize) -> Result<Vec<Candidate>> {
        let mut drawn = Vec::with_capacity(count);
        while drawn.len() < count && !candidates.is_empty() {
            let scores: Vec<f32> = candidates.iter().map(|candidate| candidate.score).collect();
            let scores = log_softmax(&scores);
            let scores = candle_core::Tensor::from_vec(scores, candidates.len(), &candle_core::Device::Cpu)?;
            let at = self.plain_dice.sample(&scores)? as usize;
            drawn.push(candidates.remove(at));
        }
        Ok(drawn)
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

/// The `count` largest of a row with their places, the largest first and the first of equals; what is banned is not among
/// them.
fn likeliest(row: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut order: Vec<(u32, f32)> = (0..).zip(row.iter().copied()).filter(|(_, x)| *x > f32::NEG_INFINITY).collect();
    let by_score = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
    if count < order.len() {
        order.select_nth_unstable_by(count, by_score);
        order.truncate(count);
    }
    order.sort_unstable_by(by_score);
    order
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

    fn sampler(sampling: Sampling) -> Sampler {
        Sampler::new(sampling).expect("the settings are fine")
    }

    #[test]
    fn the_best_tokens_of_all_beams_go_on() {
        let rows = [vec![-1.0, -4.0, f32::NEG_INFINITY], vec![-2.0, -2.0, -0.5]];
        let found = |count, is_first| -> Vec<(usize, u32)> {
            let found = sampler(Sampling::default()).next_of_beams(&rows, count, is_first).expect("numbers");
            assert!(found.is_sorted_by(|a, b| a.score >= b.score));
            found.into_iter().map(|candidate| (candidate.beam, candidate.id)).collect()
        };
        assert_eq!(found(4, false), [(1, 2), (0, 0), (1, 0), (1, 1)]);
        assert_eq!(found(4, true), [(0, 0), (0, 1)], "what is banned is never taken");
        let broken = [vec![0.0, f32::NAN]];
        assert!(sampler(Sampling::default()).next_of_beams(&broken, 2, false).is_err());
    }

    #[test]
    fn tokens_of_beams_are_drawn_by_their_scores_and_none_twice() {
        let rows: [Vec<f32>; 2] = [[0.4f32, 0.1], [0.3, 0.2]].map(|row| row.map(f32::ln).to_vec());
        let plain = Sampling { temperature: 1.0, ..Sampling::default() };
        let mut dice = sampler(plain.clone());
        let (draws, mut counts) = (4000, [[0; 2]; 2]);
        for _ in 0..draws {
            let drawn = dice.next_of_beams(&rows, 1, true).expect("numbers")[0];
            counts[drawn.beam][drawn.id as usize] += 1;
        }
        for (row, expected) in counts.iter().zip([[0.4, 0.1], [0.3, 0.2]]) {
            for (count, expected) in row.iter().zip(expected) {
                // Four standard deviations of a share over 4000 draws are at most 0.032.
                assert!((f64::from(*count) / f64::from(draws) - expected).abs() < 0.032, "{counts:?}");
            }
        }
        let mut all: Vec<(usize, u32)> =
            dice.next_of_beams(&rows, 9, false).expect("numbers").into_iter().map(|c| (c.beam, c.id)).collect();
        all.sort_unstable();
        assert_eq!(all, [(0, 0), (0, 1), (1, 0), (1, 1)]);

        // Two tokens of a beam stay, whatever the settings leave.
        let row: Vec<f32> = [0.9f32, 0.06, 0.04].iter().map(|share| share.ln()).collect();
        for cut in [Sampling { top_p: 0.1, ..plain.clone() }, Sampling { top_k: 1, ..plain.clone() }] {
            assert_eq!(sampler(cut).cut(&row).iter().map(|(id, _)| *id).collect::<Vec<_>>(), [0, 1]);
        }
        let warm = sampler(Sampling { temperature: 2.0, top_p: 0.99, ..plain }).cut(&row);
        assert_eq!(warm.len(), 3);
        assert!((warm[0].1 - row[0] / 2.0).abs() < 1e-6, "the whole score is divided");
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
