// RMS norm of each row: x / √(mean(x²) + eps) · weight; one workgroup a row.
struct Params {
    rows: u32,
    size: u32,
    eps: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<f32>;
@group(1) @binding(1) var<storage, read> weight: array<f32>;
@group(1) @binding(2) var<storage, read_write> result: array<f32>;

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
    var squares = 0.0;
    for (var i = lane; i < params.size; i += LANES) {
        squares += source[start + i] * source[start + i];
    }
    let size = sqrt(workgroup_sum(lane, squares) / f32(params.size) + params.eps);
    for (var i = lane; i < params.size; i += LANES) {
        result[start + i] = source[start + i] / size * weight[i];
    }
}
