// A few vectors through a dense matrix [columns, inner]: a workgroup of 64 makes 4 results of one vector, 16 lanes
// each, which read neighbouring numbers of a matrix row.
struct Params {
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
@group(1) @binding(0) var<storage, read> source: array<f32>;
@group(1) @binding(1) var<storage, read> matrix: array<f32>;
@group(1) @binding(2) var<storage, read> bias: array<f32>;
@group(1) @binding(3) var<storage, read_write> result: array<f32>;

const LANES = 16u;
const RESULTS = 4u;

var<workgroup> sums: array<f32, 64>;

// The grid is results / 4 folded over x and y, and one vector a place of z.
@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let column = (workgroup.x + grid.x * workgroup.y) * RESULTS + lane / LANES;
    let source_start = workgroup.z * params.inner;
    var sum = 0.0;
    if column < params.columns {
        let matrix_start = column * params.inner;
        for (var k = lane % LANES; k < params.inner; k += LANES) {
            sum += source[source_start + k] * matrix[matrix_start + k];
        }
    }
    sums[lane] = sum;
    workgroupBarrier();
    if lane % LANES != 0u || column >= params.columns {
        return;
    }
    var total = 0.0;
    for (var i = 0u; i < LANES; i++) {
        total += sums[lane + i];
    }
    let place = params.result_column + column;
    if params.has_bias == 1u {
        total += bias[place];
    }
    result[workgroup.z * params.result_row + place] = activate(params.activation, total, params.low, params.high);
}
