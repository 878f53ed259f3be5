//! Runs a network on the public API of `depthwise`: builds a plan for every convolution, decides once
//! where every tensor lies in memory, then runs.
//!
//! Layers that belong together become one step:
//! * a depthwise convolution whose only reader is a pointwise one: a `SeparableConv2d`;
//! * a convolution without activation whose only reader is an `add`: it runs with the other operand as
//!   its residual, and the addition's activation becomes its own.

use std::borrow::Cow;
use std::path::Path;

use depthwise::{
    Axis, Conv2d, Convolution, DepthwiseConv2d, Description, Element, Isa, Layout, Padding, Parallelism,
    PointwiseConv2d, Run, SeparableConv2d, Shape, TensorView, TensorViewMut, Workspace, bf16, f16,
};

use crate::arch::{self, Activation, Arch, Conv, ConvKind, Layer, Op, Result, ValueId};
use crate::files::{self, Tensors};
use crate::ops::{self, Operand};

type PlanResult<T> = std::result::Result<T, depthwise::Error>;

/// The most memory, in f32 elements, that all tensors together may take (2 GiB).
const MAX_ELEMENTS: usize = 1 << 29;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub layout: Layout,
    /// `None`: what the crate chooses.
    pub isa: Option<Isa>,
}

/// The instruction set that plans are built for: the one asked for, else that of `DEPTHWISE_ISA`, else the best of this CPU.
///
/// Only a plan knows the rule, so this builds the smallest one.
pub fn instruction_set(asked: Option<Isa>) -> Result<Isa> {
    let builder = PointwiseConv2d::builder(1, 1).weights(&[1.0]);
    builder.maybe_isa(asked).build().map(|plan| plan.isa()).map_err(|error| error.to_string())
}

/// The description in a folder, and its file of weights.
pub fn read(folder: &Path) -> Result<(Arch, Vec<u8>)> {
    let path = folder.join("arch.json");
    let arch = Arch::parse(&files::read_text(&path)?).map_err(|error| format!("{}: {error}", path.display()))?;
    let path = folder.join("model.safetensors");
    let bytes = files::read(&path)?;
    Tensors::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok((arch, bytes))
}

/// A network ready to run. It never changes: threads may share it, each with a [`Scratch`] of its own.
pub struct Network<E: Stored = f32> {
    pub arch: Arch,
    pub layout: Layout,
    pub steps: Vec<Step<E>>,
    /// For each value, the buffer that holds it; the input (value 0) stays with the caller.
    buffer_of: Vec<usize>,
    /// The length of each buffer.
    buffers: Vec<usize>,
}

/// One or several layers that run as one.
pub struct Step<E = f32> {
    /// The names of its layers.
    pub name: String,
    work: Work<E>,
    inputs: Vec<ValueId>,
    /// What a convolution adds to its result.
    residual: Option<ValueId>,
    output: ValueId,
}

enum Work<E> {
    /// One plan per group of channels; nearly always a single one.
    Convolution(Vec<Box<dyn Convolution<E>>>),
    /// Any other op of the layer with this index.
    Layer(usize),
}

/// The memory of a run, used again by the next.
pub struct Scratch<E = f32> {
    buffers: Vec<Vec<E>>,
    workspace: Workspace,
}

/// A type that tensors between layers are stored as. Layers that are not convolutions compute with `f32`, and round once.
pub trait Stored: Element {
    /// The same numbers in `f32`.
    fn wide(data: &[Self]) -> Cow<'_, [f32]>;

    /// Stores what `compute` writes.
    fn store(output: &mut [Self], compute: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()>;
}

impl Stored for f32 {
    fn wide(data: &[f32]) -> Cow<'_, [f32]> {
        Cow::Borrowed(data)
    }

    fn store(output: &mut [f32], compute: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
        compute(output)
    }
}

macro_rules! stored {
    ($($element:ident)*) => {
        $(impl Stored for $element {
            fn wide(data: &[$element]) -> Cow<'_, [f32]> {
                Cow::Owned(depthwise::widen(data))
            }

            fn store(output: &mut [$element], compute: impl FnOnce(&mut [f32]) -> Result<()>) -> Result<()> {
                let mut wide = vec![0.0; output.len()];
                compute(&mut wide)?;
                output.copy_from_slice(&depthwise::narrow(&wide));
                Ok(())
            }
        })*
    };
}

stored!(f16 bf16);

