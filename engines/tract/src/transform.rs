//! The pass over a graph.

use tract_core::internal::*;
use tract_core::ops::cnn::{Conv, Deconv, PoolSpec};
use tract_core::ops::einsum::EinSum;
use tract_core::ops::konst::Const;
use tract_core::ops::source::TypedSource;
use tract_core::transform::ModelTransform;

use crate::find::{Found, find};
use crate::op::DepthwiseOp;
use crate::plan::{Built, build};
use crate::report::{Left, Replaced, Report};
use crate::sum::{self, PixelSum};

/// Replaces the convolutions of a model by those of `depthwise`: tract's transform of the name “depthwise”.
///
/// It takes models as a loader gives them, and decluttered ones. What it does not know stays as it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct DepthwiseTransform;

impl ModelTransform for DepthwiseTransform {
    fn name(&self) -> StaticName {
        "depthwise".into()
    }

    fn transform(&self, model: &mut TypedModel) -> TractResult<()> {
        self.transform_and_report(model).map(drop)
    }
}

impl DepthwiseTransform {
    /// As [`transform`](ModelTransform::transform), and says what became of each node, which `transform` only logs.
    ///
    /// # Errors
    /// If the model is inconsistent. A convolution that cannot be replaced is no error: the report says why.
    pub fn transform_and_report(&self, model: &mut TypedModel) -> TractResult<Report> {
        let mut report = Report::default();
        // So that weights and biases which are computed of constants are constants.
        model.prop_consts()?;
        let mut reasons = HashMap::new();
        for id in model.eval_order()? {
            // What was absorbed meanwhile is gone.
            let node = model.node(id);
            if !(node.op_is::<Conv>() || node.op_is::<EinSum>()) {
                continue;
            }
            let Some(candidate) = find(model, node) else { continue };
            match candidate.and_then(|first| patch(model, first).map_err(|error| error.to_string())) {
                Ok((patch, replaced)) => {
                    patch.apply(model)?;
                    log::debug!("{replaced}");
                    report.replaced.push(replaced);
                }
                Err(why) => _ = reasons.insert(id, why),
            }
        }
        for id in model.eval_order()? {
            let node = model.node(id);
            let Some(axes) = sum::find(model, node) else { continue };
            let replaced = Replaced { nodes: vec![node.name.clone()], plan: format!("{PixelSum:?}") };
            sum::patch(model, node, &axes)?.apply(model)?;
            log::debug!("{replaced}");
            report.replaced.push(replaced);
        }
        for id in model.eval_order()? {
            let node = model.node(id);
            if [
                node.op_is::<Const>(),
                node.op_is::<TypedSource>(),
                node.op_is::<DepthwiseOp>(),
                node.op_is::<PixelSum>(),
            ]
            .contains(&true)
            {
                continue;
            }
            let transposed = || node.op_is::<Deconv>().then(|| "it is a transposed convolution".to_string());
            let why = reasons.remove(&id).or_else(transposed);
            let left = Left { node: node.name.clone(), op: node.op.name().into(), why };
            // The moves that were put here are ours, and most of them cancel out.
            if !node.op_is::<AxisOp>() {
                log::debug!("{left}");
                report.left.push(left);
            }
        }
        model.compact()?;
        Ok(report)
    }
}

/// A depthwise convolution can run together with the pointwise one that alone reads it.
fn follower(model: &TypedModel, first: &Found) -> Option<Found> {
    if first.groups == 1 || first.residual.is_some() || model.outputs.contains(&first.output) {
        return None;
    }
    let [next] = *model.node(first.output.node).outputs[first.output.slot].successors else { return None };
    let mut second = find(model, model.node(next.node))?.ok()?;
    if next.slot != 0 || !second.is_pointwise() || second.input_axes != first.output_axes {
        return None;
    }
    second.fold_before(first.after);
    Some(second)
}

/// The change of the graph that replaces a convolution.
fn patch(model: &TypedModel, first: Found) -> TractResult<(TypedModelPatch, Replaced)> {
    let second = follower(model, &first);
    let Built { plan, name, output_channels, multiply_adds, after } = build(&first, second.as_ref())?;
    let pool = PoolSpec { output_channels, ..first.pool.clone() };
    let op = DepthwiseOp { plan, name, pool, multiply_adds, after };
    let described = format!("{:?}", op.plan);
    let nodes = first.nodes.iter().chain(second.iter().flat_map(|second| &second.nodes));
    let nodes: Vec<_> = nodes.map(|&id| model.node(id).name.clone()).collect();

    let last = second.as_ref().unwrap_or(&first);
    let mut patch = TypedModelPatch::new("depthwise");
    let mut inputs = tvec!();
    let tensors = [Some((first.input, first.input_axes.clone())), last.residual.clone()];
    for (k, (outlet, axes)) in tensors.into_iter().flatten().enumerate() {
        let mut wire = patch.tap_model(model, outlet)?;
        for (i, op) in axes.enter().into_iter().enumerate() {
            wire = patch.wire_node(format!("{}.to_nhwc.{k}.{i}", nodes[0]), op, &[wire])?[0];
        }
        inputs.push(wire);
    }
    // What ends it has the name of what ended it before: an output is found by name.
    let mut ops: Vec<Box<dyn TypedOp>> = vec![Box::new(op)];
    ops.extend(last.output_axes.leave().into_iter().map(|op| Box::new(op) as Box<dyn TypedOp>));
    let count = ops.len();
    for (i, op) in ops.into_iter().enumerate() {
        let name = match i {
            _ if i + 1 == count => model.node(last.output.node).name.clone(),
            0 => format!("{}.depthwise", nodes[0]),
            _ => format!("{}.from_nhwc.{i}", nodes[0]),
        };
        inputs = patch.wire_node(name, op, &inputs)?;
    }
    patch.shunt_outside(model, last.output, inputs[0])?;
    Ok((patch, Replaced { nodes, plan: described }))
}
