//! Convolutions of pictures `[channels, height, width]`.
//!
//! The picture is first copied into a padded layout whose columns are parted by their remainder modulo the step, so
//! that sixteen neighbouring outputs read sixteen neighbouring numbers whatever the step. Then
//!
//! - depthwise kernels run along the rows,
//! - all others are a matrix product: for every sixteen outputs the numbers under each tap of the kernel are gathered
//!   to a column panel, which all output channels pass over while it is in the cache; a 1 × 1 kernel needs no copy.

use super::gemm::{COLUMNS, Columns, Finish, PackedRows, ROWS, tile};
use super::simd::{Simd, Task, dispatch};
use super::{for_each_piece, threads};

/// Sizes of a convolution; rows, then columns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Shape {
    /// Output channels.
    pub(crate) out: usize,
    /// Input channels of a group.
    pub(crate) in_group: usize,
    pub(crate) groups: usize,
    pub(crate) kernel: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    /// Rows above, columns to the left.
    pub(crate) before: [usize; 2],
    /// Rows below, columns to the right.
    pub(crate) after: [usize; 2],
}

/// Weights in the order in which they are applied.
#[derive(Debug, Clone)]
enum Weights {
    /// `[out, taps]`
    Depthwise(Vec<f32>),
    /// One packed matrix `[out / groups, in_group · taps]` a group.
    Dense(Vec<PackedRows>),
}

/// A convolution ready to run.
#[derive(Debug, Clone)]
pub(crate) struct PackedConv {
    shape: Shape,
    weights: Weights,
    bias: Vec<f32>,
    finish: Finish,
}

/// The padded picture: `[channels, phases, height, width]`; column x of the padded picture is column `x / phases` of
/// phase `x % phases`.
struct Layout {
    phases: usize,
    height: usize,
    width: usize,
}

impl Layout {
    fn plane(&self) -> usize {
        self.phases * self.height * self.width
    }
}

impl PackedConv {
    /// `weight` `[out, in_group, kernel_height, kernel_width]`, `bias` `[out]` or empty.
    pub(crate) fn new(shape: Shape, weight: &[f32], bias: &[f32], finish: Finish) -> Self {
        let depth = shape.in_group * shape.kernel[0] * shape.kernel[1];
        let weights = if shape.in_group == 1 && shape.groups > 1 {
            Weights::Depthwise(weight.to_vec())
        } else {
            let rows = shape.out / shape.groups;
            let group = |group| PackedRows::new(&weight[group * rows * depth..][..rows * depth], rows, depth);
            Weights::Dense((0..shape.groups).map(group).collect())
        };
        let bias = if bias.is_empty() { vec![0.0; shape.out] } else { bias.to_vec() };
        Self { shape, weights, bias, finish }
    }

    /// The weights as they were given, for operations that want them so.
    pub(crate) fn unpack(&self) -> (Vec<f32>, &[f32]) {
        let weight = match &self.weights {
            Weights::Depthwise(weight) => weight.clone(),
            Weights::Dense(groups) => {
                let rows = self.shape.out / self.shape.groups;
                groups.iter().flat_map(|group| (0..rows).flat_map(|row| group.row(row))).collect()
            }
        };
        (weight, &self.bias)
    }

    /// Rows and columns of the result for a picture of that size, which the kernel fits into.
    pub(crate) fn out_size(&self, size: [usize; 2]) -> [usize; 2] {
        let Shape { kernel, stride, dilation, before, after, .. } = self.shape;
        [0, 1].map(|i| (size[i] + before[i] + after[i] - dilation[i] * (kernel[i] - 1) - 1) / stride[i] + 1)
    }

    /// Convolves one picture of `size` (rows, columns) into `out` `[out, out_size]`.
    pub(crate) fn run(&self, picture: &[f32], size: [usize; 2], out_size: [usize; 2], out: &mut [f32]) {
        let Shape { kernel, stride, before, after, .. } = self.shape;
        if out.is_empty() {
            return;
        }
        let plain = kernel == [1, 1] && stride == [1, 1] && before == [0, 0] && after == [0, 0];
        let mut padded = Vec::new();
        let layout = if plain {
            Layout { phases: 1, height: size[0], width: size[1] }
        } else {
            self.pad(picture, size, &mut padded)
        };
        let source = if plain { picture } else { &padded };
        match &self.weights {
            Weights::Depthwise(weights) => self.run_depthwise(weights, source, &layout, out_size, out),
            Weights::Dense(groups) => {
                let pixels = out_size[0] * out_size[1];
                let rows = self.shape.out / self.shape.groups;
                for (group, out) in out.chunks_exact_mut(rows * pixels).enumerate() {
                    let source = &source[group * self.shape.in_group * layout.plane()..];
                    let bias = &self.bias[group * rows..][..rows];
                    self.run_group(&groups[group], bias, source, &layout, out_size, plain, out);
                }
            }
        }
    }