impl Network {
    /// Builds the network of a folder with `arch.json` and `model.safetensors`.
    pub fn load(folder: &Path, options: Options) -> Result<Self> {
        Self::load_as(folder, options)
    }

    pub fn build(arch: Arch, weights: &Tensors, options: Options) -> Result<Self> {
        Self::build_as(arch, weights, options)
    }
}

impl<E: Stored> Network<E> {
    /// As [`Network::load`], with tensors of that type.
    pub fn load_as(folder: &Path, options: Options) -> Result<Self> {
        let (arch, bytes) = read(folder)?;
        let built = Tensors::parse(&bytes).and_then(|weights| Self::build_as(arch, &weights, options));
        built.map_err(|error| format!("{}: {error}", folder.display()))
    }

    /// As [`Network::build`], with tensors of that type.
    pub fn build_as(arch: Arch, weights: &Tensors, options: Options) -> Result<Self> {
        let groups = fuse(&arch);
        Self::of(groups, arch, weights, options)
    }

    /// As [`Network::build_as`], with a step for each layer, in their order.
    pub fn build_layers(arch: Arch, weights: &Tensors, options: Options) -> Result<Self> {
        let groups = (0..arch.layers.len()).map(|layer| Group { layers: vec![layer], residual: None });
        Self::of(groups.collect(), arch, weights, options)
    }

    fn of(groups: Vec<Group>, arch: Arch, weights: &Tensors, options: Options) -> Result<Self> {
        let steps = groups.iter().map(|group| group.build(&arch, weights, options)).collect::<Result<Vec<_>>>()?;
        let (buffer_of, buffers) = place(&arch, &steps)?;
        Ok(Self { arch, layout: options.layout, steps, buffer_of, buffers })
    }

    pub fn scratch(&self) -> Result<Scratch<E>> {
        let buffer = |&length: &usize| {
            let mut buffer = Vec::new();
            buffer
                .try_reserve_exact(length)
                .map_err(|_| format!("there is no memory for a tensor of {length} elements"))?;
            buffer.resize(length, E::ZERO);
            Ok(buffer)
        };
        let buffers = self.buffers.iter().map(buffer).collect::<Result<_>>()?;
        Ok(Scratch { buffers, workspace: Workspace::new() })
    }

    /// Brings an input from NCHW order into the network's layout and type.
    pub fn arrange(&self, image: &[f32]) -> Vec<E> {
        depthwise::narrow(&ops::relayout(image, self.arch.input.shape, Layout::Nchw, self.layout))
    }

    /// Brings an output of [`Network::run`] into NCHW order.
    pub fn nchw_output(&self, output: &[E]) -> Vec<f32> {
        ops::relayout(&E::wide(output), self.arch.shape(self.arch.output), self.layout, Layout::Nchw)
    }

    /// Computes the output for one input, both in the network's layout. `after_step` hears of every
    /// step that has ended, and what it gave.
    pub fn run<'s>(
        &self,
        scratch: &'s mut Scratch<E>,
        input: &[E],
        parallelism: Parallelism,
        mut after_step: impl FnMut(usize, &[E]),
    ) -> Result<&'s [E]> {
        let expected = ops::len(self.arch.input.shape);
        if input.len() != expected {
            return Err(format!("the input has {} elements, the network reads {expected}", input.len()));
        }
        for (index, step) in self.steps.iter().enumerate() {
            // Taken out while it is written, so that the other buffers can be read.
            let buffer = self.buffer_of[step.output];
            let mut output = std::mem::take(&mut scratch.buffers[buffer]);
            let written = &mut output[..ops::len(self.arch.shape(step.output))];
            let result = self.run_step(step, scratch, input, written, parallelism);
            if result.is_ok() {
                after_step(index, written);
            }
            scratch.buffers[buffer] = output;
            result.map_err(|error| format!("{}: {error}", step.name))?;
        }
        let output = &scratch.buffers[self.buffer_of[self.arch.output]];
        Ok(&output[..ops::len(self.arch.shape(self.arch.output))])
    }

    fn run_step(
        &self,
        step: &Step<E>,
        scratch: &mut Scratch<E>,
        network_input: &[E],
        output: &mut [E],
        parallelism: Parallelism,
    ) -> Result<()> {
        let Scratch { buffers, workspace } = scratch;
        let operand = |id: ValueId| {
            let shape = self.arch.shape(id);
            let data = if id == 0 { network_input } else { &buffers[self.buffer_of[id]][..ops::len(shape)] };
            (data, shape)
        };
        let view = |id: ValueId| {
            let (data, shape) = operand(id);
            TensorView::new(data, shape, self.layout).map_err(|error| error.to_string())
        };
        let (to, layout) = (self.arch.shape(step.output), self.layout);
        match &step.work {
            Work::Convolution(plans) => {
                let input = view(step.inputs[0])?;
                let residual = step.residual.map(view).transpose()?;
                TensorViewMut::new(output, to, layout)
                    .and_then(|output| convolve(plans, input, residual, output, workspace, parallelism))
                    .map_err(|error| error.to_string())
            }
            &Work::Layer(index) => {
                let layer = &self.arch.layers[index];
                let inputs: Vec<_> = step.inputs.iter().map(|&id| operand(id)).collect();
                let wide: Vec<_> = inputs.iter().map(|(data, _)| E::wide(data)).collect();
                let operands = wide.iter().zip(&inputs).map(|(data, &(_, shape))| Operand { data, shape });
                let operands: Vec<_> = operands.collect();
                E::store(output, |output| {
                    compute(&layer.op, &operands, output, to, layout)?;
                    ops::activate(layer.activation, output);
                    Ok(())
                })
            }
        }
    }
}

