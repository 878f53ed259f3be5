//! What a builder is given: channels, weights, bias, batch norm, activation, groups.

use depthwise::{Activation, AnyConv2d, BatchNorm, Conv2d, DepthwiseConv2d, PointwiseConv2d, SeparableConv2d, Shape};

use super::{LAYOUTS, Report, depthwise, run};

#[test]
fn zeros() {
    let mut report = Report::default();
    let weights = [0.5; 36];
    let base = || DepthwiseConv2d::builder(4).weights(&weights);
    report.error("no channels", &["0"], || DepthwiseConv2d::builder(0).weights(&[]).build());
    report.error("kernel of no rows", &["kernel", "0"], || base().kernel_size([0, 3]).build());
    report.error("kernel of no columns", &["kernel", "0"], || base().kernel_size([3, 0]).build());
    report.error("stride 0 down", &["stride", "0"], || base().stride([0, 1]).build());
    report.error("stride 0 across", &["stride", "0"], || base().stride([1, 0]).build());
    report.error("dilation 0 down", &["dilation", "0"], || base().dilation([0, 1]).build());
    report.error("dilation 0 across", &["dilation", "0"], || base().dilation([1, 0]).build());
    report.error("multiplier 0", &["multiplier", "0"], || base().channel_multiplier(0).build());
    report.error("pointwise from nothing", &["0"], || PointwiseConv2d::builder(0, 4).weights(&[]).build());
    report.error("pointwise to nothing", &["0"], || PointwiseConv2d::builder(4, 0).weights(&[]).build());
    report.error("conv2d from nothing", &["0"], || Conv2d::builder(0, 4).weights(&[]).build());
    report.error("conv2d to nothing", &["0"], || Conv2d::builder(4, 0).weights(&[]).build());
    let separable = |inputs, outputs| {
        let builder = SeparableConv2d::builder(inputs, outputs).depthwise_weights(&weights).pointwise_weights(&weights);
        builder.build()
    };
    report.error("separable from nothing", &["0"], || separable(0, 9));
    report.error("separable to nothing", &["0"], || separable(4, 0));
    for layout in LAYOUTS {
        let plan = depthwise(layout);
        report.error("input of no rows", &["height", "0"], || plan.output_shape(Shape::new(1, 4, 0, 5)));
        report.error("input of no columns", &["width", "0"], || plan.output_shape(Shape::new(1, 4, 5, 0)));
        report.error("input of no channels", &["0", "4"], || plan.output_shape(Shape::new(1, 0, 5, 5)));
        let (shape, output) = (Shape::new(1, 4, 0, 5), Shape::new(1, 4, 0, 5));
        report.error("a run without rows", &["height", "0"], || run(&plan, shape, output));
    }
    report.finish();
}

