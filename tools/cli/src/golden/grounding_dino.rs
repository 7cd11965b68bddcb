//! Grounding DINO in the original's and in Hugging Face's naming: from a picture and a caption to named boxes.

use std::path::Path;

use anyhow::Context;
use bubo::grounding::caption::Caption;
use bubo::grounding::detector::grounding_dino::{Config, GroundingDino, Hit, read_hits};
use bubo::grounding::matcher::load_tokenizer;
use bubo::nn::{LayerNorm, Weights};
use bubo::tensor::{Device, Tensor};
use serde_json::{Map, Value, json};

use super::{Difference, Golden, count_difference, named_weights, tolerance};
use crate::convert::grounding_dino::{hugging_face, original};

/// Absolute difference allowed of boxes, 0..1 of the picture; the README's figure.
const BOX_SHARE: f64 = 0.1;

/// Runs `grounding_dino` and `grounding_dino_hf`.
///
/// # Errors
/// If the golden has another form, or the model fails.
pub fn run(golden: &Golden, device: &Device, _: Option<&Path>) -> anyhow::Result<Vec<Difference>> {
    let is_original = golden.component() == "grounding_dino";
    let mut config: Config = golden.config()?;
    let weights = named_weights(golden, device, if is_original { original } else { hugging_face })?;
    let network = GroundingDino::load(&config, &weights)?;
    weights.finish()?;
    let norm = weights.pp("transformer").pp("decoder").pp("norm");
    let mut run = Run { golden, device, network, norm, differences: Vec::new() };
    let settings = &golden.json()["config"];
    let tokenizer = load_tokenizer(&small_tokenizer(&settings["vocab"])?, None)?;
    if !is_original {
        config.box_threshold = number(&settings["box_threshold"])?;
        config.text_threshold = number(&settings["text_threshold"])?;
        let caption = Caption::new(settings["caption"].as_str().context("no caption")?, &tokenizer)?;
        let (logits, boxes) = run.hugging_face(&caption)?;
        run.post_processed(&read_hits(&config, &logits, &boxes, &caption, &tokenizer))?;
        return Ok(run.differences);
    }
    for (index, case) in settings["captions"].as_array().context("no captions")?.iter().enumerate() {
        let prefix = if index == 0 { String::new() } else { format!("cap{index}.") };
        let caption = Caption::new(case["caption"].as_str().context("no caption")?, &tokenizer)?;
        run.captioned(&prefix, &caption)?;
        let (logits, boxes) = run.found(&prefix, &caption)?;
        config.box_threshold = number(&case["box_threshold"])?;
        config.text_threshold = number(&case["text_threshold"])?;
        for (is_original, key) in [(true, "phrases"), (false, "phrases_remove_combined")] {
            config.original = is_original;
            let hits = read_hits(&config, &logits, &boxes, &caption, &tokenizer);
            let expected: Vec<String> = serde_json::from_value(case[key].clone())?;
            let found: Vec<&str> = hits.iter().map(|hit| hit.phrase.as_str()).collect();
            run.differences.push(count_difference(&format!("{prefix}{key}"), usize::from(found != expected)));
            if is_original {
                run.kept(&prefix, &hits)?;
            }
        }
    }
    run.count_left()?;
    Ok(run.differences)
}

fn number(value: &Value) -> anyhow::Result<f32> {
    Ok(value.as_f64().context("a threshold that is no number")? as f32)
}

struct Run<'a> {
    golden: &'a Golden,
    device: &'a Device,
    network: GroundingDino,
    /// The decoder's last norm.
    norm: Weights,
    differences: Vec<Difference>,
}

