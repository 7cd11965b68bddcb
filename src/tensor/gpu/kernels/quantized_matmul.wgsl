// Many vectors through a quantised matrix [columns, inner]. An invocation holds a 4 × 4 tile of the result: 4 vectors
// by 4 rows of the matrix, so that every packed word that it reads serves 4 vectors.
struct Params {
    rows: u32,
    columns: u32,
    inner: u32,
    result_row: u32,
    result_column: u32,
    has_bias: u32,
    activation: u32,
    low: f32,
    high: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(1) @binding(1) var<storage, read> values: array<u32>;
@group(1) @binding(2) var<storage, read> scales: array<u32>;
@group(1) @binding(3) var<storage, read> minimums: array<u32>;
@group(1) @binding(4) var<storage, read> bias: array<f32>;
@group(1) @binding(5) var<storage, read_write> result: array<f32>;

// Products of the four vectors at `at` (and 4 quads further) with a row's pair.
fn products(numbers: Pair, low: mat4x4<f32>, high: mat4x4<f32>) -> vec4<f32> {
    return numbers.low * low + numbers.high * high;
}

@compute @workgroup_size(8, 8)
fn main(@builtin(global_invocation_id) id: vec3<u32>) {
    let column = id.x * 4u;
    let row = id.y * 4u;
    if column >= params.columns || row >= params.rows {
        return;
    }
    // Rows and columns beyond the edge repeat the last, so that the inner loop needs no tests.
    let rows = min(vec4<u32>(row) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.rows - 1u));
    let columns = min(vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(params.columns - 1u));
    let blocks = params.inner / 32u;
    let source_at = rows * (params.inner / 4u);
    let block_at = columns * blocks;

    // Column j of the tile, over the four vectors.
    var total_0 = vec4<f32>();
    var total_1 = vec4<f32>();
    var total_2 = vec4<f32>();
    var total_3 = vec4<f32>();
    for (var in_row = 0u; in_row < blocks; in_row++) {
        let block = block_at + in_row;
        let scale_0 = block_scale(block.x);
        let scale_1 = block_scale(block.y);
        let scale_2 = block_scale(block.z);
        let scale_3 = block_scale(block.w);
        for (var pair = 0u; pair < 4u; pair++) {
            let at = source_at + in_row * 8u + pair;
            let low = mat4x4<f32>(source[at.x], source[at.y], source[at.z], source[at.w]);
            let high = mat4x4<f32>(source[at.x + 4u], source[at.y + 4u], source[at.z + 4u], source[at.w + 4u]);
            total_0 += products(block_pair(block.x, pair, scale_0), low, high);
            total_1 += products(block_pair(block.y, pair, scale_1), low, high);
            total_2 += products(block_pair(block.z, pair, scale_2), low, high);
            total_3 += products(block_pair(block.w, pair, scale_3), low, high);
        }
    }
    let totals = transpose(mat4x4<f32>(total_0, total_1, total_2, total_3));
    for (var i = 0u; i < min(4u, params.rows - row); i++) {
        write_row(row + i, column, totals[i]);
    }
}

fn write_row(row: u32, column: u32, totals: vec4<f32>) {
    for (var i = 0u; i < min(4u, params.columns - column); i++) {
        let place = params.result_column + column + i;
        var value = totals[i];
        if params.has_bias == 1u {
            value += bias[place];
        }
        result[row * params.result_row + place] = activate(params.activation, value, params.low, params.high);
    }
}
