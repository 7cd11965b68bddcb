//! Beam search: several answers grow side by side, and the likeliest is taken.
//!
//! Kept as the original's library does it, sampling included: the two settings that its demo offers are the number of
//! beams and the temperature, and it always draws. Source: transformers 4.28.1, generation/utils.py (`beam_search`,
//! `beam_sample`) and generation/beam_search.py (`BeamSearchScorer`), length penalty 1, `early_stopping` false.
//!
//! All beams live in one cache: a step adds a place for each, and a mask shows every beam its own places only. What no
//! beam needs any more is dropped when the cache is full.

use super::LanguageModel;
use super::chat::{GenerationOptions, StopReason};
use super::context::Context;
use super::sampler::{Candidate, Sampler, log_softmax};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::tensor::Tensor;

/// Most beams that are taken; the original's demo offers up to 10.
pub(super) const MOST_BEAMS: usize = 16;

/// An answer that grows.
#[derive(Debug, Clone, Default)]
struct Beam {
    ids: Vec<u32>,
    /// Sum of the logarithms of its tokens' probabilities.
    score: f32,
    /// Where its tokens lie in the cache, behind the prompt; the last one is not there yet.
    places: Vec<usize>,
}

impl Beam {
    /// Score a token. The start token counts, as in the original.
    fn mean(&self) -> f32 {
        self.score / (1 + self.ids.len()) as f32
    }
}

/// Ended answers: the best, as many as there are beams.
struct Ended {
    most: usize,
    beams: Vec<Beam>,
}

impl Ended {
    fn add(&mut self, beam: Beam) {
        self.beams.push(beam);
        self.beams.sort_by(|a, b| b.mean().total_cmp(&a.mean()));
        self.beams.truncate(self.most);
    }

    /// Whether no beam of so many tokens can become better than the worst of these.
    fn are_settled(&self, best_score: f32, tokens: usize) -> bool {
        let worst = self.beams.last().filter(|_| self.beams.len() == self.most);
        worst.is_some_and(|worst| worst.mean() >= best_score / (1 + tokens) as f32)
    }
}

/// Where answers are looked for.
pub(super) struct Search<'a> {
    pub model: &'a LanguageModel,
    pub host: &'a dyn Host,
    pub options: &'a GenerationOptions,
}

