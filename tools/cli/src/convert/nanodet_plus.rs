//! NanoDet-Plus as the npm package nanodet-plus ships it: a checkpoint of its own trainer, in the format of the Rust crate
//! `savefile`, deflated. Its last convolutions have no bias.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use flate2::read::DeflateDecoder;
use serde_json::json;

use super::convolution::{BatchNorm, Convolution, Precision};
use super::{Licence, Part, input_file};

const LABELS: &[u8] = include_bytes!("../../../../assets/labels/coco_labels.json");
/// Name of the checkpoint, which begins each layer's name, too.
const CHECKPOINT: &str = "nanodet_plus_test";
/// Epsilon of all batch norms.
const EPS: f64 = 1e-5;
/// Layers: convolutions and batch norms.
const LAYERS: usize = 216;
/// More than the file inflates to.
const MOST_BYTES: u64 = 16 << 20;

/// Makes the part `detector`.
///
/// # Errors
/// If the checkpoint cannot be read, is another one, or lacks a tensor.
pub fn convert(source: &Path) -> Result<Part> {
    let file = input_file(source, "nanodet_plus_weights.mx");
    let deflated = std::fs::File::open(&file).with_context(|| file.display().to_string())?;
    let mut bytes = Vec::new();
    DeflateDecoder::new(deflated).take(MOST_BYTES).read_to_end(&mut bytes).context("the checkpoint is damaged")?;
    let layers = Checkpoint::after_schema(&bytes)?.layers()?;
    ensure!(layers.len() == LAYERS, "NanoDet-Plus has {LAYERS} layers, the checkpoint {}", layers.len());
    let mut tensors = Vec::new();
    for (name, layer) in &layers {
        let Some(name) = name.strip_suffix("_conv") else { continue };
        let mut convolution =
            Convolution { dims: layer.weight.dims.clone(), weight: layer.weight.data.clone(), bias: vec![] };
        match layers.get(&format!("{name}_bn")) {
            Some(norm) => convolution = convolution.folded(&batch_norm(norm).with_context(|| name.to_owned())?)?,
            None => convolution.bias = vec![0.0; convolution.dims[0]],
        }
        tensors.extend(convolution.into_tensors(&format!("detector.{name}"), Precision::F32));
    }
    Ok(Part {
        name: "detector",
        model: "nanodet_plus",
        config: config(),
        tensors,
        files: vec![("coco_labels.json".into(), LABELS.to_vec())],
        licence: Licence {
            spdx: "NOASSERTION".into(),
            source: "nanodet-plus 0.1.8 (npm), NanoDet-Plus-m of RangiLyu/nanodet (Apache-2.0)".into(),
        },
    })
}

/// Source: RangiLyu/nanodet, config/nanodet-plus-m_416.yml, and nanodet_plus_head.py for where distances start.
fn config() -> serde_json::Value {
    json!({
        "input_size": 416, "mean_bgr": [103.53, 116.28, 123.675], "deviation_bgr": [57.375, 57.12, 58.395],
        "slope": 0.1, "stem": 24, "stages": [[116, 4], [232, 8], [464, 4]], "pyramid": 96,
        "classes": 80, "bins": 8, "cell_centre": 0.0, "score_threshold": 0.4, "nms_iou": 0.5,
    })
}

/// A layer's tensors.
struct Layer {
    /// A convolution's weight, or a batch norm's factors and summands.
    weight: Array,
    /// A batch norm's means and variances.
    statistics: Option<Array>,
}

struct Array {
    dims: Vec<usize>,
    data: Vec<f32>,
}

fn batch_norm(layer: &Layer) -> Result<BatchNorm> {
    let halves = |array: &Array| -> Result<(Vec<f32>, Vec<f32>)> {
        ensure!(matches!(array.dims[..], [2, _]), "a batch norm of the shape {:?}", array.dims);
        let (first, second) = array.data.split_at(array.data.len() / 2);
        Ok((first.to_vec(), second.to_vec()))
    };
    let (weight, bias) = halves(&layer.weight)?;
    let (running_mean, running_var) = halves(layer.statistics.as_ref().context("a batch norm without statistics")?)?;
    Ok(BatchNorm { weight, bias, running_mean, running_var, eps: EPS })
}

/// What is left of the file to read: little-endian numbers, lengths and counts of 64 bits, options after a byte.
struct Checkpoint<'a> {
    rest: &'a [u8],
}

impl<'a> Checkpoint<'a> {
    /// Skips the description of the types, which the crate writes before the data.
    fn after_schema(bytes: &'a [u8]) -> Result<Self> {
        ensure!(bytes.starts_with(b"savefile\0"), "the checkpoint does not begin with the name of its format");
        let start = [&(CHECKPOINT.len() as u64).to_le_bytes(), CHECKPOINT.as_bytes()].concat();
        let at = bytes.windows(start.len()).position(|window| window == start);
        let at = at.with_context(|| format!("the checkpoint is not {CHECKPOINT}"))?;
        Ok(Self { rest: &bytes[at + start.len()..] })
    }

