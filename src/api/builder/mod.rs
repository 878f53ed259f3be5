//! Builders of plans: everything is checked, and weights are packed, once.

mod any_conv2d;
mod common;
mod conv2d;
mod depthwise;
mod pointwise;
mod separable;
mod setters;
mod stages;

use crate::api::weights::Names;

pub use any_conv2d::AnyConv2dBuilder;
pub use conv2d::Conv2dBuilder;
pub use depthwise::DepthwiseConv2dBuilder;
pub use pointwise::PointwiseConv2dBuilder;
pub use separable::SeparableConv2dBuilder;

#[cfg(feature = "int8")]
pub(crate) use common::{asked_isa, asked_machine, available, check_channels, multiplied};
#[cfg(feature = "int8")]
pub(crate) use setters::geometry;
pub(crate) use setters::maybe;

const DEPTHWISE: Names = Names {
    weights: "the depthwise weights",
    weights_hint: "use `weights`, or `depthwise_weights` of a separable convolution",
    bias: "the depthwise bias",
};
const POINTWISE: Names = Names {
    weights: "the pointwise weights",
    weights_hint: "use `weights`, or `pointwise_weights` of a separable convolution",
    bias: "the pointwise bias",
};
const STANDARD: Names = Names { weights: "the weights", weights_hint: "use `weights`", bias: "the bias" };
