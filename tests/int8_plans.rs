//! Plans of 8 bits equal the oracle bit for bit: every kernel, both layouts, both rules, in every way to call them.

use depthwise::int8::{
    Conv2d, DepthwiseConv2d, Integer, Output, PointwiseConv2d, Quantized, Rounding, SeparableConv2d, Table, Weights,
};
use depthwise::{
    Axis, ElementType, Error, Isa, KernelInfo, Layout, OutputRange, Padding, Parallelism, Run, Shape, Strides,
    TensorView, TensorViewMut, Workspace,
};
use depthwise_testkit::Tally;
use depthwise_testkit::emulation;
use depthwise_testkit::int8::{self as oracle, Kind, Target};
use depthwise_testkit::oracle::{Tensor, Window};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Depthwise,
    Pointwise,
    Separable,
    Conv2d,
}
use Operation::*;

/// A convolution with all that belongs to it but its numbers, which follow from `seed`.
#[derive(Clone, Debug)]
struct Case {
    operation: Operation,
    input: Shape,
    multiplier: usize,
    outputs: usize,
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
    padding: Padding,
    input_kind: Kind,
    output_kind: Kind,
    weights_kind: Kind,
    /// Whether all numbers are those at the ends of their types.
    extreme: bool,
    rounding: oracle::Rounding,
    seed: u64,
}

impl Case {
    fn new(operation: Operation, input: Shape, seed: u64) -> Self {
        Case {
            operation,
            input,
            multiplier: 1,
            outputs: 8,
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            padding: Padding::explicit(1, 1, 1, 1),
            input_kind: Kind::I8,
            output_kind: Kind::I8,
            weights_kind: Kind::I8,
            extreme: false,
            rounding: oracle::Rounding::NearestEven,
            seed,
        }
    }

    fn window(&self) -> Window {
        Window { kernel: self.kernel, stride: self.stride, dilation: self.dilation, padding: self.padding }
    }

    /// The channels of its output.
    fn last(&self) -> usize {
        if self.operation == Depthwise { self.input.c * self.multiplier } else { self.outputs }
    }
}

/// A stage's parameters.
#[derive(Clone)]
struct Stage {
    weights: Vec<i64>,
    scales: Vec<f32>,
    zero_point: i64,
    bias: Vec<i32>,
    target: Target,
}

/// A case with its numbers.
struct Drawn {
    input: Tensor<i64>,
    from: oracle::Quantized,
    stages: Vec<Stage>,
}

fn draw(case: &Case) -> Drawn {
    let mut rng = StdRng::seed_from_u64(case.seed);
    let number = |rng: &mut StdRng, kind: Kind| {
        let (low, high) = kind.range();
        if case.extreme { if rng.random_range(0..5) > 0 { low } else { high } } else { rng.random_range(low..=high) }
    };
    let quantized =
        |rng: &mut StdRng, kind: Kind, scale: f32| oracle::Quantized { kind, scale, zero_point: number(rng, kind) };
    let from = quantized(&mut rng, case.input_kind, 0.37);
    let input = Tensor::from_fn(case.input, |_, _, _, _| number(&mut rng, case.input_kind));
    let mid = case.input.c * case.multiplier;
    let taps = case.kernel[0] * case.kernel[1];
    let stages: &[(usize, usize)] = match case.operation {
        Depthwise => &[(mid, taps)],
        Pointwise => &[(case.outputs, case.input.c)],
        Conv2d => &[(case.outputs, case.input.c * taps)],
        Separable => &[(mid, taps), (case.outputs, mid)],
    };
    let mut scale = from.scale;
    let stages = stages.iter().enumerate().map(|(i, &(outputs, of))| {
        let symmetric = case.weights_kind == Kind::I8 && !case.extreme;
        let zero_point = if symmetric { 0 } else { number(&mut rng, case.weights_kind) };
        let weights: Vec<i64> = (0..outputs * of).map(|_| number(&mut rng, case.weights_kind)).collect();
        let per_channel = case.weights_kind == Kind::I8;
        let scales: Vec<f32> =
            (0..if per_channel { outputs } else { 1 }).map(|_| rng.random_range(0.001f32..0.01)).collect();
        // Some biases take a sum to the ends of 32 bits.
        let reach = i64::from(i32::MAX) - of as i64 * 255 * 255;
        let bias = (0..outputs)
            .map(|o| match rng.random_range(0..8) {
                // Where a factor is below 1.
                0 if of >= 4 => {
                    if o % 2 == 0 {
                        reach as i32
                    } else {
                        -reach as i32
                    }
                }
                _ => rng.random_range(-20_000..20_000),
            })
            .collect();
        let is_last = case.operation != Separable || i == 1;
        let kind = if is_last { case.output_kind } else { case.input_kind };
        let spread = 1.2 * scale * 0.005 * (of as f32).sqrt();
        let output = quantized(&mut rng, kind, spread);
        let mut target = Target::new(output, case.rounding);
        if rng.random_range(0..2) == 0 {
            let (low, high) = kind.range();
            target.clamp = (output.zero_point.max(low), high - 20);
            if target.clamp.0 > target.clamp.1 {
                target.clamp = (low, high);
            }
        }
        scale = output.scale;
        Stage { weights, scales, zero_point, bias, target }
    });
    let stages = stages.collect();
    Drawn { input, from, stages }
}

