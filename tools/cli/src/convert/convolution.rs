//! What the recipes of convolutional networks share: batch norms folded into the convolutions before them.

use anyhow::{Result, ensure};
use half::f16;

use super::{PartTensor, StoredTensor};

/// A convolution's weight `[out, in / groups, rows, columns]` and bias `[out]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Convolution {
    /// Sizes of the weight's axes.
    pub dims: Vec<usize>,
    /// The weight, row-major.
    pub weight: Vec<f32>,
    /// One number an output channel.
    pub bias: Vec<f32>,
}

/// A batch norm's four vectors, one number a channel.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchNorm {
    /// Factor.
    pub weight: Vec<f32>,
    /// Summand.
    pub bias: Vec<f32>,
    /// Mean seen in training.
    pub running_mean: Vec<f32>,
    /// Variance seen in training.
    pub running_var: Vec<f32>,
    /// Added to the variance.
    pub eps: f64,
}

/// How numbers are kept in the bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 16-bit: for checkpoints that hold no more.
    F16,
    /// 32-bit.
    F32,
}

impl Convolution {
    /// The convolution that does what this one without its bias and then the batch norm did. Computed in f64, so that
    /// folding adds no rounding of its own but the last.
    ///
    /// # Errors
    /// If the channels differ.
    pub fn folded(&self, norm: &BatchNorm) -> Result<Self> {
        let channels = self.dims.first().copied().unwrap_or(0);
        let vectors = [&norm.weight, &norm.bias, &norm.running_mean, &norm.running_var];
        ensure!(
            channels > 0 && vectors.iter().all(|vector| vector.len() == channels),
            "a batch norm of {} channels follows a convolution of {channels}",
            norm.weight.len()
        );
        let factor =
            |channel: usize| f64::from(norm.weight[channel]) / (f64::from(norm.running_var[channel]) + norm.eps).sqrt();
        let taps = self.weight.len() / channels;
        let weight = self.weight.iter().enumerate().map(|(at, x)| (f64::from(*x) * factor(at / taps)) as f32).collect();
        let bias = (0..channels).map(|channel| {
            let mean = f64::from(norm.running_mean[channel]) - self.bias.get(channel).copied().map_or(0.0, f64::from);
            (f64::from(norm.bias[channel]) - mean * factor(channel)) as f32
        });
        Ok(Self { dims: self.dims.clone(), weight, bias: bias.collect() })
    }

    /// The two tensors `<name>.weight` and `<name>.bias` of a part.
    pub fn into_tensors(self, name: &str, precision: Precision) -> [PartTensor; 2] {
        let bias_dims = vec![self.bias.len()];
        [
            PartTensor::ready(format!("{name}.weight"), stored(self.dims, self.weight, precision)),
            PartTensor::ready(format!("{name}.bias"), stored(bias_dims, self.bias, precision)),
        ]
    }
}

/// Numbers in the given precision.
pub fn stored(dims: Vec<usize>, data: Vec<f32>, precision: Precision) -> StoredTensor {
    match precision {
        Precision::F32 => StoredTensor::F32 { dims, data },
        Precision::F16 => StoredTensor::F16 { dims, data: data.into_iter().map(f16::from_f32).collect() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_does_what_the_norm_did() -> Result<()> {
        let convolution = Convolution { dims: vec![2, 1, 1, 1], weight: vec![3.0, -1.0], bias: vec![0.5, 0.0] };
        let norm = BatchNorm {
            weight: vec![2.0, 1.0],
            bias: vec![1.0, -4.0],
            running_mean: vec![0.25, 2.0],
            running_var: vec![3.0, 15.0],
            eps: 1.0,
        };
        let folded = convolution.folded(&norm)?;
        for (channel, input) in [(0, 0.7f32), (1, -2.0)] {
            let inner = convolution.weight[channel] * input + convolution.bias[channel];
            let root = (norm.running_var[channel] + 1.0).sqrt();
            let expected = (inner - norm.running_mean[channel]) / root * norm.weight[channel] + norm.bias[channel];
            let found = folded.weight[channel] * input + folded.bias[channel];
            assert!((expected - found).abs() < 1e-6, "{expected} {found}");
        }
        assert!(convolution.folded(&BatchNorm { weight: vec![1.0], ..norm }).is_err());
        Ok(())
    }
}
