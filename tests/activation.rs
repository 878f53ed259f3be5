//! Every activation through a plan that passes its input on: bits, accuracy, and special values.

use depthwise::{
    Activation, DepthwiseConv2d, Isa, Layout, Padding, PointwiseConv2d, Run, Shape, TensorView, TensorViewMut,
    Workspace,
};
use depthwise_testkit::activation::{activate, activate_f64, tolerance};
use depthwise_testkit::cases::ACTIVATIONS;
use depthwise_testkit::emulation::step;
use depthwise_testkit::memory::same;

const CHANNELS: usize = 64;

/// `activation` of every input, computed by a 1×1 convolution with weight 1 and bias −0, since x · 1 + (−0) is x for
/// zeros too. Vectors run along pixels in one layout and along channels in the other.
fn apply(isa: Isa, layout: Layout, activation: Activation, input: &[f32]) -> Vec<f32> {
    let mut output = vec![0.0; input.len()];
    let mut workspace = Workspace::new();
    match layout {
        Layout::Nchw => {
            let plan = PointwiseConv2d::builder(1, 1).weights(&[1.0]).bias(&[-0.0]).activation(activation);
            let plan = plan.layout(layout).isa(isa).build().expect("an identity");
            let shape = Shape::new(1, 1, 1, input.len());
            let output = TensorViewMut::new(&mut output, shape, layout).expect("the output");
            let input = TensorView::new(input, shape, layout).expect("the input");
            plan.run(Run::new(input, output, &mut workspace)).expect("a run");
        }
        Layout::Nhwc => {
            let plan = DepthwiseConv2d::builder(CHANNELS).kernel_size([1, 1]).padding(Padding::valid());
            let plan = plan.weights(&[1.0; CHANNELS]).bias(&[-0.0; CHANNELS]).activation(activation);
            let plan = plan.layout(layout).isa(isa).build().expect("an identity");
            let shape = Shape::new(1, CHANNELS, 1, input.len() / CHANNELS);
            let output = TensorViewMut::new(&mut output, shape, layout).expect("the output");
            let input = TensorView::new(input, shape, layout).expect("the input");
            plan.run(Run::new(input, output, &mut workspace)).expect("a run");
        }
    }
    output
}

/// A million bit patterns over all of `f32`, and all those around where an activation bends or saturates.
fn sweep() -> Vec<f32> {
    let mut inputs: Vec<f32> = (0..=u32::MAX).step_by(step(4099)).map(f32::from_bits).collect();
    for bend in
        [0.0f32, f32::MIN_POSITIVE, 0.25, 0.5, 1.0, 3.0, 6.0, 8.8, 9.01, 14.5, 16.0, 88.0, 104.0, 110.0, f32::MAX]
    {
        let bits = bend.to_bits();
        for near in bits.saturating_sub(1000)..bits + 1000 {
            inputs.extend([f32::from_bits(near), -f32::from_bits(near)]);
        }
    }
    inputs.resize(inputs.len().next_multiple_of(CHANNELS), f32::NAN);
    inputs
}

#[test]
fn every_instruction_set_gives_the_oracles_bits() {
    let inputs = sweep();
    println!("{} inputs on {:?}", inputs.len(), depthwise_testkit::isas());
    for activation in ACTIVATIONS {
        let want: Vec<f32> = inputs.iter().map(|&x| activate(activation, x)).collect();
        for isa in depthwise_testkit::isas() {
            for layout in [Layout::Nchw, Layout::Nhwc] {
                let got = apply(isa, layout, activation, &inputs);
                for ((x, want), got) in inputs.iter().zip(&want).zip(got) {
                    assert!(
                        same(*want, got),
                        "{activation:?}({x:e}) on {isa}, {layout}: want {want:e} ({:#010x}), got {got:e} ({:#010x})",
                        want.to_bits(),
                        got.to_bits(),
                    );
                    assert!(!x.is_nan() || got.is_nan(), "{activation:?} swallows NaN on {isa}, {layout}: {got}");
                }
            }
        }
    }
}

/// Of the oracle, whose bits every instruction set gives.
#[test]
fn accuracy() {
    for activation in ACTIVATIONS {
        for x in sweep().into_iter().filter(|x| x.is_finite()) {
            let exact = activate_f64(activation, f64::from(x));
            let got = f64::from(activate(activation, x));
            let bound = tolerance(activation, 0.0, f64::from(x));
            // Nothing rounds to more than the greatest number but infinity.
            let overflows = exact.abs() > f64::from(f32::MAX);
            assert!(
                overflows || (got - exact).abs() <= bound,
                "{activation:?}({x:e}): {got:e} is off {exact:e} by more than {bound:e}"
            );
        }
    }
}

/// What the documentation promises at the ends and at the zeros.
#[test]
fn special_values() {
    const INF: f32 = f32::INFINITY;
    let clamp = Activation::Clamp { min: -0.5, max: 0.25 };
    let leaky = Activation::LeakyRelu { slope: 0.1 };
    let promised = [
        (Activation::None, [-INF, -0.0, 0.0, INF]),
        (Activation::Relu, [0.0, -0.0, 0.0, INF]),
        (Activation::Relu6, [0.0, -0.0, 0.0, 6.0]),
        (clamp, [-0.5, -0.0, 0.0, 0.25]),
        (leaky, [-INF, -0.0, 0.0, INF]),
        (Activation::HardSwish, [f32::NAN, -0.0, 0.0, INF]),
        (Activation::HardSigmoid, [0.0, 0.5, 0.5, 1.0]),
        (Activation::Sigmoid, [0.0, 0.5, 0.5, 1.0]),
        (Activation::Silu, [f32::NAN, -0.0, 0.0, INF]),
        (Activation::Gelu, [f32::NAN, -0.0, 0.0, INF]),
        (Activation::Mish, [-0.0, -0.0, 0.0, INF]),
        (Activation::Tanh, [-1.0, -0.0, 0.0, 1.0]),
    ];
    let mut inputs = vec![f32::NAN; CHANNELS];
    inputs[..4].copy_from_slice(&[-INF, -0.0, 0.0, INF]);
    for (activation, want) in promised {
        for isa in depthwise_testkit::isas() {
            for layout in [Layout::Nchw, Layout::Nhwc] {
                let got = apply(isa, layout, activation, &inputs);
                for ((x, want), got) in inputs.iter().zip(want).zip(&got) {
                    assert!(same(want, *got), "{activation:?}({x}) on {isa}, {layout}: want {want}, got {got}");
                }
                assert!(got[4..].iter().all(|y| y.is_nan()), "{activation:?} swallows NaN on {isa}, {layout}");
            }
        }
    }
}

/// What an engine applies itself has the bits of what a convolution applies.
#[test]
fn applied_alone() {
    let inputs = sweep();
    for activation in ACTIVATIONS {
        // Vectors, and a tail.
        for len in [inputs.len(), inputs.len() - 3, 5, 0] {
            let mut data = inputs[..len].to_vec();
            activation.apply(&mut data);
            for (&x, &y) in inputs.iter().zip(&data) {
                assert!(same(activate(activation, x), y), "{activation:?}({x:e}): {y:e}");
            }
        }
    }
}
