// Rounds numbers to f16, two in a word: core WGSL, where the type f16 itself is an extension.
struct Params {
    words: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<f32>;
@group(1) @binding(1) var<storage, read_write> result: array<u32>;

// The largest f16; what lies beyond has no promised bits.
const LARGEST = 65504.0;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = workgroup_number(workgroup, grid) * 256u + lane;
    if i < params.words {
        let pair = vec2<f32>(source[2u * i], source[2u * i + 1u]);
        result[i] = pack2x16float(clamp(pair, vec2<f32>(-LARGEST), vec2<f32>(LARGEST)));
    }
}
