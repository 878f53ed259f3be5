//! What the suites share: the oracle, the cases, and [`check`], which runs a case on every kernel
//! in every way there is to call it.

#![allow(dead_code, reason = "each suite is its own crate and uses a part")]

pub mod activation;
pub mod cases;
pub mod memory;
pub mod oracle;

use std::collections::{BTreeMap, BTreeSet};

use depthwise::{
    Axis, BatchNorm, Conv2d, DepthwiseConv2d, Error, Fusion, Isa, KernelInfo, Layout, OutputRange, Parallelism,
    PointwiseConv2d, SeparableConv2d, Shape, TensorView, TensorViewMut, WeightOrder, Workspace,
};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use cases::{Case, Epilogue, Values};
use memory::{Arrangement, Buffer};
use oracle::{Exact, Fused, Number, Separate, Tensor};

/// The four plans.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    Depthwise,
    Pointwise,
    Separable,
    Conv2d,
}

/// The instruction sets to test; says which, and fails where `DEPTHWISE_REQUIRE_ISA` (names
/// between commas) asks for one that this machine cannot run.
pub fn isas() -> Vec<Isa> {
    let isas: Vec<Isa> = Isa::all().iter().copied().filter(|isa| isa.is_available()).collect();
    let required = std::env::var("DEPTHWISE_REQUIRE_ISA").unwrap_or_default();
    for name in required.split(',').filter(|name| !name.is_empty()) {
        assert!(isas.iter().any(|isa| isa.name() == name), "required: {name}; this machine runs {isas:?}");
    }
    isas
}

// ---- The arguments of a case.

/// One convolution's parameters, weights in PyTorch's order.
#[derive(Clone)]
struct Stage {
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
    norm: Option<[Vec<f32>; 4]>,
    activation: depthwise::Activation,
}

#[derive(Clone)]
pub struct Arguments {
    pub input: Tensor,
    depthwise: Stage,
    /// Of the pointwise stage or the standard convolution.
    pointwise: Stage,
    pub residual: Option<Tensor>,
    output: Shape,
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
                let [gamma, beta, mean, variance] = [(); 4].map(|()| draw(channels));
                [gamma, beta, mean, variance.iter().map(|v| v.abs() + 0.1).collect()]
            }),
            activation: epilogue.activation,
        };
        Arguments {
            depthwise: stage(middle, taps, case.depthwise),
            pointwise: stage(case.outputs, inputs, case.pointwise),
            input,
            residual,
            output,
        }
    }
}

fn value(rng: &mut StdRng, values: Values) -> f32 {
    const SPECIAL: [f32; 9] =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 0.0, 1e-40, -1e-45, f32::MIN_POSITIVE, f32::MAX];
    let plain = rng.random_range(-1.0f32..1.0);
    match values {
        Values::Plain => plain,
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
fn expected<N: Number>(operation: Operation, case: &Case, arguments: &Arguments) -> Tensor<N> {
    let input = arguments.input.map(N::new);
    let residual = arguments.residual.as_ref();
    let window = case.window();
    let depthwise = || {
        let (weights, bias) = arguments.depthwise.folded();
        oracle::depthwise(&input, &weights, bias.as_deref(), &window, case.multiplier)
    };
    let (weights, bias) = arguments.pointwise.folded();
    let bias = bias.as_deref();
    match operation {
        Operation::Depthwise => oracle::finish(depthwise(), residual, case.depthwise.activation),
        Operation::Pointwise => {
            let output = oracle::pointwise(&input, &weights, bias, case.outputs);
            oracle::finish(output, residual, case.pointwise.activation)
        }
        Operation::Separable => {
            let middle = oracle::finish(depthwise(), None, case.depthwise.activation);
            let output = oracle::pointwise(&middle, &weights, bias, case.outputs);
            oracle::finish(output, residual, case.pointwise.activation)
        }
        Operation::Conv2d => {
            let output = oracle::conv2d(&input, &weights, bias, &window, case.outputs);
            oracle::finish(output, residual, case.pointwise.activation)
        }
    }
}

/// What `operation` must return on `isa`.
pub fn expected_on(isa: Isa, operation: Operation, case: &Case, arguments: &Arguments) -> Tensor {
    if isa.is_fused() {
        expected::<Fused>(operation, case, arguments).map(|y| y.0)
    } else {
        expected::<Separate>(operation, case, arguments).map(|y| y.0)
    }
}

// ---- The plans of a case.

/// What a caller may choose about a plan without changing what it computes.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    pub isa: Isa,
    pub layout: Layout,
    pub kernel: Option<&'static str>,
    pub order: WeightOrder,
    pub fusion: Fusion,
}

