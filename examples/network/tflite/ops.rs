//! The operators, in TFLite's own arithmetic: each is checked once, and becomes a function.
//!
//! Convolutions are the crate's plans, of `convolution`.

use depthwise::Shape;

use super::convolution::{Described, Form};
use super::rounding::Multiplier;
use super::schema::{Graph, Operator, Tensor};
use super::values::{Kind, Quantized, Values, check_scale};
use crate::arch::Result;

/// Computes an operator's output from the inputs that [`Built`] names.
pub type Work = Box<dyn Fn(&[&Values]) -> Values + Send + Sync>;

pub struct Built {
    pub work: Work,
    /// The tensors that it reads at each run. Weights and the like are already in `work`.
    pub inputs: Vec<usize>,
}

/// The operators that [`build`] knows.
const KNOWN: &str = "ADD, AVERAGE_POOL_2D, CONV_2D, DEPTHWISE_CONV_2D, DEQUANTIZE, FULLY_CONNECTED, MAX_POOL_2D, MEAN, PAD, \
    QUANTIZE, RESHAPE and SOFTMAX";

/// Checks an operator against its tensors. The error does not name the operator yet.
pub fn build(graph: &Graph, operator: &Operator) -> Result<Built> {
    let site = Site { graph, operator };
    let work = match operator.name.as_str() {
        "CONV_2D" => site.convolution(Form::Standard),
        "DEPTHWISE_CONV_2D" => site.convolution(Form::Depthwise),
        "FULLY_CONNECTED" => site.convolution(Form::FullyConnected),
        "ADD" => site.add(),
        "PAD" => site.pad(),
        "MEAN" => site.mean(),
        "AVERAGE_POOL_2D" => site.pool(Pool::Average),
        "MAX_POOL_2D" => site.pool(Pool::Max),
        "RESHAPE" => site.reshape(),
        "SOFTMAX" => site.softmax(),
        "QUANTIZE" => site.quantize(),
        "DEQUANTIZE" => site.dequantize(),
        _ => Err(format!("it is not supported; {KNOWN} are")),
    }?;
    let inputs = operator.inputs[..if operator.name == "ADD" { 2 } else { 1 }].iter().copied().flatten().collect();
    Ok(Built { work, inputs })
}

#[derive(Clone, Copy)]
enum Pool {
    Average,
    Max,
}

/// An operator and the tensors around it.
#[derive(Clone, Copy)]
struct Site<'a> {
    graph: &'a Graph<'a>,
    operator: &'a Operator<'a>,
}

impl<'a> Site<'a> {
    fn input(self, index: usize) -> Result<&'a Tensor<'a>> {
        let id = self.operator.inputs.get(index).copied().flatten();
        id.map(|id| &self.graph.tensors[id]).ok_or_else(|| format!("it has no input {index}"))
    }

    fn output(self) -> Result<&'a Tensor<'a>> {
        match self.operator.outputs[..] {
            [id] => Ok(&self.graph.tensors[id]),
            _ => Err(format!("it has {} outputs, one is supported", self.operator.outputs.len())),
        }
    }

    /// Input 0 and the output, of the same 8-bit type.
    fn quantized(self) -> Result<(Quantized, Quantized)> {
        let (from, to) = (Quantized::of(self.input(0)?)?, Quantized::of(self.output()?)?);
        if from.kind != to.kind {
            return Err(format!("its input is {}, its output {}", self.input(0)?.kind, self.output()?.kind));
        }
        Ok((from, to))
    }

    /// The numbers of 32 bits that are in the file.
    fn constants(self, tensor: &Tensor) -> Result<Vec<i32>> {
        let narrow = |wide: i64| i32::try_from(wide).ok();
        let values: Option<Vec<i32>> = match tensor.kind {
            "INT32" => Some(tensor.data.as_chunks().0.iter().map(|&bytes| i32::from_le_bytes(bytes)).collect()),
            "INT64" => tensor.data.as_chunks().0.iter().map(|&bytes| narrow(i64::from_le_bytes(bytes))).collect(),
            _ => None,
        };
        values.filter(|values| values.len() == tensor.len()).ok_or_else(|| {
            format!("tensor `{}` must be numbers of type INT32 that the file holds, it is {}", tensor.name, tensor.kind)
        })
    }

