//! Words and things that belong together or not, through the whole matcher with the bundle's text embedder.

use std::path::Path;

use anyhow::{Context, ensure};
use bubo::grounding::matcher::{Embedder, Matcher, Names};
use bubo::tensor::Device;
use pollster::block_on;
use serde::Deserialize;

use super::{Difference, Golden};
use crate::bundle::load_part;

/// Share of words of things in the picture that may stay alone. Where nothing is certain nothing is coloured.
const MISSED: f64 = 0.25;

/// Share of coloured words that may be wrong.
const WRONG: f64 = 0.05;

#[derive(Deserialize)]
struct Pairs {
    same: Vec<[String; 2]>,
    other: Vec<[String; 2]>,
}

/// Runs `matcher_pairs`. The differences are shares: of words that should have found their thing and did not, and of
/// words that found one and should not have.
///
/// # Errors
/// If there is no bundle, or the embedder fails.
pub fn run(golden: &Golden, device: &Device, bundle: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let part = load_part(bundle, "text_embedder", device)?;
    let json = part.files.get("minilm_tokenizer.json").context("the text embedder has no tokeniser")?;
    let embedder = Embedder::load(&serde_json::from_value(part.config)?, &part.weights, json)?;
    let matcher = Matcher { embedder: Some(&embedder), vote: None };
    let pairs: Pairs = serde_json::from_value(golden.json().clone())?;
    ensure!(!pairs.same.is_empty() && !pairs.other.is_empty(), "the golden has no pairs");
    let found = |pairs: &[[String; 2]]| -> anyhow::Result<usize> {
        let mut found = 0;
        for [word, tag] in pairs {
            let names = Names { tag: tag.clone(), aliases: Vec::new() };
            let entities = block_on(matcher.entities(&format!("I can see the {word}."), &[names]))?;
            found += usize::from(!entities.is_empty());
        }
        Ok(found)
    };
    let (right, wrong) = (found(&pairs.same)?, found(&pairs.other)?);
    let missed = 1.0 - right as f64 / pairs.same.len() as f64;
    let share = wrong as f64 / (right + wrong).max(1) as f64;
    Ok(vec![
        Difference { name: "share missed".into(), max_abs: missed, tolerance: MISSED },
        Difference { name: "share wrong".into(), max_abs: share, tolerance: WRONG },
    ])
}
