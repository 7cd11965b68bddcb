// The functions of one number, numbered as `activation_words` does in elementwise.rs; 0 is none. The number is a
// parameter and not a constant: a test a result costs nothing, and one pipeline serves all.

// WGSL promises little for sin, cos and tanh (2^-11 absolute for the first two), and has no erf, so they are here.

// Complementary error function of x ≥ 0: Abramowitz and Stegun 7.1.26, |error| ≤ 1.5e-7, times e^(x²) cancelled out.
fn erfc_positive(x: f32) -> f32 {
    let t = 1.0 / (1.0 + 0.3275911 * x);
    let polynomial = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return polynomial * exp(-min(x * x, 80.0));
}

fn gelu(x: f32) -> f32 {
    // Through erfc of |x|, so that the tail of negative numbers does not cancel.
    let tail = 0.5 * abs(x) * erfc_positive(abs(x) * 0.7071067811865476);
    return max(x, 0.0) - tail;
}

fn tanh_precise(x: f32) -> f32 {
    let square = x * x;
    if abs(x) < 0.3 {
        // Its series; the first omitted term is below 1e-8 here.
        let series = 1.0 + square * (-0.33333333 + square * (0.13333333 + square * (-0.05396825 + square * 0.02186949)));
        return x * series;
    }
    let magnitude = 1.0 - 2.0 / (exp(2.0 * min(abs(x), 15.0)) + 1.0);
    return select(-magnitude, magnitude, x > 0.0);
}

fn sigmoid(x: f32) -> f32 {
    // e^88 is the last that f32 holds.
    return 1.0 / (1.0 + exp(min(-x, 88.0)));
}

// sin(x + quarter · π/2), reduced to a quarter turn; π/2 in three parts (Cody and Waite) keeps the remainder exact
// for |x| up to some thousands.
fn sine_shifted(x: f32, quarter: i32) -> f32 {
    let turns = round(x * 0.6366197723675814);
    let rest = ((x - turns * 1.5703125) - turns * 4.837512969970703e-4) - turns * 7.549789948768648e-8;
    let square = rest * rest;
    let sine = rest + rest * square * (-0.16666667 + square * (8.3333310e-3 + square * (-1.98409e-4 + square * 2.7526e-6)));
    let cosine = 1.0 + square * (-0.5 + square * (4.1666668e-2 + square * (-1.3888397e-3 + square * 2.4760495e-5)));
    let phase = (i32(turns) + quarter) & 3;
    let value = select(sine, cosine, (phase & 1) == 1);
    return select(value, -value, phase >= 2);
}

// `low` and `high` are the parameters of those functions that have some.
fn activate(function: u32, x: f32, low: f32, high: f32) -> f32 {
    switch function {
        case 1u: { return max(x, 0.0); }
        case 2u: { return clamp(x, 0.0, 6.0); }
        case 3u: { return select(low * x, x, x > 0.0); }
        case 4u: { return gelu(x); }
        case 5u: {
            return 0.5 * x * (1.0 + tanh_precise(0.7978845608028654 * (x + 0.044715 * x * x * x)));
        }
        case 6u: { return x * sigmoid(x); }
        case 7u: { return sigmoid(x); }
        case 8u: { return tanh_precise(x); }
        case 9u: { return exp(x); }
        case 10u: { return log(x); }
        case 11u: { return sqrt(x); }
        case 12u: { return sine_shifted(x, 0); }
        case 13u: { return sine_shifted(x, 1); }
        case 14u: { return abs(x); }
        case 15u: { return -x; }
        case 16u: { return min(max(x, low), high); }
        default: { return x; }
    }
}