fn expected(case: &Case, drawn: &Drawn) -> Tensor<i64> {
    let Drawn { input, from, stages } = drawn;
    fn weights(stage: &Stage) -> oracle::Weights<'_> {
        let Stage { weights, scales, zero_point, bias, .. } = stage;
        oracle::Weights { values: weights, scales, zero_point: *zero_point, bias }
    }
    let first = weights(&stages[0]);
    let target = stages[0].target;
    match case.operation {
        Depthwise => oracle::depthwise((input, *from), first, &case.window(), case.multiplier, target),
        Pointwise => oracle::pointwise((input, *from), first, case.outputs, target),
        Conv2d => oracle::conv2d((input, *from), first, &case.window(), case.outputs, target),
        Separable => oracle::separable(
            (input, *from),
            (first, &case.window(), case.multiplier, target),
            (weights(&stages[1]), case.outputs, stages[1].target),
        ),
    }
}

fn quantized(of: oracle::Quantized) -> Quantized {
    match of.kind {
        Kind::U8 => Quantized::u8(of.scale, of.zero_point as i32),
        Kind::I8 => Quantized::i8(of.scale, of.zero_point as i32),
    }
}

/// A plan of any operation.
enum Plan {
    Depthwise(DepthwiseConv2d),
    Pointwise(PointwiseConv2d),
    Separable(SeparableConv2d),
    Conv2d(Conv2d),
}

macro_rules! of_any {
    ($self:expr, $plan:ident => $each:expr) => {
        match $self {
            Plan::Depthwise($plan) => $each,
            Plan::Pointwise($plan) => $each,
            Plan::Separable($plan) => $each,
            Plan::Conv2d($plan) => $each,
        }
    };
}

/// Weights as a builder takes them.
enum Values {
    U8(Vec<u8>),
    I8(Vec<i8>),
}

impl Values {
    fn of(kind: Kind, stage: &Stage) -> Self {
        match kind {
            Kind::U8 => Values::U8(stage.weights.iter().map(|&w| w as u8).collect()),
            Kind::I8 => Values::I8(stage.weights.iter().map(|&w| w as i8).collect()),
        }
    }

    fn weights<'a>(&'a self, stage: &'a Stage) -> Weights<'a> {
        let zero_point = stage.zero_point as i32;
        match self {
            Values::U8(values) => Weights::u8(values, &stage.scales, zero_point),
            Values::I8(values) => Weights::i8(values, &stage.scales).with_zero_point(zero_point),
        }
    }
}

/// What a plan makes of its last sums.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outputs {
    Numbers,
    /// What a table has for them, after each stage.
    Looked,
    Sums,
    Real,
}

/// The number that a table of a type has for a number of another: each once.
fn entry(q: i64, from: Kind, to: Kind) -> i64 {
    to.range().0 + ((q - from.range().0) * 37 + 11) % 256
}

fn table(from: oracle::Quantized, to: Kind) -> Table {
    let numbers = |q: i32| entry(q.into(), from.kind, to) as i32;
    Table::new(quantized(from), quantized(looked(from, to)), numbers).expect("a table")
}

/// What a table's numbers stand for.
fn looked(from: oracle::Quantized, to: Kind) -> oracle::Quantized {
    oracle::Quantized { kind: to, scale: 0.9 * from.scale, zero_point: to.range().0 + 77 }
}

fn other(kind: Kind) -> Kind {
    if kind == Kind::U8 { Kind::I8 } else { Kind::U8 }
}

/// A bias for each channel of outputs of `f32`.
fn bias_of_reals(channels: usize) -> Vec<f32> {
    (0..channels).map(|channel| (channel as f32 - 7.3) * 0.77).collect()
}

