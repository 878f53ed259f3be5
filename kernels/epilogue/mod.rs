//! The activations.
//!
//! Built from separately rounded operations only, never [`Simd::mul_add`], so that every
//! instruction set gives the same bits. Each function keeps NaN: a bound is always the *first*
//! operand of [`Simd::max`] and [`Simd::min`], which return the second where either is NaN.
//!
//! The polynomials and rational functions are minimax fits made for this crate: a Remez exchange,
//! then a search over the neighbouring `f32` coefficients. Largest errors against `f64`, over every
//! 97th bit pattern and dense samples within ±116 and around each change of regime:
//!
//! | function | error |
//! |---|---|
//! | hard-sigmoid | 1.4 ulp for x ≥ −3; 0 below |
//! | hard-swish | 2.5 ulp |
//! | sigmoid | 2.8 ulp |
//! | silu | 3.1 ulp |
//! | tanh | 2.7 ulp |
//! | mish | 4.4 ulp |
//! | gelu | 1.1e-7 · max(1, \|x\|); 7 ulp for x ≥ −3, 22 for x ≥ −6, 71 at the far end |
//!
//! An ulp is that of the result, where the result is normal; denormal results of sigmoid, silu
//! and mish are within 2 steps.

pub(crate) mod sweep;

use crate::simd::{Lanes, Simd, Storage};
use crate::types::Activation;

/// An activation, split into the clamp that a kernel applies in registers and the curve that takes a
/// sweep of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epilogue {
    /// The least output.
    pub min: f32,
    /// The greatest output.
    pub max: f32,
    /// What follows the clamp.
    pub curve: Option<Curve>,
}

impl Epilogue {
    /// Splits `activation`.
    pub(crate) fn of(activation: Activation) -> Self {
        let clamp = |min, max| Self { min, max, curve: None };
        let curve = |curve| Self { min: f32::NEG_INFINITY, max: f32::INFINITY, curve: Some(curve) };
        match activation {
            Activation::None => clamp(f32::NEG_INFINITY, f32::INFINITY),
            Activation::Relu => clamp(0.0, f32::INFINITY),
            Activation::Relu6 => clamp(0.0, 6.0),
            Activation::Clamp { min, max } => clamp(min, max),
            Activation::LeakyRelu { slope } => curve(Curve::LeakyRelu { slope }),
            Activation::HardSwish => curve(Curve::HardSwish),
            Activation::HardSigmoid => curve(Curve::HardSigmoid),
            Activation::Sigmoid => curve(Curve::Sigmoid),
            Activation::Silu => curve(Curve::Silu),
            Activation::Gelu => curve(Curve::Gelu),
            Activation::Mish => curve(Curve::Mish),
            Activation::Tanh => curve(Curve::Tanh),
        }
    }
}

/// The activations that are more than a clamp; the formulas are those of [`Activation`].
#[derive(Clone, Copy, Debug)]
pub(crate) enum Curve {
    LeakyRelu { slope: f32 },
    HardSwish,
    HardSigmoid,
    Sigmoid,
    Silu,
    Gelu,
    Mish,
    Tanh,
}

impl Curve {
    /// This curve at each lane of `x`.
    #[inline(always)]
    pub(crate) fn apply<S: Simd>(self, s: S, x: S::V) -> S::V {
        match self {
            Curve::LeakyRelu { slope } => leaky_relu(s, x, slope),
            Curve::HardSwish => s.mul(x, hard_sigmoid(s, x)),
            Curve::HardSigmoid => hard_sigmoid(s, x),
            Curve::Sigmoid => sigmoid(s, x),
            Curve::Silu => silu(s, x),
            Curve::Gelu => gelu(s, x),
            Curve::Mish => mish(s, x),
            Curve::Tanh => tanh(s, x),
        }
    }
}

/// Whether a clamp changes anything.
#[inline(always)]
pub(crate) fn clamps(min: f32, max: f32) -> bool {
    min > f32::NEG_INFINITY || max < f32::INFINITY
}

/// `x` within `min ..= max`; NaN stays NaN, and −0 stays −0 at a bound of +0.
#[inline(always)]
pub(crate) fn clamp<S: Simd>(s: S, x: S::V, min: S::V, max: S::V) -> S::V {
    s.min(max, s.max(min, x))
}

/// Applies the bounds to all sums of a tile where that is the faster: a bound that changes nothing is asked about once a tile. Returns
/// whether it did, and sums are to be stored as they are; else each is to be [`finish`]ed: a residual comes before the bounds, and −0.0 is no
/// bound for [`Simd::min_of_bound`].
#[inline(always)]
pub(crate) fn bound<S: Simd, const OH: usize, const OW: usize>(
    s: S,
    bounds: [f32; 2],
    has_residual: bool,
    sums: &mut [[S::V; OW]; OH],
) -> bool {
    // As integers, which no pipe of vectors compares.
    let [min, max] = bounds.map(f32::to_bits);
    if !S::TIGHT_PIPES || has_residual | (max == (-0.0f32).to_bits()) {
        return false;
    }
    if min != f32::NEG_INFINITY.to_bits() {
        let min = s.splat(f32::from_bits(min));
        each(sums, |sum| s.max(min, sum));
    }
    if max != f32::INFINITY.to_bits() {
        let max = s.splat(f32::from_bits(max));
        each(sums, |sum| s.min_of_bound(max, sum));
    }
    true
}

