//! From a descriptor to a plan of 8 bits.

use depthwise_core::int8::{
    Conv2d, DepthwiseConv2d, Integer, PointwiseConv2d, Quantized, Rounding, SeparableConv2d, Weights,
};
use depthwise_core::{ElementType, Run};

use super::{check_window, isa, layout, multiplied, order};
use crate::failure::Failure;
use crate::types::{
    dw_clamp, dw_element, dw_int8_descriptor, dw_int8_weights, dw_operation, dw_quantized, dw_rounding, dw_status,
};

/// A plan of any operation.
#[derive(Clone)]
pub(crate) enum Int8 {
    Depthwise(DepthwiseConv2d),
    Pointwise(PointwiseConv2d),
    Separable(SeparableConv2d),
    Standard(Conv2d),
}

/// What does not depend on the operation.
macro_rules! of_any {
    ($self:expr, $plan:ident => $result:expr) => {
        match $self {
            Int8::Depthwise($plan) => $result,
            Int8::Pointwise($plan) => $result,
            Int8::Separable($plan) => $result,
            Int8::Standard($plan) => $result,
        }
    };
}
pub(super) use of_any;

/// A stage's parameters, borrowed from C.
#[derive(Clone, Copy)]
pub(crate) struct Int8Parameters<'a> {
    pub(crate) weights: Option<Weights<'a>>,
    pub(crate) bias: Option<&'a [i32]>,
    pub(crate) clamp: dw_clamp,
}

impl Int8Parameters<'_> {
    fn is_empty(&self) -> bool {
        self.weights.is_none() && self.bias.is_none() && self.clamp == dw_clamp::NONE
    }
}

/// Weights of C's with that many of them, whose type was checked.
pub(crate) fn weights<'a>(values: Values<'a>, scales: &'a [f32], given: &dw_int8_weights) -> Weights<'a> {
    match values {
        Values::I8(values) => Weights::i8(values, scales).with_zero_point(given.zero_point),
        Values::U8(values) => Weights::u8(values, scales, given.zero_point),
    }
}