fn plan(
    case: &Case,
    drawn: &Drawn,
    isa: Isa,
    layout: Layout,
    kernels: [Option<&str>; 2],
    outputs: Outputs,
) -> Result<Plan, Error> {
    let bias = bias_of_reals(case.last());
    let values: Vec<_> = drawn.stages.iter().map(|stage| Values::of(case.weights_kind, stage)).collect();
    let rounding = match case.rounding {
        oracle::Rounding::NearestEven => Rounding::NearestEven,
        oracle::Rounding::Tflite => Rounding::Tflite,
        oracle::Rounding::TfliteLegacy => Rounding::TfliteLegacy,
    };
    let (first, last) = (&drawn.stages[0], drawn.stages.last().expect("a stage"));
    macro_rules! common {
        ($builder:expr) => {{
            let mut builder = $builder.layout(layout).isa(isa).rounding(rounding).input(quantized(drawn.from));
            for name in kernels.into_iter().flatten() {
                builder = builder.kernel(name);
            }
            let (low, high) = last.target.clamp;
            match outputs {
                Outputs::Numbers => builder.output(quantized(last.target.output)).clamp(low as i32, high as i32),
                Outputs::Looked => {
                    let table = table(last.target.output, other(case.output_kind));
                    builder.output_table(table).clamp(low as i32, high as i32)
                }
                Outputs::Sums => builder.output_sums(),
                Outputs::Real => builder.output_f32().bias_f32(&bias),
            }
        }};
    }
    macro_rules! window {
        ($builder:expr) => {
            $builder.kernel_size(case.kernel).stride(case.stride).dilation(case.dilation).padding(case.padding)
        };
    }
    let weights = values[0].weights(first);
    Ok(match case.operation {
        Depthwise => Plan::Depthwise(
            window!(common!(DepthwiseConv2d::builder(case.input.c)))
                .channel_multiplier(case.multiplier)
                .weights(weights)
                .bias(&first.bias)
                .build()?,
        ),
        Pointwise => Plan::Pointwise(
            common!(PointwiseConv2d::builder(case.input.c, case.outputs)).weights(weights).bias(&first.bias).build()?,
        ),
        Conv2d => Plan::Conv2d(
            window!(common!(Conv2d::builder(case.input.c, case.outputs))).weights(weights).bias(&first.bias).build()?,
        ),
        Separable => {
            let (low, high) = first.target.clamp;
            let builder = window!(common!(SeparableConv2d::builder(case.input.c, case.outputs)));
            let builder = match outputs {
                Outputs::Looked => builder.between_table(table(first.target.output, case.input_kind)),
                _ => builder.between(quantized(first.target.output)),
            };
            Plan::Separable(
                builder
                    .channel_multiplier(case.multiplier)
                    .depthwise_weights(weights)
                    .depthwise_bias(&first.bias)
                    .depthwise_clamp(low as i32, high as i32)
                    .pointwise_weights(values[1].weights(last))
                    .bias(&last.bias)
                    .build()?,
            )
        }
    })
}

/// A tensor with gaps between pixels, or rows of a plane.
struct Buffer<T> {
    data: Vec<T>,
    shape: Shape,
    strides: Strides,
}

/// Numbers of a test as elements; of `f32`, its bits.
trait Number: Output {
    fn of(x: i64) -> Self;
    fn wide(self) -> i64;
    const GAP: Self;
}

macro_rules! number {
    ($($type:ty)*) => {$(
        impl Number for $type {
            fn of(x: i64) -> Self {
                x as $type
            }
            fn wide(self) -> i64 {
                self.into()
            }
            const GAP: Self = 77;
        }
    )*};
}
number!(u8 i8 i32);

impl Number for f32 {
    fn of(bits: i64) -> f32 {
        f32::from_bits(bits as u32)
    }
    fn wide(self) -> i64 {
        self.to_bits().into()
    }
    const GAP: f32 = 77.0;
}

impl<T: Number> Buffer<T> {
    fn blank(shape: Shape, layout: Layout, gap: usize) -> Self {
        let Shape { n, c, h, w } = shape;
        let strides = match layout {
            Layout::Nhwc => Strides { c: 1, w: c + gap, h: w * (c + gap) + gap, n: h * (w * (c + gap) + gap) },
            Layout::Nchw => Strides { w: 1, h: w + gap, c: h * (w + gap) + gap, n: c * (h * (w + gap) + gap) },
        };
        Buffer { data: vec![T::GAP; n * strides.n], shape, strides }
    }

    fn of(tensor: &Tensor<i64>, layout: Layout, gap: usize) -> Self {
        let mut buffer = Self::blank(tensor.shape, layout, gap);
        Tensor::from_fn(tensor.shape, |n, c, h, w| {
            buffer.data[buffer.strides.offset(n, c, h, w)] = T::of(tensor.at(n, c, h, w));
        });
        buffer
    }

    fn view(&self) -> TensorView<'_, T> {
        TensorView::strided(&self.data, self.shape, self.strides).expect("a view")
    }

    fn view_mut(&mut self) -> TensorViewMut<'_, T> {
        TensorViewMut::strided(&mut self.data, self.shape, self.strides).expect("a view")
    }

    fn check(&self, want: &Tensor<i64>, what: &str) {
        let mut is_gap = vec![true; self.data.len()];
        Tensor::from_fn(want.shape, |n, c, h, w| {
            let at = self.strides.offset(n, c, h, w);
            is_gap[at] = false;
            let (want, got) = (want.at(n, c, h, w), self.data[at].wide());
            assert_eq!(got, want, "{what}: n={n} c={c} h={h} w={w}");
        });
        for (at, _) in is_gap.iter().enumerate().filter(|&(_, &gap)| gap) {
            assert_eq!(self.data[at], T::GAP, "{what}: wrote {at}, beside the output");
        }
    }
}