impl Choice {
    pub fn new(isa: Isa, layout: Layout) -> Choice {
        Choice { isa, layout, kernel: None, order: WeightOrder::Pytorch, fusion: Fusion::Auto }
    }

    /// Everything to choose from, each alone: the plan's own choices first, then every kernel.
    pub fn all(operation: Operation, isa: Isa, layout: Layout) -> Vec<Choice> {
        let own = Choice::new(isa, layout);
        let fusions: &[Fusion] = match operation {
            Operation::Separable => &[Fusion::Fused, Fusion::TwoPass],
            _ => &[Fusion::Auto],
        };
        let mut all = vec![own, Choice { order: WeightOrder::Tflite, ..own }];
        for kernel in depthwise::kernels().filter(|k| k.isa == isa && k.layout == layout) {
            all.extend(fusions.iter().map(|&fusion| Choice { kernel: Some(kernel.name), fusion, ..own }));
        }
        all
    }
}

pub enum Plan {
    Depthwise(DepthwiseConv2d),
    Pointwise(PointwiseConv2d),
    Separable(SeparableConv2d),
    Conv2d(Conv2d),
}

/// The plans have the same methods but share no trait.
macro_rules! with {
    ($plan:expr, $p:ident => $call:expr) => {
        match $plan {
            Plan::Depthwise($p) => $call,
            Plan::Pointwise($p) => $call,
            Plan::Separable($p) => $call,
            Plan::Conv2d($p) => $call,
        }
    };
}

impl Plan {
    pub fn new(operation: Operation, case: &Case, arguments: &Arguments, choice: Choice) -> Result<Plan, Error> {
        let Arguments { depthwise, pointwise, .. } = arguments;
        let middle = case.input.c * case.multiplier;
        let taps = case.kernel[0] * case.kernel[1];
        let Choice { isa, layout, kernel, order, fusion } = choice;
        let depthwise_weights = depthwise.weights(order, middle, taps);
        let conv_taps = if operation == Operation::Conv2d { taps } else { 1 };
        let pointwise_weights = pointwise.weights(order, case.outputs, conv_taps);
        /// Calls a builder's method where there is an argument for it.
        macro_rules! given {
            ($builder:ident, $($method:ident($argument:expr)),*) => {
                $(if let Some(argument) = $argument { $builder = $builder.$method(argument); })*
            };
        }
        Ok(match operation {
            Operation::Depthwise => {
                let mut b = DepthwiseConv2d::builder(case.input.c)
                    .kernel_size(case.kernel)
                    .stride(case.stride)
                    .dilation(case.dilation)
                    .padding(case.padding)
                    .channel_multiplier(case.multiplier)
                    .weights(&depthwise_weights)
                    .weight_order(order)
                    .activation(depthwise.activation)
                    .layout(layout)
                    .isa(isa);
                given!(b, bias(depthwise.bias.as_deref()), batch_norm(depthwise.norm()), kernel(kernel));
                Plan::Depthwise(b.build()?)
            }
            Operation::Pointwise => {
                let mut b = PointwiseConv2d::builder(case.input.c, case.outputs)
                    .weights(&pointwise_weights)
                    .weight_order(order)
                    .activation(pointwise.activation)
                    .layout(layout)
                    .isa(isa);
                given!(b, bias(pointwise.bias.as_deref()), batch_norm(pointwise.norm()), kernel(kernel));
                Plan::Pointwise(b.build()?)
            }
            Operation::Separable => {
                let mut b = SeparableConv2d::builder(case.input.c, case.outputs)
                    .kernel_size(case.kernel)
                    .stride(case.stride)
                    .dilation(case.dilation)
                    .padding(case.padding)
                    .channel_multiplier(case.multiplier)
                    .depthwise_weights(&depthwise_weights)
                    .pointwise_weights(&pointwise_weights)
                    .weight_order(order)
                    .depthwise_activation(depthwise.activation)
                    .activation(pointwise.activation)
                    .layout(layout)
                    .isa(isa)
                    .fusion(fusion);
                given!(b, depthwise_bias(depthwise.bias.as_deref()), depthwise_batch_norm(depthwise.norm()));
                given!(b, bias(pointwise.bias.as_deref()), batch_norm(pointwise.norm()), kernel(kernel));
                if pointwise.bias.is_none() {
                    b = b.no_bias();
                }
                Plan::Separable(b.build()?)
            }
            Operation::Conv2d => {
                let mut b = Conv2d::builder(case.input.c, case.outputs)
                    .kernel_size(case.kernel)
                    .stride(case.stride)
                    .dilation(case.dilation)
                    .padding(case.padding)
                    .weights(&pointwise_weights)
                    .weight_order(order)
                    .activation(pointwise.activation)
                    .layout(layout)
                    .isa(isa);
                given!(b, bias(pointwise.bias.as_deref()), batch_norm(pointwise.norm()), kernel(kernel));
                Plan::Conv2d(b.build()?)
            }
        })
    }

