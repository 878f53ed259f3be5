//! The network description `arch.json` (format `dwx-arch/1`): read, then checked once and for all.
//!
//! After [`Arch::parse`] every name is resolved to an index, every shape is known and multiplied out
//! without overflow, and every layer agrees with its inputs; the rest of the example relies on that.

use std::collections::HashMap;

use depthwise::Shape;
use serde::Deserialize;
use serde_json::Value;

/// Every error of this example is one sentence for the person at the terminal.
pub type Result<T> = std::result::Result<T, String>;

const FORMAT: &str = "dwx-arch/1";

/// The most elements one tensor may have (1 GiB of f32): a hostile file must not exhaust the memory.
const MAX_ELEMENTS: usize = 1 << 28;

/// A tensor of the network: 0 is its input, `i + 1` is what layer `i` writes.
pub type ValueId = usize;

#[derive(Clone, Debug)]
pub struct Arch {
    pub name: String,
    pub input: Input,
    /// In execution order: a layer reads only the input and earlier layers.
    pub layers: Vec<Layer>,
    /// The first of the network's outputs, the one that this example reports.
    pub output: ValueId,
    /// Names of the classes, where the description has them.
    pub classes: Vec<String>,
}

#[derive(Clone, Debug)]
pub struct Input {
    pub shape: Shape,
    /// A pixel is read as (pixel − mean) / std, each of its channel.
    pub mean: Vec<f32>,
    pub std: Vec<f32>,
    /// Side of the central square to cut out of a photograph, as a share of its shorter side.
    pub central_crop: Option<f64>,
}

#[derive(Clone, Debug)]
pub struct Layer {
    /// How messages and tables call it: `layer 3 (block01.expand)`.
    pub label: String,
    pub name: String,
    pub op: Op,
    /// Applied after the op.
    pub activation: Activation,
    pub inputs: Vec<ValueId>,
    pub shape: Shape,
    /// 2 for `[n, c]`, 4 for `[n, c, h, w]`.
    pub rank: usize,
}

#[derive(Clone, Debug)]
pub enum Op {
    /// `conv`, `dwconv`, `pwconv`, and `fc`: a convolution whose kernel covers the whole map.
    Conv(Conv),
    /// `max_pool` and `avg_pool`.
    Pool(Pool),
    GlobalAvgPool,
    Add,
    Mul,
    ConcatChannels,
    BroadcastHw,
    Softmax,
}

#[derive(Clone, Debug)]
pub struct Conv {
    pub in_channels: usize,
    pub out_channels: usize,
    pub groups: usize,
    pub kind: ConvKind,
    pub window: Window,
    /// Name of the weights, in PyTorch order, and the shape that they must have.
    pub weight: String,
    pub weight_shape: Vec<usize>,
    pub bias: Option<String>,
}

/// Which plan of the crate computes a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvKind {
    Depthwise,
    Pointwise,
    Standard,
}

#[derive(Clone, Debug)]
pub struct Pool {
    pub kind: PoolKind,
    pub window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolKind {
    Max,
    Average,
}

/// How a kernel slides over a map; pairs are `[height, width]`.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub pad: Pad,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Pad {
    pub top: usize,
    pub left: usize,
    pub bottom: usize,
    pub right: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    None,
    Relu,
    Relu6,
    HardSwish,
    HardSigmoid,
}

impl Arch {
    /// Reads and checks the text of an `arch.json`.
    pub fn parse(text: &str) -> Result<Self> {
        let unreadable = |error: serde_json::Error| error.to_string();
        let header: RawHeader = serde_json::from_str(text).map_err(unreadable)?;
        if header.format.as_deref() != Some(FORMAT) {
            let found = header.format.as_deref().unwrap_or("not given");
            return Err(format!("its `format` is {found}, this program reads {FORMAT}"));
        }
        let raw: RawArch = serde_json::from_str(text).map_err(unreadable)?;
        let input = Input::read(&raw.input)?;
        let mut known = Known::default();
        known.add(raw.input.name, input.shape, 4)?;
        let mut layers = Vec::with_capacity(raw.layers.len());
        for (index, value) in raw.layers.iter().enumerate() {
            let name = ["name", "output"].iter().find_map(|key| value.get(key)?.as_str()).unwrap_or("?");
            let label = format!("layer {index} ({name})");
            let layer = RawLayer::deserialize(value)
                .map_err(|error| error.to_string())
                .and_then(|raw| {
                    let layer = raw.resolve(name, &label, &known)?;
                    known.add(raw.output, layer.shape, layer.rank)?;
                    Ok(layer)
                })
                .map_err(|error| format!("{label}: {error}"))?;
            layers.push(layer);
        }
        let outputs = raw.outputs.iter().map(|name| known.id(name)).collect::<Result<Vec<_>>>();
        let outputs = outputs.map_err(|error| format!("outputs: {error}"))?;
        let output = match outputs.first() {
            None => return Err("outputs is empty: name the layer whose output to report".into()),
            Some(0) => return Err("outputs names the network's own input: name a layer's output".into()),
            Some(&id) => id,
        };
        Ok(Self {
            name: raw.name.unwrap_or_else(|| "unnamed network".into()),
            input,
            layers,
            output,
            classes: strings(raw.classes.as_ref()),
        })
    }

