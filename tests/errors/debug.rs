//! Debug output.

use depthwise::{BatchNorm, Conv2d, DepthwiseConv2d, Layout, PointwiseConv2d, SeparableConv2d, Shape, TensorView};

/// What debug output shows of builders, plans and views: shapes and names, not each weight, which for a layer fill a screen.
#[test]
fn debug_output() {
    let (depthwise, pointwise, values) = ([0.5; 900], [0.25; 10_000], [0.125; 100]);
    let norm = BatchNorm { gamma: &values, beta: &values, mean: &values, variance: &values, epsilon: 1e-3 };
    let mut texts = vec![];
    macro_rules! texts {
        ($builder:expr) => {
            let builder = $builder.bias(&values).batch_norm(norm);
            let plan = builder.build().expect("a plan");
            texts.extend([(format!("{builder:?}"), vec!["[f32; 100]"]), (format!("{plan:?}"), vec![])]);
            let plan = format!("{plan:?}");
            assert!(plan.contains("packed_for: "), "{plan} does not say for which kernels");
        };
    }
    texts!(DepthwiseConv2d::builder(100).weights(&depthwise).stride([2, 1]));
    texts!(PointwiseConv2d::builder(100, 100).weights(&pointwise));
    texts!(Conv2d::builder(100, 100).kernel_size([1, 1]).weights(&pointwise));
    texts!(SeparableConv2d::builder(100, 100).depthwise_weights(&depthwise).pointwise_weights(&pointwise));
    texts[1].1.extend(["DepthwiseConv2d {", "kernel_size: [3, 3]", "stride: [2, 1]", "padding: Explicit"]);
    texts[2].1.extend(["[f32; 10000]", "PointwiseConv2dBuilder"]);
    texts[7].1.extend(["SeparableConv2d {", "multiplier: 1", "isa: ", "layout: Nchw", "fusion: Auto"]);
    let view = TensorView::new(&depthwise, Shape::new(1, 100, 3, 3), Layout::Nchw).expect("a view");
    texts.push((format!("{view:?}"), vec!["TensorView {", "c: 100", "h: 3", "n: 900"]));
    for (text, parts) in texts {
        assert!(text.len() < 1000, "{} characters: {text}", text.len());
        assert!(!text.contains("0.5,") && !text.contains("0.25") && !text.contains("Phantom"), "{text}");
        for part in parts.into_iter().chain(["100"]) {
            assert!(text.contains(part), "{text} does not mention {part}");
        }
    }
}
