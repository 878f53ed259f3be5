//! Convolutions of a graph, and what follows them that they can absorb.

use depthwise::{Activation, Padding};
use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::cnn::{Conv, KernelFormat, PaddingSpec, PoolSpec};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::identity::Identity;
use tract_core::ops::math::{Add, Div, Max, Min, Mul, Sub, SubF, Tanh};
use tract_core::ops::nn::gelu_exact::GeluExact;
use tract_core::ops::nn::silu::Silu;
use tract_core::ops::nn::{DataFormat, HardSwish, LeakyRelu, Sigmoid};

use crate::axes::Axes;

/// A node that computes a convolution, or why it is left alone.
pub(crate) type Candidate = Result<Found, String>;

/// A convolution and what it absorbs:
/// `after.scale · activation(scale · convolution + bias + residual) + after.shift`.
pub(crate) struct Found {
    /// The window over two axes, in NHWC.
    pub(crate) pool: PoolSpec,
    pub(crate) padding: Padding,
    pub(crate) groups: usize,
    /// `[outputs, inputs / groups, kernel height, kernel width]`
    pub(crate) weights: Vec<f32>,
    scale: Vec<f64>,
    bias: Vec<f64>,
    pub(crate) input: OutletId,
    pub(crate) input_axes: Axes,
    /// A tensor to add before the activation, and the order of its axes.
    pub(crate) residual: Option<(OutletId, Axes)>,
    /// The bounds of the activation, if it is a clamp.
    clamp: Clamp,
    curve: Option<Activation>,
    pub(crate) after: Affine,
    /// What this stands for up to here.
    pub(crate) output: OutletId,
    /// Of the output.
    pub(crate) output_axes: Axes,
    /// The nodes that this stands for.
    pub(crate) nodes: Vec<usize>,
}

/// x ↦ scale · x + shift
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Affine {
    pub(crate) scale: f64,
    pub(crate) shift: f64,
}

impl Affine {
    pub(crate) const IDENTITY: Affine = Affine { scale: 1.0, shift: 0.0 };

    fn then(self, other: Affine) -> Affine {
        let scale = self.scale * other.scale;
        // A scale that a division takes back is gone, but for rounding.
        let scale = if (scale - 1.0).abs() < 1e-6 { 1.0 } else { scale };
        Affine { scale, shift: self.shift * other.scale + other.shift }
    }
}

/// The bounds of x ↦ min(max(x, low), high).
#[derive(Clone, Copy, Debug, PartialEq)]
struct Clamp {
    low: f64,
    high: f64,
}

impl Clamp {
    const NONE: Clamp = Clamp { low: f64::NEG_INFINITY, high: f64::INFINITY };

    /// The bounds that give the same when `affine`, whose scale is positive, comes first.
    fn under(self, affine: Affine) -> Clamp {
        let Affine { scale, shift } = affine;
        Clamp { low: self.low * scale + shift, high: self.high * scale + shift }
    }

    fn at_least(self, bound: f64) -> Clamp {
        Clamp { low: self.low.max(bound), high: self.high.max(bound) }
    }

    fn at_most(self, bound: f64) -> Clamp {
        Clamp { low: self.low.min(bound), high: self.high.min(bound) }
    }
}

/// A function of one number, as an operation with a constant is.
#[derive(Clone, Copy)]
enum Scalar {
    Affine(Affine),
    AtLeast(f64),
    AtMost(f64),
}

/// The `f32` of a constant.
fn floats(tensor: &Tensor) -> Option<Vec<f32>> {
    tensor.try_as_plain_ram().ok()?.as_slice::<f32>().ok().map(<[f32]>::to_vec)
}

fn constant(model: &TypedModel, outlet: OutletId) -> Option<Arc<Tensor>> {
    model.outlet_fact(outlet).ok()?.konst.clone()
}

/// A constant that is one `f32`.
fn number(model: &TypedModel, outlet: OutletId) -> Option<f64> {
    let tensor = constant(model, outlet).filter(|tensor| tensor.len() == 1)?;
    floats(&tensor).map(|values| f64::from(values[0]))
}

