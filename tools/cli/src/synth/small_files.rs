//! Labels and tokenisers that go with random weights: of the right form and size, without meaning.

use anyhow::Result;
use serde_json::{Map, Value as Json, json};

use crate::convert::sentencepiece::{Kind, Piece, tokenizer_json};

/// Rows of BERT's vocabulary.
const BERT_ROWS: usize = 30522;

/// The small files of a part with that model.
///
/// # Errors
/// None that a caller could cause.
pub fn of(model: &str, config: &Json) -> Result<Vec<(String, Vec<u8>)>> {
    Ok(match model {
        "llama" => {
            let rows = config["vocab_size"].as_u64().unwrap_or(0) as usize;
            vec![("tokenizer.json".into(), serde_json::to_vec(&tokenizer_json(&pieces(rows))?)?)]
        }
        "ram" => {
            let tags = config["num_class"].as_u64().unwrap_or(0);
            let names: String = (0..tags).map(|at| format!("tag{at}\n")).collect();
            vec![
                ("ram_tag_list.txt".into(), names.into_bytes()),
                // Random logits are near 0, which is a confidence of ½: this lets a few tags pass.
                ("ram_tag_list_threshold.txt".into(), "0.75\n".repeat(tags as usize).into_bytes()),
            ]
        }
        "grounding_dino" => vec![("bert_tokenizer.json".into(), serde_json::to_vec(&word_pieces())?)],
        _ => Vec::new(),
    })
}

/// LLaMA's first 259 pieces, the printable characters, and made-up words up to `rows`.
fn pieces(rows: usize) -> Vec<Piece> {
    let piece = |text: String, kind| Piece { text, score: 0.0, kind };
    let mut pieces: Vec<Piece> = vec![
        piece("<unk>".into(), Kind::Unknown),
        piece("<s>".into(), Kind::Control),
        piece("</s>".into(), Kind::Control),
    ];
    pieces.extend((0..=255u8).map(|byte| piece(format!("<0x{byte:02X}>"), Kind::Byte)));
    pieces.push(piece("▁".into(), Kind::Normal));
    pieces.extend((33..127u8).map(|byte| piece(char::from(byte).to_string(), Kind::Normal)));
    let made_up = (0..).map(|at| piece(format!("▁word{at}"), Kind::Normal));
    let missing = rows.saturating_sub(pieces.len());
    pieces.extend(made_up.take(missing));
    pieces.truncate(rows.max(1));
    pieces
}

/// A word-piece tokeniser with BERT's special tokens and punctuation in their places.
fn word_pieces() -> Json {
    let fixed = [
        (0, "[PAD]"),
        (100, "[UNK]"),
        (101, "[CLS]"),
        (102, "[SEP]"),
        (103, "[MASK]"),
        (1010, ","),
        (1012, "."),
        (1029, "?"),
    ];
    let mut vocabulary = Map::new();
    for id in 0..BERT_ROWS {
        let token = match fixed.iter().find(|(at, _)| *at == id) {
            Some((_, token)) => (*token).to_owned(),
            None if (2000..2026).contains(&id) => char::from(b'a' + (id - 2000) as u8).to_string(),
            None if (2100..2126).contains(&id) => format!("##{}", char::from(b'a' + (id - 2100) as u8)),
            None if (2200..2210).contains(&id) => format!("##{}", id - 2200),
            None => format!("[unused{id}]"),
        };
        vocabulary.insert(token, id.into());
    }
    let special = [(0, "[PAD]"), (100, "[UNK]"), (101, "[CLS]"), (102, "[SEP]"), (103, "[MASK]")];
    let added = special.map(|(id, token)| {
        json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        })
    });
    let piece = |kind: &str, id: &str| json!({ kind: { "id": id, "type_id": 0 } });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": true,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [piece("SpecialToken", "[CLS]"), piece("Sequence", "A"), piece("SpecialToken", "[SEP]")],
            "pair": [
                piece("SpecialToken", "[CLS]"), piece("Sequence", "A"), piece("SpecialToken", "[SEP]"),
                piece("Sequence", "B"), piece("SpecialToken", "[SEP]"),
            ],
            "special_tokens": {
                "[CLS]": { "id": "[CLS]", "ids": [101], "tokens": ["[CLS]"] },
                "[SEP]": { "id": "[SEP]", "ids": [102], "tokens": ["[SEP]"] },
            },
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocabulary,
        },
    })
}

#[cfg(test)]
mod tests {
    use bubo::grounding::matcher::load_tokenizer;
    use bubo::language::Tokenizer;

    use super::*;

    #[test]
    fn both_tokenisers_read_text() {
        let llama = of("llama", &json!({ "vocab_size": 512 })).expect("a small vocabulary");
        let tokenizer = Tokenizer::from_bytes(&llama[0].1).expect("it is a tokeniser");
        assert_eq!(tokenizer.vocabulary_size(), 512);
        let ids = tokenizer.encode("Hi, owl ###").expect("text");
        assert_eq!(tokenizer.decode(&ids).expect("its own ids"), "Hi, owl ###");
        let bert = of("grounding_dino", &json!({})).expect("fixed");
        let tokenizer = load_tokenizer(&bert[0].1, None).expect("it is a tokeniser");
        let encoded = tokenizer.encode("tag7 . cat .", true).expect("text");
        assert_eq!(encoded.get_ids(), [101, 2019, 2100, 2106, 2207, 1012, 2002, 2100, 2119, 1012, 102]);
    }
}