    /// Copies the picture into the padded layout, with room to read a few numbers beyond the end.
    fn pad(&self, picture: &[f32], size: [usize; 2], padded: &mut Vec<f32>) -> Layout {
        let Shape { stride, before, after, .. } = self.shape;
        let phases = stride[1];
        let height = size[0] + before[0] + after[0];
        let width = (size[1] + before[1] + after[1]).div_ceil(phases);
        let layout = Layout { phases, height, width };
        let channels = self.shape.in_group * self.shape.groups;
        padded.resize(channels * layout.plane() + 2 * COLUMNS, 0.0);
        let planes = picture.chunks_exact((size[0] * size[1]).max(1)).zip(padded.chunks_exact_mut(layout.plane()));
        for (plane, padded) in planes {
            for (row, numbers) in plane.chunks_exact(size[1].max(1)).enumerate() {
                let row = row + before[0];
                if phases == 1 {
                    padded[row * width + before[1]..][..size[1]].copy_from_slice(numbers);
                    continue;
                }
                for phase in 0..phases {
                    // The first column of the picture that falls into this phase.
                    let first = (phase + phases - before[1] % phases) % phases;
                    let target = &mut padded[(phase * height + row) * width + (first + before[1]) / phases..];
                    for (target, number) in target.iter_mut().zip(numbers.iter().skip(first).step_by(phases)) {
                        *target = *number;
                    }
                }
            }
        }
        layout
    }

    /// Where each tap of the kernel reads, relative to the output's place; channel by channel.
    fn offsets(&self, channels: usize, layout: &Layout) -> Vec<usize> {
        let Shape { kernel, dilation, .. } = self.shape;
        let mut offsets = Vec::with_capacity(channels * kernel[0] * kernel[1]);
        for channel in 0..channels {
            for row in 0..kernel[0] {
                for column in 0..kernel[1] {
                    let x = column * dilation[1];
                    let row = x % layout.phases * layout.height + row * dilation[0];
                    offsets.push(channel * layout.plane() + row * layout.width + x / layout.phases);
                }
            }
        }
        offsets
    }

    fn run_group(
        &self,
        weights: &PackedRows,
        bias: &[f32],
        source: &[f32],
        layout: &Layout,
        out_size: [usize; 2],
        plain: bool,
        out: &mut [f32],
    ) {
        let pixels = out_size[0] * out_size[1];
        let offsets = self.offsets(self.shape.in_group, layout);
        let multiplications = out.len() * weights.depth;
        // Whole panels of output channels a thread.
        let piece = bias.len().div_ceil(threads()).next_multiple_of(ROWS);
        for_each_piece(out, piece * pixels, multiplications, |index, out| {
            let places = Places { size: out_size, step: self.shape.stride[0] * layout.width, width: layout.width };
            let first = index * piece;
            let bias = &bias[first..][..out.len() / pixels];
            let finish = self.finish;
            dispatch(DenseTask {
                weights,
                first: first / ROWS,
                bias,
                finish,
                source,
                offsets: &offsets,
                places,
                plain,
                out,
            });
        });
    }

    fn run_depthwise(&self, weights: &[f32], source: &[f32], layout: &Layout, out_size: [usize; 2], out: &mut [f32]) {
        let offsets = self.offsets(1, layout);
        let multiplier = self.shape.out / self.shape.groups;
        let pixels = out_size[0] * out_size[1];
        let multiplications = out.len() * offsets.len();
        let piece = self.shape.out.div_ceil(threads());
        for_each_piece(out, piece * pixels, multiplications, |index, out| {
            for (at, out) in out.chunks_exact_mut(pixels).enumerate() {
                let channel = index * piece + at;
                dispatch(DepthwiseTask {
                    weights: &weights[channel * offsets.len()..][..offsets.len()],
                    bias: self.bias[channel],
                    finish: self.finish,
                    source: &source[channel / multiplier * layout.plane()..],
                    offsets: &offsets,
                    step: self.shape.stride[0] * layout.width,
                    width: out_size[1],
                    out,
                });
            }
        });
    }
}

/// Where outputs read: `row · step + column`.
struct Places {
    size: [usize; 2],
    step: usize,
    width: usize,
}

