//! Functions of one number, used alone or fused into the end of a matrix product or convolution.

/// An element-wise function. Exact definitions; engines may differ by rounding only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unary {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x` if positive, else `slope · x`.
    LeakyRelu(f32),
    /// `x/2 · (1 + erf(x/√2))`.
    Gelu,
    /// `x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))`.
    GeluTanh,
    /// `x · sigmoid(x)`.
    Silu,
    /// `1 / (1 + exp(−x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// `e^x`.
    Exp,
    /// Natural logarithm.
    Ln,
    /// Square root.
    Sqrt,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// Absolute value.
    Abs,
    /// `−x`.
    Neg,
    /// `min(max(x, low), high)`.
    Clamp(f32, f32),
}

impl Unary {
    /// The function applied to one number: the definition that both engines are tested against.
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Unary::Relu => x.max(0.0),
            Unary::Relu6 => x.clamp(0.0, 6.0),
            Unary::LeakyRelu(slope) => {
                if x > 0.0 {
                    x
                } else {
                    slope * x
                }
            }
            Unary::Gelu => {
                (0.5 * f64::from(x) * (1.0 + candle_core::cpu::erf::erf_f64(f64::from(x) / 2f64.sqrt()))) as f32
            }
            Unary::GeluTanh => {
                0.5 * x * (1.0 + ((2.0 / std::f32::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
            }
            Unary::Silu => x / (1.0 + (-x).exp()),
            Unary::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Unary::Tanh => x.tanh(),
            Unary::Exp => x.exp(),
            Unary::Ln => x.ln(),
            Unary::Sqrt => x.sqrt(),
            Unary::Sin => x.sin(),
            Unary::Cos => x.cos(),
            Unary::Abs => x.abs(),
            Unary::Neg => -x,
            Unary::Clamp(low, high) => x.max(low).min(high),
        }
    }
}
