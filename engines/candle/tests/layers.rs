//! Single layers, against candle's own results, and what is left to candle.

mod networks;

use candle_core::{DType, Device, Module, Result, Tensor, Var};
use candle_nn::{BatchNorm, Conv1dConfig, Conv2dConfig, ModuleT};
use depthwise_candle::{Activation, Conv1d, Conv2d, Layout, SeparableConv2d};

use networks::assert_close;
use networks::random::tensor;

const LAYOUTS: [Layout; 2] = [Layout::Nchw, Layout::Nhwc];
const TOLERANCE: f64 = 1e-6;

/// A layer of candle with weights and bias of random numbers.
fn conv2d(inputs: usize, outputs: usize, [kh, kw]: [usize; 2], config: Conv2dConfig) -> Result<candle_nn::Conv2d> {
    let weight = tensor("weight", (outputs, inputs / config.groups, kh, kw))?;
    Ok(candle_nn::Conv2d::new(weight, Some(tensor("bias", outputs)?), config))
}

fn config(padding: usize, stride: usize, dilation: usize, groups: usize) -> Conv2dConfig {
    Conv2dConfig { padding, stride, dilation, groups, cudnn_fwd_algo: None }
}

/// The message, without the trace that candle may add to it.
fn message<T>(result: Result<T>) -> String {
    result.err().expect("it fails").to_string().lines().next().unwrap_or_default().to_string()
}

#[test]
fn windows_of_many_kinds() -> Result<()> {
    // Inputs, outputs, groups: depthwise, with a multiplier, standard, of one channel.
    let channels = [(19, 19, 19), (6, 18, 6), (5, 7, 1), (1, 4, 1), (1, 1, 1)];
    let kernels = [[1, 1], [3, 3], [5, 5], [2, 2], [1, 3], [7, 2]];
    let mut cases = 0;
    for (inputs, outputs, groups) in channels {
        for kernel in kernels {
            for (padding, stride, dilation) in
                [(0, 1, 1), (1, 1, 1), (2, 2, 1), (3, 3, 1), (2, 1, 2), (1, 2, 3), (4, 5, 2)]
            {
                let (height, width) = (23, 21);
                let reach = (kernel.into_iter().max().unwrap_or(1) - 1) * dilation + 1;
                assert!(reach <= 21, "each window fits");
                let conv = conv2d(inputs, outputs, kernel, config(padding, stride, dilation, groups))?;
                let x = tensor("x", (2, inputs, height, width))?;
                let theirs = conv.forward(&x)?;
                for layout in LAYOUTS {
                    let ours = Conv2d::from(&conv).with_layout(layout);
                    let what = format!("{inputs} to {outputs}, {kernel:?}, {:?}, {layout:?}", conv.config());
                    assert_eq!(ours.fallback(), None, "{what}");
                    let y = ours.forward(&x)?;
                    assert_close(&y, &theirs, TOLERANCE, &what)?;
                    assert_eq!(y.is_contiguous(), layout == Layout::Nchw || outputs == 1, "{what}");
                    cases += 1;
                }
            }
        }
    }
    assert_eq!(cases, 5 * 6 * 7 * 2);
    Ok(())
}

/// Inputs that are parts of other tensors, or have other axes in front.
#[test]
fn strided_inputs() -> Result<()> {
    let wide = tensor("x", (2, 9, 12, 30))?;
    let last = tensor("x", (2, 12, 13, 9))?;
    let inputs = [
        ("a part", wide.narrow(3, 4, 13)?),
        ("some rows", wide.narrow(2, 1, 10)?.narrow(3, 0, 14)?),
        ("channels last", last.permute((0, 3, 1, 2))?),
        ("channels last, a part", last.permute((0, 3, 1, 2))?.narrow(2, 2, 9)?.narrow(3, 1, 11)?),
        ("height and width exchanged", wide.transpose(2, 3)?),
        ("one image for both", wide.narrow(0, 1, 1)?.broadcast_as((2, 9, 12, 30))?),
        ("one pixel for all", wide.narrow(2, 1, 1)?.narrow(3, 1, 1)?.broadcast_as((2, 9, 12, 30))?),
    ];
    for (outputs, groups) in [(9, 9), (5, 1)] {
        let conv = conv2d(9, outputs, [3, 3], config(1, 1, 1, groups))?;
        for (what, x) in &inputs {
            let theirs = conv.forward(&x.contiguous()?)?;
            for layout in LAYOUTS {
                let ours = Conv2d::from(&conv).with_layout(layout);
                assert_close(&ours.forward(x)?, &theirs, TOLERANCE, &format!("{what}, {groups} groups, {layout:?}"))?;
                let residual = theirs.transpose(2, 3)?.contiguous()?.transpose(2, 3)?;
                let sum = ours.forward_with_residual(x, &residual)?;
                assert_close(&sum, &(&theirs + &residual)?, TOLERANCE, &format!("{what}, residual, {layout:?}"))?;
            }
        }
    }
    Ok(())
}

