//! The oracle of tensors of 8 bits: both rounding rules of `docs/numerics.md` and what uses them, as the plainest loops there are.
//!
//! Numbers are `i64` here, of whatever type a tensor is: [`Kind`] says what it may hold. Sums need no order, as they are exact.
//! `tests/int8.rs` checks this file by hand.

use std::ops::Range;

use depthwise::{Padding, Shape};

use crate::oracle::{Tensor, Window};

/// A type of 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    U8,
    I8,
}

impl Kind {
    pub fn range(self) -> (i64, i64) {
        match self {
            Kind::U8 => (0, 255),
            Kind::I8 => (-128, 127),
        }
    }
}

/// A number q of such a tensor stands for `scale` · (q − `zero_point`).
#[derive(Clone, Copy, Debug)]
pub struct Quantized {
    pub kind: Kind,
    pub scale: f32,
    pub zero_point: i64,
}

/// How a sum becomes a number of 8 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rounding {
    NearestEven,
    /// With the product of input's and weights' scale in f64.
    Tflite,
    /// With that product in f32, as of networks in `u8`.
    TfliteLegacy,
}

/// Weights in the order of the f32 oracle, less nothing; a scale for each output channel, or one.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'a> {
    pub values: &'a [i64],
    pub scales: &'a [f32],
    pub zero_point: i64,
    pub bias: &'a [i32],
}

/// What an operation gives: its type, its rule, and the clamp in the quantised domain.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub output: Quantized,
    pub rounding: Rounding,
    pub clamp: (i64, i64),
}

impl Target {
    /// With the whole range of the type.
    pub fn new(output: Quantized, rounding: Rounding) -> Target {
        Target { output, rounding, clamp: output.kind.range() }
    }

    fn finish(self, rounded: i64) -> i64 {
        let (low, high) = self.output.kind.range();
        let (low, high) = (low.max(self.clamp.0), high.min(self.clamp.1));
        (rounded + self.output.zero_point).clamp(low, high)
    }

    /// The number of 8 bits for a sum of products.
    pub fn requantize(self, sum: i32, input_scale: f32, weight_scale: f32) -> i64 {
        let output_scale = self.output.scale;
        let wide = |product: f64| tflite(i64::from(sum), Fixed::of(product / f64::from(output_scale)));
        self.finish(match self.rounding {
            Rounding::NearestEven => {
                let factor = input_scale * weight_scale / output_scale;
                i64::from((sum as f32 * factor).round_ties_even() as i32)
            }
            Rounding::Tflite => wide(f64::from(input_scale) * f64::from(weight_scale)),
            Rounding::TfliteLegacy => wide(f64::from(input_scale * weight_scale)),
        })
    }
}

/// `q` / 2³¹ · 2^`e`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    pub q: i64,
    pub e: i32,
}

impl Fixed {
    /// By the bits of `m`: 53 of its fraction, of which 31 are kept.
    pub fn of(m: f64) -> Fixed {
        assert!(m >= 0.0 && (m == 0.0 || m.is_normal()), "{m}");
        if m == 0.0 {
            return Fixed { q: 0, e: 0 };
        }
        let bits = m.to_bits();
        let fraction = (bits & ((1 << 52) - 1)) | (1 << 52);
        let mut e = (bits >> 52) as i32 - 1022;
        // The fraction is ½ or more as fraction / 2⁵³; 22 bits go, a half up.
        let mut q = ((fraction + (1 << 21)) >> 22) as i64;
        if q == 1 << 31 {
            q >>= 1;
            e += 1;
        }
        if e < -31 { Fixed { q: 0, e: 0 } } else { Fixed { q, e } }
    }
}

/// The fixed-point product with two roundings.
pub fn tflite(x: i64, Fixed { q, e }: Fixed) -> i64 {
    // Exact, in units of 2⁻³¹; to a whole number, a half up.
    let product = i128::from(x) * i128::from(q) * (1i128 << e.max(0));
    let high = (2 * product + (1 << 31)).div_euclid(1 << 32);
    // Over a power of two, a half away from 0.
    let divisor = 1i128 << (-e).max(0);
    let magnitude = (2 * high.abs() + divisor) / (2 * divisor);
    (magnitude * high.signum()) as i64
}

/// A tensor, and what its numbers stand for.
type Input<'a> = (&'a Tensor<i64>, Quantized);

const POINT: Window = Window { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], padding: Padding::Valid };

/// The sums of a depthwise convolution with weights `[c·m, kh, kw]`: output channel o reads input channel o / m.
pub fn depthwise_sums(input: Input, weights: Weights, window: &Window, multiplier: usize) -> Tensor<i64> {
    let outputs = input.0.shape.c * multiplier;
    sums(input, weights, window, outputs, |o| o / multiplier..o / multiplier + 1)
}

