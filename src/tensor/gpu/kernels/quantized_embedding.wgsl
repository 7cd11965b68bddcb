// Rows of a quantised matrix by id. The matrix may be a part of one split by rows: it then holds the rows
// `first .. first + held` of `total`, and ids elsewhere are left to the other parts. An invocation makes 8 numbers.
struct Params {
    count: u32,
    inner: u32,
    first: u32,
    held: u32,
    total: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> ids: array<u32>;
@group(1) @binding(1) var<storage, read> values: array<u32>;
@group(1) @binding(2) var<storage, read> scales: array<u32>;
@group(1) @binding(3) var<storage, read> minimums: array<u32>;
@group(1) @binding(4) var<storage, read_write> result: array<vec4<f32>>;

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = workgroup_number(workgroup, grid) * 64u + lane;
    let pairs = params.inner / 8u;
    if i >= params.count * pairs {
        return;
    }
    let row = i / pairs;
    let in_row = (i % pairs) / 4u;
    let pair = i % 4u;
    let id = min(ids[row], params.total - 1u);
    if id < params.first || id - params.first >= params.held {
        return;
    }
    let block = (id - params.first) * (params.inner / 32u) + in_row;
    let numbers = block_pair(block, pair, block_scale(block));
    let at = row * (params.inner / 4u) + in_row * 8u + pair;
    result[at] = numbers.low;
    result[at + 4u] = numbers.high;
}
