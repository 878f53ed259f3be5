//! Blocks as plain data, and how to run one.

pub mod model;
pub mod random;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use depthwise::int8::{self, Integer, Quantized, Rounding, Weights};
use depthwise::{
    Activation, Choice, Conv2d, Convolution, Cost, DepthwiseConv2d, Description, Element, ElementType, Fusion, Isa,
    Layout, Machine, Padding, Parallelism, PointwiseConv2d, Run, Schedule, SeparableConv2d, Shape, TensorView,
    TensorViewMut, Workspace,
};
use rand::distr::{Distribution, StandardUniform};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use serde::Deserialize;

/// What of a block is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Both stages.
    Separable(Fusion),
    Depthwise,
    Pointwise,
    /// A standard convolution between the same channels, with the same window.
    Standard,
}

#[derive(Deserialize)]
struct Shapes {
    blocks: Vec<Block>,
}

/// A depthwise separable block: depthwise on n×c×h×w, then pointwise to m channels.
#[derive(Deserialize)]
pub struct Block {
    pub name: String,
    #[serde(default = "one")]
    n: usize,
    c: usize,
    h: usize,
    w: usize,
    #[serde(flatten)]
    kernel: Kernel,
    stride: Axes,
    pad: Pad,
    #[serde(default)]
    dilation: Axes,
    /// Outputs of the depthwise stage for each channel.
    #[serde(default = "one")]
    multiplier: usize,
    /// None where a network has nothing pointwise to go with the depthwise stage.
    pub m: Option<usize>,
    /// After the depthwise stage, and after the pointwise one unless that has its own.
    act: String,
    project_act: Option<String>,
    /// How often the network has this block.
    #[serde(default = "one")]
    pub count: usize,
}

fn one() -> usize {
    1
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "a block has a kernel `k`, or `kh` and `kw`: one or more taps")]
enum Kernel {
    Square { k: usize },
    Sides { kh: usize, kw: usize },
}

impl Kernel {
    fn sides(self) -> [usize; 2] {
        match self {
            Kernel::Square { k } => [k; 2],
            Kernel::Sides { kh, kw } => [kh, kw],
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "a stride or a dilation is a number, or a pair: over rows, over columns")]
enum Axes {
    Equal(usize),
    Pair([usize; 2]),
}

impl Default for Axes {
    fn default() -> Self {
        Axes::Equal(1)
    }
}

impl Axes {
    fn pair(self) -> [usize; 2] {
        match self {
            Axes::Equal(both) => [both; 2],
            Axes::Pair(pair) => pair,
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "a pad is a number, or four: top, left, bottom, right")]
enum Pad {
    Equal(usize),
    /// Top, left, bottom, right.
    Sides([usize; 4]),
}

/// Where input and output lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placement {
    /// Each from a cache line on, at another place of a page: what engines' allocators do.
    Lines,
    /// As glibc places every large `Vec`, 16 bytes behind the start of a page: no vector lies within a cache line, and inputs share
    /// cache sets with the outputs made of them.
    Vec,
    /// As smaller ones may lie: no vector within a cache line, but the outputs at another place of a page. Only where asked for.
    Apart,
}

impl Placement {
    pub fn name(self) -> &'static str {
        match self {
            Placement::Lines => "lines",
            Placement::Vec => "vec",
            Placement::Apart => "apart",
        }
    }

    /// Those of that name; `both` is the first two.
    pub fn named(name: &str) -> Vec<Placement> {
        let all = [Placement::Lines, Placement::Vec, Placement::Apart];
        let both = |placement: &Placement| name == "both" && *placement != Placement::Apart;
        all.into_iter().filter(|placement| both(placement) || name == placement.name()).collect()
    }

    /// The bytes from the start of a page to the start of each tensor.
    fn offsets(self) -> [usize; 2] {
        match self {
            // Half a page apart: what is read and what is written of the same rows are then in different cache sets.
            Placement::Lines => [64, 64 + PAGE / 2],
            Placement::Vec => [16; 2],
            Placement::Apart => [16, 16 + PAGE / 2],
        }
    }
}

/// A common size of pages, and the distance from which addresses share a set of the first-level cache on most CPUs.
const PAGE: usize = 4096;

