//! From a descriptor to a plan of any operation and element.

use core::time::Duration;
use std::sync::Arc;

use depthwise_core::{
    Activation, AnyConv2d, BatchNorm, Choice, Conv2d, Convolution, DepthwiseConv2d, Element, ElementType, Fusion, Isa,
    Layout, Padding, Parallelism, PointwiseConv2d, SeparableConv2d, Shape, WeightOrder, bf16, f16,
};

use crate::failure::Failure;
use crate::types::{
    dw_activation, dw_activation_kind, dw_descriptor, dw_element, dw_fusion, dw_isa, dw_layout, dw_operation,
    dw_padding, dw_padding_kind, dw_status, dw_weight_order,
};

mod int8;
pub(crate) use int8::{Int8, Int8Parameters, Values, weights};

/// A plan of any operation, for elements of any type.
#[derive(Clone)]
pub(crate) enum Plan {
    F32(Arc<dyn Convolution<f32>>),
    F16(Arc<dyn Convolution<f16>>),
    Bf16(Arc<dyn Convolution<bf16>>),
    Int8(Int8),
}

/// What does not depend on the type of the elements. `choices`: of plans that have any.
macro_rules! of_any {
    ($self:ident, $plan:ident => $result:expr) => {
        match $self {
            Plan::F32($plan) => $result,
            Plan::F16($plan) => $result,
            Plan::Bf16($plan) => $result,
            Plan::Int8(plan) => int8::of_any!(plan, $plan => $result),
        }
    };
    (choices: $self:ident, $plan:ident => $result:expr) => {
        match $self {
            Plan::F32($plan) => $result,
            Plan::F16($plan) => $result,
            Plan::Bf16($plan) => $result,
            Plan::Int8(_) => return Err(no_choices()),
        }
    };
}

fn no_choices() -> Failure {
    Failure::new(
        dw_status::Unsupported,
        "a plan of 8 bits has no choices: run it without, and ask `dw_plan_workspace_len` for its workspace",
    )
}

/// A type of elements.
pub(crate) trait Number: 'static {
    const TYPE: ElementType;
}

macro_rules! number {
    ($($number:ty: $variant:ident),*) => {
        $(impl Number for $number {
            const TYPE: ElementType = ElementType::$variant;
        })*
    };
}
number!(f32: F32, f16: F16, bf16: Bf16, u8: U8, i8: I8, i32: I32);

/// A stage's parameters, borrowed from C.
pub(crate) struct Parameters<'a> {
    pub(crate) weights: Option<&'a [f32]>,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) batch_norm: Option<BatchNorm<'a>>,
}

impl Parameters<'_> {
    fn is_empty(&self) -> bool {
        self.weights.is_none() && self.bias.is_none() && self.batch_norm.is_none()
    }
}

impl Plan {
    pub(crate) fn new(
        descriptor: &dw_descriptor,
        depthwise: &Parameters<'_>,
        last: &Parameters<'_>,
    ) -> Result<Self, Failure> {
        Ok(match dw_element::try_from(descriptor.element)? {
            dw_element::F32 => Plan::F32(build(descriptor, depthwise, last)?),
            dw_element::F16 => Plan::F16(build(descriptor, depthwise, last)?),
            dw_element::Bf16 => Plan::Bf16(build(descriptor, depthwise, last)?),
            dw_element::U8 | dw_element::I8 | dw_element::I32 => {
                return Err(Failure::invalid(
                    "elements of whole numbers were asked for: fill in a dw_int8_descriptor for dw_int8_plan_new",
                ));
            }
        })
    }

    pub(crate) fn output_shape(&self, input: Shape) -> Result<Shape, Failure> {
        Ok(of_any!(self, plan => plan.output_shape(input))?)
    }

    pub(crate) fn workspace_len(&self, input: Shape, parallelism: Parallelism<'_>) -> Result<usize, Failure> {
        match self {
            Plan::Int8(plan) => Ok(int8::of_any!(plan, plan => plan.workspace_len(input, parallelism))?),
            plan => Ok(plan.prepare(input, parallelism)?.workspace_len()),
        }
    }