    /// The shape of any tensor of the network.
    pub fn shape(&self, id: ValueId) -> Shape {
        if id == 0 { self.input.shape } else { self.layers[id - 1].shape }
    }

    /// The layer that computes the output.
    pub fn output_layer(&self) -> &Layer {
        &self.layers[self.output - 1]
    }

    /// The output's dimensions without the leading batch of 1.
    pub fn output_dims(&self) -> Vec<usize> {
        let layer = self.output_layer();
        dims(layer.shape, layer.rank)[1..].to_vec()
    }
}

impl Input {
    fn read(raw: &RawInput) -> Result<Self> {
        let &[n, c, h, w] = raw.shape.as_slice() else {
            return Err(format!("input: shape {:?} must have the four dimensions n, c, h, w", raw.shape));
        };
        if n != 1 {
            return Err(format!("input: shape {:?} has a batch of {n}, it must be 1", raw.shape));
        }
        let shape = bounded(Shape::new(n, c, h, w)).map_err(|error| format!("input: {error}"))?;
        let per_channel = |name: &str, given: &Option<Vec<f32>>, absent: f32| match given {
            None => Ok(vec![absent; c]),
            Some(values) if values.len() == c => Ok(values.clone()),
            Some(values) => Err(format!("input: {name} has {} values for {c} channels", values.len())),
        };
        let mean = per_channel("mean", &raw.mean, 0.0)?;
        let std = per_channel("std", &raw.std, 1.0)?;
        if std.contains(&0.0) {
            return Err(format!("input: std {std:?} has a zero, and pixels are divided by it"));
        }
        if let Some(share) = raw.central_crop
            && !(share > 0.0 && share <= 1.0)
        {
            return Err(format!("input: central_crop is {share}, it must be over 0 and at most 1"));
        }
        Ok(Self { shape, mean, std, central_crop: raw.central_crop })
    }

    /// Turns pixels `[h, w, c]` into what the network reads, in NCHW order.
    pub fn normalise(&self, pixels: &[u8]) -> Vec<f32> {
        let channels = self.mean.iter().zip(&self.std).enumerate();
        channels
            .flat_map(|(channel, (mean, std))| {
                let values = pixels.iter().skip(channel).step_by(self.shape.c);
                values.map(move |&value| (f32::from(value) - mean) / std)
            })
            .collect()
    }
}

impl Window {
    /// Height and width of the result on an `input` map.
    fn output(&self, input: Shape) -> Result<[usize; 2]> {
        let Pad { top, left, bottom, right } = self.pad;
        let axes = [("height", input.h, top, bottom), ("width", input.w, left, right)];
        let mut output = [0; 2];
        for (axis, (name, length, before, after)) in axes.into_iter().enumerate() {
            let (kernel, stride, dilation) = (self.kernel[axis], self.stride[axis], self.dilation[axis]);
            if kernel == 0 || stride == 0 || dilation == 0 {
                return Err(format!(
                    "kernel {kernel}, stride {stride}, dilation {dilation} along the {name}: each must be 1 or more"
                ));
            }
            let reach = (kernel - 1).checked_mul(dilation).and_then(|reach| reach.checked_add(1));
            let padded = length.checked_add(before).and_then(|sum| sum.checked_add(after));
            let (Some(reach), Some(padded)) = (reach, padded) else {
                return Err(format!(
                    "kernel {kernel}, dilation {dilation}, padding {before} and {after} along the {name} are too large"
                ));
            };
            if padded < reach {
                return Err(format!(
                    "the {name} {length} with padding {before} and {after} is less than the kernel's reach of {reach}"
                ));
            }
            output[axis] = (padded - reach) / stride + 1;
        }
        Ok(output)
    }

