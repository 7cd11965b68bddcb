// Batched matrix product, `first · second`, with bias and activation at the end. An invocation holds a 4 × 4 tile of
// the result in registers; a workgroup of 8 × 8 invocations makes 32 × 32.
//
// - first: [batch, rows, inner]
// - second: [batch, inner, columns] or, transposed, [batch, columns, inner]
// - result: element (batch, row, column) lies at batch · result_batch + row · result_row + result_column + column, so
//   that the parts of a matrix split by rows write side by side

struct Params {
    rows: u32,
    columns: u32,
    inner: u32,
    first_batch: u32,
    second_batch: u32,
    result_batch: u32,
    result_row: u32,
    result_column: u32,
    batch_start: u32,
    transposed: u32,
    // 0: none; 1: one a column; 2: one a row.
    bias: u32,
    activation: u32,
    low: f32,
    high: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> first: array<f32>;
@group(1) @binding(1) var<storage, read> second: array<f32>;
@group(1) @binding(2) var<storage, read> bias: array<f32>;
@group(1) @binding(3) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x * 4u;
    let row = id.y * 4u;
    let batch = params.batch_start + id.z;
    if column >= params.columns || row >= params.rows {
        return;
    }
    // Rows and columns beyond the edge repeat the last, so that the inner loop needs no tests.
    let rows = min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.rows - 1u));
    let columns = min(vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.columns - 1u));
    let first_at = vec4<u32>(batch * params.first_batch) + rows * params.inner;
    let second_stride = select(1u, params.inner, params.transposed == 1u);
    let second_at = vec4<u32>(batch * params.second_batch) + columns * second_stride;
    let step = select(params.columns, 1u, params.transposed == 1u);

    var total_0 = vec4<f32>();
    var total_1 = vec4<f32>();
    var total_2 = vec4<f32>();
    var total_3 = vec4<f32>();
    for (var k = 0u; k < params.inner; k++) {
        let along = k * step;
        let b = vec4<f32>(
            second[second_at.x + along], second[second_at.y + along],
            second[second_at.z + along], second[second_at.w + along]);
        total_0 += first[first_at.x + k] * b;
        total_1 += first[first_at.y + k] * b;
        total_2 += first[first_at.z + k] * b;
        total_3 += first[first_at.w + k] * b;
    }
    let totals = mat4x4<f32>(total_0, total_1, total_2, total_3);
    for (var i = 0u; i < min(4u, params.rows - row); i++) {
        write_row(batch, row + i, column, totals[i]);
    }
}

fn write_row(batch: u32, row: u32, column: u32, totals: vec4<f32>) {
    let start = batch * params.result_batch + row * params.result_row + params.result_column;
    for (var i = 0u; i < min(4u, params.columns - column); i++) {
        var value = totals[i];
        if params.bias == 1u {
            value += bias[params.result_column + column + i];
        } else if params.bias == 2u {
            value += bias[row];
        }
        result[start + column + i] = activate(params.activation, value, params.low, params.high);
    }
}
