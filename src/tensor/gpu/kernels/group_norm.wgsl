// Group norm: mean and variance over a group of channels and all their places, then weight and bias of the channel;
// one workgroup a group of a picture.
struct Params {
    rows: u32,
    size: u32,
    eps: f32,
    groups: u32,
    group_channels: u32,
    places: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<f32>;
@group(1) @binding(1) var<storage, read> weight: array<f32>;
@group(1) @binding(2) var<storage, read> bias: array<f32>;
@group(1) @binding(3) var<storage, read_write> result: array<f32>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let row = workgroup_number(workgroup, grid);
    if row >= params.rows {
        return;
    }
    let start = row * params.size;
    var sum = 0.0;
    for (var i = lane; i < params.size; i += LANES) {
        sum += source[start + i];
    }
    let mean = workgroup_sum(lane, sum) / f32(params.size);
    var squares = 0.0;
    for (var i = lane; i < params.size; i += LANES) {
        let centred = source[start + i] - mean;
        squares += centred * centred;
    }
    let deviation = sqrt(workgroup_sum(lane, squares) / f32(params.size) + params.eps);
    let first_channel = (row % params.groups) * params.group_channels;
    for (var i = lane; i < params.size; i += LANES) {
        let channel = first_channel + i / params.places;
        result[start + i] = (source[start + i] - mean) / deviation * weight[channel] + bias[channel];
    }
}
