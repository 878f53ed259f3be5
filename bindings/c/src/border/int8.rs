//! Plans of 8 bits. What else is done with a plan is done with these by the same functions.

use super::given::{check_size, numbers, present, put, sized};
use crate::failure::{Failure, guarded};
use crate::plan::{self, Int8, Int8Parameters, Plan, Values};
use crate::types::{
    dw_clamp, dw_element, dw_int8_descriptor, dw_int8_weights, dw_integers, dw_isa, dw_operation, dw_padding, dw_plan,
    dw_quantized, dw_rounding, dw_status,
};
use crate::value;

/// Fills in a descriptor of that operation from and to that many channels, for tensors of 8 bits: 3x3 (pointwise: 1x1), stride 1,
/// dilation 1, padding that keeps the size, no weights yet, no bias, no clamp, NCHW, rounding to the nearest even number, the best
/// instruction set. `size` is `sizeof *descriptor`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_int8_descriptor_init(
    descriptor: *mut dw_int8_descriptor,
    size: usize,
    operation: value::dw_operation,
    in_channels: usize,
    out_channels: usize,
) -> dw_status {
    guarded(|| {
        check_size::<dw_int8_descriptor>(size, "dw_int8_descriptor")?;
        let kernel_size = match dw_operation::try_from(operation)? {
            dw_operation::Pointwise => [1, 1],
            _ => [3, 3],
        };
        let filled_in = dw_int8_descriptor {
            size,
            operation,
            layout: 0,
            weight_order: 0,
            isa: dw_isa::Auto as i32,
            rounding: dw_rounding::NearestEven as i32,
            in_channels,
            out_channels,
            channel_multiplier: 1,
            kernel_size,
            stride: [1, 1],
            dilation: [1, 1],
            padding: dw_padding::default(),
            input: dw_quantized::NONE,
            output: dw_quantized::NONE,
            between: dw_quantized::NONE,
            depthwise_weights: dw_int8_weights::NONE,
            depthwise_bias: dw_integers::NONE,
            weights: dw_int8_weights::NONE,
            bias: dw_integers::NONE,
            depthwise_clamp: dw_clamp::NONE,
            clamp: dw_clamp::NONE,
        };
        // SAFETY: 1.
        unsafe { put(descriptor, filled_in, "descriptor") }
    })
}

/// Makes a plan of 8 bits: checks everything, and packs the weights, which need not be kept. `*plan` is NULL if it fails.
///
/// It runs by `dw_plan_run`, without a residual and without a choice, on tensors of the elements that the descriptor says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_int8_plan_new(descriptor: *const dw_int8_descriptor, plan: *mut *mut dw_plan) -> dw_status {
    guarded(|| {
        // SAFETY: 1.
        unsafe { put(plan, core::ptr::null_mut(), "plan") }?;
        // SAFETY: 1.
        let descriptor = unsafe { sized(descriptor, "dw_int8_descriptor") }?;
        let &dw_int8_descriptor { depthwise_weights, depthwise_bias, depthwise_clamp, weights, bias, clamp, .. } =
            descriptor;
        let depthwise = (&depthwise_weights, depthwise_bias, depthwise_clamp);
        // SAFETY: 3.
        let depthwise = unsafe { parameters(depthwise, ["depthwise_weights", "depthwise_bias"]) }?;
        // SAFETY: 3.
        let last = unsafe { parameters((&weights, bias, clamp), ["weights", "bias"]) }?;
        let made = Box::new(dw_plan { plan: Plan::Int8(Int8::new(descriptor, depthwise, last)?) });
        // SAFETY: 1.
        unsafe { put(plan, Box::into_raw(made), "plan") }
    })
}

/// # Safety
/// 3, as long as the slices live.
unsafe fn parameters<'a>(
    (weights, bias, clamp): (&dw_int8_weights, dw_integers, dw_clamp),
    [weights_name, bias_name]: [&str; 2],
) -> Result<Int8Parameters<'a>, Failure> {
    let &dw_int8_weights { data, len, element, scales, .. } = weights;
    let values = match dw_element::try_from(element)? {
        // SAFETY: the caller promises it.
        dw_element::I8 => unsafe { present(data.cast(), len, weights_name) }?.map(Values::I8),
        // SAFETY: the caller promises it.
        dw_element::U8 => unsafe { present(data.cast(), len, weights_name) }?.map(Values::U8),
        other => {
            return Err(Failure::invalid(format!(
                "`{weights_name}` have elements of {other:?}: they must be DW_ELEMENT_I8 or DW_ELEMENT_U8"
            )));
        }
    };
    // SAFETY: the caller promises it.
    let scales = unsafe { numbers(scales, &format!("{weights_name}.scales")) }?;
    let with_scales = |values| {
        let scales = scales.ok_or_else(|| Failure::null(&format!("{weights_name}.scales")))?;
        Ok::<_, Failure>(plan::weights(values, scales, weights))
    };
    Ok(Int8Parameters {
        weights: values.map(with_scales).transpose()?,
        // SAFETY: the caller promises it.
        bias: unsafe { present(bias.data, bias.len, bias_name) }?,
        clamp,
    })
}