    fn expect_output(self, shape: &[usize]) -> Result<()> {
        let output = self.output()?;
        if output.shape == shape {
            return Ok(());
        }
        Err(format!("its output `{}` has the shape {:?}, it gives {shape:?}", output.name, output.shape))
    }

    /// The range that an activation and the type leave.
    fn clamp(self, field: usize) -> Result<(i32, i32)> {
        let to = Quantized::of(self.output()?)?;
        let (low, high) = to.kind.range();
        let (low, high) = match self.operator.options.byte(field)? {
            0 => (low, high),
            1 => (low.max(to.nearest(0.0)), high),
            2 => (low.max(to.nearest(-1.0)), high.min(to.nearest(1.0))),
            3 => (low.max(to.nearest(0.0)), high.min(to.nearest(6.0))),
            other => {
                return Err(format!("activation {other} is not supported; none, RELU, RELU_N1_TO_1 and RELU6 are"));
            }
        };
        // Where a zero point lies at the far end, nothing is left but one number.
        Ok((low, high.max(low)))
    }

    fn window(self, padding: usize, kernel: [usize; 2], stride: [usize; 2], dilation: [usize; 2]) -> Result<Window> {
        let [_, h, w, _] = map_of(self.input(0)?)?;
        let same = match self.operator.options.byte(padding)? {
            0 => true,
            1 => false,
            other => return Err(format!("padding {other} is unknown")),
        };
        let along = |axis: usize, length: usize| {
            let (kernel, stride, dilation) = (kernel[axis], stride[axis], dilation[axis]);
            let reach = (kernel - 1).checked_mul(dilation).and_then(|reach| reach.checked_add(1));
            let reach = reach.ok_or_else(|| format!("a kernel of {kernel} at dilation {dilation} is too large"))?;
            if same {
                let outputs = length.div_ceil(stride);
                let needed = (outputs.max(1) - 1).saturating_mul(stride).saturating_add(reach);
                Ok((outputs, needed.saturating_sub(length) / 2))
            } else if reach <= length {
                Ok(((length - reach) / stride + 1, 0))
            } else {
                Err(format!("a kernel that reaches over {reach} does not fit into {length} without padding"))
            }
        };
        let ((oh, top), (ow, left)) = (along(0, h)?, along(1, w)?);
        Ok(Window { input: [h, w], output: [oh, ow], before: [top, left], kernel, stride, dilation })
    }

