//! Runs and their workspaces.

use std::sync::{Mutex, TryLockError};

use depthwise_core::{ElementType, Run, TensorViewMut, Workspace, bf16, f16};

use super::given::{
    bytes, check_apart, check_buffer, check_size, free, needed, optional, places, put, shared, sized, view,
};
use super::threads::parallelism;
use crate::failure::{Failure, guarded};
use crate::plan::{self, Int8, Number, Plan};
use crate::types::{dw_plan, dw_run_options, dw_status, dw_tensor, dw_tensor_mut, dw_workspace};

/// Fills in the options of a run that are the default. `size` is `sizeof *options`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_run_options_init(options: *mut dw_run_options, size: usize) -> dw_status {
    guarded(|| {
        check_size::<dw_run_options>(size, "dw_run_options")?;
        // SAFETY: 1.
        unsafe { put(options, dw_run_options { size, ..dw_run_options::DEFAULT }, "options") }
    })
}

/// Computes the output. `options` may be NULL: the whole output, no residual, on the calling thread, in scratch memory that the thread
/// keeps.
///
/// It allocates nothing if the workspace has `dw_plan_workspace_len`, and starts no thread, but for the first call with
/// DW_PARALLELISM_KIND_RAYON. The output may overlap neither the input nor the residual. Nothing is written if it fails with
/// DW_STATUS_NULL_POINTER, _UNSUPPORTED, _BUSY or, unless an executor left tasks undone, _INVALID_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_plan_run(
    plan: *const dw_plan,
    input: *const dw_tensor,
    output: *const dw_tensor_mut,
    options: *const dw_run_options,
) -> dw_status {
    guarded(|| {
        // SAFETY: 2.
        let plan = unsafe { shared(plan, "plan") }?;
        // SAFETY: 1.
        let input = unsafe { shared(input, "input") }?;
        // SAFETY: 1.
        let output = unsafe { shared(output, "output") }?;
        let options = if options.is_null() {
            &dw_run_options::DEFAULT
        } else {
            // SAFETY: 1.
            unsafe { sized(options, "dw_run_options") }?
        };
        let refused =
            |what| Err(Failure::invalid(format!("`{what}` was set, but a plan of 8 bits takes none: leave it NULL")));
        match &plan.plan {
            // SAFETY: 1, 2, 3 and 5.
            Plan::F32(plan) => unsafe { run::<f32, f32>(input, output, options, |run| Ok(plan.run(run)?)) },
            // SAFETY: as above.
            Plan::F16(plan) => unsafe { run::<f16, f16>(input, output, options, |run| Ok(plan.run(run)?)) },
            // SAFETY: as above.
            Plan::Bf16(plan) => unsafe { run::<bf16, bf16>(input, output, options, |run| Ok(plan.run(run)?)) },
            Plan::Int8(_) if !options.residual.is_null() => refused("residual"),
            Plan::Int8(_) if !options.choice.is_null() => refused("choice"),
            // SAFETY: as above.
            Plan::Int8(plan) => unsafe { run_int8(plan, input, output, options) },
        }
    })
}

/// # Safety
/// 1, 2, 3 and 5.
unsafe fn run_int8(
    plan: &Int8,
    input: &dw_tensor,
    output: &dw_tensor_mut,
    options: &dw_run_options,
) -> Result<(), Failure> {
    match plan.elements() {
        // SAFETY: the caller promises it.
        [ElementType::U8, ElementType::U8] => unsafe { run::<u8, u8>(input, output, options, |run| plan.run(run)) },
        // SAFETY: as above.
        [ElementType::U8, ElementType::I8] => unsafe { run::<u8, i8>(input, output, options, |run| plan.run(run)) },
        // SAFETY: as above.
        [ElementType::U8, _] => unsafe { run::<u8, i32>(input, output, options, |run| plan.run(run)) },
        // SAFETY: as above.
        [_, ElementType::U8] => unsafe { run::<i8, u8>(input, output, options, |run| plan.run(run)) },
        // SAFETY: as above.
        [_, ElementType::I8] => unsafe { run::<i8, i8>(input, output, options, |run| plan.run(run)) },
        // SAFETY: as above.
        _ => unsafe { run::<i8, i32>(input, output, options, |run| plan.run(run)) },
    }
}

