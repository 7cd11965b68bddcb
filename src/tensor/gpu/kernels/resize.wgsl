// Resamples pictures. Positions are fractions of integers, so no rounding moves a pixel.

struct Params {
    count: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    // 0: nearest; 1: bilinear; 2: bilinear with aligned corners.
    mode: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<f32>;
@group(1) @binding(1) var<storage, read_write> result: array<f32>;

struct Position {
    before: u32,
    after: u32,
    share: f32,
}

fn position(place: u32, from_size: u32, to_size: u32) -> Position {
    var numerator = 0u;
    var denominator = 1u;
    if params.mode == 1u {
        // (place + 1/2) · from / to − 1/2, not below 0.
        denominator = 2u * to_size;
        numerator = max((2u * place + 1u) * from_size, to_size) - to_size;
    } else {
        denominator = max(to_size, 2u) - 1u;
        numerator = select(place * (from_size - 1u), 0u, to_size == 1u);
    }
    let before = min(numerator / denominator, from_size - 1u);
    return Position(before, min(before + 1u, from_size - 1u), f32(numerator % denominator) / f32(denominator));
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
    let column = i % params.out_width;
    let row = (i / params.out_width) % params.out_height;
    let start = i / (params.out_width * params.out_height) * params.height * params.width;
    if params.mode == 0u {
        let y = row * params.height / params.out_height;
        let x = column * params.width / params.out_width;
        result[i] = source[start + y * params.width + x];
        return;
    }
    let y = position(row, params.height, params.out_height);
    let x = position(column, params.width, params.out_width);
    let above = start + y.before * params.width;
    let below = start + y.after * params.width;
    let top = source[above + x.before] * (1.0 - x.share) + source[above + x.after] * x.share;
    let bottom = source[below + x.before] * (1.0 - x.share) + source[below + x.after] * x.share;
    result[i] = top * (1.0 - y.share) + bottom * y.share;
}