    fn convolution(self, form: Form) -> Result<Work> {
        let (from, to) = self.quantized()?;
        let (input, weights, options) = (self.input(0)?, self.input(1)?, self.operator.options);
        if Kind::of(weights)? != from.kind {
            return Err(format!("its input is {}, its weights are {}", input.kind, weights.kind));
        }
        let pair = |fields: [usize; 2], what: &str| {
            Ok::<_, String>([options.count(fields[0], what, 1)?, options.count(fields[1], what, 1)?])
        };
        if weights.is_empty() {
            return Err(format!("its weights have the shape {:?}", weights.shape));
        }
        // `depth`: input channels of a group.
        let (depth, outputs, window, activation);
        match form {
            Form::FullyConnected => {
                let [o, i] = weights.shape[..] else {
                    return Err(format!("its weights have the shape {:?}", weights.shape));
                };
                if !input.len().is_multiple_of(i) {
                    return Err(format!("its input has {} elements, its weights take {i}", input.len()));
                }
                if options.byte(1)? != 0 {
                    return Err("its weights are shuffled, which is not supported".into());
                }
                (depth, outputs, activation) = (i, o, 0);
                window = Window::one_pixel();
            }
            Form::Standard | Form::Depthwise => {
                let [first, kh, kw, last] = weights.shape[..] else {
                    return Err(format!("its weights have the shape {:?}", weights.shape));
                };
                let (stride, dilation);
                if form == Form::Depthwise {
                    (stride, dilation, activation) = (pair([2, 1], "stride")?, pair([6, 5], "dilation")?, 4);
                    (depth, outputs) = (1, last);
                    if first != 1 {
                        return Err(format!(
                            "its weights have the shape {:?}, the first extent must be 1",
                            weights.shape
                        ));
                    }
                } else {
                    (stride, dilation, activation) = (pair([2, 1], "stride")?, pair([5, 4], "dilation")?, 3);
                    (depth, outputs) = (last, first);
                }
                window = self.window(0, [kh, kw], stride, dilation)?;
            }
        }
        let (batch, channels) = match form {
            Form::FullyConnected => (input.len() / depth, depth),
            _ => (input.shape[0], input.shape[3]),
        };
        let groups = channels / depth;
        if depth * groups != channels || groups == 0 || !outputs.is_multiple_of(groups) {
            return Err(format!("{channels} channels in groups of {depth} do not make {outputs}"));
        }
        let (scales, zero_point) = self.weight_scales(weights, outputs, if form == Form::Depthwise { 3 } else { 0 })?;
        let bias = match self.operator.inputs.get(2).copied().flatten() {
            Some(id) => self.constants(&self.graph.tensors[id])?,
            None => vec![0; outputs],
        };
        if bias.len() != outputs {
            return Err(format!("it has {} biases for {outputs} outputs", bias.len()));
        }
        let convolution = Described {
            form,
            from,
            to,
            input: Shape::new(batch, channels, window.input[0], window.input[1]),
            outputs,
            depth,
            kernel: window.kernel,
            stride: window.stride,
            dilation: window.dilation,
            padding: window.padding(),
            weights: &Values::read(weights, weights.data)?,
            scales,
            zero_point,
            bias: &bias,
            clamp: self.clamp(activation)?,
            // Where TFLite does so: of older networks, and for one scale of all outputs.
            legacy: from.kind == Kind::U8 || (form == Form::FullyConnected && scales.len() == 1),
        };
        let convolution = convolution.build().map_err(|error| error.to_string())?;
        // Of a fully connected layer TFLite keeps the leading axes, or makes them one.
        if form != Form::FullyConnected || self.output()?.len() != batch * outputs {
            self.expect_output(&convolution.output())?;
        }
        Ok(Box::new(move |inputs| convolution.run(inputs[0])))
    }

    /// One scale or one for each output, and the zero point.
    fn weight_scales(self, weights: &'a Tensor<'a>, outputs: usize, axis: usize) -> Result<(&'a [f32], i32)> {
        let scales = &weights.scales[..];
        if scales.len() <= 1 {
            let quantized = Quantized::of(weights)?;
            if quantized.kind == Kind::I8 && quantized.zero_point != 0 {
                return Err(format!(
                    "weights `{}` have the zero point {}, of INT8 it must be 0",
                    weights.name, quantized.zero_point
                ));
            }
            return Ok((scales, quantized.zero_point));
        }
        if scales.len() != outputs || weights.axis != axis || Kind::of(weights)? != Kind::I8 {
            return Err(format!(
                "weights `{}` of {} have {} scales along axis {}, they must have one, or as INT8 {outputs} along axis {axis}",
                weights.name,
                weights.kind,
                scales.len(),
                weights.axis
            ));
        }
        for &scale in scales {
            check_scale(weights, scale)?;
        }
        match weights.zero_points.iter().find(|&&point| point != 0) {
            Some(point) => Err(format!("weights `{}` have the zero point {point}, of INT8 it must be 0", weights.name)),
            None => Ok((scales, 0)),
        }
    }