/// What a binary operation with a constant does to its other input.
fn scalar(model: &TypedModel, node: &TypedNode, slot: usize) -> Option<Scalar> {
    let op = node.op_as::<TypedBinOp>().filter(|op| op.1.is_none())?;
    let value = number(model, node.inputs[1 - slot])?;
    let affine = |scale, shift| Some(Scalar::Affine(Affine { scale, shift }));
    match minuend(op, slot) {
        Some(true) => return affine(1.0, -value),
        Some(false) => return affine(-1.0, value),
        None => {}
    }
    match slot {
        _ if op.0.is::<Add>() => affine(1.0, value),
        _ if op.0.is::<Mul>() => affine(value, 0.0),
        0 if op.0.is::<Div>() && value != 0.0 => affine(1.0 / value, 0.0),
        _ if op.0.is::<Max>() => Some(Scalar::AtLeast(value)),
        _ if op.0.is::<Min>() => Some(Scalar::AtMost(value)),
        _ => None,
    }
}

/// Of a subtraction, whether the input `slot` is what something is subtracted from. `SubF` has its inputs the other way round.
fn minuend(op: &TypedBinOp, slot: usize) -> Option<bool> {
    let first = op.0.is::<Sub>();
    (first || op.0.is::<SubF>()).then_some((slot == 0) == first)
}

fn is_output(model: &TypedModel, outlet: OutletId) -> bool {
    model.outputs.contains(&outlet)
}

fn successors(model: &TypedModel, outlet: OutletId) -> &[InletId] {
    &model.node(outlet.node).outputs[outlet.slot].successors
}

/// The convolution that a node computes, with what follows it. None if it computes none.
pub(crate) fn find(model: &TypedModel, node: &TypedNode) -> Option<Candidate> {
    let found = if let Some(conv) = node.op_as::<Conv>() {
        of_conv(model, node, conv)
    } else {
        Ok(of_einsum(model, node, node.op_as::<EinSum>()?)?)
    };
    Some(found.map(|mut found| {
        found.absorb(model);
        found
    }))
}

fn of_conv(model: &TypedModel, node: &TypedNode, conv: &Conv) -> Candidate {
    let pool = &conv.pool_spec;
    let (inputs, outputs, groups) = (pool.input_channels, pool.output_channels, conv.group);
    if conv.q_params.is_some() {
        return Err("it is quantised".into());
    }
    if pool.rank() == 0 || pool.rank() > 2 {
        return Err(format!("it has {} spatial axes, and only 1 or 2 are computed", pool.rank()));
    }
    let input = model.outlet_fact(node.inputs[0]).map_err(|error| error.to_string())?;
    if input.datum_type != f32::datum_type() {
        return Err(format!("its elements are {:?}, and only F32 is computed", input.datum_type));
    }
    let weights = constant(model, node.inputs[1]).ok_or("its weights are not constant")?;
    let weights = match (conv.kernel_fmt, weights.rank()) {
        (KernelFormat::OIHW, _) => floats(&weights),
        (KernelFormat::HWIO, 4) if groups == 1 => {
            (*weights).clone().permute_axes(&[3, 2, 0, 1]).ok().as_ref().and_then(floats)
        }
        (KernelFormat::OHWI, 4) if groups == 1 => {
            (*weights).clone().permute_axes(&[0, 3, 1, 2]).ok().as_ref().and_then(floats)
        }
        (format, _) => return Err(format!("the order of its weights is {format:?}, of {groups} groups")),
    };
    let weights = weights.ok_or("its weights are not plain f32")?;
    let taps = pool.kernel_shape.iter().product::<usize>();
    if weights.len() != outputs * (inputs / groups) * taps {
        return Err(format!(
            "it has {} weights for {inputs} to {outputs} channels, {groups} groups and {taps} taps",
            weights.len()
        ));
    }
    let bias = constant(model, node.inputs[2]).and_then(|bias| floats(&bias)).ok_or("its bias is not constant")?;
    let bias = match bias.len() {
        1 => vec![f64::from(bias[0]); outputs],
        len if len == outputs => bias.into_iter().map(f64::from).collect(),
        len => return Err(format!("it has {len} biases for {outputs} output channels")),
    };
    // One spatial axis is the width, of a map with one row.
    let pair = |values: &[usize], one: usize| match *values {
        [width] => [one, width],
        _ => [values[0], values[1]],
    };
    let padding = match &pool.padding {
        PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, false) => {
            let ([top, left], [bottom, right]) = (pair(before, 0), pair(after, 0));
            Padding::explicit(top, left, bottom, right)
        }
        PaddingSpec::Valid => Padding::valid(),
        PaddingSpec::SameUpper => Padding::same_upper(),
        PaddingSpec::SameLower => Padding::same_lower(),
        PaddingSpec::ExplicitOnnxPool(.., true) => {
            return Err("its last windows may be partly outside (ceil mode)".into());
        }
    };
    let axes = Axes::of_format(pool.data_format, pool.rank());
    let pool = PoolSpec {
        data_format: DataFormat::NHWC,
        kernel_shape: pair(&pool.kernel_shape, 1)[..].into(),
        padding: match padding {
            Padding::Explicit { top, left, bottom, right } => {
                PaddingSpec::Explicit(tvec!(top, left), tvec!(bottom, right))
            }
            _ => pool.padding.clone(),
        },
        dilations: Some(pair(&pool.dilations(), 1)[..].into()),
        strides: Some(pair(&pool.strides(), 1)[..].into()),
        input_channels: inputs,
        output_channels: outputs,
    };
    Ok(Found::new(node, pool, padding, groups, weights, bias, [axes.clone(), axes]))
}

