//! The op that stands for a convolution in tract's graph.

use std::fmt;
use std::sync::Arc;

use depthwise::{Convolution, Layout, Parallelism, Run, Shape, TensorView, TensorViewMut, Workspace};
use tract_core::internal::*;
use tract_core::ops::cnn::PoolSpec;
use tract_linalg::multithread::{Executor, current_tract_executor, par_chunks_mut};

use crate::find::Affine;

/// A convolution with its activation, in NHWC. Inputs: the tensor, and the residual if there is one.
#[derive(Clone)]
pub(crate) struct DepthwiseOp {
    pub(crate) plan: Arc<dyn Convolution>,
    pub(crate) name: &'static str,
    /// The window and the channels, by which tract infers shapes.
    pub(crate) pool: PoolSpec,
    pub(crate) multiply_adds: usize,
    pub(crate) after: Affine,
}

impl fmt::Debug for DepthwiseOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.plan.fmt(f)
    }
}

impl PartialEq for DepthwiseOp {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.plan, &other.plan) && self.after == other.after && self.pool == other.pool
    }
}

impl Eq for DepthwiseOp {}

impl Op for DepthwiseOp {
    fn name(&self) -> StaticName {
        self.name.into()
    }

    fn validation(&self) -> Validation {
        Validation::Rounding
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{:?}", self.plan)])
    }

    op_as_typed_op!();
}

impl EvalOp for DepthwiseOp {
    op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let [n, h, w, c] = *inputs[0].shape() else {
            bail!("an input of NHWC has 4 axes, not {:?}", inputs[0].shape())
        };
        let shape = Shape::new(n, c, h, w);
        let output_shape = self.plan.output_shape(shape)?;
        let plain = inputs[0].try_as_plain_ram()?;
        let input = TensorView::new(plain.as_slice()?, shape, Layout::Nhwc)?;
        let residual = inputs.get(1).map(|residual| residual.try_as_plain_ram()).transpose()?;
        let residual = match &residual {
            Some(plain) => Some(TensorView::new(plain.as_slice()?, output_shape, Layout::Nhwc)?),
            None => None,
        };
        let mut output = Tensor::zero::<f32>(&[output_shape.n, output_shape.h, output_shape.w, output_shape.c])?;
        let mut plain = output.try_as_plain_ram_mut()?;
        let elements = plain.as_slice_mut::<f32>()?;
        let view = TensorViewMut::new(elements, output_shape, Layout::Nhwc)?;
        // The thread's workspace is not borrowed meanwhile: a thread that waits within a run may begin another.
        Workspace::with_thread(|workspace| {
            let run = Run::new(input, view, workspace).maybe_residual(residual);
            match current_tract_executor() {
                Executor::SingleThread => self.plan.run(run),
                Executor::MultiThread(pool) => pool.install(|| self.plan.run(run.parallelism(Parallelism::Rayon))),
                Executor::RayonGlobal => self.plan.run(run.parallelism(Parallelism::Rayon)),
            }
        })?;
        if self.after != Affine::IDENTITY {
            let (scale, shift) = (self.after.scale as f32, self.after.shift as f32);
            let len = elements.len();
            par_chunks_mut(elements, 1, len, |_, chunk| {
                chunk.iter_mut().for_each(|value| *value = *value * scale + shift);
                Ok(())
            })?;
        }
        Ok(tvec!(output.into_tvalue()))
    }
}

impl TypedOp for DepthwiseOp {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.pool.output_facts(inputs)
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let output = self.pool.output_shape(&inputs[0].shape)?;
        let pixels: TDim = output.shape[..3].iter().product();
        Ok(tvec!((Cost::FMA(f32::datum_type()), pixels * self.multiply_adds)))
    }

    as_op!();
}
