//! The scalar oracle: what each operation must return, as the plainest loops there are.
//!
//! The loops are written once, over a [`Number`]; the number says what a term costs in accuracy:
//! [`Fused`] and [`Separate`] are the two arithmetics the crate promises bit for bit, [`Exact`] is
//! `f64` with a bound on the error of either. `tests/oracle.rs` checks this file by hand.

use depthwise::{Activation, BatchNorm, Element, ElementType, Padding, Shape};

use super::activation::{activate, activate_f64, tolerance};

/// A dense tensor in logical order: n, then c, then h, then w, whatever the layout under test.
#[derive(Clone, Debug)]
pub struct Tensor<T = f32> {
    pub shape: Shape,
    pub data: Vec<T>,
}

impl<T: Copy> Tensor<T> {
    /// The tensor of `value(n, c, h, w)`, called in logical order.
    pub fn from_fn(shape: Shape, mut value: impl FnMut(usize, usize, usize, usize) -> T) -> Tensor<T> {
        let mut data = Vec::with_capacity(shape.n * shape.c * shape.h * shape.w);
        for n in 0..shape.n {
            for c in 0..shape.c {
                for h in 0..shape.h {
                    for w in 0..shape.w {
                        data.push(value(n, c, h, w));
                    }
                }
            }
        }
        Tensor { shape, data }
    }

    pub fn at(&self, n: usize, c: usize, h: usize, w: usize) -> T {
        let Shape { c: cs, h: hs, w: ws, .. } = self.shape;
        self.data[((n * cs + c) * hs + h) * ws + w]
    }

    pub fn map<U>(&self, f: impl FnMut(T) -> U) -> Tensor<U> {
        Tensor { shape: self.shape, data: self.data.iter().copied().map(f).collect() }
    }
}

/// What an accumulator is made of.
pub trait Number: Copy {
    fn new(x: f32) -> Self;
    /// `x * w + acc`.
    fn mul_add(x: Self, w: f32, acc: Self) -> Self;
    /// `self + residual`.
    fn add(self, residual: f32) -> Self;
    fn activate(self, activation: Activation) -> Self;
    /// The nearest number that an element holds.
    fn round<E: Element>(self) -> Self;
}

/// One rounding per term: AVX2, AVX-512, NEON.
#[derive(Clone, Copy, Debug)]
pub struct Fused(pub f32);

impl Number for Fused {
    fn new(x: f32) -> Fused {
        Fused(x)
    }
    fn mul_add(x: Fused, w: f32, acc: Fused) -> Fused {
        Fused(x.0.mul_add(w, acc.0))
    }
    fn add(self, residual: f32) -> Fused {
        Fused(self.0 + residual)
    }
    fn activate(self, activation: Activation) -> Fused {
        Fused(activate(activation, self.0))
    }
    fn round<E: Element>(self) -> Fused {
        Fused(E::from_f32(self.0).to_f32())
    }
}

/// Two roundings per term: the portable kernels, on every target.
#[derive(Clone, Copy, Debug)]
pub struct Separate(pub f32);

impl Number for Separate {
    fn new(x: f32) -> Separate {
        Separate(x)
    }
    fn mul_add(x: Separate, w: f32, acc: Separate) -> Separate {
        Separate(acc.0 + x.0 * w)
    }
    fn add(self, residual: f32) -> Separate {
        Separate(self.0 + residual)
    }
    fn activate(self, activation: Activation) -> Separate {
        Separate(activate(activation, self.0))
    }
    fn round<E: Element>(self) -> Separate {
        Separate(E::from_f32(self.0).to_f32())
    }
}

/// The value in `f64`, and how far an `f32` computation of it in any order may be off.
#[derive(Clone, Copy, Debug)]
pub struct Exact {
    pub value: f64,
    /// Terms accumulated so far, the bias not counted.
    terms: u32,
    /// Σ|x·w|, the bias included.
    magnitude: f64,
    /// Σ error(x)·|w|: what the terms were off by before they were added.
    inherited: f64,
}

impl Exact {
    /// |err| ≤ (n + 2)·ε·Σ|x·w|, n counting the bias, and ε the unit round-off 2⁻²⁴ (half of
    /// `f32::EPSILON`), plus half a least denormal for each rounding that can underflow.
    pub fn error(self) -> f64 {
        if self.terms == 0 {
            return self.inherited;
        }
        let terms = f64::from(self.terms) + 1.0;
        (terms + 2.0) * 2f64.powi(-24) * self.magnitude + terms * 2f64.powi(-149) + self.inherited
    }

