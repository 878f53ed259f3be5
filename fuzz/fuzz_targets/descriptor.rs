//! Any numbers, in builders, views and runs: each call is an error or right, and takes no memory for a number that no
//! slice vouches for (libFuzzer's `-malloc_limit_mb` sees to that).

#![no_main]

mod shared;

use arbitrary::{Arbitrary, Result, Unstructured};
use depthwise::{
    Activation, Axis, BatchNorm, Conv2d, DepthwiseConv2d, Error, Fusion, Isa, Layout, OutputRange, Padding,
    Parallelism, PointwiseConv2d, Run, SeparableConv2d, Shape, Strides, TensorView, TensorViewMut, WeightOrder,
    Workspace,
};
use depthwise_testkit::cases::ACTIVATIONS;
use depthwise_testkit::memory::{SENTINEL, first_difference};
use depthwise_testkit::oracle::{self, Fused, Number as Arithmetic, Separate, Tensor, Window};
use depthwise_testkit::plan::{Operation, Plan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: Input| input.check());

/// The longest slice.
const MAX_LEN: u128 = 1 << 13;
/// Multiply-adds of the largest run.
const MAX_WORK: u128 = 1 << 20;
const AXES: [Axis; 4] = [Axis::N, Axis::C, Axis::H, Axis::W];

/// Mostly from 1 to 8, else whatever may overflow.
#[derive(Clone, Copy, Debug)]
struct Number(usize);

impl Arbitrary<'_> for Number {
    fn arbitrary(u: &mut Unstructured) -> Result<Number> {
        let tag: u8 = u.arbitrary()?;
        Ok(Number(match tag {
            0..=227 => 1 + usize::from(tag % 8),
            228..=231 => 0,
            232..=239 => u.int_in_range(0..=999)?,
            240..=247 => (1usize << u.int_in_range(0..=usize::BITS - 1)?).saturating_sub(2) + u.int_in_range(0..=4)?,
            248..=251 => usize::MAX / u.int_in_range(1..=16)? - u.int_in_range(0..=16)?,
            _ => u.arbitrary()?,
        }))
    }
}

/// Any, the infinite and the denormal ones included; the one NaN that is not `SENTINEL`.
#[derive(Clone, Copy, Debug)]
struct Float(f32);

impl Arbitrary<'_> for Float {
    fn arbitrary(u: &mut Unstructured) -> Result<Float> {
        let x = if u.ratio(3, 4)? { f32::from(u.arbitrary::<i8>()?) / 16.0 } else { u.arbitrary()? };
        Ok(Float(if x.is_nan() { f32::NAN } else { x }))
    }
}

/// Mostly nothing.
#[derive(Clone, Copy, Debug)]
struct Rare<T>(Option<T>);

impl<'a, T: Arbitrary<'a>> Arbitrary<'a> for Rare<T> {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Rare<T>> {
        Ok(Rare(if u.arbitrary::<u8>()? >= 248 { Some(u.arbitrary()?) } else { None }))
    }
}

/// The length of a slice: what it should be, but for that much.
#[derive(Clone, Copy, Debug, Arbitrary)]
struct Length(Rare<i8>);

impl Length {
    fn of(self, right: u128) -> usize {
        let right = right.min(MAX_LEN) as usize;
        right.saturating_add_signed(isize::from(self.0.0.unwrap_or(0)))
    }
}

/// One convolution's parameters.
#[derive(Debug, Arbitrary)]
struct Stage {
    no_weights: Rare<()>,
    weights: Length,
    bias: Option<Length>,
    norm: Rare<([Length; 4], Float)>,
    #[arbitrary(with = activation)]
    activation: Activation,
}

fn activation(u: &mut Unstructured) -> Result<Activation> {
    let mut float = || Ok(u.arbitrary::<Float>()?.0);
    let clamp = Activation::Clamp { min: float()?, max: float()? };
    let leaky = Activation::LeakyRelu { slope: float()? };
    Ok(*u.choose(&[&ACTIVATIONS[..], &[clamp, leaky]].concat())?)
}

/// Where a tensor lies: contiguous and of the right shape, but for these.
#[derive(Debug, Arbitrary)]
struct Place {
    extents: [Rare<Number>; 4],
    strides: [Rare<Number>; 4],
    /// That extent, and stride 0: large without a slice to match.
    broadcast: Rare<(u8, Number)>,
    len: Length,
}

#[derive(Debug, Arbitrary)]
enum Span {
    All,
    Any(Number, Number),
    /// From there on, the start taken modulo the extent.
    Within(Number, Number),
}

