//! SmolLM2 as the package ships it: tokeniser, probabilities and greedy text.

use std::path::Path;

use anyhow::{Context, ensure};
use bubo::language::{Detokenizer, LanguageModel, Message, Role};
use bubo::tensor::{Device, Precision};
use pollster::block_on;
use serde::Deserialize;

use super::{Difference, Golden, count_difference, tolerance};
use crate::part;

/// Below this distance of the two largest probabilities either token may be the greedy one.
const CLEAR_MARGIN: f64 = 0.002;

/// Share of places at which the path that answers use may prefer another token than float32.
const ALLOWED_DISAGREEMENT: f64 = 0.02;
/// Mean difference of log-probabilities that the path that answers use may have.
const ALLOWED_MEAN_DIFFERENCE: f64 = 0.03;

#[derive(Deserialize)]
struct Tokenized {
    text: String,
    ids: Vec<u32>,
    ids_special: Vec<u32>,
}

#[derive(Deserialize)]
struct Prompt {
    user: String,
    system: String,
    text: String,
    prompt_ids: Vec<u32>,
    f32_greedy_ids: Vec<u32>,
    f32_p1: Vec<f64>,
    f32_p2: Vec<f64>,
    f32_top10: Vec<Top>,
}

#[derive(Deserialize)]
struct Top {
    id: u32,
    logprob: f32,
}

/// Runs `smollm2` on the language part of `bundle`, or on its checkpoint where `bundle` is that file.
///
/// # Errors
/// If there is no such part, or it fails.
pub fn run(golden: &Golden, device: &Device, bundle: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let bundle = bundle.context("this golden needs the bundle: make it with `cargo xtask bundle` and name it")?;
    let model = part::load_language(bundle, device, Precision::Full)?;
    let mut differences = tokenizer(golden, &model)?;
    differences.extend(prompts(golden, device, &model)?);
    if matches!(device, Device::Cpu) {
        let shipped = part::load_language(bundle, device, Precision::default())?;
        differences.extend(shipped_differences(golden, &model, &shipped)?);
    }
    Ok(differences)
}

/// How far the activations that answers use are from float32 when both read the same prompts and answers: the share of places at which
/// they prefer another token, and the mean difference of the log-probability of the token that float32 prefers.
fn shipped_differences(
    golden: &Golden,
    full: &LanguageModel,
    shipped: &LanguageModel,
) -> anyhow::Result<Vec<Difference>> {
    let prompts: Vec<Prompt> = serde_json::from_value(golden.json()["prompts"].clone())?;
    let (mut other, mut apart, mut places) = (0usize, 0f64, 0usize);
    for prompt in &prompts {
        let ids: Vec<u32> = prompt.prompt_ids.iter().chain(&prompt.f32_greedy_ids).copied().collect();
        for (full, shipped) in rows(full, &ids, 0)?.iter().zip(rows(shipped, &ids, 0)?) {
            let best = index_of_largest(full);
            other += usize::from(best != index_of_largest(&shipped));
            apart += (full[best] - shipped[best]).abs();
            places += 1;
        }
    }
    ensure!(places > 0, "the golden has no answers");
    let mean =
        |name: &str, sum: f64, tolerance| Difference { name: name.into(), max_abs: sum / places as f64, tolerance };
    Ok(vec![
        mean("prompts.shipped_disagreement", other as f64, ALLOWED_DISAGREEMENT),
        mean("prompts.shipped_logprob_mean", apart, ALLOWED_MEAN_DIFFERENCE),
    ])
}