/// Runs each group's plan on its own share of the channels.
fn convolve<E: Element>(
    plans: &[Box<dyn Convolution<E>>],
    input: TensorView<E>,
    residual: Option<TensorView<E>>,
    mut output: TensorViewMut<E>,
    workspace: &mut Workspace,
    parallelism: Parallelism,
) -> PlanResult<()> {
    let (read, written) = (input.shape().c / plans.len(), output.shape().c / plans.len());
    for (group, plan) in plans.iter().enumerate() {
        let channels = group * written..(group + 1) * written;
        let residual = residual.map(|residual| residual.narrow(Axis::C, channels.clone())).transpose()?;
        let input = input.narrow(Axis::C, group * read..(group + 1) * read)?;
        let output = output.reborrow().narrow(Axis::C, channels)?;
        plan.run(Run::new(input, output, workspace).maybe_residual(residual).parallelism(parallelism))?;
    }
    Ok(())
}

/// Any op but a convolution.
fn compute(op: &Op, inputs: &[Operand], output: &mut [f32], to: Shape, layout: Layout) -> Result<()> {
    match (op, inputs) {
        (Op::Pool(pool), &[input]) => ops::pool(pool, input, output, to, layout),
        (Op::GlobalAvgPool, &[input]) => ops::global_avg_pool(input, output, layout),
        (Op::Add, &[a, b]) => ops::elementwise(|a, b| a + b, a, b, output, to, layout),
        (Op::Mul, &[a, b]) => ops::elementwise(|a, b| a * b, a, b, output, to, layout),
        (Op::ConcatChannels, inputs) => ops::concat_channels(inputs, output, to, layout),
        (Op::BroadcastHw, &[input]) => ops::broadcast_hw(input, output, to, layout),
        (Op::Softmax, &[input]) => ops::softmax(input, output, layout),
        (op, inputs) => return Err(format!("{op:?} can not be computed from {} inputs", inputs.len())),
    }
    Ok(())
}

impl<E: Element> Step<E> {
    /// The shapes that it reads and writes.
    pub fn shapes(&self, arch: &Arch) -> (Shape, Shape) {
        (arch.shape(self.inputs[0]), arch.shape(self.output))
    }

    /// The kernels that it runs, and its multiply-adds, if it is a convolution.
    pub fn kernels(&self, arch: &Arch, parallelism: Parallelism) -> Result<Option<(Description, u64)>> {
        let Work::Convolution(plans) = &self.work else { return Ok(None) };
        let mut input = arch.shape(self.inputs[0]);
        input.c /= plans.len();
        let described = || {
            let choice = plans[0].prepare(input, parallelism)?;
            Ok((choice.describe(), plans[0].cost(input)?.multiply_adds * plans.len() as u64))
        };
        described().map(Some).map_err(|error: depthwise::Error| format!("{}: {error}", self.name))
    }
}

/// Layers that become one step: `[convolution]`, `[depthwise, pointwise]`, either with an `add` behind
/// it, or `[any other layer]`.
struct Group {
    layers: Vec<usize>,
    residual: Option<ValueId>,
}