    pub(crate) fn prepare(&self, input: Shape, parallelism: Parallelism<'_>) -> Result<Choice, Failure> {
        Ok(of_any!(choices: self, plan => plan.prepare(input, parallelism))?)
    }

    pub(crate) fn tune(&self, input: Shape, parallelism: Parallelism<'_>, seconds: f64) -> Result<Choice, Failure> {
        let budget = Duration::try_from_secs_f64(seconds).map_err(|_| {
            Failure::invalid(format!("the budget is {seconds} seconds: it must be a finite number, 0 or above"))
        })?;
        Ok(of_any!(choices: self, plan => plan.tune(input, parallelism, budget))?)
    }

    pub(crate) fn choice_from_text(&self, text: &str) -> Result<Choice, Failure> {
        Ok(of_any!(choices: self, plan => plan.choice_from_text(text))?)
    }

    pub(crate) fn isa(&self) -> dw_isa {
        of_any!(self, plan => match plan.isa() {
            Isa::Portable => dw_isa::Portable,
            Isa::Avx2 => dw_isa::Avx2,
            Isa::Avx512 => dw_isa::Avx512,
            Isa::Neon => dw_isa::Neon,
            Isa::Avx512Vnni => dw_isa::Avx512Vnni,
            // One that this header does not name.
            _ => dw_isa::Auto,
        })
    }

    /// What it computes, and on which instruction set.
    pub(crate) fn describe(&self) -> String {
        let element = match self {
            Plan::F32(_) => "f32",
            Plan::F16(_) => "f16",
            Plan::Bf16(_) => "bf16",
            Plan::Int8(plan) => {
                let [read, written] = plan.elements();
                let isa = int8::of_any!(plan, plan => plan.isa());
                return format!(
                    "{}, elements from {read} to {written}, {isa}",
                    int8::of_any!(plan, plan => format!("{plan:?}"))
                );
            }
        };
        of_any!(self, plan => format!("{plan:?}, elements of {element}, {}", plan.isa()))
    }
}

/// The instruction set that C names, or `None` for the best.
pub(crate) fn isa(number: i32) -> Result<Option<Isa>, Failure> {
    Ok(match dw_isa::try_from(number)? {
        dw_isa::Auto => None,
        dw_isa::Portable => Some(Isa::Portable),
        dw_isa::Avx2 => Some(Isa::Avx2),
        dw_isa::Avx512 => Some(Isa::Avx512),
        dw_isa::Neon => Some(Isa::Neon),
        dw_isa::Avx512Vnni => Some(Isa::Avx512Vnni),
    })
}

pub(crate) fn layout(number: i32) -> Result<Layout, Failure> {
    Ok(match dw_layout::try_from(number)? {
        dw_layout::Nchw => Layout::Nchw,
        dw_layout::Nhwc => Layout::Nhwc,
    })
}

impl TryFrom<dw_activation> for Activation {
    type Error = Failure;

    fn try_from(dw_activation { kind, alpha, beta }: dw_activation) -> Result<Self, Failure> {
        Ok(match dw_activation_kind::try_from(kind)? {
            dw_activation_kind::None => Activation::None,
            dw_activation_kind::Relu => Activation::Relu,
            dw_activation_kind::Relu6 => Activation::Relu6,
            dw_activation_kind::Clamp => Activation::Clamp { min: alpha, max: beta },
            dw_activation_kind::LeakyRelu => Activation::LeakyRelu { slope: alpha },
            dw_activation_kind::HardSwish => Activation::HardSwish,
            dw_activation_kind::HardSigmoid => Activation::HardSigmoid,
            dw_activation_kind::Sigmoid => Activation::Sigmoid,
            dw_activation_kind::Silu => Activation::Silu,
            dw_activation_kind::Gelu => Activation::Gelu,
            dw_activation_kind::Mish => Activation::Mish,
            dw_activation_kind::Tanh => Activation::Tanh,
        })
    }
}

