//! Scaled dot-product attention of one query head.

use super::dot::DotTask;
use super::gemm::{Finish, PackedColumns};
use super::norm::softmax_row;
use super::simd::{Simd, Task, dispatch};

/// Queries whose scores are in memory at a time.
const QUERIES: usize = 64;
/// Queries from which on packing the values pays.
const PACKED_QUERIES: usize = 8;

/// Adds a mask to the scaled scores of a query, by its index.
pub(crate) type AddMask<'a> = &'a dyn Fn(usize, &mut [f32]);

/// One head: `key` `[keys, dim]`, `value` `[keys, value_dim]`.
pub(crate) struct Head<'a> {
    pub(crate) key: &'a [f32],
    pub(crate) value: &'a [f32],
    pub(crate) keys: usize,
    pub(crate) dim: usize,
    pub(crate) value_dim: usize,
    pub(crate) scale: f32,
    /// Query i sees the keys up to `start + i`.
    pub(crate) causal_start: Option<usize>,
}

impl Head<'_> {
    /// Attends from `query` `[count, dim]` into `out` `[count, value_dim]`; `mask` adds to the scaled scores of a query.
    pub(crate) fn attend(&self, query: &[f32], mask: Option<AddMask<'_>>, out: &mut [f32]) {
        let count = out.len() / self.value_dim.max(1);
        if self.keys == 0 || out.is_empty() {
            out.fill(0.0);
            return;
        }
        let packed =
            (count >= PACKED_QUERIES).then(|| PackedColumns::new(self.value, self.value_dim, self.keys, false));
        let mut scores = vec![0.0; QUERIES.min(count) * self.keys];
        for first in (0..count).step_by(QUERIES) {
            let block = QUERIES.min(count - first);
            let scores = &mut scores[..block * self.keys];
            self.scores(&query[first * self.dim..][..block * self.dim], scores);
            for (row, scores) in scores.chunks_exact_mut(self.keys).enumerate() {
                let visible = self.causal_start.map_or(self.keys, |start| self.keys.min(start + first + row + 1));
                let (visible, hidden) = scores.split_at_mut(visible);
                hidden.fill(0.0);
                for score in &mut *visible {
                    *score *= self.scale;
                }
                if let Some(mask) = mask {
                    mask(first + row, visible);
                }
                dispatch(SharesTask(visible));
            }
            let out = &mut out[first * self.value_dim..][..block * self.value_dim];
            match &packed {
                Some(packed) => packed.multiply(scores, None, Finish::None, out),
                None => {
                    let rows = out.chunks_exact_mut(self.value_dim).zip(scores.chunks_exact(self.keys));
                    for (out, shares) in rows {
                        dispatch(ValuesTask { shares, value: self.value, out });
                    }
                }
            }
        }
    }

    /// `query · keyᵀ`, not yet scaled.
    fn scores(&self, query: &[f32], scores: &mut [f32]) {
        if self.dim == 0 {
            scores.fill(0.0);
            return;
        }
        let key = &self.key[..self.keys * self.dim];
        dispatch(DotTask { x: query, weight: key, depth: self.dim, bias: &[], finish: Finish::None, out: scores });
    }
}

/// Turns scores into shares that sum to 1, or to 0 where nothing is seen.
struct SharesTask<'a>(&'a mut [f32]);

impl Task for SharesTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.0.iter().all(|score| *score == f32::NEG_INFINITY) {
            self.0.fill(0.0);
        } else {
            softmax_row(simd, self.0);
        }
    }
}

/// Sum of the values, each times its share, for one query.
struct ValuesTask<'a> {
    shares: &'a [f32],
    value: &'a [f32],
    out: &'a mut [f32],
}

impl Task for ValuesTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let dim = self.out.len();
        let (blocks, rest) = self.out.as_chunks_mut::<32>();
        let done = blocks.len() * 32;
        for (index, out) in blocks.iter_mut().enumerate() {
            let mut sums = [simd.splat(0.0); 4];
            for (share, value) in self.shares.iter().zip(self.value.chunks_exact(dim)) {
                let share = simd.splat(*share);
                let numbers = value[index * 32..][..32].as_chunks::<8>().0;
                for i in 0..4 {
                    sums[i] = simd.mul_add(share, simd.load(&numbers[i]), sums[i]);
                }
            }
            for (sum, out) in sums.into_iter().zip(out.as_chunks_mut::<8>().0) {
                simd.store(sum, out);
            }
        }
        rest.fill(0.0);
        for (share, value) in self.shares.iter().zip(self.value.chunks_exact(dim)) {
            for (out, value) in rest.iter_mut().zip(&value[done..]) {
                *out += share * value;
            }
        }
    }
}