    /// All layers by their names without the checkpoint's.
    fn layers(mut self) -> Result<BTreeMap<String, Layer>> {
        let prefix = format!("{CHECKPOINT}.");
        let mut layers = BTreeMap::new();
        for _ in 0..self.count()? {
            let name = self.text()?;
            let name = name.strip_prefix(&prefix).with_context(|| format!("a layer {name:?}"))?;
            layers.insert(name.to_owned(), self.layer().with_context(|| name.to_owned())?);
        }
        Ok(layers)
    }

    fn layer(&mut self) -> Result<Layer> {
        ensure!(self.is_there()?, "no weights");
        ensure!(self.count()? == 1, "several weights");
        let weight = self.array()?;
        let statistics = if self.is_there()? { Some(self.array()?) } else { None };
        for _ in 0..2 {
            ensure!(!self.is_there()?, "moments of an optimiser, which the checkpoint has none of");
        }
        Ok(Layer { weight, statistics })
    }

    fn array(&mut self) -> Result<Array> {
        let dims: Vec<usize> = (0..self.count()?).map(|_| Ok(self.u32()? as usize)).collect::<Result<_>>()?;
        let count = self.count()?;
        ensure!(dims.iter().try_fold(1, |size: usize, dim| size.checked_mul(*dim)) == Some(count), "{dims:?}: {count}");
        let bytes = self.take(count.saturating_mul(4))?;
        let data = bytes.chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect();
        // How it was initialised.
        self.text()?;
        self.text()?;
        Ok(Array { dims, data })
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((taken, rest)) = self.rest.split_at_checked(count) else { bail!("the checkpoint ends too soon") };
        self.rest = rest;
        Ok(taken)
    }

    fn is_there(&mut self) -> Result<bool> {
        Ok(self.take(1)? != [0])
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into()?))
    }

    /// A count of things that take a byte or more each, so never more than there are bytes left.
    fn count(&mut self) -> Result<usize> {
        let count = u64::from_le_bytes(self.take(8)?.try_into()?);
        ensure!(count <= self.rest.len() as u64, "{count} things in {} bytes", self.rest.len());
        Ok(count as usize)
    }

    fn text(&mut self) -> Result<String> {
        let length = self.count()?;
        Ok(String::from_utf8(self.take(length)?.to_vec())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Vec<u8> {
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }

    fn array(dims: &[u32], data: &[f32]) -> Vec<u8> {
        let dims_bytes: Vec<u8> = dims.iter().flat_map(|dim| dim.to_le_bytes()).collect();
        let data_bytes: Vec<u8> = data.iter().flat_map(|x| x.to_le_bytes()).collect();
        let count = |count: usize| (count as u64).to_le_bytes().to_vec();
        [count(dims.len()), dims_bytes, count(data.len()), data_bytes, text("fan_in"), text("leaky_relu")].concat()
    }

    fn checkpoint() -> Vec<u8> {
        let one = 1u64.to_le_bytes().to_vec();
        let norm = [array(&[2, 1], &[3.0, 4.0]), vec![1], array(&[2, 1], &[5.0, 6.0]), vec![0, 0]].concat();
        [
            b"savefile\0 a schema ".to_vec(),
            text(CHECKPOINT),
            2u64.to_le_bytes().to_vec(),
            text("nanodet_plus_test.a_conv"),
            [vec![1], one.clone(), array(&[1, 1, 1, 1], &[2.0]), vec![0, 0, 0]].concat(),
            text("nanodet_plus_test.a_bn"),
            [vec![1], one, norm].concat(),
        ]
        .concat()
    }

    #[test]
    fn layers_are_read_by_name() -> Result<()> {
        let layers = Checkpoint::after_schema(&checkpoint())?.layers()?;
        assert_eq!(layers["a_conv"].weight.data, [2.0]);
        let norm = batch_norm(&layers["a_bn"])?;
        assert_eq!((norm.weight, norm.bias), (vec![3.0], vec![4.0]));
        assert_eq!((norm.running_mean, norm.running_var), (vec![5.0], vec![6.0]));
        Ok(())
    }

    #[test]
    fn damaged_checkpoints_are_errors() {
        let whole = checkpoint();
        for length in 0..whole.len() {
            let read = Checkpoint::after_schema(&whole[..length]).and_then(Checkpoint::layers);
            assert!(read.is_err(), "{length} bytes");
        }
        let mut many = whole.clone();
        let at = whole.windows(6).position(|window| window == b"a_conv").map_or(0, |at| at + 7);
        many[at] = 255;
        assert!(Checkpoint::after_schema(&many).and_then(Checkpoint::layers).is_err());
    }
}
