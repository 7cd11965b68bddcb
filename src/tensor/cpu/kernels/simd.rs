//! Eight numbers at a time: the one place that names instruction sets, and the one with `unsafe`.
//!
//! Kernels are generic over [`Simd`] and never mention an instruction. A value of a type that implements it proves that
//! the processor has the instructions, so its methods are safe to call. [`dispatch`] picks the best one at run time and
//! compiles the kernel for it; everything between it and the methods must be `#[inline(always)]`, without closures,
//! or the instructions end up behind function calls.
#![allow(unsafe_code, reason = "SIMD loads and intrinsics have no safe form for processors found at run time")]

use half::f16;

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(crate) use wasm::Wasm;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::Avx2;

/// Operations on vectors of eight f32 (`F`), or of 32 bytes seen as eight i32, sixteen i16 or 32 u8 (`I`).
pub(crate) trait Simd: Copy {
    /// Eight f32.
    type F: Copy;
    /// 32 bytes of integers.
    type I: Copy;
    /// Rows and vectors of the register tile in which a matrix product is computed fastest.
    const TILE: (usize, usize);

    fn splat(self, x: f32) -> Self::F;
    fn load(self, from: &[f32; 8]) -> Self::F;
    fn store(self, v: Self::F, to: &mut [f32; 8]);
    /// Eight half-precision numbers, all finite.
    fn load_f16(self, from: &[f16; 8]) -> Self::F;
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger; `b` if one is not a number.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller; `b` if one is not a number.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a · b + c`, with one rounding or two.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `2ⁿ` where n is in the low bits of `1.5 · 2²³ + n`, −126 ≤ n ≤ 127.
    fn exp2_of_magic(self, v: Self::F) -> Self::F;

    fn zero(self) -> Self::I;
    fn load_bytes(self, from: &[u8; 32]) -> Self::I;
    /// Sixteen signed bytes as sixteen i16.
    fn load_widened(self, from: &[u8; 16]) -> Self::I;
    /// The low and the high halves of all bytes.
    fn nibbles(self, v: Self::I) -> [Self::I; 2];
    /// Halves of bytes as i16: the low halves of the even and of the odd bytes, the high of the even, of the odd.
    fn wide_nibbles(self, v: Self::I) -> [Self::I; 4];
    /// Adds to each of the sixteen i16 the dot product of two signed bytes with two nibbles; the four bytes serve all
    /// groups of four nibbles. A sum of eight such dot products stays below 2¹⁵.
    fn dot_i8(self, sums: Self::I, bytes: i32, nibbles: Self::I) -> Self::I;
    /// Sums of neighbouring i16, as eight i32.
    fn pair_sums(self, v: Self::I) -> Self::I;
    /// Adds to each of the eight i32 the dot product of two i16 (the same for all) with two i16.
    fn dot_i16(self, sums: Self::I, pair: i32, values: Self::I) -> Self::I;
    /// i32 to f32.
    fn to_f32(self, v: Self::I) -> Self::F;
}

/// A kernel with its operands.
pub(crate) trait Task {
    /// What it returns.
    type Output;
    /// Must be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// Runs a kernel with the best instructions that the processor has.
pub(crate) fn dispatch<T: Task>(task: T) -> T::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(avx2) = Avx2::detect() {
        return x86::run(avx2, task);
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    return task.run(Wasm);
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    task.run(Portable)
}

/// Whether [`Simd::dot_i8`] is faster than two [`Simd::dot_i16`] here.
pub(crate) fn has_fast_dot_i8() -> bool {
    #[cfg(target_arch = "x86_64")]
    return Avx2::detect().is_some();
    #[cfg(not(target_arch = "x86_64"))]
    cfg!(target_feature = "relaxed-simd")
}

/// Plain arrays, which the compiler turns into whatever the target always has.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(
    all(target_arch = "wasm32", target_feature = "simd128"),
    expect(dead_code, reason = "WebAssembly always has its own vectors where it has any")
)]
pub(crate) struct Portable;

#[inline(always)]
#[cfg_attr(
    all(target_arch = "wasm32", target_feature = "simd128"),
    expect(dead_code, reason = "WebAssembly always has its own vectors where it has any")
)]
fn zip(a: [f32; 8], b: [f32; 8], op: impl Fn(f32, f32) -> f32) -> [f32; 8] {
    let mut out = a;
    for (out, b) in out.iter_mut().zip(b) {
        *out = op(*out, b);
    }
    out
}

impl Simd for Portable {
    type F = [f32; 8];
    type I = [u8; 32];
    const TILE: (usize, usize) = (4, 1);

    #[inline(always)]
    fn splat(self, x: f32) -> [f32; 8] {
        [x; 8]
    }
    #[inline(always)]
    fn load(self, from: &[f32; 8]) -> [f32; 8] {
        *from
    }
    #[inline(always)]
    fn store(self, v: [f32; 8], to: &mut [f32; 8]) {
        *to = v;
    }
    #[inline(always)]
    fn load_f16(self, from: &[f16; 8]) -> [f32; 8] {
        from.map(f16::to_f32)
    }
    #[inline(always)]
    fn add(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a + b)
    }
    #[inline(always)]
    fn sub(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a - b)
    }
    #[inline(always)]
    fn mul(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    fn div(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| a / b)
    }
    #[inline(always)]
    fn max(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    fn min(self, a: [f32; 8], b: [f32; 8]) -> [f32; 8] {
        zip(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    fn mul_add(self, a: [f32; 8], b: [f32; 8], c: [f32; 8]) -> [f32; 8] {
        self.add(self.mul(a, b), c)
    }
    #[inline(always)]
    fn exp2_of_magic(self, v: [f32; 8]) -> [f32; 8] {
        v.map(|v| f32::from_bits((v.to_bits() << 23).wrapping_add(127 << 23)))
    }

    #[inline(always)]
    fn zero(self) -> [u8; 32] {
        [0; 32]
    }
    #[inline(always)]
    fn load_bytes(self, from: &[u8; 32]) -> [u8; 32] {
        *from
    }
    #[inline(always)]
    fn load_widened(self, from: &[u8; 16]) -> [u8; 32] {
        bytemuck::cast(from.map(|byte| i16::from(byte as i8)))
    }
    #[inline(always)]
    fn nibbles(self, v: [u8; 32]) -> [[u8; 32]; 2] {
        [v.map(|v| v & 15), v.map(|v| v >> 4)]
    }
    #[inline(always)]
    fn wide_nibbles(self, v: [u8; 32]) -> [[u8; 32]; 4] {
        let pairs: [u16; 16] = bytemuck::cast(v);
        [0, 8, 4, 12].map(|shift| bytemuck::cast(pairs.map(|pair| (u16::from_le(pair) >> shift) & 15)))
    }
    #[inline(always)]
    fn dot_i8(self, sums: [u8; 32], bytes: i32, nibbles: [u8; 32]) -> [u8; 32] {
        let bytes: [i8; 4] = bytemuck::cast(bytes);
        let mut sums: [i16; 16] = bytemuck::cast(sums);
        for (sums, nibbles) in sums.as_chunks_mut::<2>().0.iter_mut().zip(nibbles.as_chunks::<4>().0) {
            for (i, sum) in sums.iter_mut().enumerate() {
                *sum += i16::from(bytes[2 * i]) * i16::from(nibbles[2 * i]);
                *sum += i16::from(bytes[2 * i + 1]) * i16::from(nibbles[2 * i + 1]);
            }
        }
        bytemuck::cast(sums)
    }
    #[inline(always)]
    fn pair_sums(self, v: [u8; 32]) -> [u8; 32] {
        self.dot_i16([0; 32], 0x0001_0001, v)
    }
    #[inline(always)]
    fn dot_i16(self, sums: [u8; 32], pair: i32, values: [u8; 32]) -> [u8; 32] {
        let [first, second]: [i16; 2] = bytemuck::cast(pair);
        let values: [i16; 16] = bytemuck::cast(values);
        let mut sums: [i32; 8] = bytemuck::cast(sums);
        for (sum, [a, b]) in sums.iter_mut().zip(values.as_chunks::<2>().0) {
            *sum += i32::from(first) * i32::from(*a) + i32::from(second) * i32::from(*b);
        }
        bytemuck::cast(sums)
    }
    #[inline(always)]
    fn to_f32(self, v: [u8; 32]) -> [f32; 8] {
        let v: [i32; 8] = bytemuck::cast(v);
        v.map(|v| v as f32)
    }
}

#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm {
    use core::arch::wasm32::*;

    use half::f16;

    use super::Simd;

    /// WebAssembly's 128-bit vectors in pairs; with relaxed SIMD where the build has it.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Wasm;

    /// Applies an instruction to both halves.
    macro_rules! both {
        ($op:path, $($operand:expr),+) => {
            [$op($($operand[0]),+), $op($($operand[1]),+)]
        };
    }

    #[inline(always)]
    fn load_pair<T>(from: &T) -> [v128; 2] {
        const { assert!(size_of::<T>() == 32) };
        // SAFETY: T is 32 bytes of plain numbers, and loads need no alignment.
        unsafe {
            let at = core::ptr::from_ref(from).cast::<v128>();
            [v128_load(at), v128_load(at.add(1))]
        }
    }

    /// f16 to f32 by moving the bits and multiplying by the difference of the exponents' biases; exact, subnormal
    /// numbers included.
    #[inline(always)]
    fn widen_f16(half: v128) -> v128 {
        let magnitude = u32x4_shl(v128_and(half, u32x4_splat(0x7fff)), 13);
        let value = f32x4_mul(magnitude, f32x4_splat(f32::from_bits(0x7780_0000)));
        v128_or(value, u32x4_shl(v128_and(half, u32x4_splat(0x8000)), 16))
    }

    impl Simd for Wasm {
        type F = [v128; 2];
        type I = [v128; 2];
        const TILE: (usize, usize) = (4, 1);

        #[inline(always)]
        fn splat(self, x: f32) -> [v128; 2] {
            [f32x4_splat(x); 2]
        }
        #[inline(always)]
        fn load(self, from: &[f32; 8]) -> [v128; 2] {
            load_pair(from)
        }
        #[inline(always)]
        fn store(self, v: [v128; 2], to: &mut [f32; 8]) {
            // SAFETY: `to` is 32 bytes, and stores need no alignment.
            unsafe {
                let at = to.as_mut_ptr().cast::<v128>();
                v128_store(at, v[0]);
                v128_store(at.add(1), v[1]);
            }
        }
        #[inline(always)]
        fn load_f16(self, from: &[f16; 8]) -> [v128; 2] {
            // SAFETY: `from` is 16 bytes, and loads need no alignment.
            let halves = unsafe { v128_load(from.as_ptr().cast()) };
            [widen_f16(u32x4_extend_low_u16x8(halves)), widen_f16(u32x4_extend_high_u16x8(halves))]
        }
        #[inline(always)]
        fn add(self, a: [v128; 2], b: [v128; 2]) -> [v128; 2] {
            both!(f32x4_add, a, b)
        }
        #[inline(always)]
        fn sub(self, a: [v128; 2], b: [v128; 2]) -> [v128; 2] {
            both!(f32x4_sub, a, b)
        }
        #[inline(always)]
        fn mul(self, a: [v128; 2], b: [v128; 2]) -> [v128; 2] {
            both!(f32x4_mul, a, b)
        }
        #[inline(always)]
        fn div(self, a: [v128; 2], b: [v128; 2]) -> [v128; 2] {
            both!(f32x4_div, a, b)
        }
        #[inline(always)]
        fn max(self, a: [v128; 2], b: [v128; 2]) -> [v128; 2] {
            both!(f32x4_pmax, b, a)
        }
        #[inline(always)]
        fn min(self, a: [v128; 2], b: [v128; 2]) -> [v128; 2] {
            both!(f32x4_pmin, b, a)
        }
        #[inline(always)]
        fn mul_add(self, a: [v128; 2], b: [v128; 2], c: [v128; 2]) -> [v128; 2] {
            #[cfg(target_feature = "relaxed-simd")]
            return both!(f32x4_relaxed_madd, a, b, c);
            #[cfg(not(target_feature = "relaxed-simd"))]
            self.add(self.mul(a, b), c)
        }
        #[inline(always)]
        fn exp2_of_magic(self, v: [v128; 2]) -> [v128; 2] {
            let bias = i32x4_splat(127 << 23);
            [i32x4_add(i32x4_shl(v[0], 23), bias), i32x4_add(i32x4_shl(v[1], 23), bias)]
        }

        #[inline(always)]
        fn zero(self) -> [v128; 2] {
            [i32x4_splat(0); 2]
        }
        #[inline(always)]
        fn load_bytes(self, from: &[u8; 32]) -> [v128; 2] {
            load_pair(from)
        }
        #[inline(always)]
        fn load_widened(self, from: &[u8; 16]) -> [v128; 2] {
            // SAFETY: `from` is 16 bytes, and loads need no alignment.
            unsafe {
                let at = from.as_ptr().cast::<i8>();
                [i16x8_load_extend_i8x8(at), i16x8_load_extend_i8x8(at.add(8))]
            }
        }
        #[inline(always)]
        fn nibbles(self, v: [v128; 2]) -> [[v128; 2]; 2] {
            let mask = [u8x16_splat(15); 2];
            [both!(v128_and, v, mask), [u8x16_shr(v[0], 4), u8x16_shr(v[1], 4)]]
        }
        #[inline(always)]
        fn wide_nibbles(self, v: [v128; 2]) -> [[v128; 2]; 4] {
            let mask = [u16x8_splat(15); 2];
            [
                both!(v128_and, v, mask),
                both!(v128_and, [u16x8_shr(v[0], 8), u16x8_shr(v[1], 8)], mask),
                both!(v128_and, [u16x8_shr(v[0], 4), u16x8_shr(v[1], 4)], mask),
                [u16x8_shr(v[0], 12), u16x8_shr(v[1], 12)],
            ]
        }
        #[inline(always)]
        fn dot_i8(self, sums: [v128; 2], bytes: i32, nibbles: [v128; 2]) -> [v128; 2] {
            let bytes = i32x4_splat(bytes);
            // The dot product that widens to i32 at once would be one instruction more for the processor, and on x86
            // two more, since V8 makes a vector of ones for each.
            #[cfg(target_feature = "relaxed-simd")]
            return [
                i16x8_add(sums[0], i16x8_relaxed_dot_i8x16_i7x16(bytes, nibbles[0])),
                i16x8_add(sums[1], i16x8_relaxed_dot_i8x16_i7x16(bytes, nibbles[1])),
            ];
            #[cfg(not(target_feature = "relaxed-simd"))]
            {
                let dot = |nibbles| {
                    let low = i32x4_dot_i16x8(i16x8_extend_low_i8x16(bytes), i16x8_extend_low_i8x16(nibbles));
                    let high = i32x4_dot_i16x8(i16x8_extend_high_i8x16(bytes), i16x8_extend_high_i8x16(nibbles));
                    i16x8_narrow_i32x4(low, high)
                };
                [i16x8_add(sums[0], dot(nibbles[0])), i16x8_add(sums[1], dot(nibbles[1]))]
            }
        }
        #[inline(always)]
        fn pair_sums(self, v: [v128; 2]) -> [v128; 2] {
            both!(i32x4_extadd_pairwise_i16x8, v)
        }
        #[inline(always)]
        fn dot_i16(self, sums: [v128; 2], pair: i32, values: [v128; 2]) -> [v128; 2] {
            let pair = i32x4_splat(pair);
            [i32x4_add(sums[0], i32x4_dot_i16x8(pair, values[0])), i32x4_add(sums[1], i32x4_dot_i16x8(pair, values[1]))]
        }
        #[inline(always)]
        fn to_f32(self, v: [v128; 2]) -> [v128; 2] {
            both!(f32x4_convert_i32x4, v)
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use core::arch::x86_64::*;

    use half::f16;

    use super::{Simd, Task};

    /// AVX2 with fused multiply-add and half-precision conversion. Only [`Avx2::detect`] makes one.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Avx2(());

    impl Avx2 {
        /// `Some` if this processor has the instructions.
        pub(crate) fn detect() -> Option<Self> {
            let all =
                is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
            all.then_some(Self(()))
        }
    }

    /// Compiles a kernel with the instructions switched on.
    pub(super) fn run<T: Task>(avx2: Avx2, task: T) -> T::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        fn compiled<T: Task>(avx2: Avx2, task: T) -> T::Output {
            task.run(avx2)
        }
        // SAFETY: an `Avx2` exists only where the processor has all three.
        unsafe { compiled(avx2, task) }
    }

    /// Runs intrinsics in a method of `Avx2`.
    macro_rules! avx2 {
        ($body:expr) => {
            // SAFETY: `self` proves that the processor has AVX2, FMA and F16C; loads and stores are of the unaligned
            // kind and stay inside the arrays that they are given.
            unsafe { $body }
        };
    }

    impl Simd for Avx2 {
        type F = __m256;
        type I = __m256i;
        const TILE: (usize, usize) = (4, 2);

        #[inline(always)]
        fn splat(self, x: f32) -> __m256 {
            avx2!(_mm256_set1_ps(x))
        }
        #[inline(always)]
        fn load(self, from: &[f32; 8]) -> __m256 {
            avx2!(_mm256_loadu_ps(from.as_ptr()))
        }
        #[inline(always)]
        fn store(self, v: __m256, to: &mut [f32; 8]) {
            avx2!(_mm256_storeu_ps(to.as_mut_ptr(), v));
        }
        #[inline(always)]
        fn load_f16(self, from: &[f16; 8]) -> __m256 {
            avx2!(_mm256_cvtph_ps(_mm_loadu_si128(from.as_ptr().cast())))
        }
        #[inline(always)]
        fn add(self, a: __m256, b: __m256) -> __m256 {
            avx2!(_mm256_add_ps(a, b))
        }
        #[inline(always)]
        fn sub(self, a: __m256, b: __m256) -> __m256 {
            avx2!(_mm256_sub_ps(a, b))
        }
        #[inline(always)]
        fn mul(self, a: __m256, b: __m256) -> __m256 {
            avx2!(_mm256_mul_ps(a, b))
        }
        #[inline(always)]
        fn div(self, a: __m256, b: __m256) -> __m256 {
            avx2!(_mm256_div_ps(a, b))
        }
        #[inline(always)]
        fn max(self, a: __m256, b: __m256) -> __m256 {
            avx2!(_mm256_max_ps(a, b))
        }
        #[inline(always)]
        fn min(self, a: __m256, b: __m256) -> __m256 {
            avx2!(_mm256_min_ps(a, b))
        }
        #[inline(always)]
        fn mul_add(self, a: __m256, b: __m256, c: __m256) -> __m256 {
            avx2!(_mm256_fmadd_ps(a, b, c))
        }
        #[inline(always)]
        fn exp2_of_magic(self, v: __m256) -> __m256 {
            avx2!({
                let shifted = _mm256_slli_epi32::<23>(_mm256_castps_si256(v));
                _mm256_castsi256_ps(_mm256_add_epi32(shifted, _mm256_set1_epi32(127 << 23)))
            })
        }

        #[inline(always)]
        fn zero(self) -> __m256i {
            avx2!(_mm256_setzero_si256())
        }
        #[inline(always)]
        fn load_bytes(self, from: &[u8; 32]) -> __m256i {
            avx2!(_mm256_loadu_si256(from.as_ptr().cast()))
        }
        #[inline(always)]
        fn load_widened(self, from: &[u8; 16]) -> __m256i {
            avx2!(_mm256_cvtepi8_epi16(_mm_loadu_si128(from.as_ptr().cast())))
        }
        #[inline(always)]
        fn nibbles(self, v: __m256i) -> [__m256i; 2] {
            avx2!({
                let mask = _mm256_set1_epi8(15);
                [_mm256_and_si256(v, mask), _mm256_and_si256(_mm256_srli_epi16::<4>(v), mask)]
            })
        }
        #[inline(always)]
        fn wide_nibbles(self, v: __m256i) -> [__m256i; 4] {
            avx2!({
                let mask = _mm256_set1_epi16(15);
                [
                    _mm256_and_si256(v, mask),
                    _mm256_and_si256(_mm256_srli_epi16::<8>(v), mask),
                    _mm256_and_si256(_mm256_srli_epi16::<4>(v), mask),
                    _mm256_srli_epi16::<12>(v),
                ]
            })
        }
        #[inline(always)]
        fn dot_i8(self, sums: __m256i, bytes: i32, nibbles: __m256i) -> __m256i {
            avx2!(_mm256_add_epi16(sums, _mm256_maddubs_epi16(nibbles, _mm256_set1_epi32(bytes))))
        }
        #[inline(always)]
        fn pair_sums(self, v: __m256i) -> __m256i {
            avx2!(_mm256_madd_epi16(v, _mm256_set1_epi16(1)))
        }
        #[inline(always)]
        fn dot_i16(self, sums: __m256i, pair: i32, values: __m256i) -> __m256i {
            avx2!(_mm256_add_epi32(sums, _mm256_madd_epi16(values, _mm256_set1_epi32(pair))))
        }
        #[inline(always)]
        fn to_f32(self, v: __m256i) -> __m256 {
            avx2!(_mm256_cvtepi32_ps(v))
        }
    }
}