    fn add(self) -> Result<Work> {
        let (a, b, to) =
            (Quantized::of(self.input(0)?)?, Quantized::of(self.input(1)?)?, Quantized::of(self.output()?)?);
        if a.kind != to.kind || b.kind != to.kind {
            return Err("its tensors are of different types".into());
        }
        let (shapes, shape) = ([&self.input(0)?.shape, &self.input(1)?.shape], &self.output()?.shape);
        let offsets = shapes.map(|operand| stretched(operand, shape));
        let [Some(offsets_a), Some(offsets_b)] = offsets else {
            return Err(format!("{:?} and {:?} do not add up to {shape:?}", shapes[0], shapes[1]));
        };
        let (low, high) = self.clamp(0)?;
        let sum = move |x: &Values, y: &Values| Values::sum([(x, a), (y, b)], to, [low, high]);
        // Its scales are checked.
        sum(&Values::empty(a.kind), &Values::empty(b.kind)).map_err(|error| error.to_string())?;
        Ok(Box::new(move |inputs| {
            // What is as it is needs no copy.
            let spread = |values: &Values, offsets: &[usize]| {
                (!offsets.iter().copied().eq(0..values.len())).then(|| values.at(offsets))
            };
            let (x, y) = (spread(inputs[0], &offsets_a), spread(inputs[1], &offsets_b));
            sum(x.as_ref().unwrap_or(inputs[0]), y.as_ref().unwrap_or(inputs[1])).expect("checked when it was built")
        }))
    }

    fn pad(self) -> Result<Work> {
        let (from, to) = self.quantized()?;
        self.expect_same(from, to)?;
        let (input, output) = (self.input(0)?, self.output()?);
        let margins = self.constants(self.input(1)?)?;
        let margins: Option<Vec<usize>> = margins.iter().map(|&margin| usize::try_from(margin).ok()).collect();
        let margins = margins.filter(|margins| margins.len() == 2 * input.shape.len());
        let margins = margins.ok_or("its margins must be two numbers, 0 or more, for each axis")?;
        let margins = margins.as_chunks::<2>().0;
        let grown = input
            .shape
            .iter()
            .zip(margins)
            .map(|(&extent, &[before, after])| extent.saturating_add(before).saturating_add(after));
        self.expect_output(&grown.collect::<Vec<_>>())?;
        let strides = strides(&output.shape);
        let start = strides.iter().zip(margins).map(|(stride, [before, _])| stride * before).sum();
        let offsets = offsets(&input.shape, &strides, start);
        let elements = output.len();
        Ok(Box::new(move |inputs| {
            let mut padded = vec![0; elements];
            for (&offset, value) in offsets.iter().zip(inputs[0].centred(to.zero_point)) {
                padded[offset] = value;
            }
            to.kind.pack(padded.into_iter().map(|value| i32::from(value) + to.zero_point))
        }))
    }

    fn mean(self) -> Result<Work> {
        let (from, to) = self.quantized()?;
        let (input, output) = (self.input(0)?, self.output()?);
        let rank = input.shape.len();
        let mut is_summed = vec![false; rank];
        for axis in self.constants(self.input(1)?)? {
            let from_end = if axis < 0 { axis + rank as i32 } else { axis };
            let axis = usize::try_from(from_end).ok().filter(|&axis| axis < rank);
            is_summed[axis.ok_or_else(|| format!("its input of {:?} has no such axis", input.shape))?] = true;
        }
        let kept: Vec<usize> =
            input.shape.iter().zip(&is_summed).map(|(&extent, &is)| if is { 1 } else { extent }).collect();
        let dropped = input.shape.iter().zip(&is_summed).filter(|(_, is)| !**is).map(|(&extent, _)| extent);
        self.expect_output(&if output.shape.len() == rank { kept.clone() } else { dropped.collect() })?;
        let mut steps = strides(&kept);
        steps.iter_mut().zip(&is_summed).filter(|(_, is)| **is).for_each(|(step, _)| *step = 0);
        let offsets = offsets(&input.shape, &steps, 0);
        let count = input.len().checked_div(output.len()).filter(|&count| count > 0).ok_or("it is empty")?;
        let factor = Multiplier::new(f64::from(from.scale) / f64::from(to.scale))?.over(count);
        factor.check(count as i64 * 255)?;
        let (low, high) = to.kind.range();
        Ok(Box::new(move |inputs| {
            let mut sums = vec![0i32; kept.iter().product()];
            for (&offset, value) in offsets.iter().zip(inputs[0].centred(from.zero_point)) {
                sums[offset] += i32::from(value);
            }
            to.kind.pack(sums.iter().map(|&sum| factor.apply(sum).saturating_add(to.zero_point).clamp(low, high)))
        }))
    }

