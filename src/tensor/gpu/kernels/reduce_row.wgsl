// Sum, mean, maximum or minimum along the last axis: one workgroup a row. `operation` numbers them as `Reduce` does.

struct Params {
    rows: u32,
    size: u32,
    operation: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<f32>;
@group(1) @binding(1) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = workgroup_number(workgroup, grid);
    if row >= params.rows {
        return;
    }
    let start = row * params.size;
    var total = 0.0;
    if params.operation < 2u {
        var sum = 0.0;
        for (var i = lane; i < params.size; i += LANES) {
            sum += source[start + i];
        }
        total = workgroup_sum(lane, sum);
        if params.operation == 1u {
            total /= f32(params.size);
        }
    } else {
        // A minimum is the negated maximum of the negated numbers.
        let sign = select(1.0, -1.0, params.operation == 3u);
        var largest = sign * source[start];
        for (var i = lane; i < params.size; i += LANES) {
            largest = max(largest, sign * source[start + i]);
        }
        total = sign * workgroup_max(lane, largest);
    }
    if lane == 0u {
        result[row] = total;
    }
}