    /// Whether `f32` can hold every partial sum: only then is the bound one.
    pub fn is_bounded(self) -> bool {
        self.value.is_finite() && self.magnitude + self.error() < f64::from(f32::MAX)
    }
}

impl Number for Exact {
    fn new(x: f32) -> Exact {
        let value = f64::from(x);
        Exact { value, terms: 0, magnitude: value.abs(), inherited: 0.0 }
    }
    fn mul_add(x: Exact, w: f32, acc: Exact) -> Exact {
        let w = f64::from(w);
        let error = x.error();
        Exact {
            value: acc.value + x.value * w,
            terms: acc.terms + 1,
            // Where `f32` may have overflowed on the way to x, all is lost.
            magnitude: if x.is_bounded() { acc.magnitude + (x.value.abs() + error) * w.abs() } else { f64::INFINITY },
            inherited: acc.inherited + error * w.abs(),
        }
    }
    fn add(self, residual: f32) -> Exact {
        Exact::mul_add(Exact::new(residual), 1.0, self)
    }
    fn activate(self, activation: Activation) -> Exact {
        if activation == Activation::None {
            return self;
        }
        let value = activate_f64(activation, self.value);
        let error = tolerance(activation, self.error(), self.value);
        // What overflowed before an activation can come out finite: keep it unbounded.
        let magnitude = if self.is_bounded() { value.abs() } else { f64::INFINITY };
        Exact { value, terms: 0, magnitude, inherited: error }
    }
    /// The value stays: that it is rounded is one more error.
    fn round<E: Element>(self) -> Exact {
        // The unit round-off, half a least denormal, and the greatest number.
        let (unit, half, greatest) = match E::TYPE {
            ElementType::F32 => return self,
            ElementType::F16 => (2f64.powi(-11), 2f64.powi(-25), 65504.0),
            ElementType::Bf16 => (2f64.powi(-8), 2f64.powi(-134), (2.0 - 2f64.powi(-7)) * 2f64.powi(127)),
            other => unimplemented!("the oracle of {other}"),
        };
        let reach = self.value.abs() + self.error();
        let inherited = self.error() + reach * unit + half;
        let magnitude = if self.is_bounded() && reach <= greatest { self.value.abs() } else { f64::INFINITY };
        Exact { value: self.value, terms: 0, magnitude, inherited }
    }
}

/// Where a filter reads: everything of a convolution that is not a channel.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub padding: Padding,
}

impl Window {
    /// Output size and padding `(before, after)` along axis 0 (height) or 1 (width).
    pub fn resolve(&self, axis: usize, input: usize) -> (usize, [usize; 2]) {
        let extent = (self.kernel[axis] - 1) * self.dilation[axis] + 1;
        let stride = self.stride[axis];
        let same = || {
            let output = input.div_ceil(stride);
            let total = ((output - 1) * stride + extent).saturating_sub(input);
            (output, total / 2, total - total / 2)
        };
        let [before, after] = match self.padding {
            Padding::Explicit { top, left, bottom, right } => [[top, bottom], [left, right]][axis],
            Padding::Valid => [0, 0],
            Padding::SameUpper => {
                let (output, less, more) = same();
                return (output, [less, more]);
            }
            Padding::SameLower => {
                let (output, less, more) = same();
                return (output, [more, less]);
            }
            other => unimplemented!("the oracle of {other:?}"),
        };
        ((input + before + after - extent) / stride + 1, [before, after])
    }

    fn top_left(&self, input: Shape) -> [usize; 2] {
        [self.resolve(0, input.h).1[0], self.resolve(1, input.w).1[0]]
    }

    pub fn output(&self, input: Shape, channels: usize) -> Shape {
        let (h, w) = (self.resolve(0, input.h).0, self.resolve(1, input.w).0);
        Shape::new(input.n, channels, h, w)
    }
}

/// The input at row `y` and column `x` of the padded image: +0.0 on padding.
fn padded<N: Number>(input: &Tensor<N>, [top, left]: [usize; 2], [n, c]: [usize; 2], [y, x]: [usize; 2]) -> N {
    if y < top || y - top >= input.shape.h || x < left || x - left >= input.shape.w {
        return N::new(0.0);
    }
    input.at(n, c, y - top, x - left)
}

