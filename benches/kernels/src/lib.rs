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
use kernels::attention::Head;
use kernels::conv::{PackedConv, Shape};
use kernels::elementwise::Smooth;
use kernels::gemm::{Finish, PackedColumns};
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
    float_products(&bench);
    decoder_parts(&bench);
    convolutions(&bench);
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

fn float_products(bench: &Bench<'_>) {
    for (m, k, n) in [(512, 512, 512), (1, 2048, 2048), (64, 384, 1536)] {
        let (a, b, mut out) = (numbers(m * k), numbers(k * n), vec![0.0; m * n]);
        let packed = PackedColumns::new(&b, n, k, true);
        let bytes = 4 * (m * k + k * n + m * n);
        bench.time(&format!("f32 {m}×{k}×{n}"), m * k * n, bytes, || {
            packed.multiply(&a, None, Finish::None, &mut out);
        });
        let gemm = || gemm_crate(m, k, n, &a, &b, &mut out);
        bench.time(&format!("f32 {m}×{k}×{n} gemm crate"), m * k * n, bytes, gemm);
    }
}

/// What a decoder layer of SmolLM2-135M does beside its matrices.
fn decoder_parts(bench: &Bench<'_>) {
    for (queries, keys) in [(1, 512), (128, 128)] {
        let (key, value, query) = (numbers(3 * keys * 64), numbers(3 * keys * 64), numbers(9 * queries * 64));
        let mut out = vec![0.0; 9 * queries * 64];
        bench.time(&format!("attention 9/3 heads {queries}×{keys}×64"), 9 * queries * keys * 128, 0, || {
            for (head, out) in out.chunks_exact_mut(queries * 64).enumerate() {
                let (key, value) = (&key[head / 3 * keys * 64..], &value[head / 3 * keys * 64..]);
                let causal_start = Some(keys - queries);
                let (dim, value_dim, scale) = (64, 64, 0.125);
                let attending = Head { key, value, keys, dim, value_dim, scale, causal_start };
                attending.attend(&query[head * queries * 64..][..queries * 64], None, out);
            }
        });
    }
    let mut x = numbers(1536);
    bench.time("silu 1536", 1536, 4 * 1536, || kernels::elementwise::map(Smooth::Silu, &mut x));
    let (mut x, weight) = (numbers(576), numbers(576));
    let norm = || kernels::norm::normalize(&mut x, kernels::norm::Norm::RootMeanSquare { weight: &weight }, 1e-5);
    bench.time("rms_norm 576", 576, 4 * 576, norm);
    let (x, weight, mut out) = (numbers(16 * 384), numbers(1536 * 384), vec![0.0; 16 * 1536]);
    bench.time("f32 16×384×1536 unpacked", 16 * 384 * 1536, 4 * weight.len(), || {
        kernels::dot::multiply(&x, &weight, [1536, 384], &[], Finish::None, &mut out);
    });
}

/// The same product by the crate that candle uses, to see which is faster.
#[allow(unsafe_code, reason = "the crate takes pointers only")]
fn gemm_crate(m: usize, k: usize, n: usize, a: &[f32], b: &[f32], out: &mut [f32]) {
    assert_eq!((a.len(), b.len(), out.len()), (m * k, k * n, m * n));
    let (ki, ni) = (k as isize, n as isize);
    // SAFETY: the lengths above are those of row-major matrices with these strides; `b` is read as its transpose.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out.as_mut_ptr(),
            1,
            ni,
            false,
            a.as_ptr(),
            1,
            ki,
            b.as_ptr(),
            ki,
            1,
            0.0,
            1.0,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

fn convolutions(bench: &Bench<'_>) {
    // Input channels, output channels, size, kernel, stride, dilation, groups.
    for (input, out, size, kernel, stride, dilation, groups) in [
        (3, 16, 320, 3, 1, 1, 1),
        (16, 16, 320, 3, 1, 1, 1),
        (64, 16, 320, 3, 1, 1, 1),
        (32, 64, 320, 3, 1, 1, 1),
        (16, 16, 160, 3, 1, 1, 1),
        (32, 16, 80, 3, 1, 1, 1),
        (64, 64, 40, 3, 1, 1, 1),
        (16, 16, 20, 3, 1, 8, 1),
        (128, 64, 20, 3, 1, 1, 1),
        (128, 128, 13, 3, 1, 1, 1),
        (3, 32, 224, 3, 2, 1, 1),
        (16, 96, 112, 1, 1, 1, 1),
        (320, 1280, 7, 1, 1, 1, 1),
        (512, 512, 6, 1, 1, 1, 1),
        (96, 96, 112, 3, 2, 1, 96),
        (144, 144, 56, 5, 2, 1, 144),
        (240, 240, 28, 3, 1, 1, 240),
        (672, 672, 14, 5, 1, 1, 672),
    ] {
        let margin = dilation * (kernel / 2);
        let shape = Shape {
            out,
            in_group: input / groups,
            groups,
            kernel: [kernel; 2],
            stride: [stride; 2],
            dilation: [dilation; 2],
            before: [margin; 2],
            after: [margin; 2],
        };
        let taps = input / groups * kernel * kernel;
        let conv = PackedConv::new(shape, &numbers(out * taps), &numbers(out), Finish::Clamp(0.0, 6.0));
        let out_size = (size - 1) / stride + 1;
        let pixels = out_size * out_size;
        let (picture, mut result) = (numbers(input * size * size), vec![0.0; out * pixels]);
        let name = format!("conv {input}→{out} {size}² {kernel}×{kernel} /{stride} d{dilation} g{groups}");
        let bytes = 4 * (picture.len() + result.len());
        bench.time(&name, out * pixels * taps, bytes, || conv.run(&picture, [size; 2], [out_size; 2], &mut result));
    }
}
