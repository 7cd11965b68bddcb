// Multi-scale deformable attention: one invocation makes one channel of one head of one query. It reads each level of
// the pyramid at a few places, between four pixels each, and adds what it reads times the place's share.
struct Params {
    count: u32,
    heads: u32,
    dim: u32,
    level_count: u32,
    points: u32,
    unused_0: u32,
    unused_1: u32,
    unused_2: u32,
    // Height, width and first place of each level.
    levels: array<vec4<u32>, 8>,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> values: array<f32>;
@group(1) @binding(1) var<storage, read> locations: array<f32>;
@group(1) @binding(2) var<storage, read> shares: array<f32>;
@group(1) @binding(3) var<storage, read_write> result: array<f32>;

// A pixel of a level; 0 beside it.
fn pixel(level: vec4<u32>, y: i32, x: i32, channel: u32) -> f32 {
    if y < 0 || x < 0 || y >= i32(level.x) || x >= i32(level.y) {
        return 0.0;
    }
    let place = level.z + u32(y) * level.y + u32(x);
    return values[place * params.heads * params.dim + channel];
}

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
    let channel = i % (params.heads * params.dim);
    var point = i / params.dim * params.level_count * params.points;
    var sum = 0.0;
    for (var index = 0u; index < params.level_count; index++) {
        let level = params.levels[index];
        for (var k = 0u; k < params.points; k++) {
            // Pixel centres lie at half-integers. Two pixels beside the level all is 0, so nothing lies further out.
            let x = clamp(locations[2u * point] * f32(level.y) - 0.5, -2.0, f32(level.y) + 1.0);
            let y = clamp(locations[2u * point + 1u] * f32(level.x) - 0.5, -2.0, f32(level.x) + 1.0);
            let left = floor(x);
            let top = floor(y);
            let column = i32(left);
            let row = i32(top);
            let across = x - left;
            let down = y - top;
            let above = pixel(level, row, column, channel) * (1.0 - across)
                + pixel(level, row, column + 1, channel) * across;
            let below = pixel(level, row + 1, column, channel) * (1.0 - across)
                + pixel(level, row + 1, column + 1, channel) * across;
            sum += shares[point] * (above * (1.0 - down) + below * down);
            point++;
        }
    }
    result[i] = sum;
}
