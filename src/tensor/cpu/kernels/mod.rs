//! Kernels of the CPU engine, on slices: they know nothing of tensors, and so can be timed alone (`benches/`).
#![allow(clippy::needless_range_loop, reason = "register tiles are indexed by place, several at a time")]

pub(crate) mod attention;
pub(crate) mod conv;
pub(crate) mod deformable;
pub(crate) mod dot;
pub(crate) mod elementwise;
pub(crate) mod gemm;
pub(crate) mod norm;
pub(crate) mod picture;
pub(crate) mod quantized;
pub(crate) mod simd;

/// Multiplications below which a second thread costs more than it brings.
#[cfg(not(target_arch = "wasm32"))]
const WORTH_A_THREAD: usize = 1 << 21;

/// Runs `compute` on pieces of `out`, `piece` numbers long, with the index of each; on several threads where there are
/// several and `multiplications` make it worth while.
pub(crate) fn for_each_piece(
    out: &mut [f32],
    piece: usize,
    multiplications: usize,
    compute: impl Fn(usize, &mut [f32]) + Send + Sync,
) {
    #[cfg(not(target_arch = "wasm32"))]
    if multiplications >= WORTH_A_THREAD && out.len() > piece {
        use rayon::prelude::*;
        out.par_chunks_mut(piece.max(1)).enumerate().for_each(|(index, out)| compute(index, out));
        return;
    }
    let _ = multiplications;
    for (index, out) in out.chunks_mut(piece.max(1)).enumerate() {
        compute(index, out);
    }
}

/// Threads that [`for_each_piece`] may use.
pub(crate) fn threads() -> usize {
    #[cfg(not(target_arch = "wasm32"))]
    return rayon::current_num_threads();
    #[cfg(target_arch = "wasm32")]
    1
}
