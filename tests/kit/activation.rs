//! The oracle of the activations: what they compute bit for bit, what they mean, and how far apart
//! the two may be.
//!
//! Scalar and independent of the kernels: it shares no code and no constant with them.

use depthwise::Activation;

/// `a` at `x`, one IEEE operation at a time: the bits that every kernel must give (any NaN for any
/// NaN).
pub fn activate(a: Activation, x: f32) -> f32 {
    match a {
        Activation::None => x,
        Activation::Relu => clamp(x, 0.0, f32::INFINITY),
        Activation::Relu6 => clamp(x, 0.0, 6.0),
        Activation::Clamp { min, max } => clamp(x, min, max),
        Activation::LeakyRelu { slope } => {
            if x < 0.0 {
                slope * x
            } else {
                x
            }
        }
        Activation::HardSwish => x * hard_sigmoid(x),
        Activation::HardSigmoid => hard_sigmoid(x),
        Activation::Sigmoid => {
            let (r, g) = sigmoid_factors(x);
            r * g
        }
        Activation::Silu => {
            let (r, g) = sigmoid_factors(x);
            (x * r) * g
        }
        Activation::Gelu => x * normal_cdf(x),
        Activation::Mish => mish(x),
        Activation::Tanh => tanh(x),
        _ => unimplemented!("the oracle of {a:?}"),
    }
}

/// A NaN compares false, so it passes; so does −0 at a bound of +0.
fn clamp(x: f32, min: f32, max: f32) -> f32 {
    let y = if min > x { min } else { x };
    if max < y { max } else { y }
}

fn hard_sigmoid(x: f32) -> f32 {
    clamp(x + 3.0, 0.0, 6.0) * (1.0 / 6.0)
}

/// (r, g), whose product is 1 / (1 + e⁻ˣ): with e⁻ˣ = p · 4ᵐ, g = 2⁻ᵐ and r = 1 / (2⁻ᵐ + p · 2ᵐ).
fn sigmoid_factors(x: f32) -> (f32, f32) {
    let (q, m) = exp(clamp(0.0 - x, -110.0, 110.0));
    let p = 1.0 + q;
    let r = 1.0 / (power_of_two(-m) + p * power_of_two(m));
    (r, if x < -110.0 { 0.0 } else { power_of_two(-m) })
}

/// Φ(x), from Φ(−a) = e^(−a²/2) · P(a) / Q(a) with a = |x|.
fn normal_cdf(x: f32) -> f32 {
    let a = clamp(x.abs(), 0.0, 14.5);
    let (q, m) = exp(a * (a * -0.5));
    let p = 1.0 + q;
    let numerator = horner(a, &[0.0042297947, 0.0415188, 0.18601759, 0.44225812, 0.5]);
    let denominator = horner(a, &[0.010602434, 0.10407713, 0.47675666, 1.2143958, 1.6824008, 1.0]);
    let tail = p * numerator / denominator * power_of_two(m) * power_of_two(m);
    if x < 0.0 { tail } else { 1.0 - tail }
}

/// x · n / (n + 2) with n = u (u + 2) and u = eˣ = p · 4ᵐ. n / 4ᵐ is 4ᵐ · p² + 2p.
fn mish(x: f32) -> f32 {
    let x = clamp(x, -110.0, f32::INFINITY);
    let (q, m) = exp(clamp(x, -110.0, 16.0));
    let p = 1.0 + q;
    let scale = power_of_two(m) * power_of_two(m); // 2²ᵐ may be denormal, or 0
    let reduced = scale * (p * p) + 2.0 * p;
    let ratio = reduced / (scale * reduced + 2.0);
    x * ratio * power_of_two(m) * power_of_two(m)
}

/// x near 0, else ±e / (e + 2) with e = e^2a − 1 and a = |x|.
fn tanh(x: f32) -> f32 {
    let a = clamp(x.abs(), 0.0, 10.0);
    if a < 1.0 / 4096.0 {
        return x;
    }
    let (q, m) = exp(a + a);
    let scale = power_of_two(2 * m);
    let e = (scale - 1.0) + scale * q;
    (e / (e + 2.0)).copysign(x)
}

/// (q, m) with eˣ = (1 + q) · 4ᵐ: r = x − m · ln 4, then q = r + r² · C(r).
fn exp(x: f32) -> (f32, i32) {
    let m = (x * 0.7213475).round_ties_even();
    let r = (x - m * (355.0 / 256.0)) - m * -4.2438888e-4;
    let c = horner(r, &[0.00019907545, 0.001410182, 0.008333795, 0.0416615, 0.16666658, 0.5000003]);
    (r + r * r * c, m as i32)
}

/// 2ᵐ for −126 ≤ m ≤ 127.
fn power_of_two(m: i32) -> f32 {
    f32::from_bits(((127 + m) as u32) << 23)
}