#[test]
fn parameters() {
    let mut report = Report::default();
    let few = [0.5; 200];
    // XNNPACK#11118: read past the filter.
    report.error("too few weights", &["35", "36"], || DepthwiseConv2d::builder(4).weights(&few[..35]).build());
    report.error("too many weights", &["37", "36"], || DepthwiseConv2d::builder(4).weights(&few[..37]).build());
    report.error("multiplied", &["36", "72"], || {
        DepthwiseConv2d::builder(4).channel_multiplier(2).weights(&few[..36]).build()
    });
    // LiteRT: three filters for two channels.
    report.error("three filters for two channels", &["3", "2"], || {
        DepthwiseConv2d::builder(2).kernel_size([1, 1]).weights(&few[..3]).build()
    });
    report.error("pointwise weights", &["14", "15"], || PointwiseConv2d::builder(3, 5).weights(&few[..14]).build());
    report.error("conv2d weights", &["134", "135"], || Conv2d::builder(3, 5).weights(&few[..134]).build());
    let separable = |depthwise: usize, pointwise: usize| {
        let builder = SeparableConv2d::builder(3, 5).depthwise_weights(&few[..depthwise]);
        builder.pointwise_weights(&few[..pointwise])
    };
    report.error("depthwise weights", &["26", "27"], || separable(26, 15).build());
    report.error("pointwise weights of the pair", &["16", "15"], || separable(27, 16).build());
    report.error("weights for another multiplier", &["15", "30"], || separable(54, 15).channel_multiplier(2).build());
    report.fine("the pair as it should be", || separable(27, 15).build());
    report.error("no weights, depthwise", &["weights"], || DepthwiseConv2d::builder(4).build());
    report.error("no weights, pointwise", &["weights"], || PointwiseConv2d::builder(4, 4).build());
    report.error("no weights, conv2d", &["weights"], || Conv2d::builder(4, 4).build());
    report.error("no weights, separable", &["weights"], || SeparableConv2d::builder(4, 4).build());
    report.error("no pointwise weights", &["pointwise"], || {
        SeparableConv2d::builder(4, 4).depthwise_weights(&few[..36]).build()
    });
    report.error("bias", &["3", "4"], || DepthwiseConv2d::builder(4).weights(&few[..36]).bias(&few[..3]).build());
    report.error("an empty bias", &["0", "4"], || DepthwiseConv2d::builder(4).weights(&few[..36]).bias(&[]).build());
    report.error("depthwise bias", &["4", "3"], || separable(27, 15).depthwise_bias(&few[..4]).build());
    report.error("pointwise bias", &["3", "5"], || separable(27, 15).bias(&few[..3]).build());
    let right = [1.0; 4];
    for wrong in 0..4 {
        let of = |i: usize| if i == wrong { &few[..7] } else { &right[..] };
        let norm = BatchNorm { gamma: of(0), beta: of(1), mean: of(2), variance: of(3), epsilon: 1e-5 };
        let name = ["gamma", "beta", "mean", "variance"][wrong];
        report.error(name, &[name, "7", "4"], || {
            DepthwiseConv2d::builder(4).weights(&few[..36]).batch_norm(norm).build()
        });
    }
    let infinity = f32::INFINITY;
    for (min, max) in [
        (1.0, -1.0),
        (f32::NAN, 1.0),
        (-1.0, f32::NAN),
        (f32::NAN, f32::NAN),
        (infinity, infinity),
        (-infinity, -infinity),
        (infinity, -infinity),
    ] {
        let clamp = Activation::Clamp { min, max };
        let says = [&format!("{min}")[..], &format!("{max}")];
        report.error(&format!("depthwise {clamp:?}"), &says, || {
            DepthwiseConv2d::builder(4).weights(&few[..36]).activation(clamp).build()
        });
        report.error(&format!("pointwise {clamp:?}"), &says, || {
            PointwiseConv2d::builder(3, 5).weights(&few[..15]).activation(clamp).build()
        });
        report.error(&format!("separable, depthwise {clamp:?}"), &says, || {
            separable(27, 15).depthwise_activation(clamp).build()
        });
        report.error(&format!("separable {clamp:?}"), &says, || separable(27, 15).activation(clamp).build());
    }
    for (min, max) in [(-infinity, infinity), (0.5, 0.5), (-0.0, 0.0), (2.0, infinity), (-infinity, -2.0)] {
        let clamp = Activation::Clamp { min, max };
        report.fine(&format!("{clamp:?}"), || {
            PointwiseConv2d::builder(3, 5).weights(&few[..15]).activation(clamp).build()
        });
    }
    for slope in [f32::NAN, infinity, -infinity] {
        let leaky = Activation::LeakyRelu { slope };
        let says = ["slope", &format!("{slope}")[..]];
        report.error(&format!("{leaky:?}"), &says, || {
            PointwiseConv2d::builder(3, 5).weights(&few[..15]).activation(leaky).build()
        });
        report.error(&format!("separable, depthwise {leaky:?}"), &says, || {
            separable(27, 15).depthwise_activation(leaky).build()
        });
    }
    report.finish();
}

