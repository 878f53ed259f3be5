//! Convolutions of [burn](https://crates.io/crates/burn) models on CPUs, computed by
//! [`depthwise`](https://crates.io/crates/depthwise): modules built from those of `burn_nn`, on the backend burn-flex.
//!
//! ```
//! use burn_nn::conv::Conv2dConfig;
//! use burn_tensor::{Device, Tensor};
//! use depthwise_burn::{Activation, Conv2d, Layer, Layout};
//!
//! let device = Device::flex();
//! let conv = Conv2dConfig::new([8, 8], [3, 3]).with_groups(8).init(&device);
//! let ours = Conv2d::new(Layer::new(&conv).activation(Activation::Relu6), Layout::Nchw)?;
//! let x = Tensor::<4>::ones([1, 8, 5, 5], &device);
//! let difference = ours.forward(x.clone()) - conv.forward(x).clamp(0.0, 6.0);
//! assert!(difference.abs().max().into_scalar::<f32>() < 1e-6);
//! # Ok::<(), depthwise_burn::Error>(())
//! ```
//!
//! * [`Layer`] is a convolution of burn with the batch norm and the activation after it; a batch norm is folded into the weights.
//! * [`Conv2d`] computes one, [`SeparableConv2d`] a depthwise and the pointwise one after it.
//! * A plan packs the weights when it is built. It is for inference: gradients do not reach weights or inputs.
//! * Tensors are `f32`, on burn-flex, without autodiff. Groups are one, or one for each channel. All else is an [`Error`], when the
//!   module is built if that can be known then: such a layer stays burn's.
//! * With `Layout::Nhwc` channels lie last in memory between the modules, under burn's shapes `[batch, channels, height, width]`. It is
//!   the faster one where such modules follow each other. With `Layout::Nchw` outputs are contiguous.
//!
//! Work is shared by the threads of `rayon`'s current pool, as burn-flex does it. The number of threads changes no bit of a result.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod error;
mod layer;
mod plan;

use burn_tensor::Tensor;
#[doc(no_inline)]
pub use depthwise::{Activation, Layout};
pub use error::Error;
pub use layer::Layer;

use crate::plan::Plan;

/// The methods that both modules have.
macro_rules! module {
    ($module:ident) => {
        impl $module {
            /// Computes it, as burn's modules do.
            ///
            /// # Panics
            /// Where [`run`](Self::run) gives an error.
            #[track_caller]
            pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
                match self.run(x, None) {
                    Ok(y) => y,
                    Err(error) => panic!("{error}"),
                }
            }

            /// As [`forward`](Self::forward), with a residual: `activation(convolution + residual)`.
            ///
            /// # Panics
            /// Where [`run`](Self::run) gives an error.
            #[track_caller]
            pub fn forward_with_residual(&self, x: Tensor<4>, residual: Tensor<4>) -> Tensor<4> {
                match self.run(x, Some(residual)) {
                    Ok(y) => y,
                    Err(error) => panic!("{error}"),
                }
            }

            /// Computes it, with or without a residual of the output's shape, which is added before the last activation. Shapes are
            /// `[batch, channels, height, width]`, strides are any; a tensor that is not contiguous along the layout's last axis is copied.
            ///
            /// # Errors
            /// If a shape does not fit, or a tensor is not of `f32`, not of burn-flex, or one that gradients are asked for.
            pub fn run(&self, x: Tensor<4>, residual: Option<Tensor<4>>) -> Result<Tensor<4>, Error> {
                self.plan.run(x, residual)
            }
        }
    };
}

/// A convolution with what follows it.
#[derive(Clone, Debug)]
pub struct Conv2d {
    plan: Plan,
}

impl Conv2d {
    /// Reads the layer's parameters, folds its batch norm, and packs the weights.
    ///
    /// # Errors
    /// If the layer has groups other than one, or one for each channel; if its parameters are not `f32`; if it pads by `Same` what is
    /// dilated; if its batch norm has other channels, or a parameter has no meaning.
    pub fn new(layer: Layer<'_>, layout: Layout) -> Result<Self, Error> {
        Ok(Self { plan: Plan::new(layer, layout)? })
    }
}

module!(Conv2d);

/// A depthwise convolution and the pointwise one after it, each with what follows it, in one pass over memory where that pays.
#[derive(Clone, Debug)]
pub struct SeparableConv2d {
    plan: Plan,
}

impl SeparableConv2d {
    /// Reads both layers' parameters, folds their batch norms, and packs the weights.
    ///
    /// # Errors
    /// As [`Conv2d::new`], and if the first is not depthwise, the second not pointwise, or its inputs are not the first one's outputs.
    pub fn new(depthwise: Layer<'_>, pointwise: Layer<'_>, layout: Layout) -> Result<Self, Error> {
        Ok(Self { plan: Plan::pair(depthwise, pointwise, layout)? })
    }
}

module!(SeparableConv2d);

/// README's code, to be tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