    /// One tap that stays where it is: a convolution with this window only mixes channels.
    fn is_one_pixel(&self) -> bool {
        self.kernel == [1, 1] && self.stride == [1, 1] && self.pad == Pad::default()
    }
}

impl Activation {
    fn parse(name: &str) -> Result<Self> {
        Ok(match name {
            "none" => Self::None,
            "relu" => Self::Relu,
            "relu6" => Self::Relu6,
            "hardswish" => Self::HardSwish,
            "hardsigmoid" => Self::HardSigmoid,
            _ => {
                return Err(format!(
                    "unknown activation `{name}`; known are none, relu, relu6, hardswish, hardsigmoid"
                ));
            }
        })
    }
}

/// A shape as messages and files write it.
pub fn dims(shape: Shape, rank: usize) -> Vec<usize> {
    [shape.n, shape.c, shape.h, shape.w][..rank].to_vec()
}

/// `1 thread`, `2 threads`.
pub fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The tensors that the layers read so far have declared.
#[derive(Default)]
struct Known {
    ids: HashMap<String, ValueId>,
    tensors: Vec<(Shape, usize)>,
}

impl Known {
    fn add(&mut self, name: String, shape: Shape, rank: usize) -> Result<()> {
        if self.ids.contains_key(&name) {
            return Err(format!("the output name `{name}` is already taken"));
        }
        self.ids.insert(name, self.tensors.len());
        self.tensors.push((shape, rank));
        Ok(())
    }

    fn id(&self, name: &str) -> Result<ValueId> {
        let id = self.ids.get(name).copied();
        id.ok_or_else(|| format!("`{name}` is neither the network's input nor the output of an earlier layer"))
    }
}

#[derive(Deserialize)]
struct RawHeader {
    format: Option<String>,
}

#[derive(Deserialize)]
struct RawArch {
    name: Option<String>,
    input: RawInput,
    outputs: Vec<String>,
    layers: Vec<Value>,
    // Read leniently: it only dresses the printed result.
    classes: Option<Value>,
}

#[derive(Deserialize)]
struct RawInput {
    #[serde(default = "default_input_name")]
    name: String,
    shape: Vec<usize>,
    mean: Option<Vec<f32>>,
    std: Option<Vec<f32>>,
    central_crop: Option<f64>,
}

fn default_input_name() -> String {
    "input".into()
}

#[derive(Deserialize)]
struct RawLayer {
    op: String,
    input: Option<String>,
    inputs: Option<Vec<String>>,
    output: String,
    out_shape: Option<Vec<usize>>,
    activation: Option<String>,
    weight: Option<String>,
    bias: Option<String>,
    in_channels: Option<usize>,
    out_channels: Option<usize>,
    in_features: Option<usize>,
    out_features: Option<usize>,
    groups: Option<usize>,
    kernel: Option<[usize; 2]>,
    stride: Option<[usize; 2]>,
    dilation: Option<[usize; 2]>,
    pad: Option<Pad>,
    axis: Option<isize>,
}

impl RawLayer {
    fn resolve(&self, name: &str, label: &str, known: &Known) -> Result<Layer> {
        let names = match (&self.inputs, &self.input) {
            (Some(names), _) => names.as_slice(),
            (None, Some(name)) => std::slice::from_ref(name),
            (None, None) => return Err("it names no `input` and no `inputs`".into()),
        };
        let inputs = names.iter().map(|name| known.id(name)).collect::<Result<Vec<_>>>()?;
        let tensors: Vec<_> = inputs.iter().map(|&id| known.tensors[id]).collect();
        let shapes: Vec<_> = tensors.iter().map(|&(shape, _)| shape).collect();
        let (op, shape) = self.op(&shapes, tensors.first().map_or(4, |&(_, rank)| rank))?;
        let shape = bounded(shape)?;
        let inferred = if matches!(op, Op::Conv(_)) { 4 } else { tensors.iter().map(|t| t.1).max().unwrap_or(4) };
        let rank = self.declared_rank(shape, inferred)?;
        let activation = Activation::parse(self.activation.as_deref().unwrap_or("none"))?;
        Ok(Layer { label: label.into(), name: name.into(), op, activation, inputs, shape, rank })
    }

