//! Functions of single numbers, eight at a time.

use super::gemm::Finish;
use super::simd::{Simd, Task, dispatch};

/// A smooth function that the processor has no instruction for. The errors are absolute, within −10 … 10.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Smooth {
    /// `x · sigmoid(x)`, 1e-6.
    Silu,
    /// `1 / (1 + exp(−x))`, 2e-7.
    Sigmoid,
    /// Hyperbolic tangent, 3e-7.
    Tanh,
    /// `x/2 · (1 + erf(x/√2))`, 2e-6.
    Gelu,
    /// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`, 2e-6.
    GeluTanh,
}

/// `e^x` within two units of the last place for −87.3 ≤ x ≤ 88.3, the value at the nearest end beyond.
///
/// Source: the range reduction and polynomial of Cephes' `expf`.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::F) -> S::F {
    // Adding it rounds a number to an integer, which stands in the low bits of the sum.
    let magic = simd.splat(12_582_912.0);
    let x = simd.min(simd.splat(88.37), simd.max(simd.splat(-87.33), x));
    let shifted = simd.mul_add(x, simd.splat(std::f32::consts::LOG2_E), magic);
    let n = simd.sub(shifted, magic);
    let r = simd.mul_add(n, simd.splat(-0.693_359_4), x);
    let r = simd.mul_add(n, simd.splat(2.121_944_4e-4), r);
    let mut y = simd.splat(1.987_569_1e-4);
    for coefficient in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
        y = simd.mul_add(y, r, simd.splat(coefficient));
    }
    let y = simd.mul_add(simd.mul(y, r), r, simd.add(r, simd.splat(1.0)));
    simd.mul(y, simd.exp2_of_magic(shifted))
}

#[inline(always)]
fn sigmoid<S: Simd>(simd: S, x: S::F) -> S::F {
    let one = simd.splat(1.0);
    simd.div(one, simd.add(one, exp(simd, simd.sub(simd.splat(0.0), x))))
}

/// Source: Abramowitz and Stegun, 7.1.26; absolute error 1.5e-7. For x ≥ 0.
#[inline(always)]
fn erf_of_positive<S: Simd>(simd: S, x: S::F) -> S::F {
    let one = simd.splat(1.0);
    let t = simd.div(one, simd.mul_add(x, simd.splat(0.327_591_1), one));
    let mut y = simd.splat(1.061_405_4);
    for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
        y = simd.mul_add(y, t, simd.splat(coefficient));
    }
    let negative_square = simd.mul(simd.sub(simd.splat(0.0), x), x);
    simd.sub(one, simd.mul(simd.mul(y, t), exp(simd, negative_square)))
}

impl Smooth {
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, simd: S, x: S::F) -> S::F {
        match self {
            Smooth::Silu => simd.mul(x, sigmoid(simd, x)),
            Smooth::Sigmoid => sigmoid(simd, x),
            Smooth::Tanh => {
                let doubled = sigmoid(simd, simd.add(x, x));
                simd.sub(simd.add(doubled, doubled), simd.splat(1.0))
            }
            Smooth::Gelu => {
                // x/2 · (1 + sign(x) · erf(|x|/√2)) = x/2 + |x|/2 · erf(|x|/√2)
                let size = simd.max(simd.sub(simd.splat(0.0), x), x);
                let erf = erf_of_positive(simd, simd.mul(size, simd.splat(std::f32::consts::FRAC_1_SQRT_2)));
                let half = simd.splat(0.5);
                simd.mul_add(simd.mul(size, half), erf, simd.mul(x, half))
            }
            Smooth::GeluTanh => {
                // (1 + tanh(y)) / 2 = sigmoid(2 y), and 2 · √(2/π) = 1.5957692
                let square = simd.mul(x, x);
                let factor = simd.mul_add(square, simd.splat(0.044715), simd.splat(1.0));
                let y = simd.mul(simd.mul(x, factor), simd.splat(1.595_769));
                simd.mul(x, sigmoid(simd, y))
            }
        }
    }
}

struct MapTask<'a>(Smooth, &'a mut [f32]);

impl Task for MapTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let (eights, rest) = self.1.as_chunks_mut::<8>();
        for numbers in eights {
            simd.store(self.0.apply(simd, simd.load(numbers)), numbers);
        }
        let mut numbers = [0.0; 8];
        numbers[..rest.len()].copy_from_slice(rest);
        let last = self.0.apply(simd, simd.load(&numbers));
        simd.store(last, &mut numbers);
        rest.copy_from_slice(&numbers[..rest.len()]);
    }
}

/// Applies the function to every number in place.
pub(crate) fn map(op: Smooth, x: &mut [f32]) {
    dispatch(MapTask(op, x));
}

struct AddRowsTask<'a>(&'a mut [f32], &'a [f32], Finish);

impl Task for AddRowsTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let AddRowsTask(numbers, bias, finish) = self;
        let zeros = [0.0; 512];
        let bias = if bias.is_empty() { &zeros } else { bias };
        for row in numbers.chunks_mut(bias.len()) {
            let (eights, rest) = row.as_chunks_mut::<8>();
            for (numbers, bias) in eights.iter_mut().zip(bias.as_chunks::<8>().0) {
                let sum = simd.add(simd.load(numbers), simd.load(bias));
                simd.store(finish.apply(simd, sum), numbers);
            }
            let done = eights.len() * 8;
            for (x, bias) in rest.iter_mut().zip(&bias[done..]) {
                *x = finish.apply_one(*x + bias);
            }
        }
    }
}

/// Adds `bias`, which may be empty, to every row, and finishes it.
pub(crate) fn add_rows(numbers: &mut [f32], bias: &[f32], finish: Finish) {
    if !bias.is_empty() || finish != Finish::None {
        dispatch(AddRowsTask(numbers, bias, finish));
    }
}

/// Rotary embedding in the half-split layout: `x` rows of `2 · half`, `cos` and `sin` `[seq, half]`, row i of x takes
/// row `i % seq` of the tables.
pub(crate) fn rope(x: &mut [f32], cos: &[f32], sin: &[f32], half: usize) {
    if half == 0 || cos.is_empty() {
        return;
    }
    let tables = cos.chunks_exact(half).zip(sin.chunks_exact(half)).cycle();
    for (row, (cos, sin)) in x.chunks_exact_mut(2 * half).zip(tables) {
        let (first, second) = row.split_at_mut(half);
        for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
            (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
        }
    }
}