#[derive(Debug, Arbitrary)]
enum Kernel {
    Listed(u16),
    Any(String),
}

#[derive(Debug, Arbitrary)]
struct Input {
    /// What all arrays are made of; first, as zeros follow the bytes that libFuzzer gives.
    values: [Float; 8],
    #[arbitrary(with = |u: &mut Unstructured| {
        Ok(*u.choose(&[Operation::Depthwise, Operation::Pointwise, Operation::Separable, Operation::Conv2d])?)
    })]
    operation: Operation,
    channels: Number,
    multiplier: Number,
    outputs: Number,
    kernel_size: [Number; 2],
    stride: [Number; 2],
    dilation: [Number; 2],
    #[arbitrary(with = padding)]
    padding: Padding,
    depthwise: Stage,
    /// Of a pointwise stage or a standard convolution.
    pointwise: Stage,
    nhwc: bool,
    tflite: bool,
    #[arbitrary(with = |u: &mut Unstructured| {
        let isas = [Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Neon];
        Ok(if u.arbitrary()? { Some(*u.choose(&isas)?) } else { None })
    })]
    isa: Option<Isa>,
    kernel: Rare<Kernel>,
    #[arbitrary(with = |u: &mut Unstructured| Ok(*u.choose(&[Fusion::Auto, Fusion::Fused, Fusion::TwoPass])?))]
    fusion: Fusion,
    images: Number,
    height: Number,
    width: Number,
    input: Place,
    residual: Option<Place>,
    output: Place,
    range: Option<[Span; 4]>,
    /// An axis, and a range of it.
    cut: (u8, Number, Number),
}

fn padding(u: &mut Unstructured) -> Result<Padding> {
    let mut number = || Ok(u.arbitrary::<Number>()?.0);
    let explicit = Padding::explicit(number()?, number()?, number()?, number()?);
    let symmetric = Padding::symmetric(number()?, number()?);
    Ok(*u.choose(&[explicit, symmetric, Padding::same_upper(), Padding::same_lower(), Padding::valid()])?)
}

fn product(factors: &[usize]) -> u128 {
    factors.iter().fold(1, |product: u128, &factor| product.saturating_mul(factor as u128))
}

fn elements(shape: Shape) -> u128 {
    product(&[shape.n, shape.c, shape.h, shape.w])
}

/// The elements that a slice must have.
fn needed(shape: Shape, strides: Strides) -> u128 {
    let reach = |axis: Axis| product(&[shape[axis] - 1, strides[axis]]);
    if shape.is_empty() { 0 } else { AXES.into_iter().fold(1, |sum, axis| reach(axis).saturating_add(sum)) }
}

/// Calls `f` with the index of each element.
fn for_each_index(shape: Shape, strides: Strides, mut f: impl FnMut(usize)) {
    if !shape.is_empty() {
        Tensor::from_fn(shape, |n, c, h, w| f(index(strides, n, c, h, w)));
    }
}

fn index(strides: Strides, n: usize, c: usize, h: usize, w: usize) -> usize {
    n * strides.n + c * strides.c + h * strides.h + w * strides.w
}

/// One convolution's parameters in memory.
struct Arrays {
    weights: Option<Vec<f32>>,
    bias: Option<Vec<f32>>,
    norm: Option<([Vec<f32>; 4], f32)>,
    are_right: bool,
}

impl Arrays {
    fn norm(&self) -> Option<BatchNorm<'_>> {
        let ([gamma, beta, mean, variance], epsilon) = self.norm.as_ref()?;
        Some(BatchNorm { gamma, beta, mean, variance, epsilon: *epsilon })
    }
}

impl Place {
    fn resolve(&self, right: Shape, layout: Layout) -> (Shape, Strides, usize) {
        let mut shape = right;
        for (axis, extent) in AXES.into_iter().zip(self.extents) {
            shape[axis] = extent.0.map_or(shape[axis], |n| n.0);
        }
        let mut strides = layout.strides(shape).unwrap_or_default();
        for (axis, stride) in AXES.into_iter().zip(self.strides) {
            strides[axis] = stride.0.map_or(strides[axis], |n| n.0);
        }
        if let Some((axis, extent)) = self.broadcast.0 {
            let axis = AXES[usize::from(axis % 4)];
            (shape[axis], strides[axis]) = (extent.0, 0);
        }
        (shape, strides, self.len.of(needed(shape, strides)))
    }
}

