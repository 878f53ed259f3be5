//! A case's arguments, what the oracle makes of them, and the plans that must make the same.

use std::ops::Deref;

use depthwise::{
    Activation, BatchNorm, Conv2d, Convolution, DepthwiseConv2d, Element, ElementType, Error, Fusion, Isa, Layout,
    Machine, Parallelism, PointwiseConv2d, SeparableConv2d, Shape, WeightOrder,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::cases::{Case, Epilogue, Values};
use super::oracle::{self, Fused, Number, Separate, Tensor};

/// The four plans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    Depthwise,
    Pointwise,
    Separable,
    Conv2d,
}

/// One convolution's parameters, weights in PyTorch's order.
#[derive(Clone)]
struct Stage {
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    norm: Option<[Vec<f32>; 4]>,
    activation: Activation,
}

#[derive(Clone)]
pub struct Arguments {
    pub input: Tensor,
    depthwise: Stage,
    /// Of the pointwise stage or the standard convolution.
    pointwise: Stage,
    pub residual: Option<Tensor>,
    pub output: Shape,
}

impl Arguments {
    pub fn new(operation: Operation, case: &Case) -> Arguments {
        let mut rng = StdRng::seed_from_u64(case.seed);
        let middle = case.input.c * case.multiplier;
        let taps = case.kernel[0] * case.kernel[1];
        let (inputs, output) = match operation {
            Operation::Depthwise => (0, case.window().output(case.input, middle)),
            Operation::Pointwise => (case.input.c, Shape { c: case.outputs, ..case.input }),
            Operation::Separable => (middle, case.window().output(case.input, case.outputs)),
            Operation::Conv2d => (case.input.c * taps, case.window().output(case.input, case.outputs)),
        };
        let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| value(&mut rng, case.values)).collect() };
        let input = Tensor { shape: case.input, data: draw(case.input.len().expect("a case fits in memory")) };
        let residual =
            case.residual.then(|| Tensor { shape: output, data: draw(output.len().expect("as does its output")) });
        let mut stage = |channels: usize, inputs: usize, epilogue: Epilogue| Stage {
            weights: draw(channels * inputs),
            bias: epilogue.bias.then(|| draw(channels)),
            norm: epilogue.batch_norm.then(|| {
                let mut arrays = [(); 4].map(|()| draw(channels));
                // What is finite must fold to what is finite, and a variance is never infinite: the greatest number is among the
                // weights and biases alone, and a scale is at most 1 there.
                let floor = match case.values {
                    Values::Special => 1.0,
                    Values::Huge => 1e12,
                    _ => 0.1,
                };
                arrays.iter_mut().flatten().filter(|x| **x == f32::MAX).for_each(|x| *x = 1.0);
                let [gamma, beta, mean, variance] = arrays;
                let variance = variance.iter().map(|v| v.abs() + floor);
                [gamma, beta, mean, variance.map(|v| if v.is_finite() { v } else { floor }).collect()]
            }),
            activation: epilogue.activation,
        };
        let (depthwise, pointwise) = (stage(middle, taps, case.depthwise), stage(case.outputs, inputs, case.pointwise));
        let mut arguments = Arguments { input, depthwise, pointwise, residual, output };
        if case.values == Values::NegativeZeros {
            arguments.make_sums_negative_zeros(operation);
        }
        arguments
    }

    /// The same with an input and a residual that tensors of that type hold.
    pub fn with_tensors_of<E: Element>(mut self) -> Arguments {
        for tensor in [Some(&mut self.input), self.residual.as_mut()].into_iter().flatten() {
            round::<E>(&mut tensor.data);
        }
        self
    }

    /// The same with weights and biases of that type.
    pub fn with_weights_of<E: Element>(mut self) -> Arguments {
        for stage in [&mut self.depthwise, &mut self.pointwise] {
            round::<E>(&mut stage.weights);
            stage.bias.iter_mut().for_each(|bias| round::<E>(bias));
        }
        self
    }

    /// +0 times negative weights. The second stage of two takes −0, so its weights are positive.
    fn make_sums_negative_zeros(&mut self, operation: Operation) {
        self.input.data.fill(0.0);
        let sign = if operation == Operation::Separable { 1.0 } else { -1.0 };
        for (stage, sign) in [(&mut self.depthwise, -1.0f32), (&mut self.pointwise, sign)] {
            stage.weights.iter_mut().for_each(|w| *w = w.copysign(sign));
            stage.bias.iter_mut().flatten().for_each(|b| *b = -0.0);
        }
        self.residual.iter_mut().for_each(|r| r.data.fill(-0.0));
    }
}