/// Depthwise convolution with weights `[c·m, kh, kw]`: output channel o reads input channel o / m.
pub fn depthwise<N: Number>(
    input: &Tensor<N>,
    weights: &[f32],
    bias: Option<&[f32]>,
    window: &Window,
    multiplier: usize,
) -> Tensor<N> {
    let Window { kernel: [kh, kw], stride: [sh, sw], dilation: [dh, dw], .. } = *window;
    let top_left = window.top_left(input.shape);
    let output = window.output(input.shape, input.shape.c * multiplier);
    Tensor::from_fn(output, |n, o, oy, ox| {
        let mut acc = N::new(bias.map_or(0.0, |b| b[o]));
        for ky in 0..kh {
            for kx in 0..kw {
                let position = [oy * sh + ky * dh, ox * sw + kx * dw];
                let x = padded(input, top_left, [n, o / multiplier], position);
                acc = N::mul_add(x, weights[(o * kh + ky) * kw + kx], acc);
            }
        }
        acc
    })
}

/// Pointwise convolution with weights `[outputs, c]`.
pub fn pointwise<N: Number>(input: &Tensor<N>, weights: &[f32], bias: Option<&[f32]>, outputs: usize) -> Tensor<N> {
    let output = Shape { c: outputs, ..input.shape };
    Tensor::from_fn(output, |n, o, y, x| {
        let mut acc = N::new(bias.map_or(0.0, |b| b[o]));
        for c in 0..input.shape.c {
            acc = N::mul_add(input.at(n, c, y, x), weights[o * input.shape.c + c], acc);
        }
        acc
    })
}

/// Standard convolution with weights `[outputs, c, kh, kw]`: taps row by row, then channels.
pub fn conv2d<N: Number>(
    input: &Tensor<N>,
    weights: &[f32],
    bias: Option<&[f32]>,
    window: &Window,
    outputs: usize,
) -> Tensor<N> {
    let Window { kernel: [kh, kw], stride: [sh, sw], dilation: [dh, dw], .. } = *window;
    let top_left = window.top_left(input.shape);
    let channels = input.shape.c;
    Tensor::from_fn(window.output(input.shape, outputs), |n, o, oy, ox| {
        let mut acc = N::new(bias.map_or(0.0, |b| b[o]));
        for ky in 0..kh {
            for kx in 0..kw {
                let position = [oy * sh + ky * dh, ox * sw + kx * dw];
                for c in 0..channels {
                    let x = padded(input, top_left, [n, c], position);
                    acc = N::mul_add(x, weights[((o * channels + c) * kh + ky) * kw + kx], acc);
                }
            }
        }
        acc
    })
}

/// What follows either convolution: the residual, then the activation.
pub fn finish<N: Number>(mut output: Tensor<N>, residual: Option<&Tensor>, activation: Activation) -> Tensor<N> {
    if let Some(residual) = residual {
        for (y, &r) in output.data.iter_mut().zip(&residual.data) {
            *y = y.add(r);
        }
    }
    output.map(|y| y.activate(activation))
}

/// What a tensor of that type holds of `output`.
pub fn stored<E: Element, N: Number>(output: Tensor<N>) -> Tensor<N> {
    output.map(N::round::<E>)
}

/// Weights and bias with the batch norm folded in: one factor per output channel, in `f64`, rounded once.
pub fn fold(weights: &[f32], bias: Option<&[f32]>, norm: BatchNorm) -> (Vec<f32>, Vec<f32>) {
    let channels = norm.gamma.len();
    let factor = |o: usize| {
        let deviation = (f64::from(norm.variance[o]) + f64::from(norm.epsilon)).sqrt();
        f64::from(norm.gamma[o]) / deviation
    };
    let per_channel = weights.len() / channels;
    let weights = weights.iter().enumerate().map(|(i, &w)| (f64::from(w) * factor(i / per_channel)) as f32);
    let bias = (0..channels).map(|o| {
        let b = bias.map_or(0.0, |b| f64::from(b[o]));
        (f64::from(norm.beta[o]) + (b - f64::from(norm.mean[o])) * factor(o)) as f32
    });
    (weights.collect(), bias.collect())
}