#[inline(always)]
fn each<V: Copy, const OH: usize, const OW: usize>(sums: &mut [[V; OW]; OH], f: impl Fn(V) -> V) {
    for oy in 0..OH {
        for ox in 0..OW {
            sums[oy][ox] = f(sums[oy][ox]);
        }
    }
}

/// A finished sum → residual → clamp → output.
///
/// `residual`: if there is one, so many elements further. (Worked out here, lest LLVM do so for all outputs of a tile beforehand.)
///
/// # Safety
/// 1. The lanes of the output can be written.
/// 2. The lanes of the residual, if there is one, can be read.
#[inline(always)]
pub(crate) unsafe fn finish<S: Storage<E>, L: Lanes, E>(
    s: S,
    bounds: [f32; 2],
    sum: S::V,
    mask: S::Mask,
    output: *mut E,
    residual: (Option<*const E>, usize),
) {
    let mut v = sum;
    // SAFETY: the caller's.
    unsafe {
        if let (Some(residual), further) = residual {
            v = s.add(v, L::load(s, residual.wrapping_add(further), mask));
        }
        L::store(s, output, mask, clamp(s, v, s.splat(bounds[0]), s.splat(bounds[1])));
    }
}

/// Chooses the factor, not the product: of a choice between that and what memory holds, LLVM would make a masked store, which on AMD
/// is slow with AVX2 (experiment 057).
#[inline(always)]
fn leaky_relu<S: Simd>(s: S, x: S::V, slope: f32) -> S::V {
    s.mul(x, s.select_lt(x, s.splat(0.0), s.splat(slope), s.splat(1.0)))
}

#[inline(always)]
fn hard_sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let shifted = s.add(x, s.splat(3.0));
    s.mul(clamp(s, shifted, s.splat(0.0), s.splat(6.0)), s.splat(1.0 / 6.0))
}

#[inline(always)]
fn sigmoid<S: Simd>(s: S, x: S::V) -> S::V {
    let (r, g) = sigmoid_factors(s, x);
    s.mul(r, g)
}

/// Multiplies by the small factor last: accurate even where the sigmoid alone would be denormal.
#[inline(always)]
fn silu<S: Simd>(s: S, x: S::V) -> S::V {
    let (r, g) = sigmoid_factors(s, x);
    s.mul(s.mul(x, r), g)
}

/// Below minus this, x · sigmoid(x) rounds to −0.
const SIGMOID_END: f32 = 110.0;

/// (r, g) with r · g = sigmoid(x), neither of them denormal; g is a power of two, or 0 where the
/// sigmoid vanishes.
///
/// With e⁻ˣ = p · h² and g = 1/h, sigmoid(x) = 1 / (1 + p·h²) = g / (g + p·h), where nothing
/// overflows.
#[inline(always)]
fn sigmoid_factors<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    let zero = s.splat(0.0);
    let end = s.splat(-SIGMOID_END);
    let y = clamp(s, s.sub(zero, x), end, s.splat(SIGMOID_END));
    let (q, t) = exp_parts(s, y);
    let p = s.add(s.splat(1.0), q);
    let h = s.exp2_of_shifted(t);
    let g = s.exp2_of_shifted(s.sub(s.splat(2.0 * SHIFT), t));
    let r = s.div(s.splat(1.0), s.add(g, s.mul(p, h)));
    (r, s.select_lt(x, end, zero, g))
}

/// Below minus this, Φ rounds to 0.
const GELU_END: f32 = 14.5;

/// x · Φ(x), where Φ(−a) = e^(−a²/2) · P(a)/Q(a) for a ≥ 0 and Φ(a) = 1 − Φ(−a).
///
/// That is the exact form, as ½ (1 + erf(x/√2)) = Φ(x) (Abramowitz & Stegun 26.2.29). P/Q fits
/// e^(a²/2) · Φ(−a); all its coefficients are positive, so nothing cancels. In the far tail the
/// rounding of a² dominates.
#[inline(always)]
fn gelu<S: Simd>(s: S, x: S::V) -> S::V {
    const P: [f32; 5] = [0.5, 0.44225812, 0.18601759, 0.0415188, 0.0042297947];
    const Q: [f32; 6] = [1.0, 1.6824008, 1.2143958, 0.47675666, 0.10407713, 0.010602434];
    let zero = s.splat(0.0);
    let a = s.min(s.splat(GELU_END), s.max(s.sub(zero, x), x));
    let (q, t) = exp_parts(s, s.mul(a, s.mul(a, s.splat(-0.5))));
    let p = s.add(s.splat(1.0), q);
    let h = s.exp2_of_shifted(t);
    let ratio = s.div(s.mul(p, polynomial(s, a, P)), polynomial(s, a, Q));
    let tail = s.mul(s.mul(ratio, h), h);
    s.mul(x, s.select_lt(x, zero, tail, s.sub(s.splat(1.0), tail)))
}