/// Channels last go from layer to layer without a copy: the strides say so.
#[test]
fn channels_stay_last() -> Result<()> {
    let first = Conv2d::from(conv2d(3, 8, [3, 3], config(1, 2, 1, 1))?).with_layout(Layout::Nhwc);
    let second = Conv2d::from(conv2d(8, 8, [3, 3], config(1, 1, 1, 8))?).with_layout(Layout::Nhwc);
    let x = first.forward(&tensor("x", (1, 3, 16, 16))?)?;
    assert_eq!((x.dims(), x.stride()), (&[1, 8, 8, 8][..], &[512, 1, 64, 8][..]));
    let y = second.forward(&x)?;
    assert_eq!((y.dims(), y.stride()), (&[1, 8, 8, 8][..], &[512, 1, 64, 8][..]));
    Ok(())
}

#[test]
fn activations() -> Result<()> {
    use candle_nn::Activation as Candle;
    let conv = conv2d(7, 7, [3, 3], config(1, 1, 1, 7))?;
    let x = (tensor("x", (1, 7, 9, 10))? * 4.0)?;
    let (sum, residual) = (conv.forward(&x)?, (tensor("residual", (1, 7, 9, 10))? * 4.0)?);
    let in_plan = [
        Candle::Relu,
        Candle::Relu6,
        Candle::LeakyRelu(0.1),
        Candle::HardSwish,
        Candle::HardSigmoid,
        Candle::Sigmoid,
        Candle::Silu,
        Candle::Swish,
        Candle::Gelu,
        Candle::Mish,
    ];
    let after = [Candle::NewGelu, Candle::GeluPytorchTanh, Candle::Relu2, Candle::Elu(0.5)];
    for (activation, within) in in_plan.map(|a| (a, true)).into_iter().chain(after.map(|a| (a, false))) {
        let ours = Conv2d::from(&conv).with_activation(activation);
        assert_eq!((ours.fallback(), ours.activation().in_plan()), (None, within), "{activation:?}");
        let what = format!("{activation:?}");
        assert_close(&ours.forward(&x)?, &activation.forward(&sum)?, TOLERANCE, &what)?;
        let both = activation.forward(&(&sum + &residual)?)?;
        assert_close(&ours.forward_with_residual(&x, &residual)?, &both, TOLERANCE, &what)?;
    }
    let clamp = Conv2d::from(&conv).with_activation(Activation::clamp(-0.5, 0.25));
    // Of outputs cut off to a tenth, the differences are as they were.
    assert_close(&clamp.forward(&x)?, &sum.clamp(-0.5f32, 0.25f32)?, 10.0 * TOLERANCE, "clamp")
}

/// What the plan's activations do where candle computes the layer.
#[test]
fn activations_by_candle() -> Result<()> {
    use depthwise::Activation as Plan;
    let conv = conv2d(4, 4, [3, 3], config(1, 1, 1, 4))?;
    let double = candle_nn::Conv2d::new(
        conv.weight().to_dtype(DType::F64)?,
        conv.bias().map(|bias| bias.to_dtype(DType::F64)).transpose()?,
        *conv.config(),
    );
    let (x, residual) = ((tensor("x", (1, 4, 9, 10))? * 4.0)?, tensor("residual", (1, 4, 9, 10))?);
    for activation in [
        Plan::None,
        Plan::Relu,
        Plan::Relu6,
        Plan::Clamp { min: -0.5, max: 0.25 },
        Plan::LeakyRelu { slope: 0.1 },
        Plan::HardSwish,
        Plan::HardSigmoid,
        Plan::Sigmoid,
        Plan::Silu,
        Plan::Gelu,
        Plan::Mish,
        Plan::Tanh,
    ] {
        let plan = Conv2d::from(&conv).with_activation(activation);
        let candle = Conv2d::from(&double).with_activation(activation);
        assert_eq!(candle.fallback(), Some("its weight is F64, and plans are for F32, F16 and BF16"));
        let theirs = candle.forward_with_residual(&x.to_dtype(DType::F64)?, &residual.to_dtype(DType::F64)?)?;
        let ours = plan.forward_with_residual(&x, &residual)?;
        assert_close(&ours, &theirs.to_dtype(DType::F32)?, TOLERANCE, &format!("{activation:?}"))?;
    }
    Ok(())
}