/// A pointwise convolution that tract has made a matrix product.
fn of_einsum(model: &TypedModel, node: &TypedNode, op: &EinSum) -> Option<Found> {
    if op.q_params.is_some() || node.inputs.len() != 2 {
        return None;
    }
    let (inputs, outputs) = op.axes.to_strs();
    let (x, w, y) = (&inputs[0], &inputs[1], &outputs[0]);
    let input = model.outlet_fact(node.inputs[0]).ok()?;
    let weights = constant(model, node.inputs[1]).filter(|weights| weights.rank() == 2)?;
    if input.datum_type != f32::datum_type() {
        return None;
    }
    let [a, b] = w.chars().collect::<Vec<_>>()[..] else { return None };
    let contracts = |i: char, o: char| x.contains(i) && !y.contains(i) && y.contains(o) && !x.contains(o);
    let (i, o, weights) = if contracts(b, a) {
        (b, a, floats(&weights)?)
    } else if contracts(a, b) {
        (a, b, floats(&(*weights).clone().permute_axes(&[1, 0]).ok()?)?)
    } else {
        return None;
    };
    let others = |letters: &str, channel| letters.chars().filter(|&letter| letter != channel).collect::<String>();
    // A batch of 1 may be missing on one side.
    let (before, behind) = (others(x, i), others(y, o));
    let without_batch = |letters: &str| letters.get(1..).filter(|_| letters.len() == 3).map(str::to_string);
    let unit = |outlet: &TypedFact, letters: &str| {
        let at = letters.chars().position(|letter| letters_of_batch(letter, &before, &behind));
        at.is_some_and(|at| outlet.shape[at].is_one())
    };
    let same = before == behind
        || without_batch(&before).as_ref() == Some(&behind) && unit(input, x)
        || without_batch(&behind).as_ref() == Some(&before) && unit(&node.outputs[0].fact, y);
    if !same {
        return None;
    }
    let [input_axes, output_axes] = [Axes::of_letters(x, i)?, Axes::of_letters(y, o)?];
    // A product over the last of three axes is more likely one of a transformer.
    if x.len() == 3 && input_axes.channels_are_last() {
        return None;
    }
    let channels = |letters: &str, letter, fact: &TypedFact| {
        fact.shape[letters.chars().position(|other| other == letter)?].to_usize().ok()
    };
    let (inputs, outputs) = (channels(x, i, input)?, channels(y, o, &node.outputs[0].fact)?);
    let pool = PoolSpec {
        data_format: DataFormat::NHWC,
        kernel_shape: tvec!(1, 1),
        padding: PaddingSpec::Valid,
        dilations: None,
        strides: None,
        input_channels: inputs,
        output_channels: outputs,
    };
    Some(Found::new(node, pool, Padding::valid(), 1, weights, vec![0.0; outputs], [input_axes, output_axes]))
}

