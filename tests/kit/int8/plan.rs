//! The numbers of a case of 8 bits, what the oracle makes of them, and the plans that must make the same.

use depthwise::int8::{Conv2d, DepthwiseConv2d, PointwiseConv2d, Quantized, Rounding, SeparableConv2d, Table, Weights};
use depthwise::{Error, Isa, Layout};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::cases::Case;
use super::oracle::{self, Kind, Target};
use crate::oracle::Tensor;
use crate::plan::Operation::*;

/// A stage's parameters.
#[derive(Clone)]
pub struct Stage {
    pub weights: Vec<i64>,
    pub scales: Vec<f32>,
    pub zero_point: i64,
    pub bias: Vec<i32>,
    pub target: Target,
}

/// A case with its numbers.
pub struct Drawn {
    pub input: Tensor<i64>,
    pub from: oracle::Quantized,
    pub stages: Vec<Stage>,
}

pub fn draw(case: &Case) -> Drawn {
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

impl Stage {
    fn weights(&self) -> oracle::Weights<'_> {
        let Stage { weights, scales, zero_point, bias, .. } = self;
        oracle::Weights { values: weights, scales, zero_point: *zero_point, bias }
    }
}

pub fn expected(case: &Case, drawn: &Drawn) -> Tensor<i64> {
    let Drawn { input, from, stages } = drawn;
    let (input, first, target) = ((input, *from), stages[0].weights(), stages[0].target);
    match case.operation {
        Depthwise => oracle::depthwise(input, first, &case.window(), case.multiplier, target),
        Pointwise => oracle::pointwise(input, first, case.outputs, target),
        Conv2d => oracle::conv2d(input, first, &case.window(), case.outputs, target),
        Separable => oracle::separable(
            input,
            (first, &case.window(), case.multiplier, target),
            (stages[1].weights(), case.outputs, stages[1].target),
        ),
    }
}

/// The sums of the last stage.
pub fn sums_of(case: &Case, drawn: &Drawn) -> Tensor<i64> {
    let Drawn { input, from, stages } = drawn;
    let (input, last) = ((input, *from), stages.last().expect("a stage").weights());
    match case.operation {
        Depthwise => oracle::depthwise_sums(input, last, &case.window(), case.multiplier),
        Pointwise => oracle::pointwise_sums(input, last, case.outputs),
        Conv2d => oracle::conv2d_sums(input, last, &case.window(), case.outputs),
        Separable => {
            let between = expected(&Case { operation: Depthwise, ..case.clone() }, drawn);
            oracle::pointwise_sums((&between, stages[0].target.output), last, case.outputs)
        }
    }
}

pub fn quantized(of: oracle::Quantized) -> Quantized {
    match of.kind {
        Kind::U8 => Quantized::u8(of.scale, of.zero_point as i32),
        Kind::I8 => Quantized::i8(of.scale, of.zero_point as i32),
    }
}

/// A plan of any operation.
pub enum Plan {
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

pub(crate) use of_any;

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
pub enum Outputs {
    Numbers,
    /// What a table has for them, after each stage.
    Looked,
    Sums,
    Real,
}

/// The number that a table of a type has for a number of another: each once.
pub fn entry(q: i64, from: Kind, to: Kind) -> i64 {
    to.range().0 + ((q - from.range().0) * 37 + 11) % 256
}

pub fn table(from: oracle::Quantized, to: Kind) -> Table {
    let numbers = |q: i32| entry(q.into(), from.kind, to) as i32;
    Table::new(quantized(from), quantized(looked(from, to)), numbers).expect("a table")
}

/// What a table's numbers stand for.
pub fn looked(from: oracle::Quantized, to: Kind) -> oracle::Quantized {
    oracle::Quantized { kind: to, scale: 0.9 * from.scale, zero_point: to.range().0 + 77 }
}

pub fn other(kind: Kind) -> Kind {
    if kind == Kind::U8 { Kind::I8 } else { Kind::U8 }
}

/// A bias for each channel of outputs of `f32`.
pub fn bias_of_reals(channels: usize) -> Vec<f32> {
    (0..channels).map(|channel| (channel as f32 - 7.3) * 0.77).collect()
}

pub fn plan(
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
