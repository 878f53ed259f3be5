//! A plan of any convolution is the plan of the operation that it is: the same kernels, the same bits.

use depthwise::{
    Activation, AnyConv2d, BatchNorm, Conv2d, Convolution, DepthwiseConv2d, Element, Error, Layout, Padding,
    Parallelism, PointwiseConv2d, Shape, TensorView, WeightOrder, Workspace,
};

/// A layer, as a network's file describes it.
#[derive(Clone, Copy, Debug)]
struct Layer {
    channels: [usize; 2],
    groups: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Option<Padding>,
}

const LAYER: Layer =
    Layer { channels: [6, 6], groups: 1, kernel: [3, 3], stride: [1, 1], dilation: [1, 1], padding: None };

/// Values that are not alike, without a generator.
fn values(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 37 + seed * 101) % 64) as f32 / 37.0 - 0.8).collect()
}

fn bits<E: Element>(plan: &dyn Convolution<E>, shape: Shape, residual: &[f32]) -> Vec<u32> {
    let (x, layout) = (values(shape.len().expect("small"), 7), plan.layout());
    let (mut input, mut added) = (vec![E::ZERO; x.len()], vec![E::ZERO; residual.len()]);
    input.iter_mut().zip(&x).for_each(|(to, &from)| *to = E::from_f32(from));
    added.iter_mut().zip(residual).for_each(|(to, &from)| *to = E::from_f32(from));
    let output = plan.output_shape(shape).expect("a shape");
    let input = TensorView::new(&input, shape, layout).expect("a view");
    let residual = TensorView::new(&added, output, layout).expect("a view");
    let run = |workspace: &mut Workspace| plan.run_to_vec(input, Some(residual), workspace, Parallelism::Serial);
    Workspace::with_thread(run).expect("a run").into_iter().map(|y| y.to_f32().to_bits()).collect()
}

/// Builds it, and what it must be, and compares them.
fn check<E: Element>(layer: Layer) {
    let Layer { channels: [inputs, outputs], groups, kernel, stride, dilation, padding } = layer;
    let weights = values(outputs * (inputs / groups) * kernel[0] * kernel[1], 1);
    let [bias, gamma, beta, mean] = [2, 3, 4, 5].map(|seed| values(outputs, seed));
    let variance: Vec<f32> = values(outputs, 6).iter().map(|x| x * x + 0.1).collect();
    let norm = BatchNorm { gamma: &gamma, beta: &beta, mean: &mean, variance: &variance, epsilon: 1e-5 };
    for (layout, order) in
        [Layout::Nchw, Layout::Nhwc].map(|l| [WeightOrder::Pytorch, WeightOrder::Tflite].map(|o| (l, o))).concat()
    {
        macro_rules! parameters {
            ($builder:expr) => {
                $builder
                    .weights(&weights)
                    .weight_order(order)
                    .bias(&bias)
                    .batch_norm(norm)
                    .activation(Activation::HardSwish)
                    .layout(layout)
            };
        }
        macro_rules! all {
            ($builder:expr) => {
                parameters!($builder)
                    .kernel_size(kernel)
                    .stride(stride)
                    .dilation(dilation)
                    .maybe_padding(padding)
                    .build_as::<E>()
                    .expect("a plan")
            };
        }
        let any = all!(AnyConv2d::builder(inputs, outputs, groups));
        let is_point = kernel == [1, 1] && stride == [1, 1] && padding.is_none_or(|p| p == Padding::symmetric(0, 0));
        let one: Box<dyn Convolution<E>> = match groups {
            1 if is_point => {
                Box::new(parameters!(PointwiseConv2d::builder(inputs, outputs)).build_as::<E>().expect("a plan"))
            }
            _ if groups == inputs => {
                Box::new(all!(DepthwiseConv2d::builder(inputs).channel_multiplier(outputs / inputs)))
            }
            _ => Box::new(all!(Conv2d::builder(inputs, outputs))),
        };
        let shape = Shape::new(2, inputs, 9, 8);
        // Of one input, whichever is the faster.
        if inputs > 1 || is_point {
            assert_eq!(format!("{any:?}"), format!("{one:?}"), "{layer:?}");
        }
        let residual = values(any.output_shape(shape).expect("a shape").len().expect("small"), 8);
        assert_eq!(bits(&any, shape, &residual), bits(&*one, shape, &residual), "{layer:?}, {layout}, {order:?}");
        if inputs == 1 {
            // It is a standard convolution too.
            let other = all!(Conv2d::builder(inputs, outputs));
            assert_eq!(bits(&any, shape, &residual), bits(&other, shape, &residual), "{layer:?}, {layout}, {order:?}");
        }
        // Shared between threads and cloned as every plan.
        let (twin, want) = (any.clone(), bits(&any, shape, &residual));
        std::thread::scope(|scope| {
            let got = scope.spawn(|| bits(&twin, shape, &residual)).join().expect("no panic");
            assert_eq!(got, want);
        });
    }
}