impl Search<'_> {
    /// The likeliest answer behind what `context` has read, of which `last` `[1, 1, hidden_size]` came out, and why the
    /// search ended. `on_step` hears before every step how many tokens the beams have. The context is left as it was.
    ///
    /// # Errors
    /// [`Error::Cancelled`] if the host says so; [`Error::Corrupt`] if the logits are not numbers; those of the engine
    /// and of `on_step`.
    pub async fn run(
        &self,
        context: &mut Context,
        last: &Tensor,
        sampler: &mut Sampler,
        mut on_step: impl FnMut(usize),
    ) -> Result<(Vec<u32>, StopReason)> {
        let prompt = context.len();
        let found = self.grow(context, last, sampler, &mut on_step).await;
        context.truncate(prompt);
        found
    }

    async fn grow(
        &self,
        context: &mut Context,
        last: &Tensor,
        sampler: &mut Sampler,
        on_step: &mut dyn FnMut(usize),
    ) -> Result<(Vec<u32>, StopReason)> {
        let LanguageModel { llama, settings, .. } = self.model;
        let (count, prompt) = (self.options.num_beams, context.len());
        let mut beams = vec![Beam::default(); count];
        let mut ended = Ended { most: count, beams: Vec::new() };
        let first = llama.logits(last)?.to_f32().await?;
        let mut logits = vec![first; count];
        let reason = loop {
            let tokens = beams[0].ids.len();
            on_step(tokens);
            let too_short = tokens < self.options.min_new_tokens;
            let banned: &[u32] = if too_short { &settings.chat.stop.ids } else { &[] };
            let rows: Vec<Vec<f32>> = logits
                .iter()
                .zip(&beams)
                .map(|(logits, beam)| {
                    let mut row = log_softmax(logits);
                    sampler.adjust(&mut row, &beam.ids, banned);
                    row.iter_mut().for_each(|logarithm| *logarithm += beam.score);
                    row
                })
                .collect();
            let candidates = sampler.next_of_beams(&rows, 2 * count, tokens == 0)?;
            let best_score = candidates.first().map_or(f32::NEG_INFINITY, |best| best.score);
            beams = self.survivors(&beams, &candidates, &mut ended);
            if beams.is_empty() || ended.are_settled(best_score, tokens) {
                break StopReason::Stop;
            }
            if self.has_stopped(&beams[0].ids)? {
                break StopReason::Stop;
            }
            if beams[0].ids.len() >= self.options.max_new_tokens {
                break StopReason::Length;
            }
            if !make_room(context, prompt, &mut beams)? {
                break StopReason::Context;
            }
            self.host.breathe().await?;
            logits = self.read(context, prompt, &mut beams).await?;
        };
        beams.into_iter().for_each(|beam| ended.add(beam));
        Ok((ended.beams.into_iter().next().map_or_else(Vec::new, |best| best.ids), reason))
    }

    /// The beams of the next step. Answers that a candidate ends are done, if it is among the best.
    fn survivors(&self, beams: &[Beam], candidates: &[Candidate], ended: &mut Ended) -> Vec<Beam> {
        let mut next = Vec::with_capacity(ended.most);
        for (rank, candidate) in candidates.iter().enumerate() {
            let mut beam = beams[candidate.beam].clone();
            beam.score = candidate.score;
            if self.model.settings.chat.stop.ids.contains(&candidate.id) {
                if rank < ended.most {
                    ended.add(beam);
                }
            } else if next.len() < ended.most {
                beam.ids.push(candidate.id);
                next.push(beam);
            }
        }
        next
    }

    /// Whether an answer ends with a run of tokens, or holds a text, that ends it; as in the original the best beam's
    /// answer decides.
    fn has_stopped(&self, ids: &[u32]) -> Result<bool> {
        let rules = &self.model.settings.chat.stop;
        if rules.match_ids(ids) {
            return Ok(true);
        }
        if rules.strings.is_empty() {
            return Ok(false);
        }
        let text = self.model.tokenizer.decode(ids)?;
        Ok(rules.strings.iter().any(|stop| !stop.is_empty() && text.contains(stop)))
    }

    /// Reads the last token of every beam: the logits behind each.
    async fn read(&self, context: &mut Context, prompt: usize, beams: &mut [Beam]) -> Result<Vec<Vec<f32>>> {
        let llama = &self.model.llama;
        let start = context.len();
        for (row, beam) in beams.iter_mut().enumerate() {
            beam.places.push(start + row);
        }
        let ids: Vec<u32> = beams.iter().filter_map(|beam| beam.ids.last().copied()).collect();
        let branches: Vec<&[usize]> = beams.iter().map(|beam| beam.places.as_slice()).collect();
        let hidden = context.push_branches(llama, &ids, prompt, &branches)?; // [1, beams, hidden_size]
        let logits = llama.logits(&hidden)?.to_f32().await?;
        Ok(logits.chunks_exact(llama.config().vocab_size).map(<[f32]>::to_vec).collect())
    }
}

/// Makes sure that the cache has a place for every beam, if need be by dropping what no beam needs; says whether it has.
fn make_room(context: &mut Context, prompt: usize, beams: &mut [Beam]) -> Result<bool> {
    // A position further than the model knows does not become possible by dropping others.
    let position = prompt + beams[0].places.len();
    if position >= context.max_positions() {
        return Ok(false);
    }
    if context.len() + beams.len() <= context.max_positions() {
        return Ok(true);
    }
    let mut kept: Vec<usize> = beams.iter().flat_map(|beam| beam.places.iter().copied()).collect();
    kept.sort_unstable();
    kept.dedup();
    context.keep_branches(prompt, &kept)?;
    for beam in beams.iter_mut() {
        for place in &mut beam.places {
            let rank = kept.binary_search(place);
            *place = prompt + rank.map_err(|_| Error::shape("beam search", "a place that was not kept"))?;
        }
    }
    Ok(context.len() + beams.len() <= context.max_positions())
}
