// Copies words from one strided layout to another: permute, narrow, broadcast, concat, pad and write in place.
// Words, not floats, so that u32 tensors pass and no bit pattern changes.
struct Params {
    count: u32,
    rank: u32,
    source_offset: u32,
    target_offset: u32,
    dims: array<vec4<u32>, 2>,
    source_strides: array<vec4<u32>, 2>,
    target_strides: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<u32>;
@group(1) @binding(1) var<storage, read_write> target_words: array<u32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = workgroup_number(workgroup, grid) * 256u + lane;
    if i >= params.count {
        return;
    }
    var rest = i;
    var source_at = params.source_offset;
    var target_at = params.target_offset;
    for (var left = params.rank; left > 0u; left--) {
        let axis = left - 1u;
        let size = params.dims[axis / 4u][axis % 4u];
        let place = rest % size;
        rest /= size;
        source_at += place * params.source_strides[axis / 4u][axis % 4u];
        target_at += place * params.target_strides[axis / 4u][axis % 4u];
    }
    target_words[target_at] = source[source_at];
}