fn round<E: Element>(data: &mut [f32]) {
    data.iter_mut().for_each(|x| *x = E::from_f32(*x).to_f32());
}

fn value(rng: &mut StdRng, values: Values) -> f32 {
    const SPECIAL: [f32; 9] =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, 1e-40, -1e-45, f32::MIN_POSITIVE, f32::MAX];
    let plain = rng.random_range(-1.0f32..1.0);
    match values {
        // Of the latter, signs and zeros are set once all are drawn.
        Values::Plain | Values::NegativeZeros => plain,
        // Rare enough that most sums stay finite.
        Values::Special if rng.random_ratio(1, 40) => SPECIAL[rng.random_range(0..SPECIAL.len())],
        Values::Special => plain,
        Values::Zeros => 0.0f32.copysign(plain),
        Values::Tiny => plain * 1e-19 * 2f32.powi(rng.random_range(-8..=8)),
        Values::Huge => plain * 3e19,
    }
}

impl Stage {
    fn norm(&self) -> Option<BatchNorm<'_>> {
        let [gamma, beta, mean, variance] = self.norm.as_ref()?;
        Some(BatchNorm { gamma, beta, mean, variance, epsilon: 1e-3 })
    }

    fn folded(&self) -> (Vec<f32>, Option<Vec<f32>>) {
        match self.norm() {
            None => (self.weights.clone(), self.bias.clone()),
            Some(norm) => {
                let (weights, bias) = oracle::fold(&self.weights, self.bias.as_deref(), norm);
                (weights, Some(bias))
            }
        }
    }

    /// The weights in `order`; TFLite's goes from taps, to input channels, to output channels.
    fn weights(&self, order: WeightOrder, channels: usize, taps: usize) -> Vec<f32> {
        match order {
            WeightOrder::Pytorch => self.weights.clone(),
            WeightOrder::Tflite => {
                let inputs = self.weights.len() / (channels * taps);
                let tflite = (0..self.weights.len()).map(|i| {
                    let (tap, input, output) = (i / (inputs * channels), i / channels % inputs, i % channels);
                    self.weights[(output * inputs + input) * taps + tap]
                });
                tflite.collect()
            }
        }
    }
}

/// What `operation` must return.
pub fn expected<N: Number>(operation: Operation, case: &Case, arguments: &Arguments) -> Tensor<N> {
    expected_of::<f32, N>(operation, case, arguments)
}

/// What `operation` must return where tensors have elements of a type, what lies between two stages included. The arguments'
/// tensors are to hold such elements: see [`Arguments::with_tensors_of`].
pub fn expected_of<E: Element, N: Number>(operation: Operation, case: &Case, arguments: &Arguments) -> Tensor<N> {
    let input = arguments.input.map(N::new);
    let residual = arguments.residual.as_ref();
    let window = case.window();
    let depthwise = || {
        let (weights, bias) = arguments.depthwise.folded();
        oracle::depthwise(&input, &weights, bias.as_deref(), &window, case.multiplier)
    };
    let (weights, bias) = arguments.pointwise.folded();
    let bias = bias.as_deref();
    let output = match operation {
        Operation::Depthwise => oracle::finish(depthwise(), residual, case.depthwise.activation),
        Operation::Pointwise => {
            let output = oracle::pointwise(&input, &weights, bias, case.outputs);
            oracle::finish(output, residual, case.pointwise.activation)
        }
        Operation::Separable => {
            let middle = oracle::stored::<E, N>(oracle::finish(depthwise(), None, case.depthwise.activation));
            let output = oracle::pointwise(&middle, &weights, bias, case.outputs);
            oracle::finish(output, residual, case.pointwise.activation)
        }
        Operation::Conv2d => {
            let output = oracle::conv2d(&input, &weights, bias, &window, case.outputs);
            oracle::finish(output, residual, case.pointwise.activation)
        }
    };
    oracle::stored::<E, N>(output)
}

