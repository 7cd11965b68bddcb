//! The language model's network on small seeded weights.

use std::path::Path;

use anyhow::ensure;
use bubo::language::Llama;
use bubo::language::llama::Config;
use bubo::nn::KvCache;
use bubo::tensor::{Device, Tensor};
use pollster::block_on;

use super::{Difference, Golden, count_difference, tolerance};

/// Answers that the golden continues greedily.
const GREEDY_TOKENS: usize = 16;
/// The golden's cached run takes so many tokens in its first call, then one a call.
const FIRST_STEP: usize = 4;

/// What is computed with keys and values that the GPU engine keeps as f16.
const CACHED: [&str; 2] = ["out.step_logits", "out.greedy_spliced_logits"];
/// Their tolerance there, as a part of the largest value.
const HALF_TOLERANCE: f64 = 1e-2;

fn largest(values: &[f32]) -> f64 {
    values.iter().map(|x| f64::from(x.abs())).fold(0.0, f64::max)
}

/// Runs `llama_mha` and `llama_gqa`: intermediates, logits at once and step by step, spliced embeddings, greedy ids.
///
/// # Errors
/// If the weights do not fit or the engine fails.
pub fn run(golden: &Golden, device: &Device, _bundle: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let config: Config = golden.config()?;
    let weights = golden.weights(device)?;
    let llama = Llama::load(&config, &weights)?;
    weights.finish()?;
    let allowed = tolerance(golden.component(), device);
    let mut differences = Vec::new();
    let mut compare = |name: &str, found: &Tensor| -> anyhow::Result<()> {
        let cached = CACHED.contains(&name) && !matches!(device, Device::Cpu);
        let allowed = if cached { HALF_TOLERANCE * largest(&golden.f32(name)?) } else { allowed };
        differences.push(golden.compare(name, found, allowed)?);
        Ok(())
    };

    let ids = golden.u32("in.ids")?;
    let embeddings = llama.embed(&ids)?;
    compare("mid.embed", &embeddings)?;
    let mut observed = Vec::new();
    let hidden =
        llama.forward_observed(&embeddings, None, &mut |name, x| observed.push((name.to_owned(), x.clone())))?;
    for (name, x) in &observed {
        compare(&format!("mid.{name}"), x)?;
    }
    compare("mid.final_norm", &hidden)?;
    compare("out.logits", &llama.logits(&hidden)?)?;
    compare("out.step_logits", &step_logits(&llama, &ids)?)?;

    let spliced = spliced_embeddings(golden, &llama, device)?;
    compare("in.spliced_embeds", &spliced)?;
    compare("out.spliced_logits", &llama.logits(&llama.forward(&spliced, None)?)?)?;
    let (spliced_ids, logits) = greedy(&llama, &spliced)?;
    compare("out.greedy_spliced_logits", &logits)?;
    let (plain_ids, _) = greedy(&llama, &embeddings)?;
    for (name, found) in [("out.greedy_spliced_ids", spliced_ids), ("out.greedy_ids", plain_ids)] {
        let expected = golden.u32(name)?;
        ensure!(expected.len() == found.len(), "{name}: {} ids", expected.len());
        differences.push(count_difference(name, expected.iter().zip(&found).filter(|(a, b)| a != b).count()));
    }
    Ok(differences)
}

fn spliced_embeddings(golden: &Golden, llama: &Llama, device: &Device) -> anyhow::Result<Tensor> {
    let before = llama.embed(&golden.u32("in.seg0_ids")?)?;
    let modality = golden.tensor("in.modality_embeds", device)?;
    let after = llama.embed(&golden.u32("in.seg1_ids")?)?;
    Ok(Tensor::concat(&[&before, &modality, &after], 1)?)
}

fn step_logits(llama: &Llama, ids: &[u32]) -> anyhow::Result<Tensor> {
    let mut cache = llama.new_cache(usize::MAX);
    let mut steps = Vec::new();
    let (first, rest) = ids.split_at(FIRST_STEP.min(ids.len()));
    for step in [first].into_iter().chain(rest.chunks(1)) {
        steps.push(llama.logits(&llama.forward(&llama.embed(step)?, Some(&mut cache))?)?);
    }
    Ok(Tensor::concat(&steps.iter().collect::<Vec<_>>(), 1)?)
}

/// Greedy continuation: ids, and the logits `[tokens, vocabulary]` from which each was chosen.
fn greedy(llama: &Llama, embeddings: &Tensor) -> anyhow::Result<(Vec<u32>, Tensor)> {
    let mut cache: KvCache = llama.new_cache(usize::MAX);
    let (mut ids, mut all) = (Vec::new(), Vec::new());
    let mut x = embeddings.clone();
    for _ in 0..GREEDY_TOKENS {
        let hidden = llama.forward(&x, Some(&mut cache))?;
        let last = hidden.narrow(1, hidden.dims()[1] - 1, 1)?; // [1, 1, hidden]
        let logits = llama.logits(&last)?.reshape(&[1, llama.config().vocab_size])?;
        ids.extend(block_on(logits.argmax()?.to_u32())?);
        all.push(logits);
        x = llama.embed(&ids[ids.len() - 1..])?;
    }
    Ok((ids, Tensor::concat(&all.iter().collect::<Vec<_>>(), 0)?))
}