/// Values at a given place of a page, wherever the allocator puts them.
struct Placed<E> {
    data: Vec<E>,
    start: usize,
    len: usize,
}

impl<E: Element> Placed<E> {
    fn random(len: usize, offset: usize, rng: &mut impl Rng) -> Self {
        Self::filled(len, offset, || E::from_f32(rng.random_range(-1.0..1.0)))
    }
}

impl<E> Placed<E> {
    fn filled(len: usize, offset: usize, mut value: impl FnMut() -> E) -> Self {
        let size = size_of::<E>();
        let data: Vec<E> = (0..len + (PAGE + offset) / size).map(|_| value()).collect();
        let start = data.as_ptr().align_offset(PAGE).min(PAGE / size) + offset / size;
        Self { data, start, len }
    }

    fn get(&self) -> &[E] {
        &self.data[self.start..][..self.len]
    }

    fn get_mut(&mut self) -> &mut [E] {
        &mut self.data[self.start..][..self.len]
    }
}

/// What a part of a block reads and writes.
pub struct Tensors<E = f32> {
    input: Placed<E>,
    output: Placed<E>,
}

impl<E: Element> Tensors<E> {
    /// A random input.
    pub fn new(built: &Built<E>, placement: Placement) -> Self {
        let rng = &mut StdRng::seed_from_u64(2);
        let [input, output] = placement.offsets();
        // Plans have checked the sizes.
        let mut placed = |shape: Shape, offset| Placed::random(shape.len().unwrap_or(0), offset, rng);
        Self { input: placed(built.input, input), output: placed(built.output, output) }
    }
}

/// A part of a block, and how it is run on some machine.
pub struct Layer {
    pub cost: Cost,
    pub layout: Layout,
    pub input: Shape,
    /// What the pointwise stage reads.
    pub between: Shape,
    pub output: Shape,
    /// Of the first stage, rows and columns; 1 of a pointwise part.
    pub kernel_size: [usize; 2],
    /// Over rows.
    pub stride: usize,
    pub dilation: usize,
    pub machine: &'static Machine,
    pub schedule: Schedule,
}

/// A part of a block with random weights.
pub struct Built<E: Element = f32> {
    pub cost: Cost,
    /// The bytes that lie between two stages.
    pub between: u64,
    pub description: Description,
    pub input: Shape,
    pub output: Shape,
    plan: Arc<dyn Convolution<E>>,
    /// What a run is given; without one it makes its own.
    choice: Option<Choice>,
    workspace: Workspace,
}

impl<E: Element> Built<E> {
    /// Runs it once, on its own tensors or on those of another way to build the same part.
    pub fn run(&mut self, tensors: &mut Tensors<E>, parallelism: Parallelism) -> Result<(), depthwise::Error> {
        let input = TensorView::new(tensors.input.get(), self.input, self.plan.layout())?;
        let output = TensorViewMut::new(tensors.output.get_mut(), self.output, self.plan.layout())?;
        let run = Run::new(input, output, &mut self.workspace).parallelism(parallelism);
        self.plan.run(run.maybe_choice(self.choice.as_ref()))
    }

    /// What such a run does.
    pub fn describe(&self, parallelism: Parallelism) -> Result<Description, depthwise::Error> {
        self.choice
            .as_ref()
            .map_or_else(|| Ok(self.plan.prepare(self.input, parallelism)?.describe()), |choice| Ok(choice.describe()))
    }

    /// With the choice of another that was built alike.
    pub fn choosing_as(self, other: &Built<E>) -> Self {
        Self { choice: other.choice.clone(), description: other.description, ..self }
    }

    /// The same plan with its choice by measurement, within that time.
    pub fn tuned(&self, parallelism: Parallelism, budget: Duration) -> Result<Self, depthwise::Error> {
        let choice = self.plan.tune(self.input, parallelism, budget)?;
        let (plan, workspace, description) = (Arc::clone(&self.plan), Workspace::new(), choice.describe());
        Ok(Self { description, plan, choice: Some(choice), workspace, ..*self })
    }
}

