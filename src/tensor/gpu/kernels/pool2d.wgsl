// Maximum or mean over windows; padding does not count.

struct Params {
    count: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_rows: u32,
    stride_columns: u32,
    top: u32,
    left: u32,
    // 0: maximum; 1: mean.
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
    let column = i % params.out_width;
    let row = (i / params.out_width) % params.out_height;
    let plane_start = i / (params.out_width * params.out_height) * params.height * params.width;
    // The window in padded pixels, then cut to the picture.
    let padded_row = row * params.stride_rows;
    let padded_column = column * params.stride_columns;
    let first_row = max(padded_row, params.top) - params.top;
    let first_column = max(padded_column, params.left) - params.left;
    let end_row = min(max(padded_row + params.kernel_height, params.top) - params.top, params.height);
    let end_column = min(max(padded_column + params.kernel_width, params.left) - params.left, params.width);
    var total = 0.0;
    var largest = source[plane_start + min(first_row, params.height - 1u) * params.width
        + min(first_column, params.width - 1u)];
    for (var y = first_row; y < end_row; y++) {
        for (var x = first_column; x < end_column; x++) {
            let value = source[plane_start + y * params.width + x];
            total += value;
            largest = max(largest, value);
        }
    }
    if params.operation == 0u {
        result[i] = largest;
    } else {
        result[i] = total / f32((end_row - first_row) * (end_column - first_column));
    }
}