impl Run<'_> {
    fn allowed(&self) -> f64 {
        tolerance(self.golden.component(), self.device)
    }

    fn compare(&mut self, name: &str, found: &Tensor, tolerance: f64) -> anyhow::Result<()> {
        self.differences.push(self.golden.compare(name, found, tolerance)?);
        Ok(())
    }

    fn compare_f32(&mut self, name: &str, found: &[f32], tolerance: f64) -> anyhow::Result<()> {
        self.differences.push(self.golden.compare_f32(name, found, tolerance)?);
        Ok(())
    }

    fn compare_ids(&mut self, name: &str, found: &[u32]) -> anyhow::Result<()> {
        let wrong = usize::from(self.golden.u32(name)? != found);
        self.differences.push(count_difference(name, wrong));
        Ok(())
    }

    /// Tokens, positions and blocks.
    fn captioned(&mut self, prefix: &str, caption: &Caption) -> anyhow::Result<()> {
        self.compare_ids(&format!("in.{prefix}input_ids"), &caption.ids)?;
        self.compare_ids(&format!("out.{prefix}position_ids"), &caption.position_ids)?;
        let visible: Vec<u32> = caption.visible().into_iter().map(u32::from).collect();
        self.compare_ids(&format!("out.{prefix}text_self_attention_masks"), &visible)
    }

    /// The network's intermediates (of the first caption), logits and boxes.
    fn found(&mut self, prefix: &str, caption: &Caption) -> anyhow::Result<(Vec<f32>, Vec<f32>)> {
        let image = self.golden.tensor("in.image", self.device)?;
        let [channels, height, width] = image.dims_of("golden picture")?;
        let image = image.reshape(&[1, channels, height, width])?;
        let mut seen: Vec<(String, Tensor)> = Vec::new();
        let predictions =
            self.network.forward_seen(&image, caption, &mut |name, x| seen.push((name.to_owned(), x.clone())))?;
        let allowed = self.allowed();
        let refs: Vec<&Tensor> =
            seen.iter().filter(|(name, _)| name.starts_with("decoder_refs")).map(|(_, x)| x).collect();
        let layers = refs.len();
        let refs = Tensor::concat(&refs, 0)?;
        for (name, tensor) in &seen {
            match name.as_str() {
                "topk_indices" => {
                    let found = pollster::block_on(tensor.to_u32())?;
                    self.compare_ids(&format!("out.{prefix}topk_indices"), &found)?;
                }
                "topk_scores" => self.compare(&format!("out.{prefix}topk_scores"), tensor, allowed)?,
                _ if prefix.is_empty() && self.golden.contains(&format!("mid.{name}")) => {
                    self.compare(&format!("mid.{name}"), tensor, allowed)?;
                }
                _ => {}
            }
        }
        if prefix.is_empty() {
            let [all, numbers] = refs.dims_of("reference boxes")?;
            let refs = refs.reshape(&[layers, 1, all / layers, numbers])?;
            self.compare("mid.decoder_refs", &refs, BOX_SHARE * allowed)?;
            let last = seen.iter().rev().find(|(name, _)| name.starts_with("query_pos"));
            self.compare("mid.query_pos_last", &last.context("no layers")?.1, allowed)?;
        }
        self.compare(&format!("out.{prefix}logits"), &predictions.logits, allowed)?;
        self.compare(&format!("out.{prefix}boxes"), &predictions.boxes, BOX_SHARE * allowed)?;
        let (logits, boxes) = (predictions.logits.to_f32(), predictions.boxes.to_f32());
        Ok((pollster::block_on(logits)?, pollster::block_on(boxes)?))
    }

    fn kept(&mut self, prefix: &str, hits: &[Hit]) -> anyhow::Result<()> {
        let queries: Vec<u32> = hits.iter().map(|hit| hit.query as u32).collect();
        let scores: Vec<f32> = hits.iter().map(|hit| hit.score).collect();
        let boxes: Vec<f32> = hits.iter().flat_map(|hit| hit.box_unit).collect();
        let allowed = self.allowed();
        self.compare_ids(&format!("out.{prefix}kept_queries"), &queries)?;
        self.compare_f32(&format!("out.{prefix}kept_scores"), &scores, allowed)?;
        self.compare_f32(&format!("out.{prefix}kept_boxes"), &boxes, BOX_SHARE * allowed)
    }

    /// What of the golden nothing was compared with.
    fn count_left(&mut self) -> anyhow::Result<()> {
        let names = self.golden.names("mid.").chain(self.golden.names("out."));
        let left = names.filter(|name| !self.differences.iter().any(|difference| difference.name == *name)).count();
        self.differences.push(count_difference("names that were not compared", left));
        Ok(())
    }

    /// The same network under Hugging Face's names of what happens within.
    fn hugging_face(&mut self, caption: &Caption) -> anyhow::Result<(Vec<f32>, Vec<f32>)> {
        self.compare_ids("in.input_ids", &caption.ids)?;
        let image = self.golden.tensor("in.pixel_values", self.device)?;
        let mut seen: Vec<(String, Tensor)> = Vec::new();
        let predictions =
            self.network.forward_seen(&image, caption, &mut |name, x| seen.push((name.to_owned(), x.clone())))?;
        let allowed = self.allowed();
        let all = |name: &str| -> Vec<&Tensor> {
            let numbered = |key: &str| key.strip_prefix(name).is_some_and(|rest| rest.parse::<usize>().is_ok());
            seen.iter().filter(|(key, _)| numbered(key)).map(|(_, x)| x).collect()
        };
        let last = |ending: &str| seen.iter().rev().find(|(name, _)| name.ends_with(ending)).map(|(_, x)| x);
        let refs = all("decoder_refs");
        let [first, later @ ..] = refs.as_slice() else { anyhow::bail!("no boxes") };
        self.compare("out.encoder_topk_init_reference", first, BOX_SHARE * allowed)?;
        let later = stacked(later)?;
        self.compare("out.intermediate_reference_points", &later, BOX_SHARE * allowed)?;
        // The states of all layers, each behind the last norm.
        let norm = LayerNorm::load(&self.norm, self.golden.dims("out.encoder_text")?[2], 1e-5)?;
        let states = all("dec").into_iter().map(|x| norm.forward(x)).collect::<bubo::Result<Vec<_>>>()?;
        let states = stacked(&states.iter().collect::<Vec<_>>())?;
        self.compare("out.intermediate_hidden_states", &states, allowed)?;
        let (vision, text) = (last(".memory").context("no memory")?, last(".text").context("no text")?);
        self.compare("out.encoder_vision", vision, allowed)?;
        self.compare("out.encoder_text", text, allowed)?;
        self.compare("out.logits", &predictions.logits, allowed)?;
        self.compare("out.boxes", &predictions.boxes, BOX_SHARE * allowed)?;
        let (logits, boxes) = (predictions.logits.to_f32(), predictions.boxes.to_f32());
        Ok((pollster::block_on(logits)?, pollster::block_on(boxes)?))
    }

    /// Hugging Face's post-processing for a picture of 246 × 270 pixels; its labels keep full stops and are not ours.
    fn post_processed(&mut self, hits: &[Hit]) -> anyhow::Result<()> {
        let (width, height) = (246.0, 270.0);
        let sides = |hit: &Hit| {
            let [x, y, w, h] = hit.box_unit;
            [(x - w / 2.0) * width, (y - h / 2.0) * height, (x + w / 2.0) * width, (y + h / 2.0) * height]
        };
        let allowed = self.allowed();
        let scores: Vec<f32> = hits.iter().map(|hit| hit.score).collect();
        let boxes: Vec<f32> = hits.iter().flat_map(sides).collect();
        self.compare_f32("out.post_scores", &scores, allowed)?;
        self.compare_f32("out.post_boxes_xyxy", &boxes, f64::from(height) * BOX_SHARE * allowed)?;
        self.count_left()
    }
}

