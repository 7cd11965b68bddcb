// Attention of many queries: one workgroup serves 16 neighbouring queries of a head, so that a key or value is read once
// for all of them. The softmax is computed as the keys go by:
//
//   for each 64 keys:  a lane makes the scores of its key with all 16 queries, 16 numbers of the heads at a time
//                      rescale what was summed so far to the new maxima
//                      a lane adds share · value for its columns, of all 16 queries
//   result / sum
//
// Hidden keys (mask −∞) get the share 0 by a test, not by arithmetic with infinities, which WGSL does not promise.
// Value columns of a lane, 1 to 4; they are 64 apart.
override COLUMNS: u32;

const QUERIES = 16u;
const DEPTH = 16u;

// 16 numbers of 16 queries, four queries a vector.
var<workgroup> query_tile: array<vec4<f32>, 64>;
// 16 numbers of 64 keys; a row is one longer, so that lanes do not meet in a bank.
var<workgroup> key_tile: array<f32, 1088>;
// Scores, then shares: 16 of each key, four queries a vector.
var<workgroup> shares: array<vec4<f32>, 256>;
var<workgroup> largest: array<f32, QUERIES>;
var<workgroup> sums: array<f32, QUERIES>;
var<workgroup> corrections: array<f32, QUERIES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunks = (params.value_dim + LANES * COLUMNS - 1u) / (LANES * COLUMNS);
    let number = workgroup_number(workgroup, grid);
    if number / chunks >= params.count {
        return;
    }
    let head_tiles = (params.query_count + QUERIES - 1u) / QUERIES;
    let first_query = number / chunks % head_tiles * QUERIES;
    let row_head = number / chunks / head_tiles;
    let head = row_head % params.heads;
    let batch = row_head / params.heads;
    let first_column = (number % chunks) * LANES * COLUMNS + lane;
    let key_head = (batch * params.key_heads + head / (params.heads / params.key_heads)) * params.capacity;
    let last_query = min(first_query + QUERIES, params.query_count) - 1u;
    let visible = min(params.key_count, params.first_visible + last_query);
    let mask_start = batch * params.mask_batch + head * params.mask_head;
    if lane < QUERIES {
        largest[lane] = LOWEST;
        sums[lane] = 0.0;
    }

    var totals = array<vec4<f32>, 16>();
    for (var first = 0u; first < visible; first += LANES) {
        let count = min(LANES, visible - first);
        var scores = array<vec4<f32>, 4>();
        for (var start = 0u; start < params.dim; start += DEPTH) {
            workgroupBarrier();
            let depth = start + lane / 4u;
            var numbers = vec4<f32>();
            for (var i = 0u; i < 4u; i++) {
                let row = row_head * params.query_count + min(first_query + lane % 4u * 4u + i, last_query);
                numbers[i] = select(0.0, query[row * params.dim + min(depth, params.dim - 1u)], depth < params.dim);
            }
            query_tile[lane] = numbers * params.scale;
            for (var i = 0u; i < DEPTH; i++) {
                let place = i * LANES + lane;
                let within = start + place % DEPTH;
                let row = key_head + min(first + place / DEPTH, visible - 1u);
                let number = key_number(row * params.dim + min(within, params.dim - 1u));
                key_tile[place / DEPTH * (DEPTH + 1u) + place % DEPTH] = select(0.0, number, within < params.dim);
            }
            workgroupBarrier();
            for (var d = 0u; d < DEPTH; d++) {
                let number = key_tile[lane * (DEPTH + 1u) + d];
                for (var i = 0u; i < 4u; i++) {
                    scores[i] += query_tile[4u * d + i] * number;
                }
            }
        }
        for (var i = 0u; i < QUERIES; i++) {
            let place = min(first_query + i, last_query);
            var score = scores[i / 4u][i % 4u];
            if params.masked == 1u {
                let at = place * params.mask_query + min(first + lane, visible - 1u) * params.mask_key;
                score += mask[mask_start + at];
            }
            let is_seen = first + lane < min(params.key_count, params.first_visible + place);
            scores[i / 4u][i % 4u] = select(LOWEST, max(score, LOWEST), is_seen);
        }
        for (var i = 0u; i < 4u; i++) {
            shares[4u * lane + i] = scores[i];
        }
        workgroupBarrier();
        if lane < QUERIES {
            var new_largest = largest[lane];
            for (var j = 0u; j < count; j++) {
                new_largest = max(new_largest, shares[4u * j + lane / 4u][lane % 4u]);
            }
            corrections[lane] = exp(largest[lane] - new_largest);
            largest[lane] = new_largest;
        }
        workgroupBarrier();
        for (var i = 0u; i < 4u; i++) {
            let top = vec4<f32>(largest[4u * i], largest[4u * i + 1u], largest[4u * i + 2u], largest[4u * i + 3u]);
            shares[4u * lane + i] = select(vec4<f32>(), exp(scores[i] - top), scores[i] > vec4<f32>(HIDDEN));
        }
        workgroupBarrier();
        if lane < QUERIES {
            var sum = sums[lane] * corrections[lane];
            for (var j = 0u; j < count; j++) {
                sum += shares[4u * j + lane / 4u][lane % 4u];
            }
            sums[lane] = sum;
        }
        for (var i = 0u; i < 4u; i++) {
            let at = 4u * i;
            let correction =
                vec4<f32>(corrections[at], corrections[at + 1u], corrections[at + 2u], corrections[at + 3u]);
            for (var c = 0u; c < COLUMNS; c++) {
                totals[4u * c + i] *= correction;
            }
        }
        for (var j = 0u; j < count; j++) {
            for (var c = 0u; c < COLUMNS; c++) {
                let column = min(first_column + c * LANES, params.value_dim - 1u);
                let number = value_number((key_head + first + j) * params.value_dim + column);
                for (var i = 0u; i < 4u; i++) {
                    totals[4u * c + i] += shares[4u * j + i] * number;
                }
            }
        }
    }
    workgroupBarrier();
    for (var i = 0u; i < QUERIES; i++) {
        let sum = sums[i];
        for (var c = 0u; c < COLUMNS; c++) {
            let column = first_column + c * LANES;
            if first_query + i <= last_query && column < params.value_dim {
                let row = row_head * params.query_count + first_query + i;
                let total = totals[4u * c + i / 4u][i % 4u];
                result[row * params.value_dim + column] = select(0.0, total / sum, sum > 0.0);
            }
        }
    }
}
