//! Words and things that belong together or not, through the whole matcher with the bundle's text embedder.

use std::path::Path;

use anyhow::{Context, ensure};
use async_trait::async_trait;
use bubo::grounding::matcher::{Embedder, MatchMode, Matcher, Names, Pairing};
use bubo::tensor::Device;
use pollster::block_on;
use serde::Deserialize;

use super::{Difference, Golden};
use crate::bundle::load_part;

/// Share of words of things in the picture that may stay alone. Where nothing is certain nothing is coloured.
const MISSED: f64 = 0.25;

/// Share of coloured words that may be wrong.
const WRONG: f64 = 0.05;

/// The same where a language model that is always wrong is asked as well.
const WRONG_WITH_A_MODEL: f64 = 0.1;

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
    let found = |pairs: &[[String; 2]], mode: MatchMode| -> anyhow::Result<usize> {
        let mut found = 0;
        for [word, tag] in pairs {
            let names = Names { tag: tag.clone(), aliases: Vec::new() };
            let answer = format!("I can see the {word}.");
            let entities = block_on(matcher.entities_by(mode, &Credulous { word }, &answer, &[names]))?;
            found += usize::from(!entities.is_empty());
        }
        Ok(found)
    };
    let mut differences = Vec::new();
    for (mode, name, most_wrong) in [(MatchMode::Lexicon, "", WRONG), (MatchMode::Both, " (both)", WRONG_WITH_A_MODEL)]
    {
        let (right, wrong) = (found(&pairs.same, mode)?, found(&pairs.other, mode)?);
        let missed = 1.0 - right as f64 / pairs.same.len() as f64;
        let share = wrong as f64 / (right + wrong).max(1) as f64;
        differences.push(Difference { name: format!("share missed{name}"), max_abs: missed, tolerance: MISSED });
        differences.push(Difference { name: format!("share wrong{name}"), max_abs: share, tolerance: most_wrong });
    }
    Ok(differences)
}

/// The worst that a language model can do within the grammar: it pairs every word with everything.
struct Credulous<'a> {
    word: &'a str,
}

#[async_trait(?Send)]
impl Pairing for Credulous<'_> {
    async fn reply(&self, _: &str, names: &[String]) -> bubo::Result<String> {
        Ok(names.iter().map(|name| format!("{} - {name}\n", self.word)).collect())
    }
}
