// Sum, mean, maximum or minimum along a middle axis: one invocation a result, which walks the axis.
// `operation` numbers them as `Reduce` does.

struct Params {
    count: u32,
    size: u32,
    inner: u32,
    operation: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<f32>;
@group(1) @binding(1) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = workgroup_number(workgroup, grid) * 64u + lane;
    if i >= params.count {
        return;
    }
    let start = (i / params.inner) * params.size * params.inner + i % params.inner;
    var total = source[start];
    for (var place = 1u; place < params.size; place++) {
        let value = source[start + place * params.inner];
        switch params.operation {
            case 2u: { total = max(total, value); }
            case 3u: { total = min(total, value); }
            default: { total += value; }
        }
    }
    if params.operation == 1u {
        total /= f32(params.size);
    }
    result[i] = total;
}