    /// The op and the shape of its output.
    fn op(&self, inputs: &[Shape], rank: usize) -> Result<(Op, Shape)> {
        match self.op.as_str() {
            "conv" | "dwconv" | "pwconv" | "fc" => {
                let [input] = self.operands(inputs)?;
                let conv = if self.op == "fc" { self.fc(input)? } else { self.conv(input)? };
                let [h, w] = conv.window.output(input)?;
                let shape = Shape::new(input.n, conv.out_channels, h, w);
                Ok((Op::Conv(conv), shape))
            }
            "max_pool" | "avg_pool" => {
                let [input] = self.operands(inputs)?;
                let kind = if self.op == "max_pool" { PoolKind::Max } else { PoolKind::Average };
                let window = self.window(self.required("kernel", self.kernel)?);
                if kind == PoolKind::Average && window.pad != Pad::default() {
                    return Err("avg_pool with padding is not defined by the format".into());
                }
                let [h, w] = window.output(input)?;
                Ok((Op::Pool(Pool { kind, window }), Shape::new(input.n, input.c, h, w)))
            }
            "global_avg_pool" => {
                let [input] = self.operands(inputs)?;
                Ok((Op::GlobalAvgPool, Shape::new(input.n, input.c, 1, 1)))
            }
            "add" | "mul" => {
                let op = if self.op == "add" { Op::Add } else { Op::Mul };
                Ok((op, broadcast(self.operands(inputs)?)?))
            }
            "concat_channels" => Ok((Op::ConcatChannels, concat(inputs)?)),
            "broadcast_hw" => {
                let [input] = self.operands(inputs)?;
                let declared = self.out_shape.as_deref();
                let Some(&[n, c, h, w]) = declared else {
                    return Err(format!("out_shape {declared:?} must have the four dimensions n, c, h, w"));
                };
                let shape = Shape::new(n, c, h, w);
                if (input.n, input.c, input.h, input.w) != (n, c, 1, 1) {
                    return Err(format!(
                        "it expands {:?} to {:?}, but can only expand [n, c, 1, 1] to [n, c, h, w]",
                        dims(input, 4),
                        dims(shape, 4)
                    ));
                }
                Ok((Op::BroadcastHw, shape))
            }
            "softmax" => {
                let [input] = self.operands(inputs)?;
                match self.axis {
                    None | Some(1) => {}
                    Some(axis) if axis.checked_add_unsigned(rank) == Some(1) => {}
                    Some(axis) => return Err(format!("softmax along axis {axis}: only axis 1 is supported")),
                }
                Ok((Op::Softmax, input))
            }
            op => Err(format!(
                "unknown op `{op}`; known are conv, dwconv, pwconv, fc, max_pool, avg_pool, global_avg_pool, \
                 add, mul, concat_channels, broadcast_hw, softmax"
            )),
        }
    }

    fn conv(&self, input: Shape) -> Result<Conv> {
        let in_channels = self.in_channels.unwrap_or(input.c);
        if in_channels != input.c {
            return Err(format!("in_channels is {in_channels}, but its input has {} channels", input.c));
        }
        let out_channels = self.required("out_channels", self.out_channels)?;
        let (op, depthwise, pointwise) = (&self.op, self.op == "dwconv", self.op == "pwconv");
        let groups = self.groups.unwrap_or(if depthwise { in_channels } else { 1 });
        let divides = |channels: usize| channels.checked_rem(groups) == Some(0);
        if out_channels == 0 || !divides(in_channels) || !divides(out_channels) {
            return Err(format!(
                "{in_channels} input and {out_channels} output channels can not be split into {groups} groups"
            ));
        }
        if depthwise && groups != in_channels {
            return Err(format!("a {op} has one group per input channel: {in_channels}, not {groups}"));
        }
        let window =
            self.window(if pointwise { self.kernel.unwrap_or([1, 1]) } else { self.required("kernel", self.kernel)? });
        if pointwise && window.kernel != [1, 1] {
            return Err(format!("a {op} has a kernel of [1, 1], not {:?}", window.kernel));
        }
        let kind = if depthwise || (groups > 1 && groups == in_channels) {
            ConvKind::Depthwise
        } else if groups == 1 && window.is_one_pixel() {
            ConvKind::Pointwise
        } else {
            ConvKind::Standard
        };
        Ok(Conv {
            in_channels,
            out_channels,
            groups,
            kind,
            window,
            weight: self.required("weight", self.weight.clone())?,
            weight_shape: vec![out_channels, in_channels / groups, window.kernel[0], window.kernel[1]],
            bias: self.bias.clone(),
        })
    }