/// Groups the layers; a group runs when its last layer would, after all that it reads.
fn fuse(arch: &Arch) -> Vec<Group> {
    let mut readers = vec![Vec::new(); arch.layers.len() + 1];
    for (index, layer) in arch.layers.iter().enumerate() {
        layer.inputs.iter().for_each(|&id| readers[id].push(index));
    }
    // The one layer that reads what this one writes.
    let only_reader = |index: usize| match readers[index + 1][..] {
        [reader] if arch.output != index + 1 => Some((reader, &arch.layers[reader])),
        _ => None,
    };
    let kind = |layer: &Layer| match &layer.op {
        Op::Conv(conv) => Some(conv.kind),
        _ => None,
    };
    let mut taken = vec![false; arch.layers.len()];
    let mut groups = Vec::new();
    for (index, layer) in arch.layers.iter().enumerate() {
        if taken[index] {
            continue;
        }
        let mut group = Group { layers: vec![index], residual: None };
        if let Some(first) = kind(layer) {
            let mut last = index;
            if first == ConvKind::Depthwise
                && let Some((reader, pointwise)) = only_reader(index)
                && kind(pointwise) == Some(ConvKind::Pointwise)
            {
                group.layers.push(reader);
                last = reader;
            }
            if arch.layers[last].activation == Activation::None
                && let Some((reader, add)) = only_reader(last)
                && matches!(add.op, Op::Add)
                && !taken[reader]
                // A residual is as large as the result: no operand stretches.
                && add.inputs.iter().all(|&id| arch.shape(id) == add.shape)
            {
                group.layers.push(reader);
                group.residual = add.inputs.iter().copied().find(|&id| id != last + 1);
            }
        }
        group.layers.iter().for_each(|&layer| taken[layer] = true);
        groups.push(group);
    }
    groups.sort_by_key(|group| group.layers.last().copied());
    groups
}

impl Group {
    fn build<E: Element>(&self, arch: &Arch, weights: &Tensors, options: Options) -> Result<Step<E>> {
        let layers: Vec<_> = self.layers.iter().map(|&index| &arch.layers[index]).collect();
        let (first, last) = (layers[0], layers[layers.len() - 1]);
        let work = match &first.op {
            Op::Conv(conv) => {
                // Of a convolution and an addition, only the second may have an activation.
                let activation = plan_activation(last.activation);
                let parameters = |layer: &Layer, conv| {
                    parameters(conv, weights).map_err(|error| format!("{}: {error}", layer.label))
                };
                let own = parameters(first, conv)?;
                let plans = match layers.get(1).map(|layer| (layer, &layer.op)) {
                    Some((second, Op::Conv(pointwise))) => {
                        let inner = plan_activation(first.activation);
                        let others = parameters(second, pointwise)?;
                        separable(conv, &own, inner, pointwise, &others, activation, options).map(|plan| vec![plan])
                    }
                    _ => convolution(conv, &own, activation, options),
                };
                Work::Convolution(plans.map_err(|error| format!("{}: {error}", first.label))?)
            }
            _ => Work::Layer(self.layers[0]),
        };
        let names: Vec<_> = layers.iter().map(|layer| layer.name.as_str()).collect();
        Ok(Step {
            name: names.join(" + "),
            work,
            inputs: first.inputs.clone(),
            residual: self.residual,
            output: self.layers[self.layers.len() - 1] + 1,
        })
    }
}

/// A builder with that window, and the layout of the options.
macro_rules! with_window {
    ($builder:expr, $window:expr, $options:expr) => {
        $builder
            .kernel_size($window.kernel)
            .stride($window.stride)
            .dilation($window.dilation)
            .padding(padding($window.pad))
            .layout($options.layout)
    };
}

/// The plans of one convolution, one per group unless the groups are the channels.
fn convolution<E: Element>(
    conv: &Conv,
    own: &Parameters,
    activation: depthwise::Activation,
    options: Options,
) -> PlanResult<Vec<Box<dyn Convolution<E>>>> {
    let window = conv.window;
    if conv.kind == ConvKind::Depthwise {
        let builder = with_window!(DepthwiseConv2d::builder(conv.in_channels), window, options)
            .channel_multiplier(conv.out_channels / conv.in_channels)
            .weights(&own.weights)
            .activation(activation);
        let plan = builder.maybe_bias(own.bias.as_deref()).maybe_isa(options.isa).build_as::<E>()?;
        return Ok(vec![Box::new(plan)]);
    }
    let (inputs, outputs) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
    let plan = |(group, weights): (usize, &[f32])| {
        let bias = own.bias.as_deref().map(|bias| &bias[group * outputs..][..outputs]);
        if conv.kind == ConvKind::Pointwise {
            let builder = PointwiseConv2d::builder(inputs, outputs)
                .layout(options.layout)
                .weights(weights)
                .activation(activation);
            return Ok(
                Box::new(builder.maybe_bias(bias).maybe_isa(options.isa).build_as::<E>()?) as Box<dyn Convolution<E>>
            );
        }
        let builder = with_window!(Conv2d::builder(inputs, outputs), window, options);
        let builder = builder.weights(weights).activation(activation);
        Ok(Box::new(builder.maybe_bias(bias).maybe_isa(options.isa).build_as::<E>()?) as Box<dyn Convolution<E>>)
    };
    own.weights.chunks_exact(own.weights.len() / conv.groups).enumerate().map(plan).collect()
}