/// The numbers of weights.
#[derive(Clone, Copy)]
pub(crate) enum Values<'a> {
    I8(&'a [i8]),
    U8(&'a [u8]),
}

impl dw_quantized {
    /// As Rust has it; `None` of sums.
    fn given(self, what: &str, is_output: bool) -> Result<Option<Quantized>, Failure> {
        let Self { element, scale, zero_point } = self;
        if element == Self::NONE.element {
            return Err(Failure::invalid(format!(
                "what the numbers of the {what} stand for must be given: set `{what}` with its element, scale and zero point"
            )));
        }
        match dw_element::try_from(element)? {
            dw_element::U8 => Ok(Some(Quantized::u8(scale, zero_point))),
            dw_element::I8 => Ok(Some(Quantized::i8(scale, zero_point))),
            dw_element::I32 if is_output && (scale, zero_point) == (0.0, 0) => Ok(None),
            dw_element::I32 if is_output => Err(Failure::invalid(format!(
                "the output has sums, but its scale is {scale} and its zero point {zero_point}: leave them 0"
            ))),
            other => Err(Failure::invalid(format!(
                "the {what} has elements of {other:?}: they must be DW_ELEMENT_U8 or DW_ELEMENT_I8{}",
                if is_output { ", or DW_ELEMENT_I32 for sums" } else { "" }
            ))),
        }
    }
}

impl Int8 {
    pub(crate) fn new(
        descriptor: &dw_int8_descriptor,
        depthwise: Int8Parameters<'_>,
        last: Int8Parameters<'_>,
    ) -> Result<Self, Failure> {
        let dw_int8_descriptor { in_channels, out_channels, channel_multiplier, .. } = *descriptor;
        let dw_int8_descriptor { kernel_size, stride, dilation, padding, .. } = *descriptor;
        let operation = dw_operation::try_from(descriptor.operation)?;
        if operation == dw_operation::Any {
            return Err(Failure::new(
                dw_status::Unsupported,
                "there is no DW_OPERATION_ANY of 8 bits: use depthwise, pointwise, separable or standard",
            ));
        }
        check_window(operation, [kernel_size, stride, dilation], padding, channel_multiplier)?;
        if operation != dw_operation::Separable && !(depthwise.is_empty() && descriptor.between.element == -1) {
            return Err(Failure::invalid(
                "`between`, `depthwise_weights`, `…_bias` or `…_clamp` was set, but only a separable convolution has such fields: \
                 leave them as filled in",
            ));
        }
        let input = descriptor.input.given("input", false)?.ok_or_else(|| Failure::invalid("no sums are read"))?;
        let output = descriptor.output.given("output", true)?;
        let rounding = match dw_rounding::try_from(descriptor.rounding)? {
            dw_rounding::NearestEven => Rounding::NearestEven,
            dw_rounding::Tflite => Rounding::Tflite,
            dw_rounding::TfliteLegacy => Rounding::TfliteLegacy,
        };
        let (layout, isa, order) = (layout(descriptor.layout)?, isa(descriptor.isa)?, order(descriptor.weight_order)?);
        let padding = padding.given()?;

        // What the builders have in common.
        macro_rules! with {
            (common: $builder:expr) => {{
                let builder =
                    $builder.layout(layout).maybe_isa(isa).weight_order(order).rounding(rounding).input(input);
                match output {
                    Some(output) => builder.output(output),
                    None => builder.output_sums(),
                }
            }};
            (window: $builder:expr) => {
                $builder.kernel_size(kernel_size).stride(stride).dilation(dilation).maybe_padding(padding)
            };
            (stage: $builder:expr, $stage:ident, $weights:ident, $bias:ident, $clamp:ident) => {{
                let mut builder = $builder;
                if let Some(weights) = $stage.weights {
                    builder = builder.$weights(weights);
                }
                if let Some(bias) = $stage.bias {
                    builder = builder.$bias(bias);
                }
                if $stage.clamp != dw_clamp::NONE {
                    builder = builder.$clamp($stage.clamp.low, $stage.clamp.high);
                }
                builder
            }};
        }
        Ok(match operation {
            dw_operation::Depthwise => {
                multiplied(in_channels, channel_multiplier, out_channels)?;
                let builder = DepthwiseConv2d::builder(in_channels).channel_multiplier(channel_multiplier);
                let builder = with!(window: with!(common: builder));
                Int8::Depthwise(with!(stage: builder, last, weights, bias, clamp).build()?)
            }
            dw_operation::Pointwise => {
                let builder = with!(common: PointwiseConv2d::builder(in_channels, out_channels));
                Int8::Pointwise(with!(stage: builder, last, weights, bias, clamp).build()?)
            }
            dw_operation::Separable => {
                let between = descriptor.between.given("between", false)?;
                let builder =
                    SeparableConv2d::builder(in_channels, out_channels).channel_multiplier(channel_multiplier);
                let builder = with!(window: with!(common: builder));
                let builder = with!(stage: builder, depthwise, depthwise_weights, depthwise_bias, depthwise_clamp);
                let builder = with!(stage: builder, last, pointwise_weights, bias, clamp);
                let Some(between) = between else { return Err(Failure::invalid("no sums are between the stages")) };
                Int8::Separable(builder.between(between).build()?)
            }
            dw_operation::Standard | dw_operation::Any => {
                let builder = with!(window: with!(common: Conv2d::builder(in_channels, out_channels)));
                Int8::Standard(with!(stage: builder, last, weights, bias, clamp).build()?)
            }
        })
    }

    /// The types of elements that it reads and writes.
    pub(crate) fn elements(&self) -> [ElementType; 2] {
        of_any!(self, plan => [plan.input_element(), plan.output_element()])
    }

    pub(crate) fn run<I: Integer<Stored = u8>, O: Integer>(&self, run: Run<'_, I, O>) -> Result<(), Failure> {
        Ok(of_any!(self, plan => plan.run(run))?)
    }
}
