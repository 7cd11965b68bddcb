// Softmax of each row: one workgroup a row, three passes (maximum, sum, quotient).
struct Params {
    rows: u32,
    size: u32,
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
    var largest = source[start];
    for (var i = lane; i < params.size; i += LANES) {
        largest = max(largest, source[start + i]);
    }
    largest = workgroup_max(lane, largest);
    var sum = 0.0;
    for (var i = lane; i < params.size; i += LANES) {
        let share = exp(source[start + i] - largest);
        result[start + i] = share;
        sum += share;
    }
    sum = workgroup_sum(lane, sum);
    for (var i = lane; i < params.size; i += LANES) {
        result[start + i] /= sum;
    }
}