/// `[n, m]` tensors as `[count, n, m]`.
fn stacked(tensors: &[&Tensor]) -> anyhow::Result<Tensor> {
    let joined = Tensor::concat(tensors, 0)?;
    let [all, width] = joined.dims_of("stack")?;
    Ok(joined.reshape(&[tensors.len(), all / tensors.len(), width])?)
}

/// A WordPiece `tokenizer.json` like BERT's, with a golden's few words.
///
/// # Errors
/// If `vocabulary` is no object of ids.
pub fn small_tokenizer(vocabulary: &Value) -> anyhow::Result<Vec<u8>> {
    let mut words: Map<String, Value> = vocabulary.as_object().context("the golden has no vocabulary")?.clone();
    let taken: Vec<u64> = words.values().filter_map(Value::as_u64).collect();
    for id in (0..1030).filter(|id| !taken.contains(id)) {
        words.insert(format!("[unused{id}]"), json!(id));
    }
    let special = |word: &str| json!({ "SpecialToken": { "id": word, "type_id": 0 } });
    let known = |word: &str, id: u32| json!({ "id": word, "ids": [id], "tokens": [word] });
    let single = json!([special("[CLS]"), { "Sequence": { "id": "A", "type_id": 0 } }, special("[SEP]")]);
    // The form asks for a template of two texts, which none uses.
    let pair = json!([{ "Sequence": { "id": "A", "type_id": 0 } }, { "Sequence": { "id": "B", "type_id": 0 } }]);
    let tokenizer = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "TemplateProcessing", "single": single, "pair": pair,
            "special_tokens": { "[CLS]": known("[CLS]", 101), "[SEP]": known("[SEP]", 102) }
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": words
        }
    });
    Ok(serde_json::to_vec(&tokenizer)?)
}