/// A run by those who are named.
pub type PreparedRun = dyn FnMut(Parallelism<'_>) -> Result<(), depthwise::Error> + Send;

/// A part of a block, ready to run on a random input, which the first run makes.
pub struct Prepared {
    pub cost: Cost,
    /// The bytes that lie between two stages.
    pub between: u64,
    /// Runs it once.
    pub run: Box<PreparedRun>,
}

/// The tables of `benches/shapes/`.
pub const TABLES: [&str; 6] =
    ["blocks", "efficientnet_lite0", "xception", "networks_ncnn", "networks_2026", "networks_1d_2026"];

/// The file of a table of blocks.
pub fn table(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../benches/shapes/{name}.json"))
}

/// The blocks of a shapes file.
pub fn load(path: &Path) -> Result<Vec<Block>, Box<dyn Error>> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let shapes: Shapes = serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    Ok(shapes.blocks)
}

fn activation(name: &str) -> Result<Activation, String> {
    Ok(match name {
        "none" => Activation::None,
        "relu" => Activation::Relu,
        "relu6" => Activation::Relu6,
        "leaky" => Activation::LeakyRelu { slope: 0.1 },
        "hardswish" => Activation::HardSwish,
        "sigmoid" => Activation::Sigmoid,
        "silu" => Activation::Silu,
        "gelu" => Activation::Gelu,
        "mish" => Activation::Mish,
        _ => {
            return Err(format!(
                "there is no activation `{name}`: use none, relu, relu6, leaky, hardswish, sigmoid, silu, gelu or mish"
            ));
        }
    })
}

impl Block {
    /// What a part's kernels are chosen by: two blocks that agree in it are one layer to measure. Nothing where there is no such part.
    pub fn layer(&self, part: Part) -> Option<impl Ord + use<>> {
        let Block { n, c, h, w, kernel, stride, dilation, multiplier, .. } = *self;
        let outputs = if part == Part::Depthwise { None } else { Some(self.m?) };
        Some(([n, c, h, w, multiplier], [kernel.sides(), stride.pair(), dilation.pair()], self.sides(), outputs))
    }

    /// The padding at top, left, bottom, right.
    fn sides(&self) -> [usize; 4] {
        match self.pad {
            Pad::Equal(pad) => [pad; 4],
            Pad::Sides(sides) => sides,
        }
    }

    fn padding(&self) -> Padding {
        let [top, left, bottom, right] = self.sides();
        Padding::explicit(top, left, bottom, right)
    }

    /// The channels between the stages.
    fn between(&self) -> Option<usize> {
        self.c.checked_mul(self.multiplier)
    }

    /// The output channels of a part.
    fn out_channels(&self, part: Part) -> Result<usize, &'static str> {
        match part {
            Part::Depthwise => self.between().ok_or("channels times multiplier overflow"),
            _ => self.m.ok_or("it is depthwise only: give `m`, its output channels, or run the depthwise part"),
        }
    }
}

macro_rules! with_window {
    ($builder:expr, $block:expr, $layout:expr) => {
        $builder
            .kernel_size($block.kernel.sides())
            .stride($block.stride.pair())
            .dilation($block.dilation.pair())
            .padding($block.padding())
            .layout($layout)
    };
}

/// A part of a block as a machine would run it by an instruction set.
pub fn layer(
    block: &Block,
    part: Part,
    layout: Layout,
    isa: Isa,
    machine: &'static Machine,
) -> Result<Layer, Box<dyn Error>> {
    let (c, m) = (block.c, block.out_channels(part)?);
    let depthwise = with_window!(DepthwiseConv2d::builder(c).channel_multiplier(block.multiplier), block, layout);
    let depthwise = depthwise.schedule(isa, machine)?;
    let mut input = Shape::new(block.n, c, block.h, block.w);
    let between = depthwise.output_shape(input)?;
    let (mut kernel_size, mut stride, mut dilation) =
        (block.kernel.sides(), block.stride.pair()[0], block.dilation.pair()[0]);
    let schedule = match part {
        Part::Depthwise => depthwise,
        Part::Pointwise => {
            (input, kernel_size, stride, dilation) = (between, [1; 2], 1, 1);
            PointwiseConv2d::builder(between.c, m).layout(layout).schedule(isa, machine)?
        }
        Part::Separable(fusion) => {
            let builder = SeparableConv2d::builder(c, m).channel_multiplier(block.multiplier);
            with_window!(builder, block, layout).fusion(fusion).schedule(isa, machine)?
        }
        Part::Standard => with_window!(Conv2d::builder(c, m), block, layout).schedule(isa, machine)?,
    };
    let (cost, output) = (schedule.cost(input)?, schedule.output_shape(input)?);
    Ok(Layer { cost, layout, input, between, output, kernel_size, stride, dilation, machine, schedule })
}

