//! What to compute: cases chosen by hand, of the table's kernels, read from `tests/data`, and drawn at random.

mod by_hand;
mod of_kernels;
mod random;
mod tables;

use depthwise::{Activation, Padding, Shape};

use super::oracle::Window;

pub use by_hand::{by_hand, large};
pub use of_kernels::{left_over, pointwise, signs_of_zero, strips, tails, taps_of_kernels, tiles};
pub use random::random;
pub use tables::tables;

/// One convolution. Every operation can run it, each with the fields that concern it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where it comes from, or which boundary it crosses.
    pub name: String,
    pub input: Shape,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: Padding,
    /// Output channels per input channel of a depthwise stage.
    pub multiplier: usize,
    /// Output channels of a pointwise stage and of a standard convolution.
    pub outputs: usize,
    pub depthwise: Epilogue,
    /// Of a pointwise stage and of a standard convolution.
    pub pointwise: Epilogue,
    pub residual: bool,
    pub values: Values,
    /// Of the values.
    pub seed: u64,
}

/// What follows one of the two convolutions.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue {
    pub bias: bool,
    pub batch_norm: bool,
    pub activation: Activation,
}

/// What numbers a case computes with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Values {
    /// Within ±1, all bits of the mantissa in use, so that any other order of the terms shows.
    Plain,
    /// Plain, with NaN, ±∞, −0 and denormals among all arguments: ∞ · 0 on padding, −0 as bias.
    Special,
    /// Only +0 and −0: the sign of a zero survives or not.
    Zeros,
    /// Sums of −0 alone, as of no other values but by chance: whether an activation keeps it. A tap on padding would make +0 of it.
    NegativeZeros,
    /// Around the least normal number: products and sums are denormal.
    Tiny,
    /// Around the square root of the greatest number: products and sums overflow.
    Huge,
}

impl Default for Case {
    fn default() -> Case {
        let epilogue = Epilogue { bias: true, batch_norm: false, activation: Activation::None };
        Case {
            name: String::new(),
            // One vector and a tail, along channels and along rows: of AVX-512, and in Miri of the portable kernels.
            input: if cfg!(miri) { Shape::new(1, 9, 3, 9) } else { Shape::new(1, 19, 6, 21) },
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding::symmetric(1, 1),
            multiplier: 1,
            // One more than a vector of AVX2.
            outputs: 9,
            depthwise: epilogue,
            pointwise: epilogue,
            residual: false,
            values: Values::Plain,
            seed: 1,
        }
    }
}

impl Case {
    pub fn window(&self) -> Window {
        Window { kernel: self.kernel, stride: self.stride, dilation: self.dilation, padding: self.padding }
    }

    pub fn with_values(&self, values: Values) -> Case {
        Case { name: format!("{}, {values:?} values", self.name), values, ..self.clone() }
    }
}

pub const ACTIVATIONS: [Activation; 14] = [
    Activation::None,
    Activation::Relu,
    Activation::Relu6,
    Activation::Clamp { min: -0.5, max: 0.25 },
    // Bounds that are zeros of both signs, and infinite ones.
    Activation::Clamp { min: -0.0, max: 0.0 },
    Activation::Clamp { min: f32::NEG_INFINITY, max: f32::INFINITY },
    Activation::LeakyRelu { slope: 0.1 },
    Activation::HardSwish,
    Activation::HardSigmoid,
    Activation::Sigmoid,
    Activation::Silu,
    Activation::Gelu,
    Activation::Mish,
    Activation::Tanh,
];