/// Below minus this, mish(x) rounds to −0.
const MISH_END: f32 = 110.0;

/// From about 9 on, mish(x) rounds to x.
const MISH_LINEAR: f32 = 16.0;

/// x · n / (n + 2) with n = u (u + 2) and u = eˣ, as tanh(ln(1 + u)) = ((1 + u)² − 1) / ((1 + u)² + 1).
///
/// All terms are positive, so nothing cancels. With u = p · h², n is k · h², where k = p² · h² + 2p is not denormal even where
/// u is. The product by k / (n + 2) comes first, and those by h last, so that a denormal result is rounded once. From about 9
/// on, n swallows the 2, and k / n is exactly 1 / h². The bound on x gives −0 at −∞.
#[inline(always)]
fn mish<S: Simd>(s: S, x: S::V) -> S::V {
    let two = s.splat(2.0);
    let x = s.max(s.splat(-MISH_END), x);
    let (q, t) = exp_parts(s, s.min(s.splat(MISH_LINEAR), x));
    let p = s.add(s.splat(1.0), q);
    let h = s.exp2_of_shifted(t);
    let h2 = s.mul(h, h);
    let k = s.add(s.mul(h2, s.mul(p, p)), s.add(p, p));
    let r = s.div(k, s.add(s.mul(h2, k), two));
    s.mul(s.mul(s.mul(x, r), h), h)
}

/// Below this, tanh(x) rounds to x, nearly.
const TANH_LINEAR: f32 = 1.0 / 4096.0;

/// From about 9 on, tanh rounds to 1.
const TANH_END: f32 = 10.0;

/// ±E / (E + 2) with E = e²ᵃ − 1 and a = |x|.
///
/// Accurate at both ends: E comes without cancellation from [`exp_parts`], and swallows the 2 where
/// tanh rounds to 1. A rational function in x² takes half the time, but errs by 6 ulp near 1.
#[inline(always)]
fn tanh<S: Simd>(s: S, x: S::V) -> S::V {
    let zero = s.splat(0.0);
    let one = s.splat(1.0);
    let a = s.min(s.splat(TANH_END), s.max(s.sub(zero, x), x));
    let (q, t) = exp_parts(s, s.add(a, a));
    let h = s.exp2_of_shifted(t);
    let h2 = s.mul(h, h);
    let e = s.add(s.sub(h2, one), s.mul(h2, q));
    let y = s.div(e, s.add(e, s.splat(2.0)));
    let y = s.select_lt(x, zero, s.sub(zero, y), y);
    s.select_lt(a, s.splat(TANH_LINEAR), x, y)
}

/// 1.5 · 2²³: adding it to |x| < 2²² rounds x to a whole number, ties to even, in the sum's low bits.
const SHIFT: f32 = 12_582_912.0;

/// (q, [`SHIFT`] + m) with eˣ = (1 + q) · 4ᵐ and −½ ≤ q ≤ 1 (nearly), for |x| ≤ 110.
///
/// Powers of 4 rather than of 2: 4ᵐ = 2ᵐ · 2ᵐ reaches twice as far as one `f32` exponent does.
/// Reduced in two parts (Cody & Waite): the first product is exact, as its constant has 10 bits and
/// |m| < 128.
#[inline(always)]
fn exp_parts<S: Simd>(s: S, x: S::V) -> (S::V, S::V) {
    const INV_LN_4: f32 = 0.7213475;
    const LN_4_HIGH: f32 = 355.0 / 256.0;
    const LN_4_LOW: f32 = -4.2438888e-4;
    const C: [f32; 6] = [0.5000003, 0.16666658, 0.0416615, 0.008333795, 0.001410182, 0.00019907545];
    let t = s.add(s.mul(x, s.splat(INV_LN_4)), s.splat(SHIFT));
    let m = s.sub(t, s.splat(SHIFT));
    let r = s.sub(s.sub(x, s.mul(m, s.splat(LN_4_HIGH))), s.mul(m, s.splat(LN_4_LOW)));
    let tail = s.mul(s.mul(r, r), polynomial(s, r, C));
    (s.add(r, tail), t)
}

/// c₀ + c₁x + c₂x² + …, by Horner's rule.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(s: S, x: S::V, c: [f32; N]) -> S::V {
    let mut sum = s.splat(c[N - 1]);
    for i in (0..N - 1).rev() {
        sum = s.add(s.mul(sum, x), s.splat(c[i]));
    }
    sum
}
