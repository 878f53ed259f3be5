//! Makes a TFLite file of 8 bits from a network of f32.
//!
//! Activations are `i8` with the ranges that photographs gave, weights `i8` with a scale for each output channel, and biases `i32`.

use depthwise::Shape;

use super::schema::{CENTRAL_CROP, OPERATORS, TYPES};
use super::write::{self, Field};
use crate::arch::{Activation, Arch, Conv, ConvKind, Input, Layer, Op, Pad, Pool, PoolKind, Result, Window};
use crate::engine::{Network, Options};
use crate::files::Tensors;

/// The least and the greatest number of a tensor, and 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Range {
    low: f32,
    high: f32,
}

impl Range {
    fn of(values: &[f32]) -> Self {
        let wider = |range: Self, &value: &f32| Self { low: range.low.min(value), high: range.high.max(value) };
        values.iter().fold(Self::default(), wider)
    }

    fn with(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }
}

/// Runs images in NCHW order, layer by layer: the ranges of the network's tensors.
pub fn ranges(arch: &Arch, weights: &Tensors, images: &[Vec<f32>], options: Options) -> Result<Vec<Range>> {
    let network = Network::<f32>::build_layers(arch.clone(), weights, options)?;
    let mut scratch = network.scratch()?;
    let mut ranges = vec![Range::default(); arch.layers.len() + 1];
    let mut bad = None;
    for image in images {
        ranges[0] = ranges[0].with(Range::of(image));
        network.run(&mut scratch, &network.arrange(image), depthwise::Parallelism::Serial, |layer, output| {
            if output.iter().any(|value| !value.is_finite()) {
                bad.get_or_insert(layer);
            }
            ranges[layer + 1] = ranges[layer + 1].with(Range::of(output));
        })?;
    }
    match bad {
        Some(layer) => Err(format!("{}: it gave numbers that are not finite", arch.layers[layer].label)),
        None => Ok(ranges),
    }
}

/// The bytes of the file.
pub fn quantize(arch: &Arch, weights: &Tensors, ranges: &[Range]) -> Result<Vec<u8>> {
    let mut file = File::default();
    // The first buffer is that of tensors which have none.
    file.buffers.push(vec![]);
    let input = file.input(&arch.input, ranges[0]);
    let mut values = vec![input];
    for (layer, &range) in arch.layers.iter().zip(&ranges[1..]) {
        let inputs: Vec<Value> = layer.inputs.iter().map(|&id| values[id]).collect();
        let value = file.layer(layer, &inputs, range, weights);
        values.push(value.map_err(|error| format!("{}: {error}", layer.label))?);
    }
    let mut output = values[arch.output];
    if arch.output_layer().rank == 2 {
        let Shape { n, c, .. } = output.shape;
        let shape = [n as i32, c as i32];
        let to = file.tensor("output", &shape, "INT8", Some(output.quantized()), 0, None);
        let wanted = file.tensor("output/shape", &[2], "INT32", None, 0, Some(bytes_of(&shape)));
        file.operator("RESHAPE", &[output.tensor, wanted], to, 17, vec![Field::Numbers(shape.to_vec())]);
        output.tensor = to;
    }
    Ok(file.finish(&arch.name, arch.input.central_crop, output.tensor))
}

/// What a tensor of activations is: `scale` · (number − `zero_point`).
#[derive(Clone, Copy)]
struct Value {
    tensor: i32,
    shape: Shape,
    scale: f32,
    zero_point: i32,
}

impl Value {
    fn quantized(&self) -> (Vec<f32>, Vec<i64>) {
        (vec![self.scale], vec![self.zero_point.into()])
    }
}

#[derive(Default)]
struct File {
    tensors: Vec<Vec<Field>>,
    buffers: Vec<Vec<Field>>,
    operators: Vec<Vec<Field>>,
    /// Names of operators, by the number that they have in this file.
    codes: Vec<&'static str>,
}

impl File {
    fn tensor(
        &mut self,
        name: &str,
        shape: &[i32],
        kind: &str,
        quantized: Option<(Vec<f32>, Vec<i64>)>,
        axis: i32,
        data: Option<Vec<u8>>,
    ) -> i32 {
        let buffer = match data {
            None => 0,
            Some(data) => {
                self.buffers.push(vec![Field::Bytes(data)]);
                self.buffers.len() - 1
            }
        };
        let kind = TYPES.iter().position(|&known| known == kind).expect("a type of the schema");
        let quantization = quantized.map_or(Field::Absent, |(scales, zero_points)| {
            let [scales, zero_points] = [Field::Reals(scales), Field::Longs(zero_points)];
            let none = Field::Absent;
            Field::Table(vec![none.clone(), none.clone(), scales, zero_points, none.clone(), none, Field::Number(axis)])
        });
        self.tensors.push(vec![
            Field::Numbers(shape.to_vec()),
            Field::Byte(kind as u8),
            Field::Number(buffer as i32),
            Field::Text(name.into()),
            quantization,
        ]);
        self.tensors.len() as i32 - 1
    }