/// # Safety
/// 1, 2, 3 and 5.
unsafe fn run<I: Number, O: Number>(
    input: &dw_tensor,
    output: &dw_tensor_mut,
    options: &dw_run_options,
    start: impl FnOnce(Run<'_, I, O>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let dw_tensor_mut { data, len, element, shape, strides } = *output;
    plan::check_element::<O>(element, "output")?;
    let (data, len) = (data.cast::<O>(), needed(len, shape, strides));
    check_buffer(data, len, "output")?;
    // SAFETY: the caller promises 1.
    let residual = unsafe { optional(options.residual, "residual") }?;
    plan::check_element::<I>(input.element, "input")?;
    let extent = needed(input.len, input.shape, input.strides);
    check_apart(bytes(input.data.cast::<I>(), extent), bytes(data, len), "the output and the input")?;
    if let Some(residual) = residual {
        plan::check_element::<O>(residual.element, "residual")?;
        let extent = needed(residual.len, residual.shape, residual.strides);
        check_apart(bytes(residual.data.cast::<O>(), extent), bytes(data, len), "the output and the residual")?;
    }
    // SAFETY: the caller promises 3.
    let input = unsafe { view::<I>(input, "input") }?;
    // SAFETY: the caller promises 3.
    let residual = residual.map(|residual| unsafe { view::<O>(residual, "residual") }).transpose()?;
    // SAFETY: the caller promises 3, and the elements have the type that is promised.
    let data = unsafe { places(data, len, "output") }?;
    let output = TensorViewMut::uninit_strided(data, shape.into(), strides.into())?;
    // SAFETY: the caller promises 1.
    let range = unsafe { optional(options.range, "range") }?;
    // SAFETY: the caller promises 2.
    let choice = unsafe { optional(options.choice, "choice") }?;
    // SAFETY: the caller promises 2.
    let workspace = unsafe { optional(options.workspace, "workspace") }?;
    // SAFETY: the caller promises 1.
    let given = unsafe { optional(options.parallelism, "parallelism") }?;
    let mut place = None;
    let parallelism = parallelism(given, &mut place)?;
    let work = |workspace: &mut Workspace| {
        let run = Run::new(input, output, workspace).maybe_residual(residual).parallelism(parallelism);
        start(run.maybe_range(range.map(|&range| range.into())).maybe_choice(choice.map(|choice| &choice.choice)))
    };
    match workspace.map(|workspace| workspace.workspace.try_lock()) {
        None => Workspace::with_thread(work),
        Some(Ok(mut workspace)) => work(&mut workspace),
        // Whatever a panic left in it is overwritten.
        Some(Err(TryLockError::Poisoned(poisoned))) => work(&mut poisoned.into_inner()),
        Some(Err(TryLockError::WouldBlock)) => {
            let message = "the workspace is at work in another call: give each of the calls at a time one of its own";
            Err(Failure::new(dw_status::Busy, message))
        }
    }
}

/// Makes a workspace of `len` `float`. `dw_plan_workspace_len` says how much a run needs; a run enlarges one that is too small.
/// `*workspace` is NULL if it fails.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_workspace_new(len: usize, workspace: *mut *mut dw_workspace) -> dw_status {
    guarded(|| {
        // SAFETY: 1.
        unsafe { put(workspace, core::ptr::null_mut(), "workspace") }?;
        let made = Box::new(dw_workspace { workspace: Mutex::new(Workspace::with_len(len)?) });
        // SAFETY: 1.
        unsafe { put(workspace, Box::into_raw(made), "workspace") }
    })
}

/// Frees a workspace, or does nothing if it is NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_workspace_free(workspace: *mut dw_workspace) {
    // SAFETY: 2.
    unsafe { free(workspace) };
}
