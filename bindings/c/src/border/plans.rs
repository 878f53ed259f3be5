//! The library, descriptors, and plans.

use core::ffi::c_char;

use super::given::{batch_norm, check_size, free, numbers, optional, put, put_text, shared, sized};
use super::threads::parallelism;
use crate::failure::{self, guarded};
use crate::plan::{self, Parameters, Plan};
use crate::types::{
    dw_activation, dw_array, dw_descriptor, dw_element, dw_fusion, dw_isa, dw_operation, dw_padding, dw_parallelism,
    dw_plan, dw_shape, dw_status,
};
use crate::value;

/// The version of the library, such as "0.1.0".
#[unsafe(no_mangle)]
pub extern "C" fn dw_version() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// What the last call of this thread that failed says: a sentence with the numbers that are wrong, in UTF-8; "" if none failed. Valid
/// until the next call of this thread that fails, or until the thread ends. Never NULL.
#[unsafe(no_mangle)]
pub extern "C" fn dw_last_error_message() -> *const c_char {
    failure::message()
}

/// 1 if this library has kernels for the instruction set and this CPU runs them, else 0.
#[unsafe(no_mangle)]
pub extern "C" fn dw_isa_is_available(isa: value::dw_isa) -> i32 {
    plan::isa(isa).is_ok_and(|isa| isa.is_none_or(|isa| isa.is_available())).into()
}

/// Fills in a descriptor of that operation from and to that many channels: 3x3 (pointwise: 1x1), stride 1, dilation 1, padding that
/// keeps the size, no weights yet, no bias, no batch normalisation, no activation, NCHW, `float`, the best instruction set. `size` is
/// `sizeof *descriptor`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_descriptor_init(
    descriptor: *mut dw_descriptor,
    size: usize,
    operation: value::dw_operation,
    in_channels: usize,
    out_channels: usize,
) -> dw_status {
    guarded(|| {
        check_size::<dw_descriptor>(size, "dw_descriptor")?;
        let kernel_size = match dw_operation::try_from(operation)? {
            dw_operation::Pointwise => [1, 1],
            _ => [3, 3],
        };
        let filled_in = dw_descriptor {
            size,
            operation,
            element: dw_element::F32 as i32,
            layout: 0,
            weight_order: 0,
            isa: dw_isa::Auto as i32,
            fusion: dw_fusion::Auto as i32,
            in_channels,
            out_channels,
            groups: 1,
            channel_multiplier: 1,
            kernel_size,
            stride: [1, 1],
            dilation: [1, 1],
            padding: dw_padding::default(),
            depthwise_weights: dw_array::NONE,
            depthwise_bias: dw_array::NONE,
            depthwise_batch_norm: core::ptr::null(),
            depthwise_activation: dw_activation::default(),
            weights: dw_array::NONE,
            bias: dw_array::NONE,
            batch_norm: core::ptr::null(),
            activation: dw_activation::default(),
        };
        // SAFETY: 1.
        unsafe { put(descriptor, filled_in, "descriptor") }
    })
}

/// Makes a plan: checks everything, and packs the weights, which need not be kept. `*plan` is NULL if it fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_plan_new(descriptor: *const dw_descriptor, plan: *mut *mut dw_plan) -> dw_status {
    guarded(|| {
        // SAFETY: 1.
        unsafe { put(plan, core::ptr::null_mut(), "plan") }?;
        // SAFETY: 1.
        let descriptor = unsafe { sized(descriptor, "dw_descriptor") }?;
        let depthwise = Parameters {
            // SAFETY: 3.
            weights: unsafe { numbers(descriptor.depthwise_weights, "depthwise_weights") }?,
            // SAFETY: 3.
            bias: unsafe { numbers(descriptor.depthwise_bias, "depthwise_bias") }?,
            // SAFETY: 1 and 3.
            batch_norm: unsafe { batch_norm(descriptor.depthwise_batch_norm, "depthwise_batch_norm") }?,
        };
        let last = Parameters {
            // SAFETY: 3.
            weights: unsafe { numbers(descriptor.weights, "weights") }?,
            // SAFETY: 3.
            bias: unsafe { numbers(descriptor.bias, "bias") }?,
            // SAFETY: 1 and 3.
            batch_norm: unsafe { batch_norm(descriptor.batch_norm, "batch_norm") }?,
        };
        let made = Box::new(dw_plan { plan: Plan::new(descriptor, &depthwise, &last)? });
        // SAFETY: 1.
        unsafe { put(plan, Box::into_raw(made), "plan") }
    })
}

/// Another handle to the same plan, to be freed by itself. It shares the packed weights. `*clone` is NULL if it fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_plan_clone(plan: *const dw_plan, clone: *mut *mut dw_plan) -> dw_status {
    guarded(|| {
        // SAFETY: 1.
        unsafe { put(clone, core::ptr::null_mut(), "clone") }?;
        // SAFETY: 2.
        let plan = unsafe { shared(plan, "plan") }?;
        let made = Box::new(dw_plan { plan: plan.plan.clone() });
        // SAFETY: 1.
        unsafe { put(clone, Box::into_raw(made), "clone") }
    })
}

/// Frees a plan, or does nothing if it is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_plan_free(plan: *mut dw_plan) {
    // SAFETY: 2.
    unsafe { free(plan) };
}

/// The shape of the output for an input of that shape.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_plan_output_shape(
    plan: *const dw_plan,
    input: dw_shape,
    output: *mut dw_shape,
) -> dw_status {
    guarded(|| {
        // SAFETY: 2.
        let shape = unsafe { shared(plan, "plan") }?.plan.output_shape(input.into())?;
        // SAFETY: 1.
        unsafe { put(output, shape.into(), "output") }
    })
}

/// The length of the workspace, in `float`, that a run on an input of that shape uses. `parallelism` may be NULL: the calling thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_plan_workspace_len(
    plan: *const dw_plan,
    input: dw_shape,
    parallelism: *const dw_parallelism,
    len: *mut usize,
) -> dw_status {
    guarded(|| {
        // SAFETY: 1.
        let given = unsafe { optional(parallelism, "parallelism") }?;
        // SAFETY: 2.
        let plan = unsafe { shared(plan, "plan") }?;
        let mut place = None;
        let needed = plan.plan.workspace_len(input.into(), self::parallelism(given, &mut place)?)?;
        // SAFETY: 1.
        unsafe { put(len, needed, "len") }
    })
}

/// The instruction set of a plan.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_plan_isa(plan: *const dw_plan, isa: *mut value::dw_isa) -> dw_status {
    guarded(|| {
        // SAFETY: 2.
        let found = unsafe { shared(plan, "plan") }?.plan.isa();
        // SAFETY: 1.
        unsafe { put(isa, found as i32, "isa") }
    })
}

/// What a plan computes, in words. The text is cut where `capacity` ends, and ends with a NUL. `*len` is its whole length without the
/// NUL; `len` may be NULL, and `text` too if `capacity` is 0. The words may be others in another version.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_plan_describe(
    plan: *const dw_plan,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> dw_status {
    guarded(|| {
        // SAFETY: 2.
        let words = unsafe { shared(plan, "plan") }?.plan.describe();
        // SAFETY: 1 and 4.
        unsafe { put_text(&words, text, capacity, len) }
    })
}