/// Whether a letter stands for the axis that only one of two lists of axes has, as its first.
fn letters_of_batch(letter: char, before: &str, behind: &str) -> bool {
    before.contains(letter) != behind.contains(letter) && [before, behind].iter().any(|list| list.starts_with(letter))
}

impl Found {
    fn new(
        node: &TypedNode,
        pool: PoolSpec,
        padding: Padding,
        groups: usize,
        weights: Vec<f32>,
        bias: Vec<f64>,
        [input_axes, output_axes]: [Axes; 2],
    ) -> Self {
        Self {
            scale: vec![1.0; bias.len()],
            pool,
            padding,
            groups,
            weights,
            bias,
            input: node.inputs[0],
            input_axes,
            residual: None,
            clamp: Clamp::NONE,
            curve: None,
            after: Affine::IDENTITY,
            output: node.id.into(),
            output_axes,
            nodes: vec![node.id],
        }
    }

    /// Whether it is a mix of channels at each pixel.
    pub(crate) fn is_pointwise(&self) -> bool {
        let no_padding = match self.padding {
            Padding::Explicit { top, left, bottom, right } => [top, left, bottom, right] == [0; 4],
            _ => true,
        };
        self.groups == 1 && no_padding && self.pool.kernel_shape[..] == [1, 1] && self.pool.strides()[..] == [1, 1]
    }

    /// Weights and biases with all that was folded into them, each rounded once.
    pub(crate) fn parameters(&self) -> (Vec<f32>, Vec<f32>) {
        let each = self.weights.len() / self.scale.len();
        let scaled = |(filter, &scale): (&[f32], &f64)| {
            filter.iter().map(|&weight| (f64::from(weight) * scale) as f32).collect::<Vec<_>>()
        };
        let weights = self.weights.chunks_exact(each).zip(&self.scale).flat_map(scaled).collect();
        (weights, self.bias.iter().map(|&bias| bias as f32).collect())
    }

    pub(crate) fn activation(&self) -> Activation {
        let (min, max) = (self.clamp.low as f32, self.clamp.high as f32);
        match self.curve {
            Some(curve) => curve,
            None if (min, max) == (f32::NEG_INFINITY, f32::INFINITY) => Activation::None,
            None if (min, max) == (0.0, f32::INFINITY) => Activation::Relu,
            None if (min, max) == (0.0, 6.0) => Activation::Relu6,
            None => Activation::Clamp { min, max },
        }
    }

    /// Takes over what an earlier stage left to do after its activation. This stage must be pointwise.
    pub(crate) fn fold_before(&mut self, before: Affine) {
        let inputs = self.pool.input_channels;
        for ((filter, scale), bias) in self.weights.chunks_exact(inputs).zip(&mut self.scale).zip(&mut self.bias) {
            let sum: f64 = filter.iter().map(|&weight| f64::from(weight)).sum();
            *bias += before.shift * sum * *scale;
            *scale *= before.scale;
        }
    }

    /// The parameters of the activation are still to be had: nothing but a convolution, a bias and a residual so far.
    fn is_linear(&self) -> bool {
        self.clamp == Clamp::NONE && self.curve.is_none() && self.after == Affine::IDENTITY
    }

    /// Follows the graph for as long as what comes next can be absorbed.
    fn absorb(&mut self, model: &TypedModel) {
        // Where we are, which may be behind changes of axes that are not worth absorbing by themselves.
        let (mut at, mut axes, mut passed) = (self.output, self.output_axes.clone(), Vec::new());
        while !is_output(model, at) {
            match *successors(model, at) {
                [next] => {
                    let node = model.node(next.node);
                    if node.outputs.len() != 1 {
                        return;
                    }
                    if let Some(op) = node.op_as::<AxisOp>() {
                        let Some(after) = axes.after(op) else { return };
                        axes = after;
                    } else if !is_nothing(model, node) && !self.step(model, node, next.slot, at, &axes) {
                        return;
                    } else {
                        self.commit(&mut passed, node.id, &axes);
                        at = node.id.into();
                        continue;
                    }
                    passed.push(node.id);
                    at = node.id.into();
                }
                [a, b] => {
                    let Some(branch) = self.gate(model, at, [a, b]).or_else(|| self.gate(model, at, [b, a])) else {
                        return;
                    };
                    let Some(&last) = branch.last() else { return };
                    passed.extend(&branch[..branch.len() - 1]);
                    self.commit(&mut passed, last, &axes);
                    at = last.into();
                }
                _ => return,
            }
        }
    }