const LAYERS: [Layer; 14] = [
    LAYER,
    Layer { stride: [2, 1], kernel: [3, 2], padding: Some(Padding::same_upper()), ..LAYER },
    Layer { channels: [3, 16], stride: [2, 2], ..LAYER },
    Layer { groups: 6, ..LAYER },
    Layer { groups: 6, channels: [6, 18], kernel: [5, 5], dilation: [1, 2], ..LAYER },
    Layer { kernel: [1, 1], ..LAYER },
    Layer { kernel: [1, 1], dilation: [3, 2], padding: Some(Padding::symmetric(0, 0)), ..LAYER },
    Layer { kernel: [1, 1], stride: [2, 2], ..LAYER },
    Layer { kernel: [1, 1], padding: Some(Padding::explicit(0, 1, 2, 0)), ..LAYER },
    Layer { groups: 6, kernel: [1, 1], ..LAYER },
    Layer { channels: [1, 1], ..LAYER },
    Layer { channels: [1, 8], ..LAYER },
    Layer { channels: [1, 8], kernel: [4, 4], stride: [4, 4], padding: Some(Padding::valid()), ..LAYER },
    Layer { channels: [1, 5], kernel: [1, 1], ..LAYER },
];

#[test]
fn it_is_the_operation_that_its_groups_say() {
    LAYERS.into_iter().for_each(check::<f32>);
}

#[cfg(feature = "half")]
#[test]
fn of_elements_of_16_bits_too() {
    LAYERS.into_iter().for_each(check::<depthwise::bf16>);
}

#[test]
fn groups_that_it_does_not_do() {
    let build = |inputs, outputs, groups| AnyConv2d::builder(inputs, outputs, groups).weights(&[1.0; 72]).build();
    let error = |inputs, outputs, groups| build(inputs, outputs, groups).expect_err("an error").to_string();
    assert_eq!(build(8, 8, 4).unwrap_err(), Error::Groups { groups: 4, inputs: 8, outputs: 8 });
    assert_eq!(
        error(8, 8, 4),
        "groups 4 of 8 inputs and 8 outputs: a plan computes 1 group, or as many as there are inputs; cut input and output \
         along the channels and give each group a plan of its own"
    );
    let multiples = "channels cannot be in 4 groups: both numbers must be multiples of the number of groups";
    assert_eq!(build(6, 8, 4).unwrap_err(), Error::UnevenGroups { groups: 4, inputs: 6, outputs: 8 });
    assert_eq!(error(6, 8, 4), format!("6 input and 8 output {multiples}"));
    assert_eq!(error(4, 6, 4), format!("4 input and 6 output {multiples}"));
    assert_eq!(error(4, 4, 0), "the number of groups is 0: it must be at least 1");
    assert_eq!(error(0, 4, 1), "the number of input channels is 0: it must be at least 1");
    assert_eq!(error(4, 0, 1), "the number of output channels is 0: it must be at least 1");
    // The weights are of so many output channels, each of a group's inputs and the window's taps.
    let weights =
        |inputs, outputs, groups| error(inputs, outputs, groups).split_once('(').expect("a formula").1.to_owned();
    assert_eq!(weights(9, 9, 9), "9 output channels of 1 x 3 x 3 weights)");
    assert_eq!(weights(9, 8, 1), "8 output channels of 9 x 3 x 3 weights)");
    let short = AnyConv2d::builder(9, 8, 1).kernel_size([1, 1]).weights(&[1.0; 9]).build().expect_err("an error");
    assert_eq!(
        short.to_string(),
        "9 elements were given for the weights, but 72 are needed (8 output channels of 9 x 1 x 1 weights)"
    );
    // What no window is, whatever the operation.
    let stride = AnyConv2d::builder(4, 4, 1).kernel_size([1, 1]).dilation([0, 1]).weights(&[1.0; 16]).build();
    assert_eq!(stride.unwrap_err(), Error::Zero { what: "the dilation" });
}