/// Builds a part of a block, and places its tensors.
pub fn prepare(
    block: &Block,
    part: Part,
    layout: Layout,
    isa: Isa,
    placement: Placement,
) -> Result<Prepared, Box<dyn Error>> {
    prepare_as::<f32>(block, part, layout, isa, placement)
}

/// The same with tensors of that type.
pub fn prepare_as<E: Element>(
    block: &Block,
    part: Part,
    layout: Layout,
    isa: Isa,
    placement: Placement,
) -> Result<Prepared, Box<dyn Error>> {
    let built = build_as::<E>(block, part, layout, isa, None);
    let mut built = built.map_err(|e| format!("block {}: {e}", block.name))?;
    let (cost, between, mut tensors) = (built.cost, built.between, None);
    let run = move |parallelism: Parallelism<'_>| {
        let tensors = tensors.get_or_insert_with(|| Tensors::new(&built, placement));
        built.run(tensors, parallelism)
    };
    Ok(Prepared { cost, between, run: Box::new(run) })
}

/// A run of a part of a block with tensors of 8 bits: random numbers, weights of `i8`, the rule of TFLite if asked for.
pub fn prepare_int8<T: Integer<Stored = u8>>(
    block: &Block,
    part: Part,
    layout: Layout,
    isa: Isa,
    placement: Placement,
    rounding: Rounding,
) -> Result<Box<PreparedRun>, Box<dyn Error>>
where
    StandardUniform: Distribution<T>,
{
    let Block { n, c, h, w, multiplier, .. } = *block;
    let (m, mid, [kh, kw]) = (block.out_channels(part)?, block.out_channels(Part::Depthwise)?, block.kernel.sides());
    let mut rng = StdRng::seed_from_u64(1);
    let mut random = |len: usize| -> Vec<i8> { (0..len).map(|_| rng.random_range(-127..=127)).collect() };
    let of =
        |scale: f32| if T::TYPE == ElementType::U8 { Quantized::u8(scale, 117) } else { Quantized::i8(scale, -11) };
    let (first_bias, last_bias) = (vec![1000; mid], vec![-1000; m]);
    let (input, output) = (of(0.02), of(0.05));
    let mut shape = Shape::new(n, c, h, w);
    let weights = random(mid * kh * kw);
    let scales: Vec<f32> = (0..mid.max(m)).map(|i| 0.001 + 1e-6 * (i % 100) as f32).collect();
    let first = Weights::i8(&weights, &scales[..mid]);
    macro_rules! common {
        ($builder:expr) => {
            $builder.isa(isa).rounding(rounding).input(input).output(output)
        };
    }
    let depthwise = with_window!(int8::DepthwiseConv2d::builder(c).channel_multiplier(multiplier), block, layout);
    let depthwise = common!(depthwise).weights(first).bias(&first_bias).build()?;
    macro_rules! run {
        ($plan:expr) => {{
            let (plan, mut workspace) = ($plan, Workspace::new());
            let output = plan.output_shape(shape)?;
            let [from, to] = placement.offsets();
            let mut rng = StdRng::seed_from_u64(2);
            let mut tensors = [(shape, from), (output, to)]
                .map(|(shape, offset)| Placed::filled(shape.len().unwrap_or(0), offset, || rng.random::<T>()));
            Ok(Box::new(move |parallelism: Parallelism<'_>| {
                let [from, to] = &mut tensors;
                let input = TensorView::new(from.get(), shape, layout)?;
                let output = TensorViewMut::new(to.get_mut(), output, layout)?;
                plan.run(Run::new(input, output, &mut workspace).parallelism(parallelism))
            }))
        }};
    }
    match part {
        Part::Depthwise => run!(depthwise),
        Part::Pointwise => {
            shape = depthwise.output_shape(shape)?;
            let weights = random(m * mid);
            let plan = common!(int8::PointwiseConv2d::builder(mid, m)).layout(layout);
            run!(plan.weights(Weights::i8(&weights, &scales[..m])).bias(&last_bias).build()?)
        }
        Part::Separable(_) => {
            let weights = random(m * mid);
            let plan = with_window!(int8::SeparableConv2d::builder(c, m), block, layout).channel_multiplier(multiplier);
            let plan = common!(plan).depthwise_weights(first).depthwise_bias(&first_bias).between(output);
            run!(plan.pointwise_weights(Weights::i8(&weights, &scales[..m])).bias(&last_bias).build()?)
        }
        Part::Standard => {
            let weights = random(m * c * kh * kw);
            let plan = common!(with_window!(int8::Conv2d::builder(c, m), block, layout));
            run!(plan.weights(Weights::i8(&weights, &scales[..m])).bias(&last_bias).build()?)
        }
    }
}

