//! The sentence embedder against onnxruntime on the same file.

use std::path::Path;

use anyhow::Context;
use bubo::grounding::matcher::{Embedder, dot};
use bubo::tensor::Device;
use serde::Deserialize;

use super::file::max_abs_difference;
use super::{Difference, Golden, count_difference};
use crate::bundle::load_part;

/// A number of a vector of unit length. The bundle's scales are f16: each weight row is off by up to 2⁻¹¹ of its value,
/// at random, which six layers hand on; 1.3e-4 was the largest seen on the CPU engine, and engines sum in another order.
const TOLERANCE: f64 = 5e-4;

/// A cosine: the errors of 384 numbers at random mostly cancel; 1.6e-4 was the largest seen.
const COSINE_TOLERANCE: f64 = 5e-4;

#[derive(Deserialize)]
struct File {
    strings: Vec<String>,
    ids: Vec<Vec<u32>>,
    embeddings: Vec<Vec<f32>>,
    cosines: Vec<Vec<f32>>,
}

/// Runs `minilm` on the bundle's text embedder: each text alone, then all in one batch.
///
/// # Errors
/// If there is no bundle, or the model fails.
pub fn run(golden: &Golden, device: &Device, bundle: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let part = load_part(bundle, "text_embedder", device)?;
    let json = part.files.get("minilm_tokenizer.json").context("the text embedder has no tokeniser")?;
    let embedder = Embedder::load(&serde_json::from_value(part.config)?, &part.weights, json)?;
    let file: File = serde_json::from_value(golden.json().clone())?;
    let mut wrong = 0;
    let mut alone = Vec::new();
    for (text, ids) in file.strings.iter().zip(&file.ids) {
        wrong += usize::from(&embedder.token_ids(text)? != ids);
        alone.extend(pollster::block_on(embedder.embed(&[text.as_str()]))?);
    }
    let texts: Vec<&str> = file.strings.iter().map(String::as_str).collect();
    let batch = pollster::block_on(embedder.embed(&texts))?;
    let worst = |found: &[Vec<f32>]| {
        found.iter().zip(&file.embeddings).map(|(found, wanted)| max_abs_difference(wanted, found)).fold(0.0, f64::max)
    };
    let cosines = batch.iter().zip(&file.cosines).map(|(a, wanted)| {
        let found: Vec<f32> = batch.iter().map(|b| dot(a, b)).collect();
        max_abs_difference(wanted, &found)
    });
    let cosines = cosines.fold(0.0, f64::max);
    let difference = |name: &str, max_abs, tolerance| Difference { name: name.into(), max_abs, tolerance };
    Ok(vec![
        count_difference("ids", wrong),
        difference("embeddings", worst(&alone), TOLERANCE),
        difference("embeddings in one batch", worst(&batch), TOLERANCE),
        difference("cosines", cosines, COSINE_TOLERANCE),
    ])
}