#[test]
fn batch_norms() -> Result<()> {
    let (mean, variance) = (tensor("mean", 6)?, tensor("variance", 6)?.affine(0.4, 1.0)?);
    let (gamma, beta) = (tensor("gamma", 6)?, tensor("beta", 6)?);
    let norms = [
        BatchNorm::new(6, mean.clone(), variance.clone(), gamma, beta, 1e-3)?,
        BatchNorm::new_no_bias(6, mean, variance, 1e-5)?,
    ];
    for groups in [1, 6] {
        let with_bias = conv2d(6, 6, [3, 3], config(1, 1, 1, groups))?;
        let without = candle_nn::Conv2d::new(with_bias.weight().clone(), None, *with_bias.config());
        let x = tensor("x", (2, 6, 8, 8))?;
        for conv in [with_bias, without] {
            for norm in &norms {
                let folded = Conv2d::from(&conv).absorb_bn(norm)?;
                assert_eq!(folded.fallback(), None);
                let theirs = norm.forward_t(&conv.forward(&x)?, false)?;
                assert_close(&folded.forward(&x)?, &theirs, TOLERANCE, "folded")?;
            }
        }
    }
    let conv = Conv2d::from(conv2d(6, 5, [1, 1], config(0, 1, 1, 1))?);
    let error = message(conv.absorb_bn(&norms[0]));
    assert_eq!(error, "the batch norm has 6 channels, the convolution before it has 5");
    Ok(())
}

#[test]
fn pairs() -> Result<()> {
    use candle_nn::Activation as Candle;
    for (inputs, multiplier, outputs, stride) in [(16, 1, 24, 1), (5, 2, 3, 2)] {
        let middle = inputs * multiplier;
        let first = conv2d(inputs, middle, [3, 3], config(1, stride, 1, inputs))?;
        let second = conv2d(middle, outputs, [1, 1], config(0, 1, 1, 1))?;
        let x = tensor("x", (2, inputs, 14, 15))?;
        for (between, after) in [(Candle::Relu6, Candle::Relu), (Candle::Silu, Candle::Elu(1.0))] {
            let sum = second.forward(&between.forward(&first.forward(&x)?)?)?;
            let residual = tensor("residual", sum.shape().clone())?;
            let stages = [Conv2d::from(&first).with_activation(between), Conv2d::from(&second).with_activation(after)];
            for layout in LAYOUTS {
                let [first, second] = stages.clone().map(|stage| stage.with_layout(layout));
                let apart = second.forward(&first.forward(&x)?)?;
                let pair = SeparableConv2d::new(first, second);
                let what = format!("{inputs} to {middle} to {outputs}, {layout:?}");
                assert_eq!(pair.fallback(), None, "{what}");
                let y = pair.forward(&x)?;
                assert_eq!(y.flatten_all()?.to_vec1::<f32>()?, apart.flatten_all()?.to_vec1::<f32>()?, "{what}");
                assert_close(&y, &after.forward(&sum)?, TOLERANCE, &what)?;
                let both = after.forward(&(&sum + &residual)?)?;
                assert_close(&pair.forward_with_residual(&x, &residual)?, &both, TOLERANCE, &what)?;
            }
        }
    }
    Ok(())
}

/// What is no pair runs as two layers.
#[test]
fn pairs_that_are_none() -> Result<()> {
    let depthwise = conv2d(6, 6, [3, 3], config(1, 1, 1, 6))?;
    let standard = conv2d(6, 6, [3, 3], config(1, 1, 1, 1))?;
    let pointwise = conv2d(6, 4, [1, 1], config(0, 1, 1, 1))?;
    let elu = candle_nn::Activation::Elu(1.0);
    let x = tensor("x", (1, 6, 8, 8))?;
    let none = Activation::default();
    for (first, activation, second, why) in [
        (
            &standard,
            none,
            &pointwise,
            "the first convolution has 1 groups of 6 channels, and a depthwise one has a group for each channel",
        ),
        (
            &depthwise,
            none,
            &standard,
            "the second convolution is 3x3 with stride 1x1, padding 1x1 and 1 groups, not pointwise",
        ),
        (&depthwise, elu.into(), &pointwise, "the first activation, Elu(1.0), is none of a plan's"),
    ] {
        let pair = SeparableConv2d::new(Conv2d::from(first).with_activation(activation), Conv2d::from(second));
        assert_eq!(pair.fallback(), Some(why));
        assert_eq!(pair.stages().map(Conv2d::fallback), [None, None]);
        let between = first.forward(&x)?;
        let between = if activation.in_plan() { between } else { elu.forward(&between)? };
        assert_close(&pair.forward(&x)?, &second.forward(&between)?, TOLERANCE, why)?;
    }
    Ok(())
}