    pub fn output_shape(&self, input: Shape) -> Result<Shape, Error> {
        with!(self, plan => plan.output_shape(input))
    }

    pub fn workspace_len(&self, input: Shape, parallelism: Parallelism) -> Result<usize, Error> {
        with!(self, plan => plan.workspace_len(input, parallelism))
    }

    pub fn run(
        &self,
        input: TensorView,
        residual: Option<TensorView>,
        output: TensorViewMut,
        workspace: &mut Workspace,
        parallelism: Parallelism,
    ) -> Result<(), Error> {
        with!(self, plan => match residual {
            None => plan.run(input, output, workspace, parallelism),
            Some(residual) => plan.run_with_residual(input, residual, output, workspace, parallelism),
        })
    }

    pub fn run_range(
        &self,
        input: TensorView,
        residual: Option<TensorView>,
        output: TensorViewMut,
        range: OutputRange,
        workspace: &mut Workspace,
    ) -> Result<(), Error> {
        with!(self, plan => plan.run_range(input, residual, output, range, workspace))
    }

    /// The names of the kernels it runs on.
    fn kernels(&self) -> impl Iterator<Item = &'static str> {
        let description = with!(self, plan => plan.describe());
        description.depthwise.into_iter().chain(description.pointwise)
    }
}

// ---- Running them.

/// How many cases each kernel ran.
#[derive(Default)]
pub struct Tally {
    cases: usize,
    runs: BTreeMap<&'static str, usize>,
}

impl Tally {
    /// Prints kernel × cases; fails if a kernel that `is_due` here ran fewer than `least`.
    pub fn finish(self, suite: &str, least: usize, is_due: impl Fn(&KernelInfo) -> bool) {
        println!("{suite}: {} cases on {:?}", self.cases, isas());
        for (kernel, runs) in &self.runs {
            println!("  {kernel:<40} {runs:>5}");
        }
        for kernel in depthwise::kernels().filter(|k| k.isa.is_available() && is_due(k)) {
            let runs = self.runs.get(kernel.name).copied().unwrap_or(0);
            assert!(runs >= least, "{suite}: {} ran {runs} cases only, of {}", kernel.name, self.cases);
        }
    }
}

/// Runs `case` on every kernel that fits it, in every layout and on every instruction set, in
/// every way to call it, and panics unless each gives the oracle's bits. That they also agree with
/// each other (layouts, thread counts, splits, fused or not) follows.
pub fn check(operation: Operation, case: &Case, tally: &mut Tally) {
    tally.cases += 1;
    if let Err(problem) = try_check(operation, case, tally) {
        panic!("{operation:?}: {problem}\nin {case:#?}");
    }
}