/// How a plan is run.
#[derive(Clone, Copy, Debug)]
struct Way {
    layout: Layout,
    gap: usize,
    threads: bool,
    /// In parts, of which none begins where kernels would.
    parts: bool,
    /// What the run says of its input.
    of_run: Option<Quantized>,
}

impl Way {
    fn new(layout: Layout) -> Self {
        Way { layout, gap: 0, threads: false, parts: false, of_run: None }
    }
}

fn run<I: Number + Integer<Stored = u8>, O: Number>(
    plan: &Plan,
    input: &Tensor<i64>,
    want: &Tensor<i64>,
    way: Way,
    what: &str,
) {
    let input = Buffer::<I>::of(input, way.layout, way.gap);
    let mut output = Buffer::<O>::blank(want.shape, way.layout, way.gap);
    let mut workspace = Workspace::new();
    let parallelism = match way.threads {
        #[cfg(feature = "rayon")]
        true => Parallelism::Rayon,
        _ => Parallelism::Serial,
    };
    let shape = of_any!(plan, plan => plan.output_shape(input.shape)).expect("a shape");
    assert_eq!(shape, want.shape, "{what}");
    let all = OutputRange::all(shape);
    let mut ranges = vec![all.clone()];
    if way.parts {
        for (axis, at) in [(Axis::C, shape.c / 3 + 1), (Axis::H, shape.h / 2), (Axis::W, shape.w / 3)] {
            let cut = |range: OutputRange| {
                let (mut a, mut b) = (range.clone(), range);
                let at = at.clamp(a[axis].start, a[axis].end);
                (a[axis].end, b[axis].start) = (at, at);
                [a, b]
            };
            ranges = ranges.into_iter().flat_map(cut).filter(|range| !range.is_empty()).collect();
        }
    }
    let views = output.view_mut().split(&ranges).expect("parts");
    for (view, range) in views.into_iter().zip(ranges) {
        let run = Run::new(input.view(), view, &mut workspace).parallelism(parallelism);
        let run = if way.parts { run.range(range) } else { run };
        let run = if let Some(input) = way.of_run { run.quantized(input) } else { run };
        of_any!(plan, plan => plan.run(run)).unwrap_or_else(|error| panic!("{what}: {error}"));
    }
    if !way.parts {
        let said = of_any!(plan, plan => plan.workspace_len(input.shape, parallelism)).expect("a length");
        assert!(workspace.len() <= said.next_multiple_of(16), "{what}: a workspace of {} not {said}", workspace.len());
    }
    output.check(want, what);
}

/// The type of a plan's numbers.
fn plan_kind(plan: &Plan) -> Kind {
    match of_any!(plan, plan => plan.output_element()) {
        ElementType::U8 => Kind::U8,
        ElementType::I8 => Kind::I8,
        other => panic!("outputs of {other}"),
    }
}

fn run_as(case: &Case, plan: &Plan, input: &Tensor<i64>, want: &Tensor<i64>, way: Way, what: &str) {
    match (case.input_kind, plan_kind(plan)) {
        (Kind::U8, Kind::U8) => run::<u8, u8>(plan, input, want, way, what),
        (Kind::U8, Kind::I8) => run::<u8, i8>(plan, input, want, way, what),
        (Kind::I8, Kind::U8) => run::<i8, u8>(plan, input, want, way, what),
        (Kind::I8, Kind::I8) => run::<i8, i8>(plan, input, want, way, what),
    }
}

fn isas() -> impl Iterator<Item = Isa> {
    Isa::EVERY.into_iter().filter(|isa| isa.is_available())
}

/// The kernels of 8 bits that this CPU runs, each with the instruction set of its plan.
fn kernels() -> impl Iterator<Item = KernelInfo> {
    depthwise::kernels().filter(|info| info.element == ElementType::I8 && info.isa.is_available())
}

/// A case on every kernel that fits it, in both layouts.
fn check(case: &Case, tally: &mut Tally) {
    let mut ran = Vec::new();
    let drawn = draw(case);
    let want = expected(case, &drawn);
    let plain = Way::new(Layout::Nhwc);
    for info in kernels() {
        let is_depthwise = info.operation == depthwise::Operation::Depthwise;
        let fits = match case.operation {
            Depthwise => is_depthwise,
            Pointwise | Conv2d => !is_depthwise,
            Separable => true,
        };
        if !fits {
            continue;
        }
        // Such a kernel may not be for the window, or not for the weights.
        match plan(case, &drawn, info.isa, Layout::Nhwc, [Some(info.name), None], Outputs::Numbers) {
            Ok(plan) => {
                ran.push(info.name);
                run_as(case, &plan, &drawn.input, &want, plain, &format!("{case:?} on {}", info.name));
            }
            Err(Error::KernelDoesNotFit { .. }) => {}
            // Alone, an instruction set may lack the other stage's kernel.
            Err(error) => panic!("{case:?} on {}: {error}", info.name),
        }
    }
    tally.add(ran);
    for isa in isas() {
        for layout in [Layout::Nhwc, Layout::Nchw] {
            let what = format!("{case:?}, {layout}, {isa}");
            let plan = plan(case, &drawn, isa, layout, [None; 2], Outputs::Numbers)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            for (gap, threads, parts) in [(0, false, true), (3, false, false), (3, true, false)] {
                let way = Way { gap, threads, parts, ..Way::new(layout) };
                run_as(case, &plan, &drawn.input, &want, way, &format!("{what}, {way:?}"));
            }
        }
    }
}

