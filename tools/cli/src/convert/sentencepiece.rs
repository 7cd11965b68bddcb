//! SentencePiece's byte-pair model of LLaMA, as `tokenizer.model` or in a GGUF file's metadata, to `tokenizer.json`.
//!
//! Sources: google/sentencepiece, src/sentencepiece_model.proto; huggingface/transformers 4.46.3,
//! convert_slow_tokenizer.py, `LlamaConverter` (how scores become an order of merges, and which steps stand around).

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use prost::Message;
use serde_json::{Value as Json, json};

/// Most pieces that a vocabulary may have.
const MOST_PIECES: usize = 1 << 20;

/// What a piece is, by SentencePiece's numbers, which GGUF shares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Normal = 1,
    /// Stands for what cannot be written.
    Unknown = 2,
    /// Start and end of a text.
    Control = 3,
    /// Text that is never taken apart.
    UserDefined = 4,
    /// A piece that is not used.
    Unused = 5,
    /// One byte: `<0x0A>`.
    Byte = 6,
}

/// One entry of the vocabulary; its place is its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// Its text, `▁` for a space.
    pub text: String,
    /// The higher, the sooner it is merged.
    pub score: f32,
    /// What it is.
    pub kind: Kind,
}

impl Kind {
    /// The kind of that number.
    pub fn from_number(number: i64) -> Option<Self> {
        Some(match number {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => return None,
        })
    }
}

#[derive(Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<PieceProto>,
    #[prost(message, optional, tag = "2")]
    trainer: Option<TrainerProto>,
}

#[derive(Message)]
struct PieceProto {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(int32, optional, tag = "3")]
    kind: Option<i32>,
}

#[derive(Message)]
struct TrainerProto {
    /// 1 is unigram, 2 is byte pairs.
    #[prost(int32, optional, tag = "3")]
    model_type: Option<i32>,
}

/// The vocabulary in a `tokenizer.model`.
///
/// # Errors
/// If the bytes are no such file, or its model is not of byte pairs.
pub fn pieces(bytes: &[u8]) -> Result<Vec<Piece>> {
    let model = ModelProto::decode(bytes).context("it is no SentencePiece model")?;
    let kind = model.trainer.as_ref().and_then(|trainer| trainer.model_type).unwrap_or(1);
    ensure!(kind == 2, "its model has the type {kind}; LLaMA's is 2, byte pairs");
    model
        .pieces
        .into_iter()
        .map(|piece| {
            let number = piece.kind.unwrap_or(1);
            let kind = Kind::from_number(number.into()).with_context(|| format!("a piece of type {number}"))?;
            Ok(Piece { text: piece.piece.unwrap_or_default(), score: piece.score.unwrap_or(0.0), kind })
        })
        .collect()
}

/// The vocabulary as a `tokenizer.json`, with the space in front of every text that LLaMA's tokeniser adds.
///
/// # Errors
/// If there are too many pieces, or two of the same text.
pub fn tokenizer_json(pieces: &[Piece]) -> Result<Json> {
    ensure!((1..=MOST_PIECES).contains(&pieces.len()), "a vocabulary of {} pieces", pieces.len());
    let mut ids: HashMap<&str, usize> = HashMap::with_capacity(pieces.len());
    for (id, piece) in pieces.iter().enumerate() {
        ensure!(ids.insert(&piece.text, id).is_none(), "the piece {:?} is there twice", piece.text);
    }
    let vocabulary: serde_json::Map<String, Json> =
        pieces.iter().enumerate().map(|(id, piece)| (piece.text.clone(), id.into())).collect();
    let added: Vec<Json> = pieces
        .iter()
        .enumerate()
        .filter(|(_, piece)| matches!(piece.kind, Kind::Unknown | Kind::Control | Kind::UserDefined))
        .map(|(id, piece)| {
            json!({
                "id": id, "content": piece.text, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": piece.kind != Kind::UserDefined,
            })
        })
        .collect();
    let unknown = pieces.iter().find(|piece| piece.kind == Kind::Unknown).map(|piece| piece.text.as_str());
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                { "type": "Prepend", "prepend": "▁" },
                { "type": "Replace", "pattern": { "String": " " }, "content": "▁" },
            ],
        },
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {
            "type": "Sequence",
            "decoders": [
                { "type": "Replace", "pattern": { "String": "▁" }, "content": " " },
                { "type": "ByteFallback" },
                { "type": "Fuse" },
                { "type": "Strip", "content": " ", "start": 1, "stop": 0 },
            ],
        },
        "model": {
            "type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
            "vocab": vocabulary, "merges": merges(pieces, &ids),
        },
    }))
}

