//! The function applied to each output after a convolution.

/// The function applied to each output after a convolution and its residual.
///
/// NaN goes in, NaN comes out. The same bits on every instruction set, the portable one included:
/// no activation uses a fused multiply-add.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Activation {
    /// x
    #[default]
    None,
    /// max(x, 0); −0 stays −0.
    Relu,
    /// min(max(x, 0), 6), of MobileNet.
    Relu6,
    /// min(max(x, min), max). Building a plan fails unless `min <= max` and a finite number lies between them.
    Clamp {
        /// The least output.
        min: f32,
        /// The greatest output.
        max: f32,
    },
    /// x where x ≥ 0, `slope`·x elsewhere.
    LeakyRelu {
        /// The factor for negative x.
        slope: f32,
    },
    /// x · [`HardSigmoid`](Self::HardSigmoid)(x), of MobileNetV3. NaN at −∞ (∞ · 0).
    HardSwish,
    /// min(max(x + 3, 0), 6) · ⅙, of MobileNetV3.
    HardSigmoid,
    /// 1 / (1 + e⁻ˣ)
    Sigmoid,
    /// x · [`Sigmoid`](Self::Sigmoid)(x), also called swish. NaN at −∞ (∞ · 0).
    Silu,
    /// ½ · x · (1 + erf(x / √2)): the exact form, not its approximation by tanh. NaN at −∞ (∞ · 0).
    Gelu,
    /// x · tanh(ln(1 + eˣ)), of YOLOv4 (Misra, 2019). −0 at −∞, its limit.
    Mish,
    /// (eˣ − e⁻ˣ) / (eˣ + e⁻ˣ)
    Tanh,
}