fn check_all(suite: &str, operation: depthwise::Operation, cases: Vec<Case>) {
    let few = if cfg!(miri) { 2 } else { 12 };
    // Those by hand come first.
    let of_few = |&(i, _): &(usize, Case)| i < 3 || i % 5 == 0;
    let is_small = |case: &Case| !cfg!(miri) || case.input.len().is_some_and(|len| len < 256);
    let cases: Vec<Case> = if emulation::is_on() {
        cases.into_iter().filter(is_small).enumerate().filter(of_few).map(|(_, case)| case).take(few).collect()
    } else {
        cases
    };
    let mut tally = Tally::default();
    for case in &cases {
        check(case, &mut tally);
    }
    tally.finish(suite, 1, |kernel| kernel.element == ElementType::I8 && kernel.operation == operation);
}

/// Cases by chance, of few numbers.
fn randoms(operation: Operation, count: u64) -> Vec<Case> {
    let kinds = [Kind::U8, Kind::I8];
    let of = |seed: u64| {
        let mut rng = StdRng::seed_from_u64(1000 + seed);
        let mut any = |numbers: &[usize]| numbers[rng.random_range(0..numbers.len())];
        let kernel = match any(&[0, 0, 0, 1, 2, 3]) {
            0 => [3, 3],
            1 => [any(&[1, 2, 5]), any(&[1, 4, 5])],
            2 => [5, 5],
            _ => [7, 2],
        };
        let stride = match any(&[0, 0, 1, 1, 2]) {
            0 => [1, 1],
            1 => [2, 2],
            _ => [any(&[1, 2, 3]), any(&[1, 3])],
        };
        let dilation = if any(&[0, 0, 0, 1]) == 1 { [any(&[1, 2]), 2] } else { [1, 1] };
        let c = any(&[1, 3, 4, 8, 15, 16, 17, 24, 33, 63, 64, 65, 100, 130]);
        let input = Shape::new(any(&[1, 1, 2]), c, any(&[1, 2, 3, 5, 6, 9]), any(&[1, 2, 4, 7, 8, 11, 13]));
        Case {
            multiplier: if operation == Depthwise || operation == Separable { any(&[1, 1, 1, 2, 3]) } else { 1 },
            outputs: any(&[1, 5, 16, 20, 64, 70]),
            kernel,
            stride,
            dilation,
            input_kind: kinds[any(&[0, 1])],
            output_kind: kinds[any(&[0, 1])],
            weights_kind: kinds[any(&[0, 1, 1])],
            extreme: any(&[0, 0, 1]) == 1,
            rounding: [oracle::Rounding::NearestEven, oracle::Rounding::Tflite, oracle::Rounding::TfliteLegacy]
                [any(&[0, 0, 1, 1, 2])],
            ..Case::new(operation, input, seed)
        }
    };
    (0..count)
        .map(of)
        .map(|case| {
            if case.operation == Conv2d {
                Case { input: Shape { c: case.input.c.min(20), ..case.input }, ..case }
            } else {
                case
            }
        })
        .map(|case| {
            // As much as there is an output, at the least.
            let least = [0, 1].map(|i| {
                let reach = (case.kernel[i] - 1) * case.dilation[i];
                reach.div_ceil(2).max((reach + 1).saturating_sub([case.input.h, case.input.w][i]).div_ceil(2))
            });
            let [y, x] = least;
            let more = usize::from(case.seed % 4 == 0);
            Case { padding: Padding::explicit(y + more, x, y, x + more), ..case }
        })
        .collect()
}

#[test]
fn depthwise() {
    let mut cases = Vec::new();
    // Strips of more columns than a buffer holds, and rows left over.
    for (stride, w) in [([1, 1], 9), ([2, 2], 9), ([1, 1], 200), ([2, 2], 201)] {
        cases.push(Case { stride, ..Case::new(Depthwise, Shape::new(1, 70, 3, w), 7) });
    }
    cases.extend(randoms(Depthwise, 40));
    check_all("depthwise of 8 bits", depthwise::Operation::Depthwise, cases);
}