/// All strings, with and without special tokens, and the way back in one go and as a stream.
fn tokenizer(golden: &Golden, model: &LanguageModel) -> anyhow::Result<Vec<Difference>> {
    let cases: Vec<Tokenized> = serde_json::from_value(golden.json()["tokenize"].clone())?;
    ensure!(!cases.is_empty(), "the golden has no strings");
    let (mut plain, mut special, mut back, mut streamed) = (0, 0, 0, 0);
    for case in &cases {
        plain += usize::from(model.tokenizer.encode(&case.text)? != case.ids);
        special += usize::from(model.tokenizer.encode_with_special(&case.text)? != case.ids_special);
        back += usize::from(model.tokenizer.decode(&case.ids)? != case.text);
        let mut stream = Detokenizer::default();
        let mut text = String::new();
        for id in &case.ids {
            text += &stream.push(&model.tokenizer, *id)?;
        }
        text += &stream.finish(&model.tokenizer)?;
        streamed += usize::from(text != case.text);
    }
    Ok(vec![
        count_difference("tokenize.ids", plain),
        count_difference("tokenize.ids_special", special),
        count_difference("tokenize.decoded", back),
        count_difference("tokenize.streamed", streamed),
    ])
}

/// Prompts through the chat template, first-token log-probabilities, greedy ids and their probabilities.
fn prompts(golden: &Golden, device: &Device, model: &LanguageModel) -> anyhow::Result<Vec<Difference>> {
    let prompts: Vec<Prompt> = serde_json::from_value(golden.json()["prompts"].clone())?;
    ensure!(!prompts.is_empty(), "the golden has no prompts");
    let (mut wrong_prompts, mut wrong_greedy, mut first, mut p1) = (0, 0, 0f64, 0f64);
    for prompt in &prompts {
        let messages = [Message::text(Role::System, &*prompt.system), Message::text(Role::User, &*prompt.user)];
        let items = model.read_prompt(&messages)?.items;
        let tokens: Vec<_> = prompt.prompt_ids.iter().map(|id| bubo::language::Item::Token(*id)).collect();
        let same_text = model.tokenizer.encode_with_special(&prompt.text)? == prompt.prompt_ids;
        wrong_prompts += usize::from(items != tokens || !same_text);

        // Prompt and answer but its last token: what comes after the prompt, and after each of these.
        let ids: Vec<u32> = prompt.prompt_ids.iter().chain(&prompt.f32_greedy_ids).copied().collect();
        let rows = rows(model, &ids[..ids.len() - 1], prompt.prompt_ids.len() - 1)?;
        ensure!(rows.len() == prompt.f32_p1.len(), "{} probabilities", prompt.f32_p1.len());
        for top in &prompt.f32_top10 {
            first = first.max((rows[0][top.id as usize] - f64::from(top.logprob)).abs());
        }
        for (place, row) in rows.iter().enumerate() {
            let clear = prompt.f32_p1[place] - prompt.f32_p2[place] > CLEAR_MARGIN;
            let best = index_of_largest(row);
            wrong_greedy += usize::from(clear && best != prompt.f32_greedy_ids[place] as usize);
            p1 = p1.max((row[best].exp() - prompt.f32_p1[place]).abs());
        }
    }
    let allowed = tolerance(golden.component(), device);
    let close = |name: &str, max_abs| Difference { name: name.into(), max_abs, tolerance: allowed };
    Ok(vec![
        count_difference("prompts.prompt_ids", wrong_prompts),
        close("prompts.f32_top10.logprob", first),
        close("prompts.f32_p1", p1),
        count_difference("prompts.f32_greedy_ids", wrong_greedy),
    ])
}

/// Log-probabilities after every token from `first` on, all in one pass.
fn rows(model: &LanguageModel, ids: &[u32], first: usize) -> anyhow::Result<Vec<Vec<f64>>> {
    let hidden = model.llama.forward(&model.llama.embed(ids)?, None)?;
    let wanted = hidden.narrow(1, first, ids.len() - first)?;
    let logits = block_on(model.llama.logits(&wanted)?.to_f32())?;
    Ok(logits.chunks_exact(model.llama.config().vocab_size).map(log_softmax).collect())
}

/// The first of equals.
fn index_of_largest(row: &[f64]) -> usize {
    (0..row.len()).fold(0, |best, id| if row[id] > row[best] { id } else { best })
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    logits.iter().map(|logit| f64::from(logit - largest) - sum.ln()).collect()
}