impl Input {
    fn layout(&self) -> Layout {
        if self.nhwc { Layout::Nhwc } else { Layout::Nchw }
    }

    /// Channels, multiplier, outputs, and taps of the window.
    fn numbers(&self) -> (usize, usize, usize, usize) {
        let [kh, kw] = self.window().kernel;
        // No weights have so many taps that they overflow.
        (self.channels.0, self.multiplier.0, self.outputs.0, kh.saturating_mul(kw))
    }

    fn window(&self) -> Window {
        if self.operation == Operation::Pointwise {
            return Window { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], padding: Padding::Valid };
        }
        let [kernel, stride, dilation] = [self.kernel_size, self.stride, self.dilation].map(|pair| pair.map(|n| n.0));
        Window { kernel, stride, dilation, padding: self.padding }
    }

    fn array(&self, len: usize, salt: usize) -> Vec<f32> {
        (0..len).map(|i| self.values[(i + i / 8 + salt) % 8].0).collect()
    }

    /// The parameters of `stage`, from that many inputs and taps to each output.
    fn arrays(&self, stage: &Stage, outputs: &[usize], inputs: &[usize]) -> Arrays {
        let all = product(outputs).saturating_mul(product(inputs));
        let mut are_right = stage.no_weights.0.is_none();
        let mut array = |length: Length, right: u128, salt: usize| {
            let len = length.of(right);
            are_right &= len as u128 == right;
            self.array(len, salt)
        };
        let weights = array(stage.weights, all, 0);
        let outputs = product(outputs);
        let bias = stage.bias.map(|length| array(length, outputs, 3));
        let mut salt = 3..;
        let norm = stage.norm.0.map(|(lengths, epsilon)| {
            (lengths.map(|length| array(length, outputs, salt.next().unwrap_or(0))), epsilon.0)
        });
        Arrays { weights: stage.no_weights.0.is_none().then_some(weights), bias, norm, are_right }
    }

    fn build(&self, first: &Arrays, last: &Arrays) -> Result<Plan, Error> {
        let (channels, multiplier, outputs, _) = self.numbers();
        let Window { kernel: size, stride, dilation, padding } = self.window();
        let (depthwise, pointwise) = (self.depthwise.activation, self.pointwise.activation);
        let listed: Vec<_> = depthwise::kernels().collect();
        let kernel = self.kernel.0.as_ref().map(|kernel| match kernel {
            Kernel::Listed(i) => listed[usize::from(*i) % listed.len()].name,
            Kernel::Any(name) => name,
        });
        macro_rules! given {
            ($builder:ident, $($method:ident($argument:expr)),*) => {
                $(if let Some(argument) = $argument { $builder = $builder.$method(argument); })*
            };
        }
        macro_rules! plan {
            ($operation:ident, $builder:expr, $($method:ident($argument:expr)),*) => {{
                let order = if self.tflite { WeightOrder::Tflite } else { WeightOrder::Pytorch };
                let mut b = $builder.layout(self.layout()).weight_order(order);
                given!(b, isa(self.isa), kernel(kernel), $($method($argument)),*);
                Plan::from(b.build()?)
            }};
        }
        macro_rules! window {
            ($builder:expr) => {
                $builder.kernel_size(size).stride(stride).dilation(dilation).padding(padding)
            };
        }
        let plan = match self.operation {
            Operation::Depthwise => plan!(
                Depthwise,
                window!(DepthwiseConv2d::builder(channels)).channel_multiplier(multiplier).activation(depthwise),
                weights(first.weights.as_deref()),
                bias(first.bias.as_deref()),
                batch_norm(first.norm())
            ),
            Operation::Pointwise => plan!(
                Pointwise,
                PointwiseConv2d::builder(channels, outputs).activation(pointwise),
                weights(last.weights.as_deref()),
                bias(last.bias.as_deref()),
                batch_norm(last.norm())
            ),
            Operation::Conv2d => plan!(
                Conv2d,
                window!(Conv2d::builder(channels, outputs)).activation(pointwise),
                weights(last.weights.as_deref()),
                bias(last.bias.as_deref()),
                batch_norm(last.norm())
            ),
            Operation::Separable => plan!(
                Separable,
                window!(SeparableConv2d::builder(channels, outputs))
                    .channel_multiplier(multiplier)
                    .depthwise_activation(depthwise)
                    .activation(pointwise)
                    .fusion(self.fusion),
                depthwise_weights(first.weights.as_deref()),
                depthwise_bias(first.bias.as_deref()),
                depthwise_batch_norm(first.norm()),
                pointwise_weights(last.weights.as_deref()),
                bias(last.bias.as_deref()),
                batch_norm(last.norm())
            ),
        };
        assert!(kernel.is_none_or(|kernel| format!("{:?}", &*plan).contains(kernel)), "another kernel than {kernel:?}");
        Ok(plan)
    }

    /// Panics unless every answer is right.
    fn check(&self) {
        let (channels, multiplier, outputs, taps) = self.numbers();
        let first = self.arrays(&self.depthwise, &[channels, multiplier], &[taps]);
        let last = match self.operation {
            Operation::Conv2d => self.arrays(&self.pointwise, &[outputs], &[channels, taps]),
            Operation::Separable => self.arrays(&self.pointwise, &[outputs], &[channels, multiplier]),
            _ => self.arrays(&self.pointwise, &[outputs], &[channels]),
        };
        let shape = Shape::new(self.images.0, channels, self.height.0, self.width.0);
        self.check_comparison(shape);
        let Ok(plan) = self.build(&first, &last) else { return };
        let (has_first, has_last) = match self.operation {
            Operation::Depthwise => (true, false),
            Operation::Separable => (true, true),
            _ => (false, true),
        };
        for (has, arrays, stage) in [(has_first, &first, &self.depthwise), (has_last, &last, &self.pointwise)] {
            assert!(!has || arrays.are_right, "a plan from slices of the wrong length");
            match stage.activation {
                Activation::Clamp { min, max } if has => assert!(min <= max, "a plan that clamps to {min} ..= {max}"),
                Activation::LeakyRelu { slope } if has => assert!(slope.is_finite(), "a plan of slope {slope}"),
                _ => {}
            }
        }
        self.check_run(&plan, shape, &first, &last);
    }

    /// Height and width of the output of a window on that input, if there are any.
    fn extents(&self, input: Shape) -> Option<[u128; 2]> {
        let Window { kernel, stride, dilation, padding } = self.window();
        let mut extents = [0; 2];
        for (axis, input) in [input.h, input.w].into_iter().enumerate() {
            let (kernel, stride, dilation) = (kernel[axis] as u128, stride[axis] as u128, dilation[axis] as u128);
            if kernel == 0 || stride == 0 || dilation == 0 || input == 0 {
                return None;
            }
            let padded = input as u128
                + match padding {
                    Padding::Explicit { top, bottom, .. } if axis == 0 => top as u128 + bottom as u128,
                    Padding::Explicit { left, right, .. } => left as u128 + right as u128,
                    _ => 0,
                };
            extents[axis] = match padding {
                Padding::SameUpper | Padding::SameLower => padded.div_ceil(stride),
                _ => padded.checked_sub((kernel - 1) * dilation + 1)? / stride + 1,
            };
        }
        Some(extents)
    }

    fn check_comparison(&self, input: Shape) {
        let Window { kernel, stride, dilation, padding } = self.window();
        if let Ok(comparison) = depthwise::compare(input, self.outputs.0, kernel, stride, dilation, padding) {
            let [h, w] = self.extents(input).expect("outputs to compare");
            let weights = product(&[input.c, self.outputs.0, kernel[0], kernel[1]]);
            let multiply_adds = weights.saturating_mul(product(&[input.n]).saturating_mul(h).saturating_mul(w));
            assert_eq!(u128::from(comparison.standard.multiply_adds), multiply_adds);
        }
    }

    fn check_run(&self, plan: &Plan, right: Shape, first: &Arrays, last: &Arrays) {
        let layout = self.layout();
        let (channels, multiplier, outputs, _) = self.numbers();
        let (shape, strides, len) = self.input.resolve(right, layout);
        let whole = plan.output_shape(shape);
        for parallelism in [Parallelism::Serial, Parallelism::Rayon] {
            let workspace = plan.workspace_len(shape, parallelism);
            assert!(whole.is_ok() || workspace.is_err(), "{workspace:?} for no output");
        }
        let data = self.array(len, 5);
        let input = TensorView::strided(&data, shape, strides);
        assert_eq!(input.is_ok(), needed(shape, strides) <= len as u128, "shape {shape}, strides {strides}, {len}");
        let Ok(input) = input else { return };
        self.check_parts(input);

        let whole = match (whole, self.extents(shape).filter(|_| shape.c == channels)) {
            (Err(_), None) => return,
            (Ok(whole), Some([h, w])) => {
                let c = if self.operation == Operation::Depthwise { channels * multiplier } else { outputs };
                let got = [whole.n, whole.c, whole.h, whole.w].map(|extent| extent as u128);
                assert_eq!(got, [shape.n as u128, c as u128, h, w]);
                whole
            }
            (Err(error), Some(extents)) => {
                // What is far from any limit has an output.
                let Window { kernel, stride, dilation, padding } = self.window();
                let mut numbers = vec![shape.n, shape.h, shape.w];
                numbers.extend([kernel, stride, dilation].concat());
                if let Padding::Explicit { top, left, bottom, right } = padding {
                    numbers.extend([top, left, bottom, right]);
                }
                let limited = numbers.iter().any(|&n| n >= 1 << 16) || extents.iter().any(|&e| e >= 1 << 16);
                assert!(limited, "no output of {extents:?} for {shape}: {error}");
                return;
            }
            (Ok(whole), None) => panic!("an output of {whole} for an input of {shape}"),
        };

        let range = self.range.as_ref().map(|[n, c, h, w]| OutputRange {
            n: n.of(whole.n),
            c: c.of(whole.c),
            h: h.of(whole.h),
            w: w.of(whole.w),
        });
        let all = OutputRange::all(whole);
        let OutputRange { n, c, h, w } = range.as_ref().unwrap_or(&all);
        let part = Shape::new(n.len(), c.len(), h.len(), w.len());
        let within = [(n, whole.n), (c, whole.c), (h, whole.h), (w, whole.w)]
            .iter()
            .all(|(r, to)| r.start <= r.end && r.end <= *to);

        let residual = self.residual.as_ref().map(|place| {
            let (shape, strides, len) = place.resolve(part, layout);
            (self.array(len, 6), shape, strides)
        });
        let residual = match residual.as_ref().map(|(data, shape, strides)| TensorView::strided(data, *shape, *strides))
        {
            Some(Err(_)) => return,
            residual => residual.and_then(|residual| residual.ok()),
        };
        let (out_shape, out_strides, len) = self.output.resolve(part, layout);
        let blank = f32::from_bits(SENTINEL);
        let mut target = vec![blank; len];
        let Ok(mut output) = TensorViewMut::strided(&mut target, out_shape, out_strides) else { return };
        let mut is_element = vec![false; len];
        for_each_index(out_shape, out_strides, |i| {
            assert!(!std::mem::replace(&mut is_element[i], true), "two elements at {i}: {out_shape}, {out_strides}");
        });
        let (axis, at, _) = self.cut();
        match output.reborrow().split_at(axis, at) {
            Err(_) => assert!(at > out_shape[axis]),
            Ok((before, from)) => {
                let extents = [before.shape()[axis], from.shape()[axis], out_shape[axis]];
                assert_eq!(extents, [at, out_shape[axis].wrapping_sub(at), out_shape[axis]]);
            }
        }

        let weights =
            [first, last].map(|arrays| arrays.weights.as_ref().map_or(0, Vec::len)).iter().sum::<usize>() as u128;
        if elements(out_shape).saturating_mul(weights) > MAX_WORK {
            return;
        }
        let vectors = if self.nhwc { Axis::C } else { Axis::W };
        let contiguous = |shape: Shape, strides: Strides| shape[vectors] <= 1 || strides[vectors] == 1;
        let fits = |shape: Shape, strides: Strides| shape == part && contiguous(shape, strides);
        let valid = within
            && contiguous(shape, strides)
            && fits(out_shape, out_strides)
            && residual.is_none_or(|residual| fits(residual.shape(), residual.strides()));
        let workspace = &mut Workspace::new();
        let run = match &range {
            None => plan.run(Run::new(input, output, workspace).maybe_residual(residual)),
            Some(range) => plan.run(Run::new(input, output, workspace).maybe_residual(residual).range(range.clone())),
        };
        assert_eq!(run.is_ok(), valid, "{run:?}");
        for (i, x) in target.iter().enumerate() {
            let written = x.to_bits() != SENTINEL;
            assert_eq!(written, valid && is_element[i], "element {i} after {run:?}");
        }
        let small = |shape: Shape| elements(shape).saturating_mul(weights.max(1)) <= MAX_WORK;
        if !valid || part.is_empty() || !small(whole) || !small(shape) {
            return;
        }
        let x = Tensor::from_fn(shape, |n, c, h, w| data[index(strides, n, c, h, w)]);
        let residual = residual.map(|residual| {
            Tensor::from_fn(part, |n, c, h, w| residual.get(n, c, h, w).expect("an element of the residual"))
        });
        let range = OutputRange { n: n.clone(), c: c.clone(), h: h.clone(), w: w.clone() };
        let want = if self.isa.unwrap_or(Isa::detect()).is_fused() {
            self.expected::<Fused>(&x, residual.as_ref(), &range, first, last).map(|y| y.0)
        } else {
            self.expected::<Separate>(&x, residual.as_ref(), &range, first, last).map(|y| y.0)
        };
        let difference = first_difference(&want, |n, c, h, w| target[index(out_strides, n, c, h, w)]);
        assert_eq!(difference, Ok(()));
        shared::compared();
    }

    fn cut(&self) -> (Axis, usize, usize) {
        let (axis, from, to) = self.cut;
        (AXES[usize::from(axis % 4)], from.0, to.0)
    }

    /// Parts of a view are within it.
    fn check_parts(&self, view: TensorView) {
        let shape = view.shape();
        assert_eq!(view.get(shape.n, 0, 0, 0), None);
        let (axis, from, to) = self.cut();
        let part = view.narrow(axis, from..to);
        assert_eq!(part.is_ok(), from <= to && to <= shape[axis]);
        let Ok(part) = part else { return };
        assert_eq!(part.shape()[axis], to - from);
        let mut at = Shape::new(0, 0, 0, 0);
        at[axis] = from;
        let bits = |x: Option<f32>| x.map(f32::to_bits);
        if from < to {
            assert_eq!(bits(part.get(0, 0, 0, 0)), bits(view.get(at.n, at.c, at.h, at.w)));
        }
        at[axis] = to - from;
        assert_eq!(part.get(at.n, at.c, at.h, at.w), None);
    }

    /// What the part must be.
    fn expected<N: Arithmetic>(
        &self,
        input: &Tensor,
        residual: Option<&Tensor>,
        range: &OutputRange,
        first: &Arrays,
        last: &Arrays,
    ) -> Tensor<N> {
        let (channels, multiplier, outputs, taps) = self.numbers();
        let input = input.map(N::new);
        let window = self.window();
        let fold = |arrays: &Arrays, outputs: usize, taps: usize| {
            let weights = self.in_pytorch_order(arrays.weights.as_ref().expect("a plan has weights"), outputs, taps);
            match arrays.norm() {
                None => (weights, arrays.bias.clone()),
                Some(norm) => {
                    let (weights, bias) = oracle::fold(&weights, arrays.bias.as_deref(), norm);
                    (weights, Some(bias))
                }
            }
        };
        let depthwise = || {
            let (weights, bias) = fold(first, channels * multiplier, taps);
            oracle::depthwise(&input, &weights, bias.as_deref(), &window, multiplier)
        };
        let mut activation = self.pointwise.activation;
        let whole = match self.operation {
            Operation::Depthwise => {
                activation = self.depthwise.activation;
                depthwise()
            }
            Operation::Pointwise => {
                let (weights, bias) = fold(last, outputs, 1);
                oracle::pointwise(&input, &weights, bias.as_deref(), outputs)
            }
            Operation::Separable => {
                let (weights, bias) = fold(last, outputs, 1);
                let between = oracle::finish(depthwise(), None, self.depthwise.activation);
                oracle::pointwise(&between, &weights, bias.as_deref(), outputs)
            }
            Operation::Conv2d => {
                let (weights, bias) = fold(last, outputs, taps);
                oracle::conv2d(&input, &weights, bias.as_deref(), &window, outputs)
            }
        };
        oracle::finish(shared::part_of(&whole, range), residual, activation)
    }

    fn in_pytorch_order(&self, weights: &[f32], outputs: usize, taps: usize) -> Vec<f32> {
        if !self.tflite {
            return weights.to_vec();
        }
        let inputs = weights.len() / (outputs * taps);
        let weight = |i: usize| {
            let (output, input, tap) = (i / (inputs * taps), i / taps % inputs, i % taps);
            weights[(tap * inputs + input) * outputs + output]
        };
        (0..weights.len()).map(weight).collect()
    }
}

impl Span {
    fn of(&self, extent: usize) -> std::ops::Range<usize> {
        match *self {
            Span::All => 0..extent,
            Span::Any(from, to) => from.0..to.0,
            Span::Within(from, len) => {
                let start = from.0 % extent.max(1);
                start..start.saturating_add(len.0).min(extent)
            }
        }
    }
}
