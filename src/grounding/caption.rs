//! Captions of detectors that look for words: which tokens see each other, and back from tokens to phrases.
//!
//! Source: IDEA-Research/GroundingDINO, models/GroundingDINO/bertwarper.py
//! (generate_masks_with_special_tokens_and_transfer_map), util/utils.py (get_phrases_from_posmap) and util/inference.py
//! @ 856dde2.

use std::ops::Range;

use tokenizers::Tokenizer;

use crate::error::{Error, Result};

/// `[CLS]`, `[SEP]`, `.` and `?` in BERT's vocabulary: they part the blocks of a caption.
const SEPARATORS: [u32; 4] = [101, 102, 1012, 1029];

/// Where phrases of one block end: without the question mark, as in the original.
const PHRASE_SEPARATORS: [u32; 3] = [101, 102, 1012];

/// Tokens that the detector's text side takes.
pub const MAX_TOKENS: usize = 256;

/// A caption as the detector's text side reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// Lower-case, without outer spaces, with a full stop at its end.
    pub text: String,
    /// Ids of all tokens with `[CLS]` and `[SEP]`, not yet cut.
    pub ids: Vec<u32>,
    /// Spans of tokens that see each other; every other token sees only itself.
    pub blocks: Vec<Range<usize>>,
    /// Place of each token in its block; 0 outside of blocks.
    pub position_ids: Vec<u32>,
}

impl Caption {
    /// Tokenises a caption and finds its blocks.
    ///
    /// # Errors
    /// [`Error::Input`] if the tokenizer refuses the text.
    pub fn new(text: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let mut text = text.to_lowercase().trim().to_owned();
        if !text.ends_with('.') {
            text.push('.');
        }
        let encoding = tokenizer.encode(text.as_str(), true);
        let encoding = encoding.map_err(|error| Error::Input(format!("the caption cannot be tokenised: {error}")))?;
        let ids = encoding.get_ids().to_vec();
        let blocks = blocks(&ids);
        let mut position_ids = vec![0; ids.len()];
        for block in &blocks {
            for (place, id) in position_ids[block.clone()].iter_mut().enumerate() {
                *id = place as u32;
            }
        }
        Ok(Self { text, ids, blocks, position_ids })
    }

    /// Number of tokens that the detector reads: the rest, with the last `[SEP]`, is cut off after masks and positions
    /// were made.
    pub fn token_count(&self) -> usize {
        self.ids.len().min(MAX_TOKENS)
    }

    /// `[token_count, token_count]` in row-major order: which token (row) sees which.
    pub fn visible(&self) -> Vec<bool> {
        let count = self.token_count();
        let mut visible = vec![false; count * count];
        for at in 0..count {
            visible[at * count + at] = true;
        }
        for block in &self.blocks {
            for row in block.start..block.end.min(count) {
                visible[row * count..][block.start..block.end.min(count)].fill(true);
            }
        }
        visible
    }

    /// The words of the tokens at `positions`, in their order. `[CLS]` and all from place 255 on do not count, the last
    /// `[SEP]` does; full stops are removed, spaces around them stay.
    pub fn phrase(&self, positions: &[usize], tokenizer: &Tokenizer) -> String {
        self.decode(positions, 0, MAX_TOKENS - 1, tokenizer)
    }

    /// As [`phrase`](Self::phrase), with the tokens of the block around `best` alone: the original's option
    /// `remove_combined`.
    pub fn phrase_of_block(&self, positions: &[usize], best: usize, tokenizer: &Tokenizer) -> String {
        let ends: Vec<usize> = (0..self.ids.len()).filter(|at| PHRASE_SEPARATORS.contains(&self.ids[*at])).collect();
        let right = ends.partition_point(|end| *end < best);
        let left = right.checked_sub(1).unwrap_or(ends.len().saturating_sub(1));
        let (Some(left), Some(right)) = (ends.get(left), ends.get(right)) else { return String::new() };
        self.decode(positions, *left, *right, tokenizer)
    }

    /// Decodes the tokens strictly between `left` and `right`.
    fn decode(&self, positions: &[usize], left: usize, right: usize, tokenizer: &Tokenizer) -> String {
        let mut text = String::new();
        let between = positions.iter().filter(|at| **at > left && **at < right);
        for (rank, id) in between.filter_map(|at| self.ids.get(*at)).enumerate() {
            let token = tokenizer.id_to_token(*id).unwrap_or_default();
            match token.strip_prefix("##") {
                Some(piece) if rank > 0 => text.push_str(piece),
                _ if rank > 0 => text.extend([" ", &token]),
                _ => text.push_str(&token),
            }
        }
        for (spaced, tight) in CLEAN_UP {
            text = text.replace(spaced, tight);
        }
        text.replace('.', "")
    }
}

/// What transformers' decoding tightens, in its order.
const CLEAN_UP: [(&str, &str); 10] = [
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
];

/// From the token after a separator up to and with the next one; the first and the last token stand alone, and so does
/// a separator right after another.
fn blocks(ids: &[u32]) -> Vec<Range<usize>> {
    let mut blocks = Vec::new();
    let mut previous = 0;
    for at in (0..ids.len()).filter(|at| SEPARATORS.contains(&ids[*at])) {
        if at > previous + 1 && at + 1 != ids.len() {
            blocks.push(previous + 1..at + 1);
        }
        previous = at;
    }
    blocks
}