/// Builds a part of a block, on a kernel of that name if there is one. The builder's errors come as they are.
pub fn build(
    block: &Block,
    part: Part,
    layout: Layout,
    isa: Isa,
    kernel: Option<&str>,
) -> Result<Built, Box<dyn Error>> {
    build_as(block, part, layout, isa, kernel)
}

/// The same for tensors of that type.
pub fn build_as<E: Element>(
    block: &Block,
    part: Part,
    layout: Layout,
    isa: Isa,
    kernel: Option<&str>,
) -> Result<Built<E>, Box<dyn Error>> {
    let Block { n, c, h, w, multiplier, .. } = *block;
    let (m, mid, [kh, kw]) = (block.out_channels(part)?, block.out_channels(Part::Depthwise)?, block.kernel.sides());
    let first = activation(&block.act)?;
    let last = block.project_act.as_deref().map_or(Ok(first), activation)?;
    let mut rng = StdRng::seed_from_u64(1);
    let mut random = |len: usize| -> Vec<f32> { (0..len).map(|_| rng.random_range(-1.0..1.0)).collect() };
    let (first_bias, last_bias) = (vec![0.1; mid], vec![0.2; m]);
    let input = Shape::new(n, c, h, w);

    macro_rules! built {
        ($builder:expr, $input:expr, $between:expr) => {{
            let (plan, shape) = ($builder.isa(isa).maybe_kernel(kernel).build_as::<E>()?, $input);
            Ok(Built {
                cost: plan.cost(shape)?,
                between: $between,
                description: plan.prepare(shape, Parallelism::Serial)?.describe(),
                input: shape,
                output: plan.output_shape(shape)?,
                plan: Arc::new(plan),
                choice: None,
                workspace: Workspace::new(),
            })
        }};
    }
    let depthwise_weights = random(mid * kh * kw);
    let depthwise = with_window!(DepthwiseConv2d::builder(c).channel_multiplier(multiplier), block, layout);
    let depthwise = depthwise.weights(&depthwise_weights).bias(&first_bias).activation(first);
    let between = depthwise.clone().isa(isa).build()?.output_shape(input)?;
    match part {
        Part::Depthwise => built!(depthwise, input, 0),
        Part::Pointwise => {
            let weights = random(m * mid);
            let plan = PointwiseConv2d::builder(mid, m).layout(layout).weights(&weights);
            built!(plan.bias(&last_bias).activation(last), between, 0)
        }
        Part::Separable(fusion) => {
            let weights = random(m * mid);
            let plan = with_window!(SeparableConv2d::builder(c, m), block, layout)
                .channel_multiplier(multiplier)
                .fusion(fusion)
                .depthwise_weights(&depthwise_weights)
                .depthwise_bias(&first_bias)
                .depthwise_activation(first)
                .pointwise_weights(&weights)
                .bias(&last_bias)
                .activation(last);
            let bytes = size_of::<E>() as u64 * between.len().ok_or("a tensor's size overflows")? as u64;
            built!(plan, input, bytes)
        }
        Part::Standard => {
            let weights = random(m * c * kh * kw);
            let plan = with_window!(Conv2d::builder(c, m), block, layout).weights(&weights);
            built!(plan.bias(&last_bias).activation(last), input, 0)
        }
    }
}