/// The sums of a standard convolution with weights `[outputs, c, kh, kw]`.
pub fn conv2d_sums(input: Input, weights: Weights, window: &Window, outputs: usize) -> Tensor<i64> {
    sums(input, weights, window, outputs, |_| 0..input.0.shape.c)
}

/// The sums of a pointwise convolution with weights `[outputs, c]`.
pub fn pointwise_sums(input: Input, weights: Weights, outputs: usize) -> Tensor<i64> {
    conv2d_sums(input, weights, &POINT, outputs)
}

pub fn depthwise(input: Input, weights: Weights, window: &Window, multiplier: usize, target: Target) -> Tensor<i64> {
    requantized(depthwise_sums(input, weights, window, multiplier), input.1, weights, target)
}

pub fn conv2d(input: Input, weights: Weights, window: &Window, outputs: usize, target: Target) -> Tensor<i64> {
    requantized(conv2d_sums(input, weights, window, outputs), input.1, weights, target)
}

pub fn pointwise(input: Input, weights: Weights, outputs: usize, target: Target) -> Tensor<i64> {
    requantized(pointwise_sums(input, weights, outputs), input.1, weights, target)
}

/// Both, one after the other: what lies between is of 8 bits.
pub fn separable(
    input: Input,
    (first, window, multiplier, between): (Weights, &Window, usize, Target),
    (second, outputs, target): (Weights, usize, Target),
) -> Tensor<i64> {
    let middle = depthwise(input, first, window, multiplier, between);
    pointwise((&middle, between.output), second, outputs, target)
}

fn sums(
    (input, from): Input,
    weights: Weights,
    window: &Window,
    outputs: usize,
    reads: impl Fn(usize) -> Range<usize>,
) -> Tensor<i64> {
    let Window { kernel: [kh, kw], stride: [sh, sw], dilation: [dh, dw], .. } = *window;
    let Shape { h, w, .. } = input.shape;
    let [top, left] = [window.resolve(0, h).1[0], window.resolve(1, w).1[0]];
    Tensor::from_fn(window.output(input.shape, outputs), |n, o, oy, ox| {
        let mut sum = i64::from(weights.bias[o]);
        let channels = reads(o);
        for ky in 0..kh {
            for kx in 0..kw {
                let (y, x) = ((oy * sh + ky * dh).checked_sub(top), (ox * sw + kx * dw).checked_sub(left));
                // A tap on padding adds 0.
                let (Some(y), Some(x)) = (y.filter(|&y| y < h), x.filter(|&x| x < w)) else { continue };
                for (i, c) in channels.clone().enumerate() {
                    let weight = weights.values[((o * channels.len() + i) * kh + ky) * kw + kx];
                    sum += (input.at(n, c, y, x) - from.zero_point) * (weight - weights.zero_point);
                }
            }
        }
        sum
    })
}

fn requantized(sums: Tensor<i64>, from: Quantized, weights: Weights, target: Target) -> Tensor<i64> {
    Tensor::from_fn(sums.shape, |n, o, y, x| {
        let sum = sums.at(n, o, y, x);
        let sum = i32::try_from(sum).unwrap_or_else(|_| panic!("{sum} does not fit in 32 bits: no plan is built"));
        target.requantize(sum, from.scale, weights.scales[o % weights.scales.len()])
    })
}

/// The number of 8 bits for a real one. A NaN counts as 0.
pub fn quantize(x: f32, to: Quantized, rounding: Rounding) -> i64 {
    let steps = x / to.scale;
    let rounded = match rounding {
        Rounding::NearestEven => steps.round_ties_even(),
        Rounding::Tflite | Rounding::TfliteLegacy => steps.round(),
    };
    Target::new(to, rounding).finish(i64::from(rounded as i32))
}

/// What a sum stands for: of outputs of `f32`.
pub fn real(sum: i32, factor: f32, bias: f32) -> f32 {
    sum as f32 * factor + bias
}

pub fn dequantize(q: i64, from: Quantized) -> f32 {
    from.scale * (q - from.zero_point) as f32
}

/// The sum of two numbers of 8 bits.
pub fn add((a, of_a): (i64, Quantized), (b, of_b): (i64, Quantized), target: Target) -> i64 {
    let (a, b) = (a - of_a.zero_point, b - of_b.zero_point);
    if target.rounding == Rounding::NearestEven {
        let sum = of_a.scale * a as f32 + of_b.scale * b as f32;
        return target.finish(i64::from((sum / target.output.scale).round_ties_even() as i32));
    }
    let twice = 2.0 * f64::from(of_a.scale.max(of_b.scale));
    let fine = |x: i64, scale: f32| tflite(x << 20, Fixed::of(f64::from(scale) / twice));
    let factor = twice / (f64::from(1 << 20) * f64::from(target.output.scale));
    target.finish(tflite(fine(a, of_a.scale) + fine(b, of_b.scale), Fixed::of(factor)))
}
