//! Softmax and norms over rows of numbers.

use super::elementwise::exp;
use super::simd::{Simd, Task, dispatch};

/// Numbers that are added in f32 before the sum goes on in f64.
const SUMMED: usize = 2048;

#[inline(always)]
fn lanes<S: Simd>(simd: S, v: S::F) -> [f32; 8] {
    let mut lanes = [0.0; 8];
    simd.store(v, &mut lanes);
    lanes
}

#[inline(always)]
pub(crate) fn lane_sum<S: Simd>(simd: S, v: S::F) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes(simd, v);
    ((a + e) + (b + f)) + ((c + g) + (d + h))
}

/// Sum of `(x − centre)^power`, power 1 or 2.
#[inline(always)]
fn power_sum<S: Simd, const POWER: usize>(simd: S, x: &[f32], centre: f32) -> f64 {
    let mut total = 0.0;
    let middle = simd.splat(centre);
    for x in x.chunks(SUMMED) {
        let (eights, rest) = x.as_chunks::<8>();
        let mut sum = simd.splat(0.0);
        for numbers in eights {
            let x = simd.sub(simd.load(numbers), middle);
            sum = if POWER == 1 { simd.add(sum, x) } else { simd.mul_add(x, x, sum) };
        }
        let mut sum = lane_sum(simd, sum);
        for x in rest {
            let x = x - centre;
            sum += if POWER == 1 { x } else { x * x };
        }
        total += f64::from(sum);
    }
    total
}

/// Softmax of a row in place. The row may be empty.
#[inline(always)]
pub(crate) fn softmax_row<S: Simd>(simd: S, row: &mut [f32]) {
    let mut largest = f32::NEG_INFINITY;
    let (eights, rest) = row.as_chunks::<8>();
    let mut max = simd.splat(f32::NEG_INFINITY);
    for numbers in eights {
        max = simd.max(simd.load(numbers), max);
    }
    for x in lanes(simd, max).iter().chain(rest) {
        largest = if *x > largest { *x } else { largest };
    }
    let shift = simd.splat(largest);
    let (eights, rest) = row.as_chunks_mut::<8>();
    let mut sum = simd.splat(0.0);
    for numbers in &mut *eights {
        let share = exp(simd, simd.sub(simd.load(numbers), shift));
        sum = simd.add(sum, share);
        simd.store(share, numbers);
    }
    let mut sum = lane_sum(simd, sum);
    for x in &mut *rest {
        *x = (*x - largest).exp();
        sum += *x;
    }
    let factor = 1.0 / sum;
    for numbers in eights {
        simd.store(simd.mul(simd.load(numbers), simd.splat(factor)), numbers);
    }
    for x in rest {
        *x *= factor;
    }
}

struct SoftmaxTask<'a>(&'a mut [f32], usize);

impl Task for SoftmaxTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for row in self.0.chunks_exact_mut(self.1.max(1)) {
            softmax_row(simd, row);
        }
    }
}

/// Softmax of rows of `dim` numbers, in place.
pub(crate) fn softmax(x: &mut [f32], dim: usize) {
    dispatch(SoftmaxTask(x, dim));
}

/// `(x − centre) · factor · weight + bias`, in place.
#[inline(always)]
fn scale_row<S: Simd>(simd: S, x: &mut [f32], centre: f32, factor: f32, weight: &[f32], bias: &[f32]) {
    let (middle, scale) = (simd.splat(centre), simd.splat(factor));
    let (eights, rest) = x.as_chunks_mut::<8>();
    let (weights, last_weights) = weight.as_chunks::<8>();
    let (biases, last_biases) = bias.as_chunks::<8>();
    for ((numbers, weight), bias) in eights.iter_mut().zip(weights).zip(biases) {
        let normed = simd.mul(simd.sub(simd.load(numbers), middle), scale);
        simd.store(simd.mul_add(normed, simd.load(weight), simd.load(bias)), numbers);
    }
    for ((x, weight), bias) in rest.iter_mut().zip(last_weights).zip(last_biases) {
        *x = (*x - centre) * factor * weight + bias;
    }
}

/// Which numbers a norm takes together.
pub(crate) enum Norm<'a> {
    /// Each row of the weight's length: mean and variance, then weight and bias.
    Layer { weight: &'a [f32], bias: &'a [f32] },
    /// Each row of the weight's length: mean square, then weight.
    RootMeanSquare { weight: &'a [f32] },
    /// That many groups of channels, each channel `plane` numbers long, with a weight and a bias a channel.
    Group { weight: &'a [f32], bias: &'a [f32], groups: usize, plane: usize },
}

struct NormTask<'a> {
    x: &'a mut [f32],
    norm: Norm<'a>,
    eps: f32,
}

impl Task for NormTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let eps = f64::from(self.eps);
        match self.norm {
            Norm::Layer { weight, bias } => {
                for row in self.x.chunks_exact_mut(weight.len().max(1)) {
                    let mean = (power_sum::<S, 1>(simd, row, 0.0) / row.len() as f64) as f32;
                    let variance = power_sum::<S, 2>(simd, row, mean) / row.len() as f64;
                    scale_row(simd, row, mean, (1.0 / (variance + eps).sqrt()) as f32, weight, bias);
                }
            }
            Norm::RootMeanSquare { weight } => {
                let zeros = vec![0.0; weight.len()];
                for row in self.x.chunks_exact_mut(weight.len().max(1)) {
                    let square = power_sum::<S, 2>(simd, row, 0.0) / row.len() as f64;
                    scale_row(simd, row, 0.0, (1.0 / (square + eps).sqrt()) as f32, weight, &zeros);
                }
            }
            Norm::Group { weight, bias, groups, plane } => {
                let channels = weight.len() / groups;
                for (index, group) in self.x.chunks_exact_mut((channels * plane).max(1)).enumerate() {
                    let mean = (power_sum::<S, 1>(simd, group, 0.0) / group.len() as f64) as f32;
                    let variance = power_sum::<S, 2>(simd, group, mean) / group.len() as f64;
                    let factor = (1.0 / (variance + eps).sqrt()) as f32;
                    for (at, channel) in group.chunks_exact_mut(plane).enumerate() {
                        let channel_index = index % groups * channels + at;
                        let (weight, bias) = (weight[channel_index] * factor, bias[channel_index]);
                        for x in channel {
                            *x = (*x - mean) * weight + bias;
                        }
                    }
                }
            }
        }
    }
}

/// Normalises in place.
pub(crate) fn normalize(x: &mut [f32], norm: Norm<'_>, eps: f32) {
    dispatch(NormTask { x, norm, eps });
}
