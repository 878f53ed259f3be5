//! Choices: how a plan runs inputs of one shape.

use core::ffi::{CStr, c_char};

use super::given::{check_pointer, free, optional, put, put_text, shared};
use super::threads::parallelism;
use crate::failure::guarded;
use crate::types::{dw_choice, dw_parallelism, dw_plan, dw_shape, dw_status};

/// Chooses how runs on inputs of that shape go, for their options: each of them then saves that time. `parallelism` may be NULL.
/// `*choice` is NULL if it fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_plan_prepare(
    plan: *const dw_plan,
    input: dw_shape,
    parallelism: *const dw_parallelism,
    choice: *mut *mut dw_choice,
) -> dw_status {
    guarded(|| {
        // SAFETY: 1.
        unsafe { put(choice, core::ptr::null_mut(), "choice") }?;
        // SAFETY: 1.
        let given = unsafe { optional(parallelism, "parallelism") }?;
        // SAFETY: 2.
        let plan = unsafe { shared(plan, "plan") }?;
        let mut place = None;
        let prepared = plan.plan.prepare(input.into(), self::parallelism(given, &mut place)?)?;
        // SAFETY: 1.
        unsafe { put(choice, Box::into_raw(Box::new(dw_choice { choice: prepared })), "choice") }
    })
}

/// As `dw_plan_prepare`, by measurement: runs every kernel that fits, on tensors of its own, until so many seconds are over. It may
/// last one round of runs longer. Give a layer a few hundred times as long as it takes, and nothing else to the CPU meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_plan_tune(
    plan: *const dw_plan,
    input: dw_shape,
    parallelism: *const dw_parallelism,
    seconds: f64,
    choice: *mut *mut dw_choice,
) -> dw_status {
    guarded(|| {
        // SAFETY: 1.
        unsafe { put(choice, core::ptr::null_mut(), "choice") }?;
        // SAFETY: 2.
        let plan = unsafe { shared(plan, "plan") }?;
        // SAFETY: 1.
        let given = unsafe { optional(parallelism, "parallelism") }?;
        let mut place = None;
        let tuned = plan.plan.tune(input.into(), self::parallelism(given, &mut place)?, seconds)?;
        // SAFETY: 1.
        unsafe { put(choice, Box::into_raw(Box::new(dw_choice { choice: tuned })), "choice") }
    })
}

/// The choice that `dw_choice_to_text` wrote. It fails if the text is of another version of the library, instruction set, machine or
/// plan. `*choice` is NULL if it fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_plan_choice_from_text(
    plan: *const dw_plan,
    text: *const c_char,
    choice: *mut *mut dw_choice,
) -> dw_status {
    guarded(|| {
        // SAFETY: 1.
        unsafe { put(choice, core::ptr::null_mut(), "choice") }?;
        // SAFETY: 2.
        let plan = unsafe { shared(plan, "plan") }?;
        check_pointer(text, "text")?;
        // SAFETY: 4.
        let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
        let made = Box::new(dw_choice { choice: plan.plan.choice_from_text(&text)? });
        // SAFETY: 1.
        unsafe { put(choice, Box::into_raw(made), "choice") }
    })
}

/// A choice as text, a line for each fact, to be kept. See `dw_plan_describe` for `text`, `capacity` and `len`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_choice_to_text(
    choice: *const dw_choice,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> dw_status {
    guarded(|| {
        // SAFETY: 2.
        let words = unsafe { shared(choice, "choice") }?.choice.to_text();
        // SAFETY: 1 and 4.
        unsafe { put_text(&words, text, capacity, len) }
    })
}

/// A choice in one line: kernels, passes, tasks. See `dw_plan_describe` for `text`, `capacity` and `len`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_choice_describe(
    choice: *const dw_choice,
    text: *mut c_char,
    capacity: usize,
    len: *mut usize,
) -> dw_status {
    guarded(|| {
        // SAFETY: 2.
        let words = unsafe { shared(choice, "choice") }?.choice.to_string();
        // SAFETY: 1 and 4.
        unsafe { put_text(&words, text, capacity, len) }
    })
}

/// The length of the workspace, in `float`, that a run with that choice uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_choice_workspace_len(choice: *const dw_choice, len: *mut usize) -> dw_status {
    guarded(|| {
        // SAFETY: 2.
        let needed = unsafe { shared(choice, "choice") }?.choice.workspace_len();
        // SAFETY: 1.
        unsafe { put(len, needed, "len") }
    })
}

/// Frees a choice, or does nothing if it is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_choice_free(choice: *mut dw_choice) {
    // SAFETY: 2.
    unsafe { free(choice) };
}