    /// A tensor of activations of that range.
    fn activations(&mut self, name: &str, shape: Shape, range: Range) -> Value {
        let width = f64::from(range.high) - f64::from(range.low);
        let scale = ((width / 255.0) as f32).max(f32::MIN_POSITIVE);
        // Where nothing but 0 was seen, any will do.
        let scale = if width > 0.0 { scale } else { 1.0 };
        let zero_point = (-128.0 - f64::from(range.low) / f64::from(scale)).round().clamp(-128.0, 127.0) as i32;
        self.activations_of(name, shape, scale, zero_point)
    }

    fn activations_of(&mut self, name: &str, shape: Shape, scale: f32, zero_point: i32) -> Value {
        let mut value = Value { tensor: 0, shape, scale, zero_point };
        value.tensor = self.tensor(name, &nhwc(shape), "INT8", Some(value.quantized()), 0, None);
        value
    }

    fn operator(&mut self, name: &'static str, inputs: &[i32], output: i32, options: u8, fields: Vec<Field>) {
        let code = self.codes.iter().position(|&known| known == name).unwrap_or_else(|| {
            self.codes.push(name);
            self.codes.len() - 1
        });
        self.operators.push(vec![
            Field::Number(code as i32),
            Field::Numbers(inputs.to_vec()),
            Field::Numbers(vec![output]),
            Field::Byte(options),
            Field::Table(fields),
        ]);
    }

    /// Pixels, which are 128 more than the numbers of the first tensor, as the network reads them.
    fn input(&mut self, input: &Input, range: Range) -> Value {
        let (mean, std) = (input.mean[0], input.std[0]);
        let is_same = input.mean.iter().all(|&other| other == mean) && input.std.iter().all(|&other| other == std);
        if is_same && (0.0..=255.0).contains(&mean) && mean.fract() == 0.0 && std > 0.0 && std.recip().is_normal() {
            return self.activations_of("input", input.shape, std.recip(), mean as i32 - 128);
        }
        let pixels = self.activations_of("input", input.shape, 1.0, -128);
        let to = self.activations("input/normalised", input.shape, range);
        let weights: Vec<f32> = input.std.iter().map(|std| std.recip()).collect();
        let bias: Vec<f32> = input.mean.iter().zip(&input.std).map(|(mean, std)| -mean / std).collect();
        let shape = [1, 1, 1, input.shape.c as i32];
        let parameters = self.parameters("input", (&weights, &bias), shape, 3, pixels.scale, |output, _| output);
        self.operator("DEPTHWISE_CONV_2D", &[&[pixels.tensor], &parameters[..]].concat(), to.tensor, 2, {
            let one = || Field::Number(1);
            vec![Field::Byte(1), one(), one(), one(), Field::Byte(0), one(), one()]
        });
        to
    }

    fn layer(&mut self, layer: &Layer, inputs: &[Value], range: Range, weights: &Tensors) -> Result<Value> {
        let name = &layer.name;
        let fused = match layer.activation {
            Activation::None => 0,
            Activation::Relu => 1,
            Activation::Relu6 => 3,
            Activation::HardSwish | Activation::HardSigmoid => {
                return Err("of activations, none, relu and relu6 are made 8 bits".into());
            }
        };
        let can_fuse = matches!(layer.op, Op::Conv(_) | Op::Pool(_) | Op::Add);
        if fused != 0 && !can_fuse {
            return Err("an activation is made 8 bits behind convolutions, pools and additions alone".into());
        }
        match (&layer.op, inputs) {
            (Op::Conv(conv), &[input]) => self.convolution(layer, conv, fused, input, range, weights),
            (Op::Pool(pool), &[input]) => self.pool(layer, pool, fused, input),
            (Op::GlobalAvgPool, &[input]) => {
                let to = self.activations(name, layer.shape, range);
                let axes = self.tensor(&format!("{name}/axes"), &[2], "INT32", None, 0, Some(bytes_of(&[1, 2])));
                self.operator("MEAN", &[input.tensor, axes], to.tensor, 27, vec![Field::Byte(1)]);
                Ok(to)
            }
            (Op::Add, &[a, b]) => {
                let to = self.activations(name, layer.shape, range);
                self.operator("ADD", &[a.tensor, b.tensor], to.tensor, 11, vec![Field::Byte(fused)]);
                Ok(to)
            }
            (Op::Softmax, &[input]) => {
                let to = self.activations_of(name, layer.shape, 1.0 / 256.0, -128);
                self.operator("SOFTMAX", &[input.tensor], to.tensor, 9, vec![Field::Real(1.0)]);
                Ok(to)
            }
            _ => Err("convolutions, pools, softmax and add are made 8 bits, other layers are not".into()),
        }
    }