impl dw_padding {
    /// `None` for that which keeps the size.
    fn given(self) -> Result<Option<Padding>, Failure> {
        let dw_padding { kind, top, left, bottom, right } = self;
        let kind = dw_padding_kind::try_from(kind)?;
        if kind != dw_padding_kind::Explicit && [top, left, bottom, right] != [0; 4] {
            return Err(Failure::invalid(format!(
                "a padding of top {top}, left {left}, bottom {bottom}, right {right} was given, but `padding.kind` is not \
                 DW_PADDING_KIND_EXPLICIT"
            )));
        }
        Ok(match kind {
            dw_padding_kind::Half => None,
            dw_padding_kind::Explicit => Some(Padding::explicit(top, left, bottom, right)),
            dw_padding_kind::SameUpper => Some(Padding::same_upper()),
            dw_padding_kind::SameLower => Some(Padding::same_lower()),
            dw_padding_kind::Valid => Some(Padding::valid()),
        })
    }
}

fn refuse(field: &str, operation: dw_operation) -> Failure {
    let name = match operation {
        dw_operation::Depthwise => "a depthwise",
        dw_operation::Pointwise => "a pointwise",
        dw_operation::Separable => "a separable",
        dw_operation::Standard => "a standard",
        dw_operation::Any => "any other than a separable",
    };
    Failure::invalid(format!("`{field}` was set, but {name} convolution has no such field: leave it as filled in"))
}

/// Fails if a window or a multiplier was set that the operation does not have.
fn check_window(
    operation: dw_operation,
    taps: [[usize; 2]; 3],
    padding: dw_padding,
    multiplier: usize,
) -> Result<(), Failure> {
    let is_point = taps == [[1, 1]; 3] && padding.given()?.is_none();
    if operation == dw_operation::Pointwise && !is_point {
        return Err(refuse("kernel_size`, `stride`, `dilation` or `padding", operation));
    }
    let has_multiplier = matches!(operation, dw_operation::Depthwise | dw_operation::Separable);
    if !has_multiplier && multiplier != 1 {
        return Err(refuse("channel_multiplier", operation));
    }
    Ok(())
}

/// Fails unless a depthwise convolution has that many output channels.
fn multiplied(in_channels: usize, multiplier: usize, out_channels: usize) -> Result<(), Failure> {
    if in_channels.checked_mul(multiplier) == Some(out_channels) {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "a depthwise convolution of {in_channels} channels with a multiplier of {multiplier} has not {out_channels} output \
         channels: `out_channels` must be `in_channels * channel_multiplier`"
    )))
}

fn order(number: i32) -> Result<WeightOrder, Failure> {
    Ok(match dw_weight_order::try_from(number)? {
        dw_weight_order::Pytorch => WeightOrder::Pytorch,
        dw_weight_order::Tflite => WeightOrder::Tflite,
    })
}

/// Fails if a field was set that the operation does not have.
fn check_fields(descriptor: &dw_descriptor, depthwise: &Parameters<'_>) -> Result<(), Failure> {
    let dw_descriptor { kernel_size, stride, dilation, padding, channel_multiplier, .. } = *descriptor;
    let operation = dw_operation::try_from(descriptor.operation)?;
    check_window(operation, [kernel_size, stride, dilation], padding, channel_multiplier)?;
    if operation != dw_operation::Any && descriptor.groups != 1 {
        return Err(refuse("groups", operation));
    }
    if operation != dw_operation::Separable {
        if descriptor.fusion != dw_fusion::Auto as i32 {
            return Err(refuse("fusion", operation));
        }
        if !depthwise.is_empty() || descriptor.depthwise_activation.kind != dw_activation_kind::None as i32 {
            return Err(refuse("depthwise_weights`, `…_bias`, `…_batch_norm` or `…_activation", operation));
        }
    }
    Ok(())
}

