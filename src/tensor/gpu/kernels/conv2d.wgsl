// Direct convolution of any step, padding, dilation and groups. An invocation makes 4 output channels of PIXELS output
// pixels; the pixels lie 64 apart, so that neighbouring invocations read neighbouring pixels. The weights are stored
// as [groups, ceil(group_outputs / 4), group_inputs, kernel_height, kernel_width, 4], zeros for channels beyond.
override PIXELS: u32 = 4u;

struct Params {
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
    groups: u32,
    group_inputs: u32,
    group_outputs: u32,
    has_bias: u32,
    plane_start: u32,
    activation: u32,
    low: f32,
    high: f32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<f32>;
@group(1) @binding(1) var<storage, read> weight: array<vec4<f32>>;
@group(1) @binding(2) var<storage, read> bias: array<f32>;
@group(1) @binding(3) var<storage, read_write> result: array<f32>;

// The grid is pixels / (64 · PIXELS), quads of channels of all groups, pictures.
@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
    let group_quads = (params.group_outputs + 3u) / 4u;
    let group = workgroup.y / group_quads;
    let quad = workgroup.y % group_quads;
    let picture = params.plane_start + workgroup.z;
    let pixels = params.out_height * params.out_width;
    let first_pixel = workgroup.x * 64u * PIXELS + lane;
    if first_pixel >= pixels {
        return;
    }
    let taps = params.kernel_height * params.kernel_width;
    let plane = params.height * params.width;
    let source_start = (picture * params.groups + group) * params.group_inputs * plane;
    let weight_start = workgroup.y * params.group_inputs * taps;

    var totals = array<vec4<f32>, 4>();
    // Where each pixel reads for a tap; outside the picture it reads anything and counts it as 0.
    var at = array<u32, 4>();
    var inside = array<f32, 4>();
    for (var tap_row = 0u; tap_row < params.kernel_height; tap_row++) {
        for (var tap_column = 0u; tap_column < params.kernel_width; tap_column++) {
            for (var i = 0u; i < PIXELS; i++) {
                let pixel = first_pixel + i * 64u;
                // Above or left of the picture the unsigned difference wraps to something large.
                let y = (pixel / params.out_width) * params.stride_rows + tap_row * params.dilation_rows - params.top;
                let x = (pixel % params.out_width) * params.stride_columns + tap_column * params.dilation_columns
                    - params.left;
                let is_inside = y < params.height && x < params.width && pixel < pixels;
                at[i] = source_start + select(0u, y * params.width + x, is_inside);
                inside[i] = select(0.0, 1.0, is_inside);
            }
            let tap = weight_start + tap_row * params.kernel_width + tap_column;
            for (var channel = 0u; channel < params.group_inputs; channel++) {
                let weights = weight[tap + channel * taps];
                for (var i = 0u; i < PIXELS; i++) {
                    totals[i] += (inside[i] * source[at[i] + channel * plane]) * weights;
                }
            }
        }
    }
    for (var i = 0u; i < PIXELS; i++) {
        let pixel = first_pixel + i * 64u;
        if pixel >= pixels {
            return;
        }
        for (var j = 0u; j < min(4u, params.group_outputs - quad * 4u); j++) {
            let channel = group * params.group_outputs + quad * 4u + j;
            var value = totals[i][j];
            if params.has_bias == 1u {
                value += bias[channel];
            }
            let place = (picture * params.groups * params.group_outputs + channel) * pixels + pixel;
            result[place] = activate(params.activation, value, params.low, params.high);
        }
    }
}