    fn convolution(
        &mut self,
        layer: &Layer,
        conv: &Conv,
        fused: u8,
        input: Value,
        range: Range,
        tensors: &Tensors,
    ) -> Result<Value> {
        let Layer { name, shape, .. } = layer;
        let outputs = conv.out_channels;
        let weights = tensors.weights(&conv.weight, &conv.weight_shape)?;
        let bias = match &conv.bias {
            Some(bias) => tensors.weights(bias, &[outputs])?,
            None => vec![0.0; outputs],
        };
        if weights.iter().chain(&bias).any(|value| !value.is_finite()) {
            return Err("its weights or biases are not all finite".into());
        }
        let Window { kernel: [kh, kw], stride, dilation, .. } = conv.window;
        let (taps, depth) = (kh * kw, conv.in_channels / conv.groups);
        let (input, padding) = self.padded(name, input, &conv.window, *shape);
        let to = self.activations(name, *shape, range);
        let [o, h, w, d] = [outputs, kh, kw, depth].map(|extent| extent as i32);
        let number = |value: usize| Field::Number(value as i32);
        let mut fields = vec![padding, number(stride[1]), number(stride[0])];
        let rest = [Field::Byte(fused), number(dilation[1]), number(dilation[0])];
        if conv.kind == ConvKind::Depthwise {
            let place = |output: usize, tap: usize| tap * outputs + output;
            let parameters = self.parameters(name, (&weights, &bias), [1, h, w, o], 3, input.scale, place);
            fields.push(number(outputs / conv.in_channels));
            fields.extend(rest);
            let inputs = [&[input.tensor], &parameters[..]].concat();
            self.operator("DEPTHWISE_CONV_2D", &inputs, to.tensor, 2, fields);
        } else {
            let place = |output: usize, i: usize| output * depth * taps + i % taps * depth + i / taps;
            let parameters = self.parameters(name, (&weights, &bias), [o, h, w, d], 0, input.scale, place);
            fields.extend(rest);
            self.operator("CONV_2D", &[&[input.tensor], &parameters[..]].concat(), to.tensor, 1, fields);
        }
        Ok(to)
    }

    /// Tensors of weights and biases. `place`: where a weight goes, by its output and its number among that output's.
    fn parameters(
        &mut self,
        name: &str,
        (weights, bias): (&[f32], &[f32]),
        shape: [i32; 4],
        axis: i32,
        input_scale: f32,
        place: impl Fn(usize, usize) -> usize,
    ) -> [i32; 2] {
        let (outputs, each) = (bias.len(), weights.len() / bias.len());
        let input_scale = f64::from(input_scale);
        let mut numbers = vec![0; weights.len()];
        let (mut scales, mut biases) = (Vec::with_capacity(outputs), Vec::with_capacity(outputs));
        for (output, (own, &bias)) in weights.chunks_exact(each).zip(bias).enumerate() {
            let largest = own.iter().fold(0.0, |largest: f32, weight| largest.max(weight.abs()));
            // Of a channel of small weights, the bias must fit, and leave half of 32 bits to the sum.
            let of_bias = f64::from(bias.abs()) / (input_scale * f64::from(1 << 30));
            let scale = (f64::from(largest) / 127.0).max(of_bias) as f32;
            let scale = if scale > 0.0 { scale.max(f32::MIN_POSITIVE) } else { 1.0 };
            for (i, &weight) in own.iter().enumerate() {
                let steps = (f64::from(weight) / f64::from(scale)).round().clamp(-127.0, 127.0);
                numbers[place(output, i)] = steps as i8 as u8;
            }
            scales.push(scale);
            biases.push((f64::from(bias) / (input_scale * f64::from(scale))).round() as i32);
        }
        let of_sums = scales.iter().map(|&scale| (input_scale * f64::from(scale)) as f32).collect();
        let zeros = || vec![0; outputs];
        let weights =
            self.tensor(&format!("{name}/weights"), &shape, "INT8", Some((scales, zeros())), axis, Some(numbers));
        let sums = Some((of_sums, zeros()));
        let bias = self.tensor(&format!("{name}/bias"), &[outputs as i32], "INT32", sums, 0, Some(bytes_of(&biases)));
        [weights, bias]
    }

