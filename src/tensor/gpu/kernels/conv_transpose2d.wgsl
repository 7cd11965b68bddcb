// Transposed convolution whose stride is its kernel: every result pixel has one source pixel and one tap.
// The weights are [inputs, outputs, stride, stride].
struct Params {
    count: u32,
    inputs: u32,
    outputs: u32,
    height: u32,
    width: u32,
    stride: u32,
    has_bias: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<f32>;
@group(1) @binding(1) var<storage, read> weight: array<f32>;
@group(1) @binding(2) var<storage, read> bias: array<f32>;
@group(1) @binding(3) var<storage, read_write> result: array<f32>;

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
    let out_width = params.width * params.stride;
    let out_height = params.height * params.stride;
    let column = i % out_width;
    let row = (i / out_width) % out_height;
    let channel = (i / (out_width * out_height)) % params.outputs;
    let picture = i / (out_width * out_height * params.outputs);
    let plane = params.height * params.width;
    let taps = params.stride * params.stride;
    var source_at = picture * params.inputs * plane
        + (row / params.stride) * params.width + column / params.stride;
    var weight_at = channel * taps + (row % params.stride) * params.stride + column % params.stride;
    var total = 0.0;
    for (var input = 0u; input < params.inputs; input++) {
        total += source[source_at] * weight[weight_at];
        source_at += plane;
        weight_at += params.outputs * taps;
    }
    if params.has_bias == 1u {
        total += bias[channel];
    }
    result[i] = total;
}