fn build<E: Element>(
    descriptor: &dw_descriptor,
    depthwise: &Parameters<'_>,
    last: &Parameters<'_>,
) -> Result<Arc<dyn Convolution<E>>, Failure> {
    check_fields(descriptor, depthwise)?;
    let dw_descriptor { in_channels, out_channels, groups, channel_multiplier, .. } = *descriptor;
    let dw_descriptor { kernel_size, stride, dilation, .. } = *descriptor;
    let order = order(descriptor.weight_order)?;
    let fusion = match dw_fusion::try_from(descriptor.fusion)? {
        dw_fusion::Auto => Fusion::Auto,
        dw_fusion::Fused => Fusion::Fused,
        dw_fusion::TwoPass => Fusion::TwoPass,
    };
    let (layout, isa, padding) = (layout(descriptor.layout)?, isa(descriptor.isa)?, descriptor.padding.given()?);
    let (first, activation) = (descriptor.depthwise_activation.try_into()?, descriptor.activation.try_into()?);

    // What the builders have in common.
    macro_rules! with {
        (common: $builder:expr) => {
            $builder
                .layout(layout)
                .maybe_isa(isa)
                .weight_order(order)
                .maybe_bias(last.bias)
                .maybe_batch_norm(last.batch_norm)
                .activation(activation)
        };
        (window: $builder:expr) => {
            $builder.kernel_size(kernel_size).stride(stride).dilation(dilation).maybe_padding(padding)
        };
        (weights: $builder:expr) => {{
            let builder = $builder;
            match last.weights {
                Some(weights) => builder.weights(weights),
                None => builder,
            }
        }};
    }
    Ok(match dw_operation::try_from(descriptor.operation)? {
        dw_operation::Depthwise => {
            multiplied(in_channels, channel_multiplier, out_channels)?;
            let builder = DepthwiseConv2d::builder(in_channels).channel_multiplier(channel_multiplier);
            Arc::new(with!(weights: with!(window: with!(common: builder))).build_as::<E>()?)
        }
        dw_operation::Pointwise => {
            let builder = PointwiseConv2d::builder(in_channels, out_channels);
            Arc::new(with!(weights: with!(common: builder)).build_as::<E>()?)
        }
        dw_operation::Standard => {
            let builder = Conv2d::builder(in_channels, out_channels);
            Arc::new(with!(weights: with!(window: with!(common: builder))).build_as::<E>()?)
        }
        dw_operation::Any => {
            let builder = AnyConv2d::builder(in_channels, out_channels, groups);
            Arc::new(with!(weights: with!(window: with!(common: builder))).build_as::<E>()?)
        }
        dw_operation::Separable => {
            let mut builder = SeparableConv2d::builder(in_channels, out_channels)
                .channel_multiplier(channel_multiplier)
                .maybe_depthwise_bias(depthwise.bias)
                .maybe_depthwise_batch_norm(depthwise.batch_norm)
                .depthwise_activation(first)
                .fusion(fusion);
            if let Some(weights) = depthwise.weights {
                builder = builder.depthwise_weights(weights);
            }
            if let Some(weights) = last.weights {
                builder = builder.pointwise_weights(weights);
            }
            Arc::new(with!(window: with!(common: builder)).build_as::<E>()?)
        }
    })
}

/// The element type of a tensor must be the plan's.
pub(crate) fn check_element<E: Number>(number: i32, what: &str) -> Result<(), Failure> {
    let element = dw_element::try_from(number)?;
    let given = match element {
        dw_element::F32 => ElementType::F32,
        dw_element::F16 => ElementType::F16,
        dw_element::Bf16 => ElementType::Bf16,
        dw_element::U8 => ElementType::U8,
        dw_element::I8 => ElementType::I8,
        dw_element::I32 => ElementType::I32,
    };
    if given == E::TYPE {
        return Ok(());
    }
    Err(Failure::new(
        dw_status::InvalidArgument,
        format!("the {what} has elements of {element:?}, but the plan was made for {}", E::TYPE),
    ))
}
