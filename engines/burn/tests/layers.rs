//! Single layers, against burn's own results, and what is an error.

mod networks;

use burn_core::module::Param;
use burn_nn::conv::{Conv2d as BurnConv2d, Conv2dConfig};
use burn_nn::{BatchNormConfig, PaddingConfig2d};
use burn_tensor::{DType, Device, Tensor, activation as burn};
use depthwise_burn::{Activation, Conv2d, Error, Layer, Layout, SeparableConv2d};

use networks::{assert_close, conv, norm, random, values};

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];
const TOLERANCE: f64 = 1e-6;

fn message<T>(result: Result<T, Error>) -> String {
    result.err().expect("it fails").to_string()
}

#[test]
fn windows_of_many_kinds() -> Result<(), Error> {
    // Inputs, outputs, groups: depthwise, with a multiplier, standard, of one channel.
    let channels = [(19, 19, 19), (6, 18, 6), (5, 7, 1), (1, 4, 1), (1, 1, 1)];
    let kernels = [[1, 1], [3, 3], [5, 5], [2, 2], [1, 3], [7, 2]];
    let windows = [
        (PaddingConfig2d::Valid, [1, 1], [1, 1]),
        (PaddingConfig2d::Explicit(1, 1, 1, 1), [1, 1], [1, 1]),
        (PaddingConfig2d::Explicit(0, 2, 3, 1), [2, 1], [1, 1]),
        (PaddingConfig2d::Same, [1, 1], [1, 1]),
        (PaddingConfig2d::Same, [2, 3], [1, 1]),
        (PaddingConfig2d::Explicit(3, 2, 3, 2), [1, 2], [3, 2]),
        (PaddingConfig2d::Valid, [5, 1], [1, 3]),
    ];
    let mut cases = 0;
    for (inputs, outputs, groups) in channels {
        for kernel in kernels {
            for (padding, stride, dilation) in &windows {
                let mut conv = conv([inputs, outputs], kernel, *stride, groups, true);
                (conv.padding, conv.dilation) = (padding.clone(), *dilation);
                let x = random([2, inputs, 23, 21]);
                let theirs = conv.forward(x.clone());
                for layout in LAYOUTS {
                    let ours = Conv2d::new(Layer::new(&conv), layout)?;
                    let what = format!("{inputs} to {outputs}, {kernel:?}, {conv:?}, {layout:?}");
                    assert_close(ours.forward(x.clone()), theirs.clone(), TOLERANCE, &what);
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 5 * 6 * 7 * 2);
    Ok(())
}

/// Inputs that are parts of other tensors, have other axes in front, or are mirrored.
#[test]
fn strided_inputs() -> Result<(), Error> {
    let (wide, last) = (random([2, 9, 12, 30]), random([2, 12, 13, 9]).permute([0, 3, 1, 2]));
    let inputs = [
        ("a part", wide.clone().slice([0..2, 0..9, 0..12, 4..17])),
        ("some rows", wide.clone().slice([0..2, 0..9, 1..11, 0..14])),
        ("channels last", last.clone()),
        ("channels last, a part", last.slice([0..2, 0..9, 2..11, 1..12])),
        ("height and width exchanged", wide.clone().swap_dims(2, 3)),
        ("one image for both", wide.clone().slice([0..1, 0..9, 0..12, 0..30]).expand([2, 9, 12, 30])),
        ("one pixel for all", wide.clone().slice([0..2, 0..9, 1..2, 1..2]).expand([2, 9, 12, 30])),
        ("mirrored", wide.clone().flip([2, 3])),
        ("channels mirrored", wide.flip([1])),
    ];
    for (outputs, groups) in [(9, 9), (5, 1)] {
        let conv = conv([9, outputs], [3, 3], [1, 1], groups, true);
        for (what, x) in &inputs {
            let theirs = conv.forward(x.clone());
            for layout in LAYOUTS {
                let ours = Conv2d::new(Layer::new(&conv), layout)?;
                let what = format!("{what}, {groups} groups, {layout:?}");
                assert_close(ours.forward(x.clone()), theirs.clone(), TOLERANCE, &what);
                let residual = theirs.clone().flip([3]);
                let sum = ours.forward_with_residual(x.clone(), residual.clone());
                assert_close(sum, theirs.clone() + residual, TOLERANCE, &what);
            }
        }
    }
    Ok(())
}

#[test]
fn activations() -> Result<(), Error> {
    let conv = conv([7, 7], [3, 3], [1, 1], 7, true);
    let (x, residual) = (random([1, 7, 9, 10]) * 4.0, random([1, 7, 9, 10]) * 4.0);
    let sum = conv.forward(x.clone());
    type Function = fn(Tensor<4>) -> Tensor<4>;
    let cases: [(Activation, Function); 11] = [
        (Activation::Relu, burn::relu),
        (Activation::Relu6, burn::relu6),
        (Activation::Clamp { min: -2.5, max: 3.25 }, |x| x.clamp(-2.5, 3.25)),
        (Activation::LeakyRelu { slope: 0.1 }, |x| burn::leaky_relu(x, 0.1)),
        (Activation::HardSwish, burn::hard_swish),
        (Activation::HardSigmoid, |x| burn::hard_sigmoid(x, 1.0 / 6.0, 0.5)),
        (Activation::Sigmoid, burn::sigmoid),
        (Activation::Silu, burn::silu),
        (Activation::Gelu, burn::gelu),
        (Activation::Mish, burn::mish),
        (Activation::Tanh, burn::tanh),
    ];
    for (activation, function) in cases {
        let ours = Conv2d::new(Layer::new(&conv).activation(activation), Layout::Nchw)?;
        let what = format!("{activation:?}");
        assert_close(ours.forward(x.clone()), function(sum.clone()), TOLERANCE, &what);
        let both = function(sum.clone() + residual.clone());
        assert_close(ours.forward_with_residual(x.clone(), residual.clone()), both, TOLERANCE, &what);
    }
    Ok(())
}

#[test]
fn batch_norms() -> Result<(), Error> {
    for (groups, bias) in [(1, true), (1, false), (6, true), (6, false)] {
        let (conv, norm) = (conv([6, 6], [3, 3], [1, 1], groups, bias), norm(6));
        let x = random([2, 6, 8, 8]);
        let theirs = burn::relu(norm.forward(conv.forward(x.clone())));
        for layout in LAYOUTS {
            let layer = Layer::new(&conv).batch_norm(&norm).activation(Activation::Relu);
            assert_close(Conv2d::new(layer, layout)?.forward(x.clone()), theirs.clone(), TOLERANCE, "folded");
        }
    }
    Ok(())
}

#[test]
fn pairs() -> Result<(), Error> {
    for (inputs, multiplier, outputs, stride) in [(16, 1, 24, 1), (5, 2, 3, 2)] {
        let middle = inputs * multiplier;
        let first = conv([inputs, middle], [3, 3], [stride; 2], inputs, true);
        let second = conv([middle, outputs], [1, 1], [1, 1], 1, true);
        let norms = [norm(middle), norm(outputs)];
        let layers = [
            Layer::new(&first).batch_norm(&norms[0]).activation(Activation::Silu),
            Layer::new(&second).batch_norm(&norms[1]).activation(Activation::Relu),
        ];
        let x = random([2, inputs, 14, 15]);
        let sum = norms[1].forward(second.forward(burn::silu(norms[0].forward(first.forward(x.clone())))));
        let residual = random(sum.dims());
        for layout in LAYOUTS {
            let what = format!("{inputs} to {middle} to {outputs}, {layout:?}");
            let pair = SeparableConv2d::new(layers[0], layers[1], layout)?;
            let [first, second] = [Conv2d::new(layers[0], layout)?, Conv2d::new(layers[1], layout)?];
            let y = pair.forward(x.clone());
            assert_eq!(values(y.clone()), values(second.forward(first.forward(x.clone()))), "{what}");
            assert_close(y, burn::relu(sum.clone()), TOLERANCE, &what);
            let both = burn::relu(sum.clone() + residual.clone());
            assert_close(pair.forward_with_residual(x.clone(), residual.clone()), both, TOLERANCE, &what);
        }
    }
    Ok(())
}

#[test]
fn layers_without_a_plan() {
    let build = |conv: &BurnConv2d| message(Conv2d::new(Layer::new(conv), Layout::Nchw));
    let grouped = build(&conv([12, 18], [3, 3], [1, 1], 3, true));
    assert!(grouped.contains('3') && grouped.contains("12"), "{grouped}");

    let dilated = Conv2dConfig::new([4, 4], [3, 3]).with_dilation([1, 2]).with_padding(PaddingConfig2d::Same);
    let expected =
        "padding Same with dilation 1x2: burn pads as if there were none, plans do not; give the padding as Explicit";
    assert_eq!(build(&dilated.init(&Device::flex())), expected);

    let mut narrow = conv([4, 4], [3, 3], [1, 1], 4, true);
    narrow.weight = Param::from_tensor(narrow.weight.val().cast(DType::F16));
    assert_eq!(build(&narrow), "the weight has elements of F16, plans have F32: cast it, or leave the layer to burn");

    let conv = conv([4, 5], [1, 1], [1, 1], 1, true);
    let norm = BatchNormConfig::new(6).init(&Device::flex());
    let error = Conv2d::new(Layer::new(&conv).batch_norm(&norm), Layout::Nchw).expect_err("it fails");
    assert_eq!(error, Error::BatchNorm { channels: 6, outputs: 5 });
    assert_eq!(error.to_string(), "the batch norm has 6 channels, the convolution before it has 5 outputs");

    let clamp = Layer::new(&conv).activation(Activation::Clamp { min: 1.0, max: 0.0 });
    assert!(matches!(Conv2d::new(clamp, Layout::Nchw), Err(Error::Plan(depthwise::Error::Clamp { .. }))));
}

#[test]
fn layers_that_are_no_pair() {
    let (depthwise, standard) = (conv([6, 6], [3, 3], [1, 1], 6, true), conv([6, 6], [3, 3], [1, 1], 1, true));
    let (pointwise, other) = (conv([6, 4], [1, 1], [1, 1], 1, true), conv([5, 4], [1, 1], [1, 1], 1, true));
    for (first, second, why) in [
        (&standard, &pointwise, "the first has 1 groups of 6 channels, not one for each"),
        (&depthwise, &standard, "the second is 3x3 with 1 groups, and pointwise is 1x1 without stride or padding"),
        (&depthwise, &other, "the first gives 6 channels, the second takes 5"),
    ] {
        let error = message(SeparableConv2d::new(Layer::new(first), Layer::new(second), Layout::Nchw));
        assert_eq!(error, format!("the two layers are no separable convolution: {why}"));
    }
}

#[test]
fn tensors_that_do_not_fit() -> Result<(), Error> {
    let mut conv = conv([4, 4], [3, 3], [1, 1], 4, true);
    conv.padding = PaddingConfig2d::Valid;
    let ours = Conv2d::new(Layer::new(&conv), Layout::Nchw)?;
    let channels = message(ours.run(random([1, 5, 8, 8]), None));
    assert!(channels.contains('5') && channels.contains('4'), "{channels}");
    let small = message(ours.run(random([1, 4, 2, 8]), None));
    assert!(small.contains('2') && small.contains('3'), "{small}");
    let shape = message(ours.run(random([1, 4, 8, 8]), Some(random([1, 4, 8, 8]))));
    assert!(shape.contains("residual") && shape.contains("h=6") && shape.contains("h=8"), "{shape}");
    let half = message(ours.run(random([1, 4, 8, 8]).cast(DType::F16), None));
    assert_eq!(half, "the input has elements of F16, plans have F32: cast it, or leave the layer to burn");
    let device = Device::flex().autodiff();
    let tracked = Tensor::<4>::ones([1, 4, 8, 8], &device);
    let backend = ours.run(tracked.clone(), None).expect_err("it fails");
    assert!(matches!(&backend, Error::Backend { what: "input", .. }), "{backend}");
    assert!(backend.to_string().contains("without autodiff"), "{backend}");
    assert_eq!(ours.run(tracked.inner(), None)?.dims(), [1, 4, 6, 6]);
    assert_eq!(ours.run(Tensor::zeros([0, 4, 8, 8], &Device::flex()), None)?.dims(), [0, 4, 6, 6]);
    Ok(())
}
