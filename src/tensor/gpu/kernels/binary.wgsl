// A function of two broadcast operands. `operation` numbers them as `Binary` does.

struct Params {
    count: u32,
    rank: u32,
    operation: u32,
    padding: u32,
    dims: array<vec4<u32>, 2>,
    first_strides: array<vec4<u32>, 2>,
    second_strides: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> first: array<f32>;
@group(1) @binding(1) var<storage, read> second: array<f32>;
@group(1) @binding(2) var<storage, read_write> result: array<f32>;

fn combine(a: f32, b: f32) -> f32 {
    switch params.operation {
        case 0u: { return a + b; }
        case 1u: { return a - b; }
        case 2u: { return a * b; }
        case 3u: { return a / b; }
        case 4u: { return max(a, b); }
        default: { return min(a, b); }
    }
}

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
    var first_at = 0u;
    var second_at = 0u;
    for (var left = params.rank; left > 0u; left--) {
        let axis = left - 1u;
        let size = params.dims[axis / 4u][axis % 4u];
        let place = rest % size;
        rest /= size;
        first_at += place * params.first_strides[axis / 4u][axis % 4u];
        second_at += place * params.second_strides[axis / 4u][axis % 4u];
    }
    result[i] = combine(first[first_at], second[second_at]);
}
