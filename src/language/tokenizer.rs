//! Text to token ids and back.

use std::cell::OnceCell;
use std::ops::Range;

use tokenizers::{DecoderWrapper, Tokenizer as Inner};

use super::vocabulary::Vocabulary;
use crate::error::{Error, Result};

/// A piece of text, and whether its author may write special tokens in it.
///
/// What a person types is not trusted: an `<|im_end|>` in it stays the ten characters that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The text itself.
    pub text: String,
    /// Whether names of special tokens stand for the tokens.
    pub trusted: bool,
}

/// A tokeniser in Hugging Face's format.
#[derive(Debug)]
pub struct Tokenizer {
    /// Never parses special tokens: that is done here, span by span.
    inner: Inner,
    /// Special tokens by text, the longest first.
    special: Vec<(String, u32)>,
    vocabulary: OnceCell<Vocabulary>,
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if it is not one.
    pub fn from_bytes(json: &[u8]) -> Result<Self> {
        let mut inner = Inner::from_bytes(json).map_err(|error| Error::corrupt("tokenizer.json", error.to_string()))?;
        inner.set_encode_special_tokens(true);
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| Error::corrupt("tokenizer.json", error.to_string()))?;
        let mut special: Vec<(String, u32)> = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(id, token)| (token.content, id))
            .collect();
        special.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.1.cmp(&b.1)));
        Ok(Self { inner, special, vocabulary: OnceCell::new() })
    }

    /// Ids of a text in which nothing is special. No start token is added.
    ///
    /// # Errors
    /// [`Error::Input`] if the tokeniser refuses the text.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self
            .inner
            .encode_fast(text, false)
            .map_err(|error| Error::Input(format!("this text cannot be turned into tokens: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Ids of a text in which the names of special tokens stand for the tokens. No start token is added.
    ///
    /// # Errors
    /// As for [`encode`](Self::encode).
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_spans(&[Span { text: text.to_owned(), trusted: true }])
    }

    /// Ids of one text made of spans: they are tokenised as a whole, and special tokens are found in trusted ones only.
    ///
    /// # Errors
    /// As for [`encode`](Self::encode).
    pub fn encode_spans(&self, spans: &[Span]) -> Result<Vec<u32>> {
        let text: String = spans.iter().map(|span| span.text.as_str()).collect();
        let mut ids = Vec::new();
        let mut done = 0;
        for (place, id) in self.special_places(&text, spans) {
            ids.extend(self.encode(&text[done..place.start])?);
            ids.push(id);
            done = place.end;
        }
        ids.extend(self.encode(&text[done..])?);
        Ok(ids)
    }

    /// Where special tokens stand in the trusted spans of `text`: from left to right, the longest first.
    fn special_places(&self, text: &str, spans: &[Span]) -> Vec<(Range<usize>, u32)> {
        let mut places = Vec::new();
        let mut start = 0;
        for run in spans.chunk_by(|a, b| a.trusted == b.trusted) {
            let end = start + run.iter().map(|span| span.text.len()).sum::<usize>();
            let mut at = if run[0].trusted { start } else { end };
            while at < end {
                let rest = &text[at..end];
                let found = self.special.iter().find(|(content, _)| rest.starts_with(content.as_str()));
                at += match found {
                    Some((content, id)) => {
                        places.push((at..at + content.len(), *id));
                        content.len()
                    }
                    None => rest.chars().next().map_or(1, char::len_utf8),
                };
            }
            start = end;
        }
        places
    }

    /// Text of ids, without special tokens; bytes that are not UTF-8 become `U+FFFD`.
    ///
    /// # Errors
    /// [`Error::Input`] if the tokeniser refuses them.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.inner
            .decode(ids, true)
            .map_err(|error| Error::Input(format!("these tokens cannot be turned into text: {error}")))
    }

    /// Id of a token by its name.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Name of a token.
    pub fn name_of(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Bytes that a token stands for within a text; `None` for special tokens and ids without a token.
    ///
    /// Byte-level vocabularies write a byte as a letter of GPT-2's table, SentencePiece's a space as `▁` and a byte as
    /// `<0x0A>`.
    pub fn bytes_of(&self, id: u32) -> Option<Vec<u8>> {
        if self.special.iter().any(|(_, special)| *special == id) {
            return None;
        }
        let name = self.inner.id_to_token(id)?;
        if matches!(self.inner.get_decoder(), Some(DecoderWrapper::ByteLevel(_))) {
            let bytes: Option<Vec<u8>> = name.chars().map(byte_of_letter).collect();
            // Added tokens are written as they are.
            return Some(bytes.unwrap_or_else(|| name.into_bytes()));
        }
        let byte = name.strip_prefix("<0x").and_then(|rest| rest.strip_suffix('>')).filter(|digits| digits.len() == 2);
        if let Some(byte) = byte.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            return Some(vec![byte]);
        }
        Some(name.replace('▁', " ").into_bytes())
    }

    /// All tokens by their bytes; made when first asked for.
    pub fn vocabulary(&self) -> &Vocabulary {
        self.vocabulary.get_or_init(|| Vocabulary::new(self))
    }

    /// Number of tokens, the added ones counted.
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

/// The byte that a letter stands for in byte-level vocabularies: printable bytes of Latin-1 stand for themselves, the
/// others, in order, for the letters from U+0100 on.
///
/// Source: openai/gpt-2, src/encoder.py (`bytes_to_unicode`).
fn byte_of_letter(letter: char) -> Option<u8> {
    let code = u32::from(letter);
    match code {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => Some(code as u8),
        0x100..=0x120 => Some((code - 0x100) as u8),
        0x121..=0x142 => Some((code - 0x121 + 0x7F) as u8),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// Turns ids into text as they come: never half a character, and all pieces together are what
/// [`Tokenizer::decode`] gives for all ids.
///
/// A window of ids is decoded twice, without and with the newest; what the second has more is new. The window starts
/// at the last ids that were given out, because some tokenisers treat the first token of a text differently.
#[derive(Debug, Default)]
pub struct Detokenizer {
    ids: Vec<u32>,
    window: usize,
    given: usize,
}

impl Detokenizer {
    /// Takes the next id and gives the text that it completes, often none.
    ///
    /// # Errors
    /// As for [`Tokenizer::decode`].
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String> {
        self.ids.push(id);
        let text = self.new_text(tokenizer)?;
        // A replacement character at the end may be the first bytes of a character to come.
        if text.is_empty() || text.ends_with('\u{FFFD}') {
            return Ok(String::new());
        }
        self.window = self.given;
        self.given = self.ids.len();
        Ok(text)
    }

    /// What is left when no id comes any more: bytes that never became a character.
    ///
    /// # Errors
    /// As for [`Tokenizer::decode`].
    pub fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let text = self.new_text(tokenizer)?;
        (self.window, self.given) = (self.given, self.ids.len());
        Ok(text)
    }

    fn new_text(&self, tokenizer: &Tokenizer) -> Result<String> {
        let before = tokenizer.decode(&self.ids[self.window..self.given])?;
        let after = tokenizer.decode(&self.ids[self.window..])?;
        Ok(after.get(before.len()..).unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_has_one_letter() {
        let mut bytes: Vec<u8> = (0x21..0x200).filter_map(char::from_u32).filter_map(byte_of_letter).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(['Ġ', 'Ċ', 'a'].map(byte_of_letter), [Some(b' '), Some(b'\n'), Some(b'a')]);
    }
}
