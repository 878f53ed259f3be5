//! From a convolution of a graph to a plan.

use std::sync::Arc;

use depthwise::{AnyConv2d, Convolution, Error, Layout, SeparableConv2d};

use crate::find::{Affine, Found};

/// A plan, and what tract wants to know of it.
pub(crate) struct Built {
    pub(crate) plan: Arc<dyn Convolution>,
    /// What the op is called.
    pub(crate) name: &'static str,
    pub(crate) output_channels: usize,
    /// Multiply-adds of a pixel of the output.
    pub(crate) multiply_adds: usize,
    /// What is left to do after the plan.
    pub(crate) after: Affine,
}

/// One plan for a convolution, or for a depthwise one and a pointwise one that follows it.
pub(crate) fn build(first: &Found, second: Option<&Found>) -> Result<Built, Error> {
    let pair = |values: &[usize]| [values[0], values[1]];
    let pool = &first.pool;
    let (inputs, outputs) = (pool.input_channels, pool.output_channels);
    let (kernel, stride, dilation) = (pair(&pool.kernel_shape), pair(&pool.strides()), pair(&pool.dilations()));
    let (weights, bias) = first.parameters();
    let multiply_adds = weights.len();
    if let Some(second) = second {
        let (mixes, last_bias) = second.parameters();
        let output_channels = second.pool.output_channels;
        let plan = SeparableConv2d::builder(inputs, output_channels)
            .layout(Layout::Nhwc)
            .kernel_size(kernel)
            .stride(stride)
            .dilation(dilation)
            .padding(first.padding)
            .channel_multiplier(outputs / inputs)
            .depthwise_weights(&weights)
            .depthwise_bias(&bias)
            .depthwise_activation(first.activation())
            .pointwise_weights(&mixes)
            .bias(&last_bias)
            .activation(second.activation())
            .build()?;
        let multiply_adds = multiply_adds + mixes.len();
        let name = "SeparableConv2d";
        return Ok(Built { plan: Arc::new(plan), name, output_channels, multiply_adds, after: second.after });
    }
    let plan = AnyConv2d::builder(inputs, outputs, first.groups)
        .layout(Layout::Nhwc)
        .kernel_size(kernel)
        .stride(stride)
        .dilation(dilation)
        .padding(first.padding)
        .weights(&weights)
        .bias(&bias)
        .activation(first.activation())
        .build()?;
    let name = match first.groups {
        1 if first.is_pointwise() => "PointwiseConv2d",
        1 => "Conv2d",
        _ => "DepthwiseConv2d",
    };
    Ok(Built { plan: Arc::new(plan), name, output_channels: outputs, multiply_adds, after: first.after })
}
