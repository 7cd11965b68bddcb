// Convolution in which every input channel is alone in its group: one invocation a result.
// The weights are [outputs, kernel_height, kernel_width].
struct Params {
    count: u32,
    height: u32,
    width: u32,
    out_height: u32,
    out_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride_rows: u32,
    stride_columns: u32,
    dilation_rows: u32,
    dilation_columns: u32,
    top: u32,
    left: u32,
    channels: u32,
    group_outputs: u32,
    has_bias: u32,
    activation: u32,
    low: f32,
    high: f32,
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
    let column = i % params.out_width;
    let row = (i / params.out_width) % params.out_height;
    let plane = i / (params.out_width * params.out_height);
    let out_channel = plane % (params.channels * params.group_outputs);
    // plane / group_outputs is picture · channels + channel.
    let source_start = (plane / params.group_outputs) * params.height * params.width;
    let weight_start = out_channel * params.kernel_height * params.kernel_width;
    var total = 0.0;
    for (var tap_row = 0u; tap_row < params.kernel_height; tap_row++) {
        // Above or left of the picture the unsigned difference wraps to something large.
        let y = row * params.stride_rows + tap_row * params.dilation_rows - params.top;
        if y >= params.height {
            continue;
        }
        for (var tap_column = 0u; tap_column < params.kernel_width; tap_column++) {
            let x = column * params.stride_columns + tap_column * params.dilation_columns - params.left;
            if x < params.width {
                total += source[source_start + y * params.width + x]
                    * weight[weight_start + tap_row * params.kernel_width + tap_column];
            }
        }
    }
    if params.has_bias == 1u {
        total += bias[out_channel];
    }
    result[i] = activate(params.activation, total, params.low, params.high);
}