impl Places {
    /// Runs of neighbouring numbers that sixteen outputs from `first` on read: first lane and where it reads.
    #[inline(always)]
    fn runs(&self, first: usize, runs: &mut [(usize, usize); COLUMNS]) -> usize {
        if self.step == self.size[1] && self.width == self.size[1] {
            runs[0] = (0, first);
            return 1;
        }
        let (mut lane, mut count) = (0, 0);
        let (mut row, mut column) = (first / self.size[1], first % self.size[1]);
        while lane < COLUMNS && row < self.size[0] {
            runs[count] = (lane, row * self.step + column);
            count += 1;
            lane += self.size[1] - column;
            (row, column) = (row + 1, 0);
        }
        count
    }
}

struct DenseTask<'a> {
    weights: &'a PackedRows,
    /// First panel of output channels.
    first: usize,
    bias: &'a [f32],
    finish: Finish,
    source: &'a [f32],
    offsets: &'a [usize],
    places: Places,
    plain: bool,
    out: &'a mut [f32],
}

impl DenseTask<'_> {
    /// Gathers what sixteen outputs from `first` on read, tap by tap; `columns` has one place more than there are taps.
    #[inline(always)]
    fn gather(&self, first: usize, columns: &mut [f32]) {
        let mut runs = [(0, 0); COLUMNS];
        let count = self.places.runs(first, &mut runs);
        for (lane, place) in &runs[..count] {
            // A run is copied in full width; what is too much lands in lanes that a later run or tap overwrites. So
            // runs go from left to right.
            for (tap, offset) in self.offsets.iter().enumerate() {
                let from = &self.source[place + offset..][..COLUMNS - lane];
                let to = &mut columns[tap * COLUMNS + lane..][..COLUMNS - lane];
                if *lane == 0 {
                    if let (Some(from), Some(to)) = (from.first_chunk::<COLUMNS>(), to.first_chunk_mut::<COLUMNS>()) {
                        *to = *from;
                    }
                } else {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = *from;
                    }
                }
            }
        }
    }

    /// The same for the last outputs of a picture that has no room behind its end.
    fn gather_last(&self, first: usize, count: usize, columns: &mut [f32]) {
        for (tap, offset) in self.offsets.iter().enumerate() {
            for lane in 0..COLUMNS {
                let number = if lane < count { self.source[first + lane + offset] } else { 0.0 };
                columns[tap * COLUMNS + lane] = number;
            }
        }
    }
}

impl Task for DenseTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let pixels = self.places.size[0] * self.places.size[1];
        let mut columns: Vec<Columns> = vec![[[0.0; 8]; 2]; self.offsets.len()];
        for first in (0..pixels).step_by(COLUMNS) {
            let count = COLUMNS.min(pixels - first);
            let flat = columns.as_flattened_mut().as_flattened_mut();
            if self.plain && count < COLUMNS {
                self.gather_last(first, count, flat);
            } else {
                self.gather(first, flat);
            }
            for (panel, bias) in self.bias.chunks(ROWS).enumerate() {
                let mut sums = [[[0.0; 8]; 2]; ROWS];
                tile(simd, self.weights.panel(self.first + panel), &columns, &mut sums);
                for (row, bias) in bias.iter().enumerate() {
                    for half in &mut sums[row] {
                        let sum = simd.add(simd.load(half), simd.splat(*bias));
                        simd.store(self.finish.apply(simd, sum), half);
                    }
                    let target = &mut self.out[(panel * ROWS + row) * pixels + first..][..count];
                    let numbers = sums[row].as_flattened();
                    match target.first_chunk_mut::<COLUMNS>() {
                        Some(target) => target.copy_from_slice(numbers),
                        None => target.copy_from_slice(&numbers[..count]),
                    }
                }
            }
        }
    }
}

/// One channel of a depthwise convolution.
struct DepthwiseTask<'a> {
    weights: &'a [f32],
    bias: f32,
    finish: Finish,
    source: &'a [f32],
    offsets: &'a [usize],
    step: usize,
    width: usize,
    out: &'a mut [f32],
}

impl Task for DepthwiseTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (row, out) in self.out.chunks_exact_mut(self.width).enumerate() {
            for (block, out) in out.chunks_mut(8).enumerate() {
                let source = &self.source[row * self.step + block * 8..];
                let mut sum = simd.splat(self.bias);
                for (weight, offset) in self.weights.iter().zip(self.offsets) {
                    if let Some(numbers) = source.get(*offset..).and_then(<[f32]>::first_chunk::<8>) {
                        sum = simd.mul_add(simd.splat(*weight), simd.load(numbers), sum);
                    }
                }
                let sum = self.finish.apply(simd, sum);
                match out.first_chunk_mut::<8>() {
                    Some(out) => simd.store(sum, out),
                    None => {
                        let mut numbers = [0.0; 8];
                        simd.store(sum, &mut numbers);
                        out.copy_from_slice(&numbers[..out.len()]);
                    }
                }
            }
        }
    }
}
