// Picks places of an axis by index. The source may be a part of a table split by rows: it then holds the places
// `first .. first + held` of `total`, and ids elsewhere are left to the other parts.
struct Params {
    count: u32,
    inner: u32,
    id_count: u32,
    first: u32,
    held: u32,
    total: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<u32>;
@group(1) @binding(1) var<storage, read> ids: array<u32>;
@group(1) @binding(2) var<storage, read_write> result: array<u32>;

@compute @workgroup_size(256)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let i = workgroup_number(workgroup, grid) * 256u + lane;
    if i >= params.count {
        return;
    }
    let within = i % params.inner;
    let row = i / params.inner;
    let outer = row / params.id_count;
    let id = min(ids[row % params.id_count], params.total - 1u);
    if id >= params.first && id - params.first < params.held {
        result[i] = source[(outer * params.held + id - params.first) * params.inner + within];
    }
}
