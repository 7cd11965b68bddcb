// Rotary position embedding, half-split: x = [a, b] becomes [a · cos − b · sin, b · cos + a · sin].
struct Params {
    count: u32,
    sequence: u32,
    half: u32,
    start: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<f32>;
@group(1) @binding(1) var<storage, read> cosines: array<f32>;
@group(1) @binding(2) var<storage, read> sines: array<f32>;
@group(1) @binding(3) var<storage, read_write> result: array<f32>;

// One invocation a pair of numbers.
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
    let place = i % params.half;
    let row = i / params.half;
    let table = (params.start + row % params.sequence) * params.half + place;
    let at = row * 2u * params.half + place;
    let a = source[at];
    let b = source[at + params.half];
    result[at] = a * cosines[table] - b * sines[table];
    result[at + params.half] = b * cosines[table] + a * sines[table];
}