fn separable<E: Element>(
    depthwise: &Conv,
    first: &Parameters,
    inner: depthwise::Activation,
    pointwise: &Conv,
    second: &Parameters,
    activation: depthwise::Activation,
    options: Options,
) -> PlanResult<Box<dyn Convolution<E>>> {
    let window = depthwise.window;
    let builder = SeparableConv2d::builder(depthwise.in_channels, pointwise.out_channels);
    let builder = with_window!(builder, window, options)
        .channel_multiplier(depthwise.out_channels / depthwise.in_channels)
        .depthwise_weights(&first.weights)
        .depthwise_activation(inner)
        .pointwise_weights(&second.weights)
        .activation(activation);
    let builder = builder.maybe_depthwise_bias(first.bias.as_deref()).maybe_bias(second.bias.as_deref());
    Ok(Box::new(builder.maybe_isa(options.isa).build_as::<E>()?))
}

struct Parameters {
    weights: Vec<f32>,
    bias: Option<Vec<f32>>,
}

fn parameters(conv: &Conv, tensors: &Tensors) -> Result<Parameters> {
    let bias = conv.bias.as_deref().map(|name| tensors.weights(name, &[conv.out_channels]));
    Ok(Parameters { weights: tensors.weights(&conv.weight, &conv.weight_shape)?, bias: bias.transpose()? })
}

fn padding(pad: arch::Pad) -> Padding {
    Padding::explicit(pad.top, pad.left, pad.bottom, pad.right)
}

fn plan_activation(activation: Activation) -> depthwise::Activation {
    match activation {
        Activation::None => depthwise::Activation::None,
        Activation::Relu => depthwise::Activation::Relu,
        Activation::Relu6 => depthwise::Activation::Relu6,
        Activation::HardSwish => depthwise::Activation::HardSwish,
        Activation::HardSigmoid => depthwise::Activation::HardSigmoid,
    }
}

/// Gives every tensor a buffer of memory: one that is free again, the best fitting first, or a new one.
fn place<E>(arch: &Arch, steps: &[Step<E>]) -> Result<(Vec<usize>, Vec<usize>)> {
    let mut last_use = vec![0; arch.layers.len() + 1];
    for (index, step) in steps.iter().enumerate() {
        last_use[step.output] = index;
        step.inputs.iter().chain(&step.residual).for_each(|&id| last_use[id] = index);
    }
    last_use[arch.output] = usize::MAX;

    let mut buffer_of = vec![usize::MAX; arch.layers.len() + 1];
    let mut buffers: Vec<usize> = Vec::new();
    let mut free: Vec<usize> = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        let length = ops::len(arch.shape(step.output));
        // The smallest that is large enough, else the largest, which grows.
        let best = (0..free.len()).min_by_key(|&at| {
            let capacity = buffers[free[at]];
            if capacity >= length { (false, capacity) } else { (true, usize::MAX - capacity) }
        });
        let buffer = match best {
            Some(at) => free.swap_remove(at),
            None => {
                buffers.push(0);
                buffers.len() - 1
            }
        };
        buffers[buffer] = buffers[buffer].max(length);
        buffer_of[step.output] = buffer;
        // What this step was the last to use; each tensor once, though it may be read twice.
        let mut used: Vec<_> = step.inputs.iter().chain(&step.residual).copied().chain([step.output]).collect();
        used.sort_unstable();
        used.dedup();
        free.extend(used.into_iter().filter(|&id| id != 0 && last_use[id] == index).map(|id| buffer_of[id]));
    }
    let total = buffers.iter().try_fold(0usize, |total, &length| total.checked_add(length));
    match total {
        Some(0..=MAX_ELEMENTS) => Ok((buffer_of, buffers)),
        _ => Err(format!("its tensors take more than {MAX_ELEMENTS} elements at a time")),
    }
}