/// The polynomial with these coefficients, the highest power's first.
fn horner(x: f32, coefficients: &[f32]) -> f32 {
    coefficients[1..].iter().fold(coefficients[0], |sum, &c| sum * x + c)
}

/// `a` at `x`, as mathematics has it, to about 1e-15; NaN where the documentation says NaN.
pub fn activate_f64(a: Activation, x: f64) -> f64 {
    let hard_sigmoid = |x: f64| (x + 3.0).clamp(0.0, 6.0) / 6.0;
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    match a {
        Activation::None => x,
        Activation::Relu => x.clamp(0.0, f64::INFINITY),
        Activation::Relu6 => x.clamp(0.0, 6.0),
        Activation::Clamp { min, max } => x.clamp(f64::from(min), f64::from(max)),
        Activation::LeakyRelu { slope } => {
            if x < 0.0 {
                f64::from(slope) * x
            } else {
                x
            }
        }
        Activation::HardSwish => x * hard_sigmoid(x),
        Activation::HardSigmoid => hard_sigmoid(x),
        Activation::Sigmoid => sigmoid(x),
        Activation::Silu => x * sigmoid(x),
        Activation::Gelu => x * (0.5 * erfc(-x * std::f64::consts::FRAC_1_SQRT_2)),
        // e^−1000 is 0, and so is the product.
        Activation::Mish => {
            let x = x.clamp(-1000.0, f64::INFINITY);
            x * x.exp().ln_1p().tanh()
        }
        Activation::Tanh => x.tanh(),
        _ => unimplemented!("the oracle of {a:?}"),
    }
}

/// 1 − erf(x), without cancellation in the far tail.
pub fn erfc(x: f64) -> f64 {
    let a = x.abs();
    let scale = (-a * a).exp() / std::f64::consts::PI.sqrt();
    let tail = if a < 2.0 {
        // Abramowitz & Stegun 7.1.6: erf(a) = 2/√π · e^(−a²) · Σ 2ⁿ a^(2n+1) / (1 · 3 · … · (2n+1))
        let (mut term, mut sum) = (a, a);
        for n in 1..60 {
            term *= 2.0 * a * a / f64::from(2 * n + 1);
            sum += term;
        }
        1.0 - 2.0 * scale * sum
    } else if a < 28.0 {
        // Abramowitz & Stegun 7.1.14: √π · e^(a²) · erfc(a) = 1/(a + ½/(a + 1/(a + 3/2/(a + 2/(a + …)))))
        let fraction = (1..150).rev().fold(a, |below, n| a + 0.5 * f64::from(n) / below);
        scale / fraction
    } else if a >= 28.0 {
        0.0 // beneath the least f64
    } else {
        f64::NAN
    };
    if x < 0.0 { 2.0 - tail } else { tail }
}

/// A bound on `|activate(a, y) − activate_f64(a, x)|` for every `f32` y with `|y − x| <= x_abs_err`,
/// for finite x, where nothing overflows.
///
/// The curve's Lipschitz constant times the error of the argument, then the error of [`activate`]
/// itself: a few ulp of the result or of the largest intermediate value, and a few denormal steps.
pub fn tolerance(a: Activation, x_abs_err: f64, x: f64) -> f64 {
    const ULP: f64 = f32::EPSILON as f64;
    const DENORMAL: f64 = 1.401298464324817e-45; // 2⁻¹⁴⁹
    // (Lipschitz constant, own error relative to the result, own error relative to max(1, |x|))
    let (slope, of_result, of_argument) = match a {
        Activation::None | Activation::Relu | Activation::Relu6 | Activation::Clamp { .. } => (1.0, 0.0, 0.0),
        Activation::LeakyRelu { slope } => (f64::from(slope.abs()).max(1.0), 1.0, 0.0),
        Activation::HardSigmoid => (1.0 / 6.0, 2.0, 0.5), // x + 3 rounds to half an ulp of 4 at most
        Activation::HardSwish => (1.5, 2.0, 0.5),
        Activation::Sigmoid => (0.25, 4.0, 0.0),
        Activation::Silu => (1.1, 4.0, 0.0),  // at x = 2.4
        Activation::Gelu => (1.13, 0.0, 2.5), // at x = √2
        Activation::Mish => (1.09, 5.0, 0.0), // at x = 1.5
        Activation::Tanh => (1.0, 4.0, 0.0),
        _ => unimplemented!("the tolerance of {a:?}"),
    };
    let argument = slope * x_abs_err;
    let result = activate_f64(a, x).abs() + argument;
    let magnitude = x.abs().max(1.0) + x_abs_err;
    argument + ULP * (of_result * result + of_argument * magnitude) + 4.0 * DENORMAL
}