#[test]
fn pointwise() {
    let mut cases = randoms(Pointwise, 30);
    // Depths beyond a block of inputs, and each height of a tile.
    for w in [1, 2, 3, 4, 5, 6, 7, 13] {
        let rounding = if w % 2 == 0 { oracle::Rounding::Tflite } else { oracle::Rounding::NearestEven };
        cases.push(Case { outputs: 70, rounding, ..Case::new(Pointwise, Shape::new(1, 1021 + w, 1, w), 9) });
    }
    check_all("pointwise of 8 bits", depthwise::Operation::Pointwise, cases);
}

#[test]
fn separable() {
    check_all("separable of 8 bits", depthwise::Operation::Pointwise, randoms(Separable, 24));
}

#[test]
fn standard() {
    check_all("standard of 8 bits", depthwise::Operation::Pointwise, randoms(Conv2d, 20));
}

/// Large enough to be cut in blocks and between threads.
#[test]
fn blocks() {
    if emulation::is_on() {
        return println!("left out: it takes an emulator long");
    }
    let mut tally = Tally::default();
    for (operation, outputs) in [(Separable, 72), (Conv2d, 40)] {
        let input = if operation == Conv2d { Shape::new(1, 20, 61, 64) } else { Shape::new(1, 130, 61, 64) };
        check(&Case { outputs, ..Case::new(operation, input, 3) }, &mut tally);
    }
}

/// Cases for what becomes of sums: each operation, all that a window may have.
fn few_of_each() -> Vec<Case> {
    let mut cases = Vec::new();
    for (operation, seed) in [(Depthwise, 1), (Pointwise, 2), (Separable, 3), (Conv2d, 4)] {
        let input = Shape::new(1, if operation == Conv2d { 20 } else { 70 }, 4, 9);
        cases.push(Case { outputs: 70, ..Case::new(operation, input, seed) });
        let few = if emulation::is_on() { 1 } else { 12 };
        cases.extend(randoms(operation, few));
    }
    cases
}

/// In every way to call them, on each instruction set.
fn check_outputs(outputs: Outputs, of_run: Option<Quantized>, drawn: &Drawn, case: &Case, want: &Tensor<i64>) {
    for (isa, layout) in isas().flat_map(|isa| [Layout::Nhwc, Layout::Nchw].map(|layout| (isa, layout))) {
        let what = format!("{case:?}, {outputs:?}, {layout}, {isa}");
        let plan = plan(case, drawn, isa, layout, [None; 2], outputs);
        let plan = plan.unwrap_or_else(|error| panic!("{what}: {error}"));
        for (gap, threads, parts) in [(0, false, false), (0, true, false), (2, false, true)] {
            let way = Way { gap, threads, parts, of_run, ..Way::new(layout) };
            let what = format!("{what}, {way:?}");
            match (outputs, case.input_kind) {
                (Outputs::Numbers | Outputs::Looked, _) => run_as(case, &plan, &drawn.input, want, way, &what),
                (Outputs::Sums, Kind::U8) => run::<u8, i32>(&plan, &drawn.input, want, way, &what),
                (Outputs::Sums, Kind::I8) => run::<i8, i32>(&plan, &drawn.input, want, way, &what),
                (Outputs::Real, Kind::U8) => run::<u8, f32>(&plan, &drawn.input, want, way, &what),
                (Outputs::Real, Kind::I8) => run::<i8, f32>(&plan, &drawn.input, want, way, &what),
            }
        }
    }
}

/// Sums as they are.
#[test]
fn sums() {
    for case in few_of_each() {
        let drawn = draw(&case);
        check_outputs(Outputs::Sums, None, &drawn, &case, &sums_of(&case, &drawn));
    }
}

/// Each number that was rounded becomes another, after both stages.
#[test]
fn tables() {
    // Blocks of outputs that are looked up while they are in a cache, too.
    let large = [Depthwise, Pointwise].map(|operation| Case::new(operation, Shape::new(1, 70, 60, 90), 5));
    let large = if emulation::is_on() { vec![] } else { large.to_vec() };
    for case in few_of_each().into_iter().chain(large) {
        let drawn = draw(&case);
        let through = |mut tensor: Tensor<i64>, from: Kind, to: Kind| {
            tensor.data.iter_mut().for_each(|q| *q = entry(*q, from, to));
            tensor
        };
        let last = drawn.stages.last().expect("a stage");
        let mut want = expected(&case, &drawn);
        if case.operation == Separable {
            let first = Case { operation: Depthwise, ..case.clone() };
            let between = drawn.stages[0].target.output;
            let middle = through(expected(&first, &drawn), between.kind, case.input_kind);
            let Stage { weights, scales, zero_point, bias, target } = last;
            let weights = oracle::Weights { values: weights, scales, zero_point: *zero_point, bias };
            want = oracle::pointwise((&middle, looked(between, case.input_kind)), weights, case.outputs, *target);
        }
        let want = through(want, case.output_kind, other(case.output_kind));
        check_outputs(Outputs::Looked, None, &drawn, &case, &want);
    }
}