/// A batch norm that has no scale, or that folds finite numbers to what is none.
#[test]
fn batch_norms() {
    let mut report = Report::default();
    let [gamma, beta, mean, variance] = [[0.5; 4], [0.25; 4], [-1.0; 4], [2.0; 4]];
    let plain = BatchNorm { gamma: &gamma, beta: &beta, mean: &mean, variance: &variance, epsilon: 1e-3 };
    let with = |array: [f32; 4], x: f32| [array[0], array[1], x, array[3]];
    let weights = [0.5; 36];
    let build = |norm: BatchNorm<'_>| DepthwiseConv2d::builder(4).weights(&weights).batch_norm(norm).build();
    report.fine("plain", || build(plain));
    for epsilon in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e-3, -f32::from_bits(1)] {
        let says = ["epsilon", &format!("{epsilon}")[..]];
        report.error(&format!("epsilon {epsilon}"), &says, || build(BatchNorm { epsilon, ..plain }));
    }
    report.fine("no epsilon", || build(BatchNorm { epsilon: 0.0, ..plain }));
    report.fine("an epsilon of -0", || build(BatchNorm { epsilon: -0.0, ..plain }));
    for (x, epsilon) in [(f32::NAN, 1e-3), (f32::INFINITY, 1e-3), (-1.0, 1e-3), (-1e-3, 1e-3), (0.0, 0.0), (-0.0, 0.0)]
    {
        let variance = with(variance, x);
        let norm = BatchNorm { variance: &variance, epsilon, ..plain };
        let says = ["variance", "channel 2", &format!("{x}")[..], &format!("{epsilon}")];
        report.error(&format!("variance {x}"), &says, || build(norm));
        let (pointwise, square) = ([0.5; 16], [0.5; 144]);
        report.error(&format!("pointwise, variance {x}"), &says, || {
            PointwiseConv2d::builder(4, 4).weights(&pointwise).batch_norm(norm).build()
        });
        report.error(&format!("conv2d, variance {x}"), &says, || {
            Conv2d::builder(4, 4).weights(&square).batch_norm(norm).build()
        });
        let separable = || SeparableConv2d::builder(4, 4).depthwise_weights(&weights).pointwise_weights(&pointwise);
        report.error(&format!("separable, variance {x}"), &says, || separable().batch_norm(norm).build());
        report.error(&format!("separable, depthwise variance {x}"), &says, || {
            separable().depthwise_batch_norm(norm).batch_norm(plain).build()
        });
    }
    report.fine("a variance below 0 by less than epsilon", || {
        let variance = with(variance, -1e-9);
        build(BatchNorm { variance: &variance, ..plain })
    });

    // What finite numbers fold to. A frozen model's dead channel has a variance of 0 and a small epsilon.
    let [large, tiny] = [with(gamma, 1e30), with(variance, 1e-30)];
    let norm = BatchNorm { gamma: &large, variance: &tiny, epsilon: 0.0, ..plain };
    report.error("weights beyond f32", &["the depthwise weights", "channel 2", "5.000e44"], || build(norm));
    let none = [0.0; 36];
    let dead = |norm: BatchNorm<'_>| DepthwiseConv2d::builder(4).weights(&none).batch_norm(norm).build();
    report.error("a bias beyond f32", &["the depthwise bias", "channel 2", "1.000e45"], || dead(norm));
    let shift = with(beta, f32::MAX);
    report.error("a shift beyond f32", &["the depthwise bias", "channel 2"], || {
        let mean = with(mean, -f32::MAX);
        dead(BatchNorm { beta: &shift, mean: &mean, ..plain })
    });
    report.fine("a shift up to f32's end", || dead(BatchNorm { beta: &shift, mean: &[0.0; 4], ..plain }));
    // What is given as NaN or infinite stays so.
    for x in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let [gamma, beta, mean, bias] = [gamma, beta, mean, [0.5; 4]].map(|array| with(array, x));
        report.fine(&format!("gamma {x}"), || build(BatchNorm { gamma: &gamma, ..plain }));
        report.fine(&format!("beta {x}"), || build(BatchNorm { beta: &beta, ..plain }));
        report.fine(&format!("mean {x}"), || build(BatchNorm { mean: &mean, ..plain }));
        let build = |norm: Option<BatchNorm<'_>>| {
            let mut weights = weights;
            weights[18] = x;
            let builder = DepthwiseConv2d::builder(4).weights(&weights).bias(&bias);
            norm.into_iter().fold(builder, |builder, norm| builder.batch_norm(norm)).build()
        };
        report.fine(&format!("weight and bias {x}"), || build(None));
        report.fine(&format!("weight and bias {x}, normalised"), || build(Some(plain)));
    }
    report.finish();
}

/// Groups that no plan has, and weights for other groups.
#[test]
fn groups() {
    let mut report = Report::default();
    for layout in LAYOUTS {
        let any = |inputs, outputs, groups, weights: usize| {
            AnyConv2d::builder(inputs, outputs, groups).layout(layout).weights(&vec![0.5; weights]).build()
        };
        report.fine("one group", || any(8, 6, 1, 432));
        report.fine("a group for each input", || any(8, 16, 8, 144));
        report.error("some groups", &["groups 4", "8 inputs", "16 outputs"], || any(8, 16, 4, 288));
        report.error("groups that do not divide", &["8 input", "12 output", "8 groups"], || any(8, 12, 8, 108));
        report.error("more groups than inputs", &["4 input", "8 output", "8 groups"], || any(4, 8, 8, 72));
        report.error("no group", &["groups", "0"], || any(4, 8, 0, 72));
        report.error("too few weights", &["143", "144", "16 output channels of 1 x 3 x 3"], || any(8, 16, 8, 143));
        report.error("too many weights", &["433", "432", "6 output channels of 8 x 3 x 3"], || any(8, 6, 1, 433));
    }
    report.finish();
}