    fn pool(&mut self, layer: &Layer, pool: &Pool, fused: u8, input: Value) -> Result<Value> {
        let Window { kernel, stride, dilation, pad } = pool.window;
        let padding = tflite_padding(&pool.window, input.shape, layer.shape);
        let (Some(padding), [1, 1]) = (padding, dilation) else {
            return Err(format!("a pool is made 8 bits if its padding {pad:?} is TensorFlow's, and its dilation 1"));
        };
        let to = self.activations_of(&layer.name, layer.shape, input.scale, input.zero_point);
        let fields = [stride[1], stride[0], kernel[1], kernel[0]].map(|value| Field::Number(value as i32));
        let fields = [&[Field::Byte(padding)], &fields[..], &[Field::Byte(fused)]].concat();
        let operator = if pool.kind == PoolKind::Max { "MAX_POOL_2D" } else { "AVERAGE_POOL_2D" };
        self.operator(operator, &[input.tensor], to.tensor, 5, fields);
        Ok(to)
    }

    /// TFLite's name of a convolution's padding. Where it has none, the input is padded first.
    fn padded(&mut self, name: &str, input: Value, window: &Window, output: Shape) -> (Value, Field) {
        if let Some(padding) = tflite_padding(window, input.shape, output) {
            return (input, Field::Byte(padding));
        }
        let Pad { top, left, bottom, right } = window.pad;
        let Shape { h, w, .. } = input.shape;
        let shape = Shape { h: top + h + bottom, w: left + w + right, ..input.shape };
        let padded = self.activations_of(&format!("{name}/padded"), shape, input.scale, input.zero_point);
        let margins = [0, 0, top, bottom, left, right, 0, 0].map(|margin| margin as i32);
        let margins = self.tensor(&format!("{name}/margins"), &[4, 2], "INT32", None, 0, Some(bytes_of(&margins)));
        self.operator("PAD", &[input.tensor, margins], padded.tensor, 22, vec![]);
        (padded, Field::Byte(1))
    }

    fn finish(mut self, name: &str, central_crop: Option<f64>, output: i32) -> Vec<u8> {
        let crop = central_crop.map_or_else(|| "none".into(), |share| share.to_string());
        self.buffers.push(vec![Field::Bytes(crop.into_bytes())]);
        let metadata = vec![Field::Text(CENTRAL_CROP.into()), Field::Number(self.buffers.len() as i32 - 1)];
        let code = |name: &&str| {
            let number = OPERATORS.split_whitespace().position(|known| known == *name).expect("an operator's name");
            // Of MEAN, the second version is that for INT8; of others, too, but PAD and RESHAPE have had it from the first.
            let version = if ["PAD", "RESHAPE"].contains(name) { 1 } else { 2 };
            let version = if *name == "DEPTHWISE_CONV_2D" || *name == "CONV_2D" { 3 } else { version };
            vec![Field::Byte(number as u8), Field::Absent, Field::Number(version), Field::Number(number as i32)]
        };
        let codes = self.codes.iter().map(code).collect();
        let subgraph = vec![
            Field::Tables(self.tensors),
            // The first is the input.
            Field::Numbers(vec![0]),
            Field::Numbers(vec![output]),
            Field::Tables(self.operators),
            Field::Text(name.into()),
        ];
        write::file(&[
            Field::Number(3),
            Field::Tables(codes),
            Field::Tables(vec![subgraph]),
            Field::Text(format!("{name}, quantised by the example `network` of depthwise")),
            Field::Tables(self.buffers),
            Field::Absent,
            Field::Tables(vec![metadata]),
        ])
    }
}

/// The number of SAME or VALID, if that is the window's padding.
fn tflite_padding(window: &Window, input: Shape, output: Shape) -> Option<u8> {
    let Pad { top, left, bottom, right } = window.pad;
    let along = |axis: usize, length: usize, outputs: usize, before: usize| {
        let reach = (window.kernel[axis] - 1) * window.dilation[axis] + 1;
        let needed = ((outputs - 1) * window.stride[axis] + reach).saturating_sub(length);
        outputs == length.div_ceil(window.stride[axis]) && before == needed / 2
    };
    if along(0, input.h, output.h, top) && along(1, input.w, output.w, left) {
        return Some(0);
    }
    ([top, left, bottom, right] == [0; 4]).then_some(1)
}

fn nhwc(shape: Shape) -> [i32; 4] {
    [shape.n, shape.h, shape.w, shape.c].map(|extent| extent as i32)
}

fn bytes_of(numbers: &[i32]) -> Vec<u8> {
    numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
}