/// What `operation` must return on `isa`.
pub fn expected_on(isa: Isa, operation: Operation, case: &Case, arguments: &Arguments) -> Tensor {
    expected_of_on::<f32>(isa, operation, case, arguments)
}

/// The same of a type of elements.
pub fn expected_of_on<E: Element>(isa: Isa, operation: Operation, case: &Case, arguments: &Arguments) -> Tensor<E> {
    let narrow = |y: f32| E::from_f32(y);
    if isa.is_fused() {
        expected_of::<E, Fused>(operation, case, arguments).map(|y| narrow(y.0))
    } else {
        expected_of::<E, Separate>(operation, case, arguments).map(|y| narrow(y.0))
    }
}

/// What a caller may choose about a plan without changing what it computes.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    pub machine: &'static Machine,
    pub isa: Isa,
    pub layout: Layout,
    pub kernel: Option<&'static str>,
    pub order: WeightOrder,
    pub fusion: Fusion,
}

impl Choice {
    pub fn new(machine: &'static Machine, isa: Isa, layout: Layout) -> Choice {
        Choice { machine, isa, layout, kernel: None, order: WeightOrder::Pytorch, fusion: Fusion::Auto }
    }

    /// The machines to test an instruction set for: one of each kind, and in Miri one.
    pub fn machines(isa: Isa) -> impl Iterator<Item = &'static Machine> {
        Machine::each_for(isa).take(if cfg!(miri) { 1 } else { usize::MAX })
    }

    /// The same for tensors of that type. Kernels compute with `f32` whatever it is, so each is tried once where elements are narrow, in an
    /// operation of its own. The machine has so small a cache that a case is converted in many blocks.
    pub fn all_of<E: Element>(operation: Operation, isa: Isa, layout: Layout) -> Vec<Choice> {
        let mut all = Choice::all(operation, isa, layout);
        if E::TYPE == ElementType::F32 {
            return all;
        }
        let small = Choice::new(Machine::with_little_cache(), isa, layout);
        all.retain(|choice| choice.kernel.is_none());
        match operation {
            Operation::Depthwise | Operation::Pointwise => {
                let kernels = super::float_kernels().filter(|k| k.isa == isa && k.layout == layout);
                all.extend(kernels.map(|kernel| Choice { kernel: Some(kernel.name), ..small }));
            }
            Operation::Separable => {
                all.extend([Fusion::Fused, Fusion::TwoPass].map(|fusion| Choice { fusion, ..small }));
            }
            Operation::Conv2d => all.push(small),
        }
        all
    }

    /// Whether it is the plan's own choice on the first machine, which runs in more ways than the others.
    pub fn is_first(&self) -> bool {
        self.kernel.is_none() && Choice::machines(self.isa).next() == Some(self.machine)
    }

    /// Whether each case calls it with every arrangement of tensors, as it does the plan's own choice on the first machine, and kernels for
    /// one window. Kernels for any window and other machines' choices run in every case, with one arrangement by turns.
    pub fn in_every_arrangement(&self) -> bool {
        let is_for_one = |name| depthwise::kernels().any(|k| k.name == name && k.kernel_size.is_some());
        self.is_first() || self.kernel.is_some_and(is_for_one)
    }

    /// Everything to choose from, each alone: the plan's own choices on each machine first, then every kernel in each way that a machine
    /// has it go about its work.
    pub fn all(operation: Operation, isa: Isa, layout: Layout) -> Vec<Choice> {
        let fusions: &[Fusion] = match operation {
            Operation::Separable => &[Fusion::Fused, Fusion::TwoPass],
            _ => &[Fusion::Auto],
        };
        let own = |machine| Choice::new(machine, isa, layout);
        let mut all: Vec<Choice> = Choice::machines(isa).map(own).collect();
        all.push(Choice { order: WeightOrder::Tflite, ..all[0] });
        for kernel in super::float_kernels().filter(|k| k.isa == isa && k.layout == layout) {
            for machine in Machine::each_way_of(&kernel) {
                all.extend(fusions.iter().map(|&fusion| Choice { kernel: Some(kernel.name), fusion, ..own(machine) }));
            }
        }
        all
    }
}