    /// This stands for the graph up to that node.
    fn commit(&mut self, passed: &mut Vec<usize>, node: usize, axes: &Axes) {
        self.nodes.append(passed);
        self.nodes.push(node);
        self.output = node.into();
        self.output_axes = axes.clone();
    }

    /// Absorbs a node whose input `slot` is what this computes so far, if it can.
    fn step(&mut self, model: &TypedModel, node: &TypedNode, slot: usize, at: OutletId, axes: &Axes) -> bool {
        if let Some(op) = node.op_as::<ElementWiseOp>() {
            return self.is_linear() && op.1.is_none() && self.bend(op);
        }
        // A constant that is wider than what this computes would widen it.
        let same_shape =
            |outlet: OutletId| model.outlet_fact(outlet).is_ok_and(|fact| fact.shape == node.outputs[0].fact.shape);
        if !same_shape(at) {
            return false;
        }
        if let Some(scalar) = scalar(model, node, slot) {
            return self.apply(scalar);
        }
        let Some(op) = node.op_as::<TypedBinOp>().filter(|op| op.1.is_none()) else { return false };
        let other = node.inputs[1 - slot];
        if let Some(values) = self.per_channel(model, other, axes) {
            let has_residual = self.residual.is_some();
            if !self.is_linear() {
                return false;
            }
            for ((scale, bias), value) in self.scale.iter_mut().zip(&mut self.bias).zip(values) {
                let (factor, term) = match minuend(op, slot) {
                    Some(true) => (1.0, -value),
                    Some(false) if !has_residual => (-1.0, value),
                    None if op.0.is::<Add>() => (1.0, value),
                    None if op.0.is::<Mul>() && !has_residual => (value, 0.0),
                    None if op.0.is::<Div>() && slot == 0 && !has_residual => (1.0 / value, 0.0),
                    _ => return false,
                };
                *scale *= factor;
                *bias = *bias * factor + term;
            }
            return true;
        }
        if op.0.is::<Add>()
            && self.is_linear()
            && self.residual.is_none()
            && constant(model, other).is_none()
            && same_shape(other)
            && model.outlet_fact(other).is_ok_and(|fact| fact.datum_type == f32::datum_type())
        {
            self.residual = Some((other, axes.clone()));
            return true;
        }
        false
    }

    /// Absorbs a curve.
    fn bend(&mut self, op: &ElementWiseOp) -> bool {
        let op = &*op.0;
        self.curve = if op.is::<HardSwish>() {
            Some(Activation::HardSwish)
        } else if op.is::<Sigmoid>() {
            Some(Activation::Sigmoid)
        } else if op.is::<Silu>() {
            Some(Activation::Silu)
        } else if op.is::<Tanh>() {
            Some(Activation::Tanh)
        } else if op.is::<GeluExact>() {
            Some(Activation::Gelu)
        } else {
            op.downcast_ref::<LeakyRelu>().map(|relu| Activation::LeakyRelu { slope: relu.alpha })
        };
        self.curve.is_some()
    }

    fn apply(&mut self, scalar: Scalar) -> bool {
        let bare = self.curve.is_none() && self.after == Affine::IDENTITY;
        match scalar {
            Scalar::AtLeast(bound) if bare => self.clamp = self.clamp.at_least(bound),
            Scalar::AtMost(bound) if bare => self.clamp = self.clamp.at_most(bound),
            Scalar::AtLeast(_) | Scalar::AtMost(_) => return false,
            // Before the activation, with its bounds moved accordingly. A residual cannot be scaled.
            Scalar::Affine(affine)
                if bare
                    && affine.scale.is_finite()
                    && (self.is_linear() || affine.scale > 0.0)
                    && (self.residual.is_none() || affine.scale == 1.0) =>
            {
                if !self.is_linear() {
                    self.clamp = self.clamp.under(affine);
                }
                for (scale, bias) in self.scale.iter_mut().zip(&mut self.bias) {
                    *scale *= affine.scale;
                    *bias = *bias * affine.scale + affine.shift;
                }
            }
            Scalar::Affine(affine) => self.after = self.after.then(affine),
        }
        true
    }

