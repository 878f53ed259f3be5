//! Convolutions of tract's models, computed by [`depthwise`].
//!
//! Depend on this crate, name it once so that it is linked, and ask tract for the runtime of the name “depthwise” instead of “cpu”:
//!
//! ```
//! use depthwise_tract as _;
//! use tract_onnx::prelude::*;
//!
//! # fn main() -> TractResult<()> {
//! let file = depthwise_models::mobilenet_v1([1, 3, 32, 32]).to_bytes();
//! let model = tract_onnx::onnx().model_for_read(&mut &file[..])?.into_typed()?;
//! let runnable = runtime_for_name("depthwise")?.expect("it is linked").prepare(model)?;
//! let outputs = runnable.run(tvec!(Tensor::zero::<f32>(&[1, 3, 32, 32])?.into()))?;
//! assert_eq!(outputs[0].shape(), [1, 1000]);
//! # Ok(())
//! # }
//! ```
//!
//! The facade `tract` works the same way: `tract::runtime_for_name("depthwise")`. Or apply the transform of that name to a model, and
//! go on with it as before: `model.transform("depthwise")` of the facade, or a [`DepthwiseTransform`].
//!
//! What is replaced: convolutions over one or two axes, of `f32`, with constant weights, whose groups are one or as many as input
//! channels; with the bias, batch norm, residual and activation that follow, and a depthwise one together with the pointwise one that
//! reads it. Shapes may be symbolic. All else stays tract's. [`DepthwiseTransform::transform_and_report`] says what became of each
//! node, and why; the crate `log` gets the same at level debug.
//!
//! Threads are those of tract's executor (`RunOptions`). The result does not depend on their number.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod axes;
mod find;
mod op;
mod plan;
mod report;
mod sum;
mod transform;

pub use report::{Left, Replaced, Report};
pub use transform::DepthwiseTransform;

use tract_core::internal::*;

/// tract's CPU runtime, after a [`DepthwiseTransform`]: the runtime of the name “depthwise”.
#[derive(Clone, Copy, Debug, Default)]
pub struct DepthwiseRuntime;

impl Runtime for DepthwiseRuntime {
    fn name(&self) -> StaticName {
        "depthwise".into()
    }

    fn check(&self) -> TractResult<()> {
        Ok(())
    }

    fn prepare_with_options(&self, mut model: TypedModel, options: &RunOptions) -> TractResult<Box<dyn Runnable>> {
        model.transform(&DepthwiseTransform)?;
        tract_core::runtime::DefaultRuntime.prepare_with_options(model, options)
    }
}

register_runtime!(DepthwiseRuntime = DepthwiseRuntime);
register_simple_model_transform!("depthwise", DepthwiseTransform);

/// README's code, to be tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