fn try_check(operation: Operation, case: &Case, tally: &mut Tally) -> Result<(), String> {
    let arguments = Arguments::new(operation, case);
    let exact = expected::<Exact>(operation, case, &arguments);
    let fused = expected::<Fused>(operation, case, &arguments).map(|y| y.0);
    let separate = expected::<Separate>(operation, case, &arguments).map(|y| y.0);
    // What equals the oracle's bits is within the bound because the oracle is.
    within_bound(&fused, &exact).map_err(|e| format!("the fused oracle, {e}"))?;
    within_bound(&separate, &exact).map_err(|e| format!("the unfused oracle, {e}"))?;

    let mut ran = BTreeSet::new();
    for layout in [Layout::Nchw, Layout::Nhwc] {
        let mut calls = Calls::new(case, &arguments, layout);
        for isa in isas() {
            let want = if isa.is_fused() { &fused } else { &separate };
            for choice in Choice::all(operation, isa, layout) {
                let plan = match Plan::new(operation, case, &arguments, choice) {
                    Ok(plan) => plan,
                    Err(_) if choice.kernel.is_some() => continue, // It does not fit.
                    Err(error) => return Err(format!("{choice:?}: {error}")),
                };
                let kernels: Vec<_> = plan.kernels().collect();
                let run = calls.every_way(&plan, want, choice.kernel.is_none());
                run.map_err(|e| format!("{choice:?} on {kernels:?}, {e}"))?;
                ran.extend(kernels);
            }
        }
    }
    for kernel in ran {
        *tally.runs.entry(kernel).or_default() += 1;
    }
    Ok(())
}

pub fn within_bound(got: &Tensor, exact: &Tensor<Exact>) -> Result<(), String> {
    for (i, (got, exact)) in got.data.iter().zip(&exact.data).enumerate() {
        let error = (f64::from(*got) - exact.value).abs();
        let within = error <= exact.error(); // A NaN is not.
        if exact.is_bounded() && !within {
            return Err(format!(
                "element {i}: {got:e} is off {:e} by {error:e}, over {:e}",
                exact.value,
                exact.error()
            ));
        }
    }
    Ok(())
}

/// The tensors of one case in one layout, to call its plans with.
struct Calls<'a> {
    arguments: &'a Arguments,
    buffers: Vec<(Arrangement, Buffer, Option<Buffer>, Buffer)>,
    /// Full of what a larger run left: NaN.
    workspace: Workspace,
    /// Of the splits and of the turns between thread counts.
    rng: StdRng,
}