/// What sums stand for, of inputs that stand for what the plan or the run says.
#[test]
fn reals() {
    let large = [Depthwise, Pointwise].map(|operation| Case::new(operation, Shape::new(1, 70, 60, 90), 5));
    let large = if emulation::is_on() { vec![] } else { large.to_vec() };
    for case in few_of_each().into_iter().chain(large) {
        let drawn = draw(&case);
        let (low, high) = case.input_kind.range();
        for zero_point in [None, Some(low), Some(high), Some(low + 99)] {
            // The second stage of two reads what the plan says.
            if zero_point.is_some() && case.operation == Separable {
                continue;
            }
            let of_run = zero_point.map(|zero_point| oracle::Quantized { zero_point, scale: 0.0123, ..drawn.from });
            let from = of_run.unwrap_or(drawn.from);
            let last = drawn.stages.last().expect("a stage");
            let scale = if case.operation == Separable { drawn.stages[0].target.output.scale } else { from.scale };
            let sums = sums_of(&case, &Drawn { from, input: drawn.input.clone(), stages: drawn.stages.clone() });
            let bias = bias_of_reals(case.last());
            let want = Tensor::from_fn(sums.shape, |n, c, h, w| {
                let factor = scale * last.scales[c % last.scales.len()];
                oracle::real(sums.at(n, c, h, w) as i32, factor, bias[c]).to_bits().into()
            });
            check_outputs(Outputs::Real, of_run.map(quantized), &drawn, &case, &want);
        }
    }
}

/// The sums of the last stage, by loops.
fn sums_of(case: &Case, drawn: &Drawn) -> Tensor<i64> {
    let (mut input, mut from) = (drawn.input.clone(), drawn.from);
    let last = drawn.stages.last().expect("a stage");
    if case.operation == Separable {
        let first = Case { operation: Depthwise, ..case.clone() };
        (input, from) = (expected(&first, drawn), drawn.stages[0].target.output);
    }
    let window = match case.operation {
        Pointwise | Separable => Window { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], padding: Padding::valid() },
        Depthwise | Conv2d => case.window(),
    };
    let [top, left] = [window.resolve(0, input.shape.h).1[0], window.resolve(1, input.shape.w).1[0]];
    let Window { kernel: [kh, kw], stride: [sh, sw], dilation: [dh, dw], .. } = window;
    Tensor::from_fn(window.output(input.shape, case.last()), |n, o, oy, ox| {
        let mut sum = i64::from(last.bias[o]);
        let of = o / case.multiplier;
        let channels = if case.operation == Depthwise { of..of + 1 } else { 0..input.shape.c };
        for (i, c) in channels.clone().enumerate() {
            for ky in 0..kh {
                for kx in 0..kw {
                    let (y, x) = ((oy * sh + ky * dh).wrapping_sub(top), (ox * sw + kx * dw).wrapping_sub(left));
                    if y < input.shape.h && x < input.shape.w {
                        let weight = ((o * channels.len() + i) * kh + ky) * kw + kx;
                        sum += (input.at(n, c, y, x) - from.zero_point) * (last.weights[weight] - last.zero_point);
                    }
                }
            }
        }
        sum
    })
}

