//! From a convolution of a graph to a plan.

use std::sync::Arc;

use depthwise::{Conv2d, Convolution, DepthwiseConv2d, Error, Layout, PointwiseConv2d, SeparableConv2d};

use crate::find::{Affine, Found};

/// A plan, and what a reader wants to know of it.
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
    let taps = kernel[0] * kernel[1];
    if let Some(second) = second {
        let (mixes, last_bias) = second.parameters();
        let plan = SeparableConv2d::builder(inputs, second.pool.output_channels)
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
        let output_channels = second.pool.output_channels;
        let multiply_adds = outputs * taps + outputs * output_channels;
        return Ok(Built {
            plan: Arc::new(plan),
            name: "SeparableConv2d",
            output_channels,
            multiply_adds,
            after: second.after,
        });
    }
    let (plan, name): (Arc<dyn Convolution>, _) = if first.groups > 1 {
        let plan = DepthwiseConv2d::builder(inputs)
            .layout(Layout::Nhwc)
            .kernel_size(kernel)
            .stride(stride)
            .dilation(dilation)
            .padding(first.padding)
            .channel_multiplier(outputs / inputs)
            .weights(&weights)
            .bias(&bias)
            .activation(first.activation());
        (Arc::new(plan.build()?), "DepthwiseConv2d")
    } else if first.is_pointwise() {
        let plan = PointwiseConv2d::builder(inputs, outputs)
            .layout(Layout::Nhwc)
            .weights(&weights)
            .bias(&bias)
            .activation(first.activation());
        (Arc::new(plan.build()?), "PointwiseConv2d")
    } else {
        let plan = Conv2d::builder(inputs, outputs)
            .layout(Layout::Nhwc)
            .kernel_size(kernel)
            .stride(stride)
            .dilation(dilation)
            .padding(first.padding)
            .weights(&weights)
            .bias(&bias)
            .activation(first.activation());
        (Arc::new(plan.build()?), "Conv2d")
    };
    let multiply_adds = outputs * taps * (inputs / first.groups);
    Ok(Built { plan, name, output_channels: outputs, multiply_adds, after: first.after })
}
