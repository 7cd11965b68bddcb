// Index of the largest number of each row, the first of equals: one workgroup a row.
struct Params {
    rows: u32,
    size: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<f32>;
@group(1) @binding(1) var<storage, read_write> result: array<u32>;

const LANES = 256u;

var<workgroup> largest: array<f32, LANES>;
var<workgroup> places: array<u32, LANES>;

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
    // A lane without numbers of its own repeats the first, which changes nothing.
    var place = select(0u, lane, lane < params.size);
    var value = source[start + place];
    for (var i = lane + LANES; i < params.size; i += LANES) {
        let candidate = source[start + i];
        if candidate > value {
            value = candidate;
            place = i;
        }
    }
    largest[lane] = value;
    places[lane] = place;
    workgroupBarrier();
    for (var half = LANES / 2u; half > 0u; half /= 2u) {
        if lane < half {
            let other = largest[lane + half];
            let other_place = places[lane + half];
            if other > largest[lane] || (other == largest[lane] && other_place < places[lane]) {
                largest[lane] = other;
                places[lane] = other_place;
            }
        }
        workgroupBarrier();
    }
    if lane == 0u {
        result[row] = places[0];
    }
}