#[test]
fn one_dimension() -> Result<()> {
    for (inputs, outputs, groups) in [(11, 11, 11), (4, 8, 4), (6, 5, 1)] {
        for (kernel, padding, stride, dilation) in
            [(1, 0, 1, 1), (3, 1, 1, 1), (5, 4, 2, 2), (9, 0, 3, 1), (4, 3, 1, 1)]
        {
            let config = Conv1dConfig { padding, stride, dilation, groups, cudnn_fwd_algo: None };
            let weight = tensor("weight", (outputs, inputs / groups, kernel))?;
            let conv = candle_nn::Conv1d::new(weight, Some(tensor("bias", outputs)?), config);
            let x = tensor("x", (2, inputs, 40))?;
            let theirs = conv.forward(&x)?;
            for layout in LAYOUTS {
                let ours = Conv1d::from(&conv).with_layout(layout);
                let what = format!("{inputs} to {outputs}, {kernel}, {config:?}, {layout:?}");
                assert_eq!(ours.fallback(), None, "{what}");
                assert_close(&ours.forward(&x)?, &theirs, TOLERANCE, &what)?;
                let strided = x.transpose(1, 2)?.contiguous()?.transpose(1, 2)?;
                assert_close(&ours.forward(&strided)?, &theirs, TOLERANCE, &what)?;
                let sum = ours.forward_with_residual(&x, &theirs)?;
                assert_close(&sum, &(&theirs * 2.0)?, TOLERANCE, &what)?;
            }
        }
    }
    Ok(())
}

#[test]
fn groups_are_left_to_candle() -> Result<()> {
    let conv = conv2d(12, 18, [3, 3], config(1, 1, 1, 3))?;
    let ours = Conv2d::from(&conv).with_activation(candle_nn::Activation::Relu);
    let why = ours.fallback().expect("no plan");
    assert!(why.starts_with("groups 3 of 12 inputs and 18 outputs"), "{why}");
    let x = tensor("x", (1, 12, 7, 7))?;
    assert_close(&ours.forward(&x)?, &conv.forward(&x)?.relu()?, 0.0, "3 groups")
}

/// Where gradients are asked for, they are candle's.
#[test]
fn gradients_are_left_to_candle() -> Result<()> {
    let conv = conv2d(4, 4, [3, 3], config(1, 1, 1, 4))?;
    let x = Var::from_tensor(&tensor("x", (1, 4, 6, 6))?)?;
    let ours = Conv2d::from(&conv);
    assert_eq!(ours.fallback(), None);
    let gradient = |y: Tensor| -> Result<Tensor> { Ok(y.sqr()?.sum_all()?.backward()?.get(&x).expect("one").clone()) };
    let theirs = gradient(conv.forward(&x)?)?;
    assert_close(&gradient(ours.forward(&x)?)?, &theirs, 0.0, "of the input")?;

    let weight = Var::from_tensor(conv.weight())?;
    let training = Conv2d::new(weight.as_tensor().clone(), None, *conv.config());
    assert_eq!(training.fallback(), Some("its weight is a variable, which may change: `detach()` it for inference"));
    let x = tensor("x", (1, 4, 6, 6))?;
    let before = training.forward(&x)?.sum_all()?;
    assert!(before.backward()?.get(&weight).is_some());
    weight.set(&weight.zeros_like()?)?;
    assert_eq!(training.forward(&x)?.sum_all()?.to_scalar::<f32>()?, 0.0);
    Ok(())
}