/// Each bad argument is an error that names it.
#[test]
fn errors_name_what_is_wrong() {
    let (weights, scales, bias) = ([1i8; 36], [0.01f32; 4], [0i32; 4]);
    let good = || {
        let builder = DepthwiseConv2d::builder(4).input(Quantized::i8(0.5, 0)).output(Quantized::i8(0.5, 0));
        builder.layout(Layout::Nhwc).weights(Weights::i8(&weights, &scales)).bias(&bias)
    };
    let large = [i32::MIN, 0, 0, 0];
    let nan = [0.01, f32::NAN, 0.01, 0.01];
    let errors = [
        (good().input(Quantized::i8(0.0, 0)).build(), "the scale of the input is 0.0"),
        (good().output(Quantized::u8(f32::INFINITY, 0)).build(), "the scale of the output is inf"),
        (
            good().input(Quantized::u8(1.0, -1)).build(),
            "the zero point of the input is -1: of u8 it must be in 0 ..= 255",
        ),
        (good().output(Quantized::i8(1.0, 128)).build(), "the zero point of the output is 128: of i8"),
        (good().weights(Weights::i8(&weights, &nan)).build(), "the scale of the depthwise weights of channel 1 is NaN"),
        (good().weights(Weights::i8(&weights, &scales[..3])).build(), "3 elements were given for the scales of"),
        (
            good().weights(Weights::i8(&weights[..35], &scales)).build(),
            "35 elements were given for the depthwise weights",
        ),
        (good().weights(Weights::u8(&[0; 36], &scales, 256)).build(), "the zero point of the depthwise weights is 256"),
        (good().bias(&bias[..2]).build(), "2 elements were given for the depthwise bias"),
        (good().bias(&large).build(), "a sum of channel 0 may reach 2147484800"),
        (good().clamp(128, 200).build(), "an output of i8 cannot be clamped to 128 ..= 200"),
        (good().clamp(3, 2).build(), "cannot be clamped to 3 ..= 2"),
        (good().clamp(0, 5).output_sums().build(), "do not take a clamp of outputs of i32 or f32"),
        (good().input(Quantized::i8(1e38, 0)).output(Quantized::i8(1e-38, 0)).build(), "a factor of inf"),
        (good().rounding(Rounding::Tflite).input(Quantized::i8(1e20, 0)).build(), "channel 0 a factor of 1.9"),
        (good().rounding(Rounding::Tflite).input(Quantized::i8(1e9, 0)).build(), "also times the power of two"),
        (good().kernel("dw_none").build(), "there is no kernel `dw_none`"),
        (DepthwiseConv2d::builder(4).weights(Weights::i8(&weights, &scales)).build(), "use `input`"),
        (good().stride([0, 1]).build(), "the stride is 0"),
        (good().clamp(0, 5).output_f32().build(), "do not take a clamp of outputs of i32 or f32: clamp them"),
        (good().bias_f32(&[0.0; 4]).build(), "do not take a bias of f32 without outputs of f32: use `output_f32`"),
        (
            good().output_f32().bias_f32(&[0.0; 3]).build(),
            "3 elements were given for the bias of f32, but 4 are needed (one for each of 4 output channels)",
        ),
        (
            good().output_f32().input(Quantized::i8(3e38, 0)).weights(Weights::i8(&weights, &[2.0])).build(),
            "a factor of inf",
        ),
        // Of any zero point.
        (good().output_f32().bias(&[i32::MAX - 2294, 0, 0, 0]).build(), "a sum of channel 0 may reach 2147483648"),
    ];
    for (result, sentence) in errors {
        let error = result.map(|plan| format!("{plan:?}")).expect_err(sentence).to_string();
        assert!(error.contains(sentence), "`{error}` does not say `{sentence}`");
    }

    let plan = good().build().expect("a plan");
    let (shape, mut workspace) = (Shape::new(1, 4, 2, 2), Workspace::new());
    let (input, mut output, mut other) = ([0i8; 16], [0i8; 16], [0u8; 16]);
    let view = |shape| TensorView::new(&input, shape, Layout::Nhwc).expect("a view");
    fn view_mut<T>(data: &mut [T], shape: Shape) -> TensorViewMut<'_, T> {
        TensorViewMut::new(data, shape, Layout::Nhwc).expect("a view")
    }
    let error = plan.run(Run::new(view(shape), view_mut(&mut other, shape), &mut workspace)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the output has elements of u8, but was described as i8: give what was described, or describe it so"
    );
    let run = Run::new(view(shape), view_mut(&mut output, shape), &mut workspace).residual(view(shape));
    assert!(plan.run(run).unwrap_err().to_string().contains("do not take a residual"));
    let run = Run::new(view(shape), view_mut(&mut output, shape), &mut workspace).quantized(Quantized::i8(0.5, 1));
    let error = plan.run(run).unwrap_err().to_string();
    assert!(error.contains("do not take what a run says of its input, unless outputs are of f32"), "{error}");
    let run = Run::new(view(Shape::new(1, 2, 2, 4)), view_mut(&mut output, shape), &mut workspace);
    assert_eq!(plan.run(run).unwrap_err(), Error::Channels { expected: 4, found: 2 });
    let range = OutputRange { h: 0..3, ..OutputRange::all(shape) };
    let run = Run::new(view(shape), view_mut(&mut output, shape), &mut workspace).range(range);
    assert!(matches!(plan.run(run), Err(Error::Range { .. })));
    let plan = good().output_f32().build().expect("a plan");
    let mut real = [0f32; 16];
    for (of_run, sentence) in [
        (Quantized::i8(f32::NAN, 0), "the scale of the input is NaN"),
        (Quantized::i8(1.0, 200), "the zero point of the input is 200"),
        (Quantized::u8(1.0, 0), "the input has elements of u8, but was described as i8"),
    ] {
        let run = Run::new(view(shape), view_mut(&mut real, shape), &mut workspace).quantized(of_run);
        let error = plan.run(run).unwrap_err().to_string();
        assert!(error.contains(sentence), "`{error}` does not say `{sentence}`");
    }
    let plan = good().output_f32().weights(Weights::i8(&weights, &[2.0])).build().expect("a plan");
    let run = Run::new(view(shape), view_mut(&mut real, shape), &mut workspace).quantized(Quantized::i8(3e38, 0));
    assert!(plan.run(run).unwrap_err().to_string().contains("channel 0 a factor of inf"));
    let plan = good().build().expect("a plan");
    // Nothing is a result, too.
    let none = Shape { n: 0, ..shape };
    let (from, to): ([i8; 0], [i8; 0]) = ([], []);
    let mut to = to;
    let input = TensorView::new(&from, none, Layout::Nhwc).expect("a view");
    assert_eq!(plan.run(Run::new(input, view_mut(&mut to, none), &mut workspace)), Ok(()));
}
