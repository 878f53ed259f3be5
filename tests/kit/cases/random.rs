//! Cases drawn at random.

use depthwise::{Activation, Padding, Shape};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{ACTIVATIONS, Case, Epilogue, Values};

/// The case of a seed, drawn as TFLite's and XNNPACK's own fuzz-like tests draw theirs.
pub fn random(seed: u64) -> Case {
    let mut rng = StdRng::seed_from_u64(seed);
    // A drawn case may have no output, or more work than a test should take.
    let mut case = loop {
        let case = match rng.random_range(0..3) {
            0 => tflite_float(&mut rng),
            1 => xnnpack_fuzz(&mut rng),
            _ => tflite_delegate(&mut rng),
        };
        let fits = |axis: usize, input: usize| {
            let padding = match case.padding {
                Padding::Explicit { top, left, bottom, right } => [top + bottom, left + right][axis],
                Padding::Valid => 0,
                _ => return true,
            };
            (case.kernel[axis] - 1) * case.dilation[axis] < input + padding
        };
        if !fits(0, case.input.h) || !fits(1, case.input.w) {
            continue;
        }
        let output = case.window().output(case.input, case.input.c * case.multiplier);
        let taps = case.kernel[0] * case.kernel[1];
        if output.c <= 1024 && output.n * output.h * output.w * output.c * taps <= 1 << 20 {
            break case;
        }
    };
    // What those tests do not draw.
    let mut epilogue =
        |activation| Epilogue { bias: rng.random_bool(0.5), batch_norm: rng.random_bool(0.25), activation };
    case.depthwise = epilogue(case.depthwise.activation);
    case.pointwise = epilogue(case.pointwise.activation);
    case.pointwise.activation = ACTIVATIONS[rng.random_range(0..ACTIVATIONS.len())];
    case.residual = rng.random_bool(0.25);
    case.outputs = rng.random_range(1..=40);
    if rng.random_bool(0.25) {
        case.values = Values::Special;
    }
    Case { name: format!("DEPTHWISE_SEED={seed}"), seed, ..case }
}

/// LiteRT `depthwiseconv_float_test.cc`.
fn tflite_float(rng: &mut StdRng) -> Case {
    // A positive integer, exponentially distributed: `percentile` of them below `value`.
    let mut exponential = |percentile: f64, value: f64, max: f64| loop {
        let uniform: f64 = rng.random_range(0.0..1.0);
        let drawn = (-(1.0 - uniform).ln() * value / -(1.0 - percentile).ln()).round();
        if (1.0..=max).contains(&drawn) {
            break drawn as usize;
        }
    };
    let [c, h, w] = [(6.0, 50.0), (20.0, 200.0), (20.0, 200.0)].map(|(value, max)| exponential(0.9, value, max));
    let kernel = [(); 2].map(|()| exponential(0.9, 4.0, 10.0));
    let multiplier = exponential(0.8, 6.0, 50.0);
    let stride = [exponential(0.9, 3.0, 8.0); 2];
    let activations =
        [Activation::None, Activation::Relu, Activation::Clamp { min: -1.0, max: 1.0 }, Activation::Relu6];
    let mut case = Case {
        input: Shape::new(rng.random_range(1..=2), c, h, w),
        kernel,
        stride,
        dilation: [(); 2].map(|()| 1 << rng.random_range(0..3)),
        padding: if rng.random_bool(0.5) { Padding::same_upper() } else { Padding::valid() },
        multiplier,
        ..Case::default()
    };
    case.depthwise.activation = activations[rng.random_range(0..activations.len())];
    case
}

/// XNNPACK `test/subgraph/depthwise-convolution-2d.cc`.
fn xnnpack_fuzz(rng: &mut StdRng) -> Case {
    let kernel = [(); 2].map(|()| rng.random_range(1..=7));
    let explicit = |rng: &mut StdRng| {
        let [top, left, bottom, right] = [(); 4].map(|()| rng.random_range(0..=4));
        Padding::explicit(top, left, bottom, right)
    };
    Case {
        input: Shape::new(
            rng.random_range(1..=3),
            rng.random_range(10..=15),
            rng.random_range(1..=20),
            rng.random_range(1..=20),
        ),
        kernel,
        stride: kernel.map(|k| rng.random_range(1..=k + 1)),
        dilation: [(); 2].map(|()| rng.random_range(1..=2)),
        padding: if rng.random_bool(0.5) { Padding::same_upper() } else { explicit(rng) },
        multiplier: rng.random_range(1..=7),
        ..Case::default()
    }
}

/// LiteRT `delegates/xnnpack/depthwise_conv_2d_test.cc`.
fn tflite_delegate(rng: &mut StdRng) -> Case {
    let [h, w] = [(); 2].map(|()| rng.random_range(5..=25));
    let (kernel, stride) = [(1, 1), (2, 1), (3, 1), (3, 2), (5, 1), (5, 2)][rng.random_range(0..6)];
    Case {
        input: Shape::new(1, rng.random_range(3..=32), h, w),
        kernel: [kernel; 2],
        stride: [stride; 2],
        dilation: [rng.random_range(1..=2); 2],
        padding: if rng.random_bool(0.5) { Padding::same_lower() } else { Padding::valid() },
        ..Case::default()
    }
}
