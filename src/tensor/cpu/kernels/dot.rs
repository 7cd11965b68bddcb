//! Products of rows with rows, `x · wᵀ`, straight from row-major memory: linear layers with f32 weights, and the scores
//! of attention. Nothing is packed, so a matrix is in memory once.

use super::gemm::Finish;
use super::norm::lane_sum;
use super::simd::{Simd, Task, dispatch};
use super::{for_each_piece, threads};

/// `x` `[count, depth]` times the transpose of `weight` `[rows, depth]`, plus `bias` `[rows]` or nothing, into `out`
/// `[count, rows]`.
pub(crate) fn multiply(
    x: &[f32],
    weight: &[f32],
    [rows, depth]: [usize; 2],
    bias: &[f32],
    finish: Finish,
    out: &mut [f32],
) {
    if out.is_empty() {
        return;
    }
    let count = out.len() / rows;
    if depth == 0 {
        for out in out.chunks_exact_mut(rows) {
            out.fill(0.0);
            out[..bias.len()].copy_from_slice(bias);
            out.iter_mut().for_each(|x| *x = finish.apply_one(*x));
        }
        return;
    }
    let multiplications = out.len() * depth;
    if count == 1 {
        let piece = rows.div_ceil(threads()).next_multiple_of(4);
        for_each_piece(out, piece, multiplications, |index, out| {
            let first = index * piece;
            let weight = &weight[first * depth..][..out.len() * depth];
            let bias = if bias.is_empty() { bias } else { &bias[first..][..out.len()] };
            dispatch(DotTask { x, weight, depth, bias, finish, out });
        });
        return;
    }
    let piece = count.div_ceil(threads()).next_multiple_of(4);
    for_each_piece(out, piece * rows, multiplications, |index, out| {
        let x = &x[index * piece * depth..][..out.len() / rows * depth];
        dispatch(DotTask { x, weight, depth, bias, finish, out });
    });
}

pub(crate) struct DotTask<'a> {
    pub(crate) x: &'a [f32],
    pub(crate) weight: &'a [f32],
    pub(crate) depth: usize,
    pub(crate) bias: &'a [f32],
    pub(crate) finish: Finish,
    pub(crate) out: &'a mut [f32],
}

impl Task for DotTask<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(mut self, simd: S) {
        let count = self.x.len() / self.depth;
        if S::TILE.1 == 2 && count >= 4 {
            self.tiles::<S, 4, 2>(simd);
        } else if count >= 2 {
            self.tiles::<S, 2, 2>(simd);
        } else {
            self.tiles::<S, 1, 4>(simd);
        }
    }
}

impl DotTask<'_> {
    /// All tiles of M rows of `x` and N rows of `weight`, then what is left, one by one.
    #[inline(always)]
    fn tiles<S: Simd, const M: usize, const N: usize>(&mut self, simd: S) {
        let (count, rows) = (self.x.len() / self.depth, self.weight.len() / self.depth);
        let (whole_count, whole_rows) = (count / M * M, rows / N * N);
        // A few rows of weights stay in the first cache while all of x passes over them.
        for row in (0..whole_rows).step_by(N) {
            for at in (0..whole_count).step_by(M) {
                self.tile::<S, M, N>(simd, at, row);
            }
        }
        for row in 0..rows {
            let first = if row < whole_rows { whole_count } else { 0 };
            for at in first..count {
                self.tile::<S, 1, 1>(simd, at, row);
            }
        }
    }

    #[inline(always)]
    fn tile<S: Simd, const M: usize, const N: usize>(&mut self, simd: S, at: usize, row: usize) {
        let (depth, width) = (self.depth, self.weight.len() / self.depth);
        let eights = depth / 8;
        let (mut x, mut weight) = ([&[][..]; M], [&[][..]; N]);
        for m in 0..M {
            x[m] = &self.x[(at + m) * depth..][..depth];
        }
        for n in 0..N {
            weight[n] = &self.weight[(row + n) * depth..][..depth];
        }
        let (mut x_eights, mut weight_eights) = ([&[][..]; M], [&[][..]; N]);
        for m in 0..M {
            x_eights[m] = &x[m].as_chunks::<8>().0[..eights];
        }
        for n in 0..N {
            weight_eights[n] = &weight[n].as_chunks::<8>().0[..eights];
        }
        let mut sums = [[simd.splat(0.0); N]; M];
        for i in 0..eights {
            for n in 0..N {
                let w = simd.load(&weight_eights[n][i]);
                for m in 0..M {
                    sums[m][n] = simd.mul_add(simd.load(&x_eights[m][i]), w, sums[m][n]);
                }
            }
        }
        for m in 0..M {
            for n in 0..N {
                let mut sum = lane_sum(simd, sums[m][n]);
                for i in eights * 8..depth {
                    sum += x[m][i] * weight[n][i];
                }
                if !self.bias.is_empty() {
                    sum += self.bias[row + n];
                }
                self.out[(at + m) * width + row + n] = self.finish.apply_one(sum);
            }
        }
    }
}