    /// A constant with a value for each output channel, and the same for all pixels.
    fn per_channel(&self, model: &TypedModel, outlet: OutletId, axes: &Axes) -> Option<Vec<f64>> {
        let tensor = constant(model, outlet)?;
        let channels = self.pool.output_channels;
        let mut shape = vec![1; axes.rank()];
        shape[axes.channels()] = channels;
        (tensor.shape() == shape).then(|| floats(&tensor))?.map(|values| values.into_iter().map(f64::from).collect())
    }

    /// Absorbs x · g(x), for x at `at`: the sigmoid or hard-sigmoid g begins with the second successor, and ends in the first, which
    /// multiplies. Gives the nodes of g and the product.
    fn gate(&mut self, model: &TypedModel, at: OutletId, [product, start]: [InletId; 2]) -> Option<Vec<usize>> {
        if !self.is_linear() {
            return None;
        }
        let product = (model.node(product.node), product.slot);
        product.0.op_as::<TypedBinOp>().filter(|op| op.0.is::<Mul>() && op.1.is_none())?;
        let end = product.0.inputs[1 - product.1];
        let shape = |outlet: OutletId| model.outlet_fact(outlet).ok().map(|fact| &fact.shape);
        if shape(end) != shape(at) || product.0.outputs[0].fact.shape != *shape(at)? {
            return None;
        }
        // g, as the clamp of an affine function, or as a curve.
        let (mut affine, mut clamp, mut sigmoid) = (Affine::IDENTITY, Clamp::NONE, false);
        let (mut nodes, mut next) = (Vec::new(), start);
        loop {
            let node = model.node(next.node);
            let output = OutletId::from(node.id);
            if node.outputs.len() != 1 || successors(model, output).len() != 1 || is_output(model, output) || sigmoid {
                return None;
            }
            match scalar(model, node, next.slot.min(1)) {
                _ if node.op_as::<ElementWiseOp>().is_some_and(|op| op.0.is::<Sigmoid>()) => {
                    sigmoid = affine == Affine::IDENTITY && clamp == Clamp::NONE;
                    if !sigmoid {
                        return None;
                    }
                }
                Some(Scalar::AtLeast(bound)) => clamp = clamp.at_least(bound),
                Some(Scalar::AtMost(bound)) => clamp = clamp.at_most(bound),
                Some(Scalar::Affine(step)) if step.scale > 0.0 && step.scale.is_finite() => {
                    affine = affine.then(step);
                    clamp = clamp.under(step);
                }
                None if is_nothing(model, node) => {}
                _ => return None,
            }
            nodes.push(node.id);
            if output == end {
                break;
            }
            next = successors(model, output)[0];
        }
        let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * affine.scale * 6.0;
        if sigmoid {
            self.curve = Some(Activation::Silu);
        } else if near(affine.shift, 3.0 * affine.scale) && near(clamp.low, 0.0) && near(clamp.high, 6.0 * affine.scale)
        {
            // scale · min(max(x + 3, 0), 6)
            self.curve = Some(Activation::HardSwish);
            self.after = self.after.then(Affine { scale: 6.0 * affine.scale, shift: 0.0 });
        } else {
            return None;
        }
        nodes.push(product.0.id);
        Some(nodes)
    }
}

/// Whether a node gives what it is given.
fn is_nothing(model: &TypedModel, node: &TypedNode) -> bool {
    let same_type =
        || model.outlet_fact(node.inputs[0]).is_ok_and(|fact| fact.datum_type == node.outputs[0].fact.datum_type);
    node.op_is::<Identity>() || node.op_is::<Cast>() && same_type()
}