    fn pool(self, pool: Pool) -> Result<Work> {
        let (from, to) = self.quantized()?;
        self.expect_same(from, to)?;
        let options = self.operator.options;
        let stride = [options.count(2, "stride", 0)?, options.count(1, "stride", 0)?];
        let kernel = [options.count(4, "kernel", 0)?, options.count(3, "kernel", 0)?];
        let window = self.window(0, kernel, stride, [1, 1])?;
        let [batch, h, w, channels] = map_of(self.input(0)?)?;
        let [oh, ow] = window.output;
        self.expect_output(&[batch, oh, ow, channels])?;
        if kernel[0].saturating_mul(kernel[1]) > 1 << 20 {
            return Err(format!("its window of {} × {} is too large", kernel[0], kernel[1]));
        }
        let (low, high) = self.clamp(5)?;
        Ok(Box::new(move |inputs| {
            let values = inputs[0].centred(0);
            let mut results = vec![0; batch * oh * ow * channels];
            let pixels = (0..batch).flat_map(|image| (0..oh * ow).map(move |pixel| (image, pixel)));
            for ((image, pixel), result) in pixels.zip(results.chunks_exact_mut(channels)) {
                let mut count = 0;
                if let Pool::Max = pool {
                    result.fill(i32::MIN);
                }
                for (y, _) in window.taps(0, pixel / ow) {
                    for (x, _) in window.taps(1, pixel % ow) {
                        count += 1;
                        let inputs = &values[((image * h + y) * w + x) * channels..][..channels];
                        for (result, &value) in result.iter_mut().zip(inputs) {
                            match pool {
                                Pool::Average => *result += i32::from(value),
                                Pool::Max => *result = (*result).max(i32::from(value)),
                            }
                        }
                    }
                }
                for result in result {
                    if let Pool::Average = pool {
                        // Halves go away from 0.
                        *result = (*result + if *result > 0 { count / 2 } else { -(count / 2) }) / count;
                    }
                    *result = (*result).clamp(low, high);
                }
            }
            to.kind.pack(results.into_iter())
        }))
    }

    fn reshape(self) -> Result<Work> {
        let (input, output) = (self.input(0)?, self.output()?);
        if input.kind != output.kind || input.len() != output.len() {
            return Err(format!("{:?} {} can not become {:?} {}", input.shape, input.kind, output.shape, output.kind));
        }
        if input.kind != "FLOAT32" {
            let (from, to) = self.quantized()?;
            self.expect_same(from, to)?;
        }
        Ok(Box::new(|inputs| inputs[0].clone()))
    }

    fn softmax(self) -> Result<Work> {
        let (from, to) = self.quantized()?;
        self.expect_output(&self.input(0)?.shape)?;
        let beta = f64::from(self.operator.options.float(0)?);
        if !beta.is_finite() {
            return Err(format!("its beta is {beta}"));
        }
        let channels = self.input(0)?.shape.last().copied().filter(|&channels| channels > 0).ok_or("it is empty")?;
        let (low, high) = to.kind.range();
        Ok(Box::new(move |inputs| {
            let values = inputs[0].centred(0);
            let rows = values.chunks_exact(channels).flat_map(|row| {
                let largest = row.iter().copied().max().unwrap_or(0);
                let power = move |value: i16| (beta * f64::from(from.scale) * f64::from(value - largest)).exp();
                let sum: f64 = row.iter().map(|&value| power(value)).sum();
                row.iter().map(move |&value| power(value) / sum)
            });
            let steps = rows.map(|share| (share / f64::from(to.scale)).round() as i32);
            to.kind.pack(steps.map(|step| step.saturating_add(to.zero_point).clamp(low, high)))
        }))
    }

    fn quantize(self) -> Result<Work> {
        let to = Quantized::of(self.output()?)?;
        self.expect_output(&self.input(0)?.shape)?;
        if self.input(0)?.kind == "FLOAT32" {
            return Ok(Box::new(move |inputs| match inputs[0] {
                Values::F32(values) => Values::quantized(values, to),
                values => panic!("QUANTIZE of f32 was given {}", values.dtype()),
            }));
        }
        let from = Quantized::of(self.input(0)?)?;
        let factor = Multiplier::new(f64::from(from.scale) / f64::from(to.scale))?;
        factor.check(255)?;
        let (low, high) = to.kind.range();
        Ok(Box::new(move |inputs| {
            let values = inputs[0].centred(from.zero_point).into_iter().map(i32::from);
            to.kind.pack(values.map(|value| factor.apply(value).saturating_add(to.zero_point).clamp(low, high)))
        }))
    }

