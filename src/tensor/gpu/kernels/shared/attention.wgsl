// What both kernels of attention have in common: sizes, buffers, and how a key or value is read.
struct Params {
    // Queries of all heads, or tiles of them.
    count: u32,
    heads: u32,
    key_heads: u32,
    query_count: u32,
    key_count: u32,
    capacity: u32,
    value_dim: u32,
    // Keys that the first query sees; each further query sees one more.
    first_visible: u32,
    scale: f32,
    dim: u32,
    masked: u32,
    mask_batch: u32,
    mask_head: u32,
    mask_query: u32,
    mask_key: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> query: array<f32>;
@group(1) @binding(1) var<storage, read> key: array<u32>;
@group(1) @binding(2) var<storage, read> value: array<u32>;
@group(1) @binding(3) var<storage, read> mask: array<f32>;
@group(1) @binding(4) var<storage, read_write> result: array<f32>;

// 1 where they are f16, two in a word; 0 where they are f32.
override KEY_HALVES: u32;
override VALUE_HALVES: u32;

const LANES = 64u;
const LOWEST = -3.0e38;
const HIDDEN = -1.0e30;

fn key_number(at: u32) -> f32 {
    if KEY_HALVES == 1u {
        let pair = unpack2x16float(key[at / 2u]);
        return select(pair.x, pair.y, at % 2u == 1u);
    }
    return bitcast<f32>(key[at]);
}

fn value_number(at: u32) -> f32 {
    if VALUE_HALVES == 1u {
        let pair = unpack2x16float(value[at / 2u]);
        return select(pair.x, pair.y, at % 2u == 1u);
    }
    return bitcast<f32>(value[at]);
}