    /// A fully connected layer reads the map in NCHW order, as its weights `[O, C·H·W]` lie: that is a
    /// convolution with weights `[O, C, H, W]`, in either layout and without flattening anything.
    fn fc(&self, input: Shape) -> Result<Conv> {
        let features = input.c * input.h * input.w;
        let in_features = self.in_features.unwrap_or(features);
        if in_features != features {
            return Err(format!(
                "in_features is {in_features}, but its input {:?} has {features} elements",
                dims(input, 4)
            ));
        }
        let out_channels = self.required("out_features", self.out_features)?;
        let window = Window { kernel: [input.h, input.w], stride: [1, 1], dilation: [1, 1], pad: Pad::default() };
        Ok(Conv {
            in_channels: input.c,
            out_channels,
            groups: 1,
            kind: if window.is_one_pixel() { ConvKind::Pointwise } else { ConvKind::Standard },
            window,
            weight: self.required("weight", self.weight.clone())?,
            weight_shape: vec![out_channels, features],
            bias: self.bias.clone(),
        })
    }

    fn window(&self, kernel: [usize; 2]) -> Window {
        Window {
            kernel,
            stride: self.stride.unwrap_or([1, 1]),
            dilation: self.dilation.unwrap_or([1, 1]),
            pad: self.pad.unwrap_or_default(),
        }
    }

    fn required<T>(&self, field: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| format!("a {} needs `{field}`", self.op))
    }

    fn operands<const N: usize>(&self, inputs: &[Shape]) -> Result<[Shape; N]> {
        inputs.try_into().map_err(|_| format!("a {} has {N} inputs, not {}", self.op, inputs.len()))
    }

    /// The rank of the output, after comparing its `out_shape`, if it has one, with what the op gives.
    fn declared_rank(&self, shape: Shape, inferred: usize) -> Result<usize> {
        let flat = shape.h == 1 && shape.w == 1;
        match &self.out_shape {
            None => Ok(if self.op == "fc" { 2 } else { inferred }),
            Some(declared) if *declared == dims(shape, 4) => Ok(4),
            Some(declared) if flat && *declared == dims(shape, 2) => Ok(2),
            Some(declared) => {
                Err(format!("out_shape is {declared:?}, but its inputs and parameters give {:?}", dims(shape, 4)))
            }
        }
    }
}

/// Elementwise operands agree, or one is 1 where the other is not (height and width together).
fn broadcast([a, b]: [Shape; 2]) -> Result<Shape> {
    let axis = |a: usize, b: usize| if a == b || b == 1 { Some(a) } else { (a == 1).then_some(b) };
    let map = match ((a.h, a.w), (b.h, b.w)) {
        (a, b) if a == b || b == (1, 1) => Some(a),
        (a, b) => (a == (1, 1)).then_some(b),
    };
    match (axis(a.n, b.n), axis(a.c, b.c), map) {
        (Some(n), Some(c), Some((h, w))) => Ok(Shape::new(n, c, h, w)),
        _ => Err(format!("its inputs {:?} and {:?} do not fit together", dims(a, 4), dims(b, 4))),
    }
}

fn concat(inputs: &[Shape]) -> Result<Shape> {
    let Some((first, rest)) = inputs.split_first() else {
        return Err("a concat_channels needs at least one input".into());
    };
    let mut shape = *first;
    for other in rest {
        if (other.n, other.h, other.w) != (shape.n, shape.h, shape.w) {
            return Err(format!("its inputs {:?} and {:?} do not fit together", dims(*first, 4), dims(*other, 4)));
        }
        shape.c = shape.c.saturating_add(other.c);
    }
    Ok(shape)
}

/// The shape, if none of its dimensions is zero and it is not too large.
fn bounded(shape: Shape) -> Result<Shape> {
    match shape.len() {
        Some(1..=MAX_ELEMENTS) => Ok(shape),
        Some(0) => Err(format!("the shape {:?} is empty", dims(shape, 4))),
        _ => Err(format!("the shape {:?} has more than {MAX_ELEMENTS} elements", dims(shape, 4))),
    }
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let values = value.and_then(Value::as_array).into_iter().flatten();
    values.filter_map(|value| value.as_str().map(String::from)).collect()
}
