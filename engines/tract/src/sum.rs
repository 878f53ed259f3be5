//! Sums over the pixels of a map, as squeeze-and-excite and a network's last pooling ask for.

use tract_core::internal::*;
use tract_core::ops::binary::TypedBinOp;
use tract_core::ops::cast::Cast;
use tract_core::ops::element_wise::ElementWiseOp;
use tract_core::ops::identity::Identity;
use tract_core::ops::nn::{DataFormat, Reduce, Reducer};

use crate::axes::Axes;
use crate::op::DepthwiseOp;

/// The sum over height and width, in NHWC, in `f64`.
///
/// tract would add the pixels of NHWC in `f32`, one after the other. Such sums of some thousand numbers are far less exact than those of
/// NCHW that they took the place of, and squeeze-and-excite magnifies the error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PixelSum;

impl Op for PixelSum {
    fn name(&self) -> StaticName {
        "PixelSum".into()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    op_as_typed_op!();
}

impl EvalOp for PixelSum {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let [n, h, w, c] = *inputs[0].shape() else {
            bail!("an input of NHWC has 4 axes, not {:?}", inputs[0].shape())
        };
        let plain = inputs[0].try_as_plain_ram()?;
        let mut all = Vec::with_capacity(n * c);
        let mut sums = vec![0f64; c];
        for image in plain.as_slice::<f32>()?.chunks_exact((h * w * c).max(1)) {
            sums.fill(0.0);
            for pixel in image.chunks_exact(c) {
                sums.iter_mut().zip(pixel).for_each(|(sum, &value)| *sum += f64::from(value));
            }
            all.extend(sums.iter().map(|&sum| sum as f32));
        }
        all.resize(n * c, 0.0);
        Ok(tvec!(Tensor::from_shape(&[n, 1, 1, c], &all)?.into_tvalue()))
    }
}

impl TypedOp for PixelSum {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let shape = &inputs[0].shape;
        Ok(tvec!(f32::fact([shape[0].clone(), 1.to_dim(), 1.to_dim(), shape[3].clone()])))
    }

    as_op!();
}

/// The order of the axes of a sum's input, if a node sums the pixels of what a convolution here computed.
pub(crate) fn find(model: &TypedModel, node: &TypedNode) -> Option<Axes> {
    let reduce = node.op_as::<Reduce>().filter(|reduce| matches!(reduce.reducer, Reducer::Sum))?;
    let input = model.outlet_fact(node.inputs[0]).ok()?;
    let axes = match (input.rank(), &reduce.axes[..]) {
        (4, [2, 3]) => Axes::of_format(DataFormat::NCHW, 2),
        (3, [1, 2]) => Axes::of_format(DataFormat::CHW, 2),
        _ => return None,
    };
    (input.datum_type == f32::datum_type() && comes_from_convolution(model, node.inputs[0])).then_some(axes)
}

/// Whether a value is a convolution's, or made of one number by number: then it lies in NHWC, too.
fn comes_from_convolution(model: &TypedModel, mut outlet: OutletId) -> bool {
    loop {
        let node = model.node(outlet.node);
        if node.op_is::<DepthwiseOp>() {
            return true;
        }
        let follows = [
            node.op_is::<AxisOp>(),
            node.op_is::<ElementWiseOp>(),
            node.op_is::<TypedBinOp>(),
            node.op_is::<Cast>(),
            node.op_is::<Identity>(),
        ];
        let computed = |&&input: &&OutletId| {
            model.outlet_fact(input).is_ok_and(|fact| fact.konst.is_none() && fact.shape.len() >= 3)
        };
        match node.inputs.iter().find(computed).filter(|_| follows.contains(&true)) {
            Some(&input) => outlet = input,
            None => return false,
        }
    }
}

/// The change of the graph that replaces such a sum.
pub(crate) fn patch(model: &TypedModel, node: &TypedNode, axes: &Axes) -> TractResult<TypedModelPatch> {
    let mut patch = TypedModelPatch::new("depthwise");
    let mut wire = patch.tap_model(model, node.inputs[0])?;
    for (i, op) in axes.enter().into_iter().enumerate() {
        wire = patch.wire_node(format!("{}.to_nhwc.{i}", node.name), op, &[wire])?[0];
    }
    let mut ops: Vec<Box<dyn TypedOp>> = vec![Box::new(PixelSum)];
    ops.extend(axes.leave().into_iter().map(|op| Box::new(op) as Box<dyn TypedOp>));
    let last = ops.len() - 1;
    for (i, op) in ops.into_iter().enumerate() {
        let name = if i == last { node.name.clone() } else { format!("{}.from_nhwc.{i}", node.name) };
        wire = patch.wire_node(name, op, &[wire])?[0];
    }
    patch.shunt_outside(model, node.id.into(), wire)?;
    Ok(patch)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(shape: [usize; 4], values: &[f32]) -> TractResult<Vec<f32>> {
        let mut model = TypedModel::default();
        let x = model.add_source("x", f32::fact(shape))?;
        let y = model.wire_node("y", PixelSum, &[x])?;
        model.select_output_outlets(&y)?;
        let output = model.into_runnable()?.run(tvec!(Tensor::from_shape(&shape, values)?.into_tvalue()))?;
        assert_eq!(output[0].shape(), [shape[0], 1, 1, shape[3]]);
        Ok(output[0].try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
    }

    #[test]
    fn long_sums_are_rounded_once() -> TractResult<()> {
        let (image, pixels) = ([0.1f32, -3.3], 160 * 161);
        let values: Vec<f32> = [image, [0.7, 1.9]].iter().flat_map(|image| image.repeat(pixels)).collect();
        let expected = [0.1f32, -3.3, 0.7, 1.9].map(|value| (f64::from(value) * pixels as f64) as f32);
        assert_eq!(sum([2, 160, 161, 2], &values)?, expected);
        Ok(())
    }

    #[test]
    fn a_map_without_pixels_sums_to_zero() -> TractResult<()> {
        assert_eq!(sum([2, 0, 3, 2], &[])?, [0.0; 4]);
        Ok(())
    }
}