#[test]
fn half_precision() -> Result<()> {
    let conv = conv2d(9, 9, [3, 3], config(1, 1, 1, 9))?;
    let x = tensor("x", (1, 9, 8, 9))?;
    for (dtype, tolerance) in [(DType::F16, 2e-3), (DType::BF16, 2e-2)] {
        let bias = conv.bias().map(|bias| bias.to_dtype(dtype)).transpose()?;
        let narrow = candle_nn::Conv2d::new(conv.weight().to_dtype(dtype)?, bias, *conv.config());
        let ours = Conv2d::from(&narrow);
        let why = format!("its weight is {dtype:?}: plans for that need the feature `half`");
        assert_eq!(ours.fallback(), if cfg!(feature = "half") { None } else { Some(&*why) });
        let y = ours.forward(&x.to_dtype(dtype)?);
        if dtype == DType::BF16 && ours.fallback().is_some() {
            assert!(message(y).contains("BF16"), "candle has no convolution of these on CPUs");
            continue;
        }
        let y = y?;
        assert_eq!(y.dtype(), dtype);
        assert_close(&y.to_dtype(DType::F32)?, &conv.forward(&x)?, tolerance, &why)?;
    }
    Ok(())
}

#[test]
fn errors() -> Result<()> {
    let ours = Conv2d::from(conv2d(4, 4, [3, 3], config(0, 1, 1, 4))?);
    let wrong = message(ours.forward(&tensor("x", (1, 5, 8, 8))?));
    assert!(wrong.contains('5') && wrong.contains('4'), "{wrong}");
    let small = message(ours.forward(&tensor("x", (1, 4, 2, 8))?));
    assert!(small.contains('2') && small.contains('3'), "{small}");
    let rank = message(ours.forward(&tensor("x", (4, 8, 8))?));
    assert!(rank.contains("rank"), "{rank}");
    let dtype = message(ours.forward(&tensor("x", (1, 4, 8, 8))?.to_dtype(DType::F64)?));
    assert!(dtype.contains("F64") && dtype.contains("F32"), "{dtype}");
    let (x, residual) = (tensor("x", (1, 4, 8, 8))?, tensor("x", (1, 4, 8, 8))?);
    let shape = message(ours.forward_with_residual(&x, &residual));
    assert!(shape.contains("residual") && shape.contains("h=6") && shape.contains("h=8"), "{shape}");
    let empty = ours.forward(&Tensor::zeros((0, 4, 8, 8), DType::F32, &Device::Cpu)?)?;
    assert_eq!(empty.dims(), [0, 4, 6, 6]);

    // What has no meaning fails as it does in candle.
    let odd = candle_nn::Conv2d::new(tensor("weight", (4, 1, 3))?, None, config(0, 1, 1, 4));
    let module = Conv2d::from(&odd);
    assert!(module.fallback().is_some());
    assert_eq!(message(module.forward(&x)), message(odd.forward(&x)));
    Ok(())
}

/// The same builder, the same names.
#[test]
fn constructors() -> Result<()> {
    let vb = networks::random::parameters();
    let (two, one) = (config(1, 1, 1, 4), Conv1dConfig { padding: 1, groups: 4, ..Default::default() });
    let x = tensor("x", (1, 4, 6, 6))?;
    let theirs = candle_nn::conv2d(4, 8, 3, two, vb.pp("a"))?.forward(&x)?;
    assert_close(&depthwise_candle::conv2d(4, 8, 3, two, vb.pp("a"))?.forward(&x)?, &theirs, TOLERANCE, "2-D")?;
    let theirs = candle_nn::conv2d_no_bias(4, 8, 3, two, vb.pp("a"))?.forward(&x)?;
    let ours = depthwise_candle::conv2d_no_bias(4, 8, 3, two, vb.pp("a"))?;
    assert!(ours.bias().is_none());
    assert_close(&ours.forward(&x)?, &theirs, TOLERANCE, "2-D without bias")?;
    let x = tensor("x", (1, 4, 20))?;
    let theirs = candle_nn::conv1d(4, 8, 3, one, vb.pp("b"))?.forward(&x)?;
    assert_close(&depthwise_candle::conv1d(4, 8, 3, one, vb.pp("b"))?.forward(&x)?, &theirs, TOLERANCE, "1-D")?;
    let theirs = candle_nn::conv1d_no_bias(4, 8, 3, one, vb.pp("b"))?.forward(&x)?;
    let ours = depthwise_candle::conv1d_no_bias(4, 8, 3, one, vb.pp("b"))?;
    assert_close(&ours.forward(&x)?, &theirs, TOLERANCE, "1-D without bias")
}
