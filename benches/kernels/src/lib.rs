//! Times the CPU engine's kernels, natively (one thread: `RAYON_NUM_THREADS=1`) and in WebAssembly.
//!
//! ```text
//! RAYON_NUM_THREADS=1 cargo run --release -p kernel-bench
//! RUSTFLAGS='-C target-feature=+simd128,+relaxed-simd' cargo build --profile wasm -p kernel-bench --lib \
//!     --target wasm32-unknown-unknown --target-dir target/kernel-bench
//! node --experimental-wasm-relaxed-simd benches/kernels/run.mjs \
//!     target/kernel-bench/wasm32-unknown-unknown/wasm/kernel_bench.wasm
//! ```
//!
//! The kernels are compiled from the crate's own files, so a change is timed seconds after it was made.

#[path = "../../../src/bundle/quantized.rs"]
#[allow(dead_code, reason = "only part of the crate is compiled here")]
mod bundle;
mod error;
#[path = "../../../src/tensor/cpu/kernels/mod.rs"]
#[allow(dead_code, reason = "only part of the crate is compiled here")]
mod kernels;
#[cfg(target_arch = "wasm32")]
mod wasm;

use bundle::{BLOCK, QuantizedBlocks, Scheme};
use half::f16;
use kernels::quantized::PackedMatrix;

/// Where results go and what time it is.
pub struct Bench<'a> {
    filter: &'a str,
    now_ms: &'a dyn Fn() -> f64,
    print: &'a dyn Fn(&str),
}

impl Bench<'_> {
    /// Prints the median time of `work`, and what it means for that many multiplications and bytes.
    fn time(&self, name: &str, multiplications: usize, bytes: usize, mut work: impl FnMut()) {
        if !name.contains(self.filter) {
            return;
        }
        work();
        let (begin, mut times) = ((self.now_ms)(), Vec::new());
        while times.len() < 5 || ((self.now_ms)() - begin < 300.0 && times.len() < 1000) {
            // Clocks in browsers are coarse, so a sample lasts a millisecond or more.
            let (start, mut repeats) = ((self.now_ms)(), 0);
            let elapsed = loop {
                work();
                repeats += 1;
                let elapsed = (self.now_ms)() - start;
                if elapsed >= 2.0 {
                    break elapsed;
                }
            };
            times.push(elapsed / f64::from(repeats));
        }
        times.sort_by(f64::total_cmp);
        let median = times[times.len() / 2];
        // On a busy machine the best is what the kernel can do, the median what it got.
        let best = times[0];
        let gflops = 2.0 * multiplications as f64 / best / 1e6;
        let gigabytes = bytes as f64 / best / 1e6;
        (self.print)(&format!(
            "{name:40} median {median:9.4} best {best:9.4} ms {gflops:7.1} GFLOP/s {gigabytes:6.2} GB/s"
        ));
    }
}

/// Numbers between −1 and 1 that look random.
fn numbers(count: usize) -> Vec<f32> {
    let mut state = 0x2545_f491_u32;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / (1u32 << 31) as f32 - 1.0
    };
    (0..count).map(next).collect()
}

fn blocks(scheme: Scheme, rows: usize, cols: usize) -> QuantizedBlocks {
    let count = rows * cols / BLOCK;
    let values = (0..count * scheme.block_bytes()).map(|i| (i * 37 + i / 11) as u8).collect();
    let mins = if scheme == Scheme::Q4_1 { vec![f16::from_f32(-0.05); count] } else { Vec::new() };
    QuantizedBlocks::new(scheme, rows, cols, values, vec![f16::from_f32(0.01); count], mins)
        .expect("the parts were made for the shape")
}

/// Runs every benchmark whose name contains `filter`.
pub fn run_all(filter: &str, now_ms: &dyn Fn() -> f64, print: &dyn Fn(&str)) {
    let bench = Bench { filter, now_ms, print };
    quantized(&bench);
}

fn quantized(bench: &Bench<'_>) {
    use Scheme::{Q4_1, Q8_0};
    for (scheme, count, rows, cols) in [
        (Q4_1, 1, 576, 1536),
        (Q4_1, 1, 1536, 576),
        (Q4_1, 1, 2048, 2048),
        (Q8_0, 1, 49152, 576),
        (Q4_1, 128, 1536, 576),
        (Q4_1, 128, 2048, 2048),
        (Q8_0, 128, 1536, 576),
    ] {
        for exact in [false, true] {
            let name = format!("{} {count}×{cols}×{rows}{}", scheme.name(), if exact { " exact" } else { "" });
            if !name.contains(bench.filter) || (exact && scheme == Q8_0) {
                continue;
            }
            let packed = PackedMatrix::new(blocks(scheme, rows, cols)).expect("the scales are finite");
            let (x, mut out) = (numbers(count * cols), vec![0.0; count * rows]);
            let bytes = rows * cols / BLOCK * (scheme.block_bytes() + if scheme == Q4_1 { 4 } else { 2 });
            bench.time(&name, count * rows * cols, bytes, || packed.multiply(&x, exact, &mut out));
        }
    }
}
