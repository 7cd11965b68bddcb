// Places of the largest numbers of each row, largest first, the first of equals first. Every number counts those that
// come before it, which is its rank; those of the first ranks write themselves down. No read-back, no second pass: a
// row of 22,000 is half a billion comparisons.
struct Params {
    rows: u32,
    size: u32,
    kept: u32,
    // Workgroups a row.
    groups: u32,
}

@group(0) @binding(0) var<uniform> params: Params;
@group(1) @binding(0) var<storage, read> source: array<u32>;
@group(1) @binding(1) var<storage, read_write> result: array<u32>;

const LANES = 256u;

var<workgroup> tile: array<u32, LANES>;

// Bits of a float as a number of the same order: negative floats grow with their bits the wrong way round.
fn ordered(bits: u32) -> u32 {
    return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let number = workgroup_number(workgroup, grid);
    let row = number / params.groups;
    if row >= params.rows {
        return;
    }
    let place = (number % params.groups) * LANES + lane;
    let start = row * params.size;
    let last = params.size - 1u;
    let own = ordered(source[start + min(place, last)]);
    var rank = 0u;
    for (var first = 0u; first < params.size; first += LANES) {
        tile[lane] = ordered(source[start + min(first + lane, last)]);
        workgroupBarrier();
        let count = min(LANES, params.size - first);
        for (var j = 0u; j < count; j++) {
            let other = tile[j];
            if other > own || (other == own && first + j < place) {
                rank++;
            }
        }
        workgroupBarrier();
    }
    if place < params.size && rank < params.kept {
        result[row * params.kept + rank] = place;
    }
}