/// A plan of any of the four operations.
pub struct Plan<E = f32>(Box<dyn Convolution<E>>);

impl<E, C: Convolution<E> + 'static> From<C> for Plan<E> {
    fn from(plan: C) -> Plan<E> {
        Plan(Box::new(plan))
    }
}

impl<E: 'static> Deref for Plan<E> {
    type Target = dyn Convolution<E>;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl Plan {
    pub fn new(operation: Operation, case: &Case, arguments: &Arguments, choice: Choice) -> Result<Plan, Error> {
        Plan::of(operation, case, arguments, choice)
    }
}

impl<E: Element> Plan<E> {
    /// For tensors with elements of that type.
    pub fn of(operation: Operation, case: &Case, arguments: &Arguments, choice: Choice) -> Result<Plan<E>, Error> {
        let Arguments { depthwise, pointwise, .. } = arguments;
        let middle = case.input.c * case.multiplier;
        let taps = case.kernel[0] * case.kernel[1];
        let Choice { machine, isa, layout, kernel, order, fusion } = choice;
        let depthwise_weights = depthwise.weights(order, middle, taps);
        let conv_taps = if operation == Operation::Conv2d { taps } else { 1 };
        let pointwise_weights = pointwise.weights(order, case.outputs, conv_taps);
        macro_rules! window {
            ($builder:expr) => {
                $builder.kernel_size(case.kernel).stride(case.stride).dilation(case.dilation).padding(case.padding)
            };
        }
        macro_rules! plan {
            ($builder:expr, $last:expr) => {
                Plan::from(
                    $builder
                        .weight_order(order)
                        .maybe_bias($last.bias.as_deref())
                        .maybe_batch_norm($last.norm())
                        .activation($last.activation)
                        .layout(layout)
                        .machine(machine)
                        .isa(isa)
                        .maybe_kernel(kernel)
                        .build_as::<E>()?,
                )
            };
        }
        Ok(match operation {
            Operation::Depthwise => {
                let builder = window!(DepthwiseConv2d::builder(case.input.c)).channel_multiplier(case.multiplier);
                plan!(builder.weights(&depthwise_weights), depthwise)
            }
            Operation::Pointwise => {
                plan!(PointwiseConv2d::builder(case.input.c, case.outputs).weights(&pointwise_weights), pointwise)
            }
            Operation::Separable => {
                let builder = window!(SeparableConv2d::builder(case.input.c, case.outputs))
                    .channel_multiplier(case.multiplier)
                    .depthwise_weights(&depthwise_weights)
                    .maybe_depthwise_bias(depthwise.bias.as_deref())
                    .maybe_depthwise_batch_norm(depthwise.norm())
                    .depthwise_activation(depthwise.activation)
                    .fusion(fusion);
                plan!(builder.pointwise_weights(&pointwise_weights), pointwise)
            }
            Operation::Conv2d => {
                plan!(window!(Conv2d::builder(case.input.c, case.outputs)).weights(&pointwise_weights), pointwise)
            }
        })
    }

    /// The names of the kernels that it runs on, on one thread, for an input of that shape.
    pub fn kernels(&self, input: Shape) -> Result<Vec<&'static str>, Error> {
        let description = self.prepare(input, Parallelism::Serial)?.describe();
        Ok(description.depthwise.into_iter().chain(description.pointwise).collect())
    }
}