    fn dequantize(self) -> Result<Work> {
        let from = Quantized::of(self.input(0)?)?;
        self.expect_output(&self.input(0)?.shape)?;
        if self.output()?.kind != "FLOAT32" {
            return Err(format!("its output is {}, FLOAT32 is supported", self.output()?.kind));
        }
        Ok(Box::new(move |inputs| Values::F32(inputs[0].dequantized(from))))
    }

    fn expect_same(self, from: Quantized, to: Quantized) -> Result<()> {
        if from.is_same(to) {
            return Ok(());
        }
        Err(format!(
            "its input has scale {} and zero point {}, its output {} and {}: they must be the same",
            from.scale, from.zero_point, to.scale, to.zero_point
        ))
    }
}

fn map_of(tensor: &Tensor) -> Result<[usize; 4]> {
    match tensor.shape[..] {
        [n, h, w, c] if !tensor.is_empty() => Ok([n, h, w, c]),
        _ => Err(format!("tensor `{}` has the shape {:?}, it must be maps [n, h, w, c]", tensor.name, tensor.shape)),
    }
}

/// Taps and padding of a convolution or a pool on maps of one size.
struct Window {
    input: [usize; 2],
    output: [usize; 2],
    /// Padding above and to the left.
    before: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    dilation: [usize; 2],
}

impl Window {
    fn one_pixel() -> Self {
        let one = [1, 1];
        Self { input: one, output: one, before: [0, 0], kernel: one, stride: one, dilation: one }
    }

    /// Top, left, bottom and right.
    fn padding(&self) -> [usize; 4] {
        let after = [0, 1].map(|i| {
            let reach = (self.kernel[i] - 1).saturating_mul(self.dilation[i]).saturating_add(1);
            let end = (self.output[i].max(1) - 1).saturating_mul(self.stride[i]).saturating_add(reach);
            end.saturating_sub(self.before[i]).saturating_sub(self.input[i])
        });
        [self.before[0], self.before[1], after[0], after[1]]
    }

    /// Along one axis, the inputs under the window of an output, each with its tap. Those on padding are left out.
    fn taps(&self, axis: usize, output: usize) -> impl Iterator<Item = (usize, usize)> {
        let (before, length) = (self.before[axis], self.input[axis]);
        let (start, dilation) = (output * self.stride[axis], self.dilation[axis]);
        let taps = (0..self.kernel[axis]).map(move |tap| (start.saturating_add(tap.saturating_mul(dilation)), tap));
        taps.filter_map(move |(at, tap)| Some((at.checked_sub(before).filter(|&at| at < length)?, tap)))
    }
}

fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|axis| shape[axis + 1..].iter().product()).collect()
}

/// Where each element of a shape lies, in order, with those distances along its axes.
fn offsets(shape: &[usize], strides: &[usize], start: usize) -> Vec<usize> {
    let along = |offsets: Vec<usize>, (&extent, &stride): (&usize, &usize)| {
        offsets.iter().flat_map(|&offset| (0..extent).map(move |index| offset + index * stride)).collect()
    };
    shape.iter().zip(strides).fold(vec![start], along)
}

/// For each element of `shape`, the offset in its operand, whose axes of 1 stretch. None if they do not fit.
fn stretched(operand: &[usize], shape: &[usize]) -> Option<Vec<usize>> {
    let missing = shape.len().checked_sub(operand.len())?;
    let operand = [&vec![1; missing][..], operand].concat();
    let fits = operand.iter().zip(shape).all(|(&extent, &whole)| extent == whole || extent == 1);
    let strides =
        strides(&operand).into_iter().zip(&operand).map(|(stride, &extent)| if extent == 1 { 0 } else { stride });
    fits.then(|| offsets(shape, &strides.collect::<Vec<_>>(), 0))
}
