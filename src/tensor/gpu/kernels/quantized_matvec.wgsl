// A few vectors through a quantised matrix [columns, inner]: a workgroup of 64 makes 4 results of one vector, 16 lanes
// each; a lane takes 8 numbers of a block at a time, and numbers are made of the packed words in registers.
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
@group(1) @binding(0) var<storage, read> source: array<vec4<f32>>;
@group(1) @binding(1) var<storage, read> values: array<u32>;
@group(1) @binding(2) var<storage, read> scales: array<u32>;
@group(1) @binding(3) var<storage, read> minimums: array<u32>;
@group(1) @binding(4) var<storage, read> bias: array<f32>;
@group(1) @binding(5) var<storage, read_write> result: array<f32>;

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
    let source_start = workgroup.z * (params.inner / 4u);
    let blocks = params.inner / 32u;
    var sum = 0.0;
    if column < params.columns {
        for (var i = lane % LANES; i < blocks * 4u; i += LANES) {
            let in_row = i / 4u;
            let pair = i % 4u;
            let block = column * blocks + in_row;
            let numbers = block_pair(block, pair, block_scale(block));
            let at = source_start + in_row * 8u + pair;
            sum += dot(numbers.low, source[at]) + dot(numbers.high, source[at + 4u]);
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
