// Attention with the softmax computed as the keys go by. One workgroup serves one query and up to 256 value columns:
//
//   for each 64 keys:  score_lane = scale · query · key_lane + mask
//                      rescale what was summed so far to the new maximum
//                      sum += share; result += share · value          (a lane holds 4 columns)
//   result / sum
//
// Hidden keys (mask −∞) get the share 0 by a test, not by arithmetic with infinities, which WGSL does not promise.
const COLUMNS = 4u;
// Numbers of the widest head.
const WIDEST = 512u;

var<workgroup> scaled_query: array<f32, WIDEST>;
var<workgroup> scores: array<f32, LANES>;
var<workgroup> shares: array<f32, LANES>;

@compute @workgroup_size(LANES)
fn main(
    @builtin(workgroup_id) workgroup: vec3<u32>,
    @builtin(num_workgroups) grid: vec3<u32>,
    @builtin(local_invocation_index) lane: u32,
) {
    let chunks = (params.value_dim + LANES * COLUMNS - 1u) / (LANES * COLUMNS);
    let number = workgroup_number(workgroup, grid);
    let row = number / chunks;
    let first_column = (number % chunks) * LANES * COLUMNS + lane;
    if row >= params.count {
        return;
    }
    let query_place = row % params.query_count;
    let head = (row / params.query_count) % params.heads;
    let batch = row / (params.query_count * params.heads);
    let key_head = batch * params.key_heads + head / (params.heads / params.key_heads);
    let visible = min(params.key_count, params.first_visible + query_place);
    let mask_start = batch * params.mask_batch + head * params.mask_head + query_place * params.mask_query;
    for (var i = lane; i < params.dim; i += LANES) {
        scaled_query[i] = query[row * params.dim + i] * params.scale;
    }
    workgroupBarrier();

    var largest = LOWEST;
    var sum = 0.0;
    var totals = array<f32, 4>();
    for (var first = 0u; first < visible; first += LANES) {
        let count = min(LANES, visible - first);
        var score = LOWEST;
        if lane < count {
            let start = (key_head * params.capacity + first + lane) * params.dim;
            var product = 0.0;
            for (var i = 0u; i < params.dim; i++) {
                product += scaled_query[i] * key_number(start + i);
            }
            if params.masked == 1u {
                product += mask[mask_start + (first + lane) * params.mask_key];
            }
            score = max(product, LOWEST);
        }
        scores[lane] = score;
        workgroupBarrier();
        var new_largest = largest;
        for (var i = 0u; i < count; i++) {
            new_largest = max(new_largest, scores[i]);
        }
        shares[lane] = select(0.0, exp(score - new_largest), score > HIDDEN);
        workgroupBarrier();
        let correction = exp(largest - new_largest);
        largest = new_largest;
        sum *= correction;
        for (var i = 0u; i < COLUMNS; i++) {
            totals[i] *= correction;
        }
        let value_start = (key_head * params.capacity + first) * params.value_dim;
        for (var j = 0u; j < count; j++) {
            let share = shares[j];
            sum += share;
            for (var i = 0u; i < COLUMNS; i++) {
                let column = first_column + i * LANES;
                if column < params.value_dim {
                    totals[i] += share * value_number(value_start + j * params.value_dim + column);
                }
            }
        }
    }
    for (var i = 0u; i < COLUMNS; i++) {
        let column = first_column + i * LANES;
        if column < params.value_dim {
            result[row * params.value_dim + column] = select(0.0, totals[i] / sum, sum > 0.0);
        }
    }
}