impl<'a> Calls<'a> {
    fn new(case: &Case, arguments: &'a Arguments, layout: Layout) -> Calls<'a> {
        let buffers = Arrangement::ALL.map(|arrangement| {
            let residual = arguments.residual.as_ref().map(|r| Buffer::of(r, layout, arrangement));
            let output = Buffer::blank(arguments.output, layout, arrangement);
            (arrangement, Buffer::of(&arguments.input, layout, arrangement), residual, output)
        });
        let rng = StdRng::seed_from_u64(case.seed);
        Calls { arguments, buffers: buffers.into(), workspace: dirty_workspace(), rng }
    }

    /// `all_pools`: on every thread count, not only on one by turns.
    fn every_way(&mut self, plan: &Plan, want: &Tensor, all_pools: bool) -> Result<(), String> {
        let shape = plan.output_shape(self.arguments.input.shape).map_err(|e| format!("output_shape: {e}"))?;
        if shape != want.shape {
            return Err(format!("output_shape: want {:?}, got {shape:?}", want.shape));
        }
        // In every arrangement, or if that would take long in one of them by turns.
        let large = want.data.len() > 1 << 14;
        let turn = self.rng.random_range(0..self.buffers.len());
        let chosen = if large { turn..turn + 1 } else { 0..self.buffers.len() };
        for (arrangement, input, residual, output) in &mut self.buffers[chosen] {
            let input = input.view();
            let residual = residual.as_ref().map(Buffer::view);
            let workspace = &mut self.workspace;

            output.clear();
            let run = plan.run(input, residual, output.view_mut(), workspace, Parallelism::Serial);
            run.map_err(|e| e.to_string())
                .and_then(|()| output.expect(want))
                .map_err(|e| format!("{arrangement:?}, serial: {e}"))?;

            output.clear();
            let mut parts = Parts { plan, input, rng: &mut self.rng, workspace: &mut Workspace::new() };
            let run = parts.run(residual, output.view_mut(), OutputRange::all(shape), 3);
            run.map_err(|e| e.to_string())
                .and_then(|()| output.expect(want))
                .map_err(|e| format!("{arrangement:?}, in parts: {e}"))?;

            #[cfg(feature = "rayon")]
            {
                let turn = self.rng.random_range(0..POOLS.len());
                for pool in if all_pools { &POOLS[..] } else { &POOLS[turn..=turn] } {
                    output.clear();
                    let view = output.view_mut();
                    let run = pool.install(|| plan.run(input, residual, view, workspace, Parallelism::Rayon));
                    run.map_err(|e| e.to_string())
                        .and_then(|()| output.expect(want))
                        .map_err(|e| format!("{arrangement:?}, {} threads: {e}", pool.current_num_threads()))?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(feature = "rayon")]
pub static POOLS: std::sync::LazyLock<Vec<rayon::ThreadPool>> = std::sync::LazyLock::new(|| {
    let pool = |threads| rayon::ThreadPoolBuilder::new().num_threads(threads).build();
    [1, 2, 3, 7].map(|threads| pool(threads).expect("a thread pool")).into()
});

/// A run that an engine's own scheduler would have split.
struct Parts<'a> {
    plan: &'a Plan,
    input: TensorView<'a>,
    rng: &'a mut StdRng,
    workspace: &'a mut Workspace,
}

impl Parts<'_> {
    /// Cuts `range` in two along a random axis, `depth` times over, and runs what is left.
    fn run(
        &mut self,
        residual: Option<TensorView>,
        output: TensorViewMut,
        range: OutputRange,
        depth: usize,
    ) -> Result<(), Error> {
        let axis = [Axis::N, Axis::C, Axis::H][self.rng.random_range(0..3)];
        let cut = |range: &OutputRange| match axis {
            Axis::N => range.n.clone(),
            Axis::C => range.c.clone(),
            _ => range.h.clone(),
        };
        let len = cut(&range).len();
        if depth == 0 {
            return self.plan.run_range(self.input, residual, output, range, self.workspace);
        }
        if len < 2 {
            return self.run(residual, output, range, depth - 1);
        }
        let at = self.rng.random_range(1..len);
        let (first, second) = output.split_at(axis, at)?;
        for (output, part) in [(first, 0..at), (second, at..len)] {
            let residual = residual.map(|r| r.narrow(axis, part.clone())).transpose()?;
            let start = cut(&range).start;
            let part = start + part.start..start + part.end;
            let range = match axis {
                Axis::N => OutputRange { n: part, ..range.clone() },
                Axis::C => OutputRange { c: part, ..range.clone() },
                _ => OutputRange { h: part, ..range.clone() },
            };
            self.run(residual, output, range, depth - 1)?;
        }
        Ok(())
    }
}

/// A workspace after a run that needed much of it and computed nothing but NaN.
pub fn dirty_workspace() -> Workspace {
    let case = Case { input: Shape::new(1, 32, 32, 32), outputs: 32, ..Case::default() };
    let mut arguments = Arguments::new(Operation::Separable, &case);
    arguments.input.data.fill(f32::NAN);
    let choice = Choice { fusion: Fusion::TwoPass, ..Choice::new(Isa::detect(), Layout::Nhwc) };
    let plan = Plan::new(Operation::Separable, &case, &arguments, choice).expect("a plain plan");
    let input = Buffer::of(&arguments.input, Layout::Nhwc, Arrangement::Contiguous);
    let mut output = Buffer::blank(arguments.output, Layout::Nhwc, Arrangement::Contiguous);
    let mut workspace = Workspace::new();
    plan.run(input.view(), None, output.view_mut(), &mut workspace, Parallelism::Serial).expect("a plain run");
    workspace
}