/// Every way to put a piece together of two others; the best score first, then the shorter parts.
fn merges(pieces: &[Piece], ids: &HashMap<&str, usize>) -> Vec<[String; 2]> {
    let mut found: Vec<(f32, usize, usize, &str, &str)> = Vec::new();
    for piece in pieces {
        let mut ways: Vec<(usize, usize, &str, &str)> = piece
            .text
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| {
                let (left, right) = piece.text.split_at(at);
                Some((*ids.get(left)?, *ids.get(right)?, left, right))
            })
            .collect();
        ways.sort_unstable();
        let lengths = |text: &str| text.chars().count();
        found.extend(ways.into_iter().map(|(_, _, l, r)| (piece.score, lengths(l), lengths(r), l, r)));
    }
    // Stable, as Python's sort is: equal ones stay in the order of the vocabulary. Reversed, longer parts come first.
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(b.1.cmp(&a.1)).then(b.2.cmp(&a.2)));
    found.into_iter().map(|(.., left, right)| [left.to_owned(), right.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use bubo::language::Tokenizer;

    use super::*;

    fn small() -> Vec<Piece> {
        let mut pieces: Vec<Piece> = [("<unk>", Kind::Unknown), ("<s>", Kind::Control), ("</s>", Kind::Control)]
            .map(|(text, kind)| Piece { text: text.into(), score: 0.0, kind })
            .to_vec();
        pieces.extend((0..=255u8).map(|byte| Piece { text: format!("<0x{byte:02X}>"), score: 0.0, kind: Kind::Byte }));
        let words = ["▁o", "wl", "ow", "▁owl", "▁", "o", "w", "l", "#", "##", "###"];
        let scored = words.iter().enumerate();
        pieces.extend(scored.map(|(at, text)| Piece { text: (*text).into(), score: -(at as f32), kind: Kind::Normal }));
        pieces
    }

    #[test]
    fn a_model_file_becomes_a_tokeniser() {
        let proto = ModelProto {
            pieces: small()
                .into_iter()
                .map(|piece| PieceProto {
                    piece: Some(piece.text),
                    score: Some(piece.score),
                    kind: Some(piece.kind as i32),
                })
                .collect(),
            trainer: Some(TrainerProto { model_type: Some(2) }),
        };
        let read = pieces(&proto.encode_to_vec()).expect("it was just written");
        assert_eq!(read, small());
        let json = serde_json::to_vec(&tokenizer_json(&read).expect("a small vocabulary")).expect("plain JSON");
        let tokenizer = Tokenizer::from_bytes(&json).expect("it is a tokeniser");
        // "▁owl" from "▁o" + "wl"; "é" is in no piece and falls to its two bytes.
        assert_eq!(tokenizer.encode("owl").expect("text"), [262]);
        assert_eq!(tokenizer.encode("owlé").expect("text"), [262, 3 + 0xc3, 3 + 0xa9]);
        assert_eq!(tokenizer.encode("###").expect("text"), [263, 269]);
    }

    #[test]
    fn another_kind_of_model_is_refused() {
        let unigram = ModelProto { pieces: Vec::new(), trainer: Some(TrainerProto { model_type: Some(1) }) };
        for bytes in [unigram.encode_to_vec(), b"nonsense".to_vec(), Vec::new()] {
            assert!(pieces(&bytes).is_err());
        }
        let mut twice = small();
        twice.push(twice[5].clone());
        assert!(tokenizer_json(&twice).is_err());
    }
}
