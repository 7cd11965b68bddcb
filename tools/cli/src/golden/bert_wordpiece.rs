//! BERT's tokeniser, and Grounding DINO's captions made with it.

use std::path::Path;

use anyhow::Context;
use bubo::grounding::caption::Caption;
use bubo::grounding::matcher::load_tokenizer;
use bubo::tensor::Device;
use serde::Deserialize;

use super::{Difference, Golden, count_difference};
use crate::bundle::load_part;

#[derive(Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

#[derive(Deserialize)]
struct Case {
    raw: String,
    caption: String,
    ids: Vec<u32>,
    position_ids: Vec<u32>,
    blocks: Vec<[usize; 2]>,
    phrases: Vec<Phrase>,
}

#[derive(Deserialize)]
struct Phrase {
    positions: Vec<usize>,
    phrase: String,
    best: usize,
    phrase_block: String,
}

/// Runs `bert_wordpiece` with the tokeniser of the bundle's text embedder.
///
/// # Errors
/// If there is no bundle, or the golden has another form.
pub fn run(golden: &Golden, device: &Device, bundle: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let part = load_part(bundle, "text_embedder", device)?;
    let json = part.files.get("minilm_tokenizer.json").context("the text embedder has no tokeniser")?;
    let tokenizer = load_tokenizer(json, None)?;
    let texts: Vec<Text> = serde_json::from_value(golden.json()["strings"].clone())?;
    let cases: Vec<Case> = serde_json::from_value(golden.json()["captions"].clone())?;
    let mut wrong = 0;
    for case in &texts {
        let encoding = tokenizer.encode(case.text.as_str(), true).map_err(|error| anyhow::anyhow!(error))?;
        wrong += usize::from(encoding.get_ids() != case.ids);
    }
    let (mut ids, mut blocks, mut positions, mut phrases, mut block_phrases) = (0, 0, 0, 0, 0);
    for case in &cases {
        let caption = Caption::new(&case.raw, &tokenizer)?;
        ids += usize::from(caption.text != case.caption || caption.ids != case.ids);
        let found: Vec<[usize; 2]> = caption.blocks.iter().map(|block| [block.start, block.end]).collect();
        blocks += usize::from(found != case.blocks);
        positions += usize::from(caption.position_ids != case.position_ids);
        for phrase in &case.phrases {
            phrases += usize::from(caption.phrase(&phrase.positions, &tokenizer) != phrase.phrase);
            let of_block = caption.phrase_of_block(&phrase.positions, phrase.best, &tokenizer);
            block_phrases += usize::from(of_block != phrase.phrase_block);
        }
    }
    Ok(vec![
        count_difference("strings", wrong),
        count_difference("captions.ids", ids),
        count_difference("captions.blocks", blocks),
        count_difference("captions.position_ids", positions),
        count_difference("captions.phrases", phrases),
        count_difference("captions.phrase_block", block_phrases),
    ])
}
