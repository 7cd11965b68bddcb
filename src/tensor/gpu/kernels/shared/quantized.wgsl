// Reads the 32 values of a block in four pairs of quads: pair p holds the values 4p .. 4p + 3 and 4p + 16 .. 4p + 19,
// which is how the low and high nibbles of one word lie in the 4-bit schemes. The kernel declares the buffers
// `values`, `scales` and `minimums`; scales and minimums are f16, two a word.
override SCHEME: u32 = 0u;

const Q4_0: u32 = 0u;
const Q4_1: u32 = 1u;
const Q8_0: u32 = 2u;

const BYTE_SHIFTS = vec4<u32>(0u, 8u, 16u, 24u);

struct Pair {
    low: vec4<f32>,
    high: vec4<f32>,
}

// Scale and shift of a block: a value is `scale · q + shift`.
fn block_scale(block: u32) -> vec2<f32> {
    let odd = (block & 1u) == 1u;
    let two_scales = unpack2x16float(scales[block >> 1u]);
    let scale = select(two_scales.x, two_scales.y, odd);
    var shift = 0.0;
    if SCHEME == Q4_0 {
        shift = -8.0 * scale;
    } else if SCHEME == Q4_1 {
        let two_minimums = unpack2x16float(minimums[block >> 1u]);
        shift = select(two_minimums.x, two_minimums.y, odd);
    }
    return vec2<f32>(scale, shift);
}

fn signed_bytes(word: u32) -> vec4<f32> {
    return vec4<f32>(vec4<i32>(vec4<u32>(word) << (vec4<u32>(24u) - BYTE_SHIFTS)) >> vec4<u32>(24u));
}

fn block_pair(block: u32, pair: u32, scale: vec2<f32>) -> Pair {
    if SCHEME == Q8_0 {
        let first = block * 8u + pair;
        return Pair(scale.x * signed_bytes(values[first]), scale.x * signed_bytes(values[first + 4u]));
    }
    let bytes = vec4<u32>(values[block * 4u + pair]) >> BYTE_SHIFTS;
    let low = vec4<f32>(bytes & vec4<u32>(15u));
    let high = vec4<f32>((bytes >> vec4<u32>(4u)) & vec4<u32>(15u));
    return Pair(scale.x * low + scale.y, scale.x * high + scale.y);
}
