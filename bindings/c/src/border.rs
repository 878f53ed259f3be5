//! The functions that C calls, and all unsafe code of this crate.
//!
//! What a function relies on, and cannot check; its comments name them by number. NULL, misaligned pointers, sizes of structs, numbers
//! of enumerations, lengths, and buffers that overlap within a call are checked.
//!
//! 1. A pointer to a struct, a number or a handle is NULL, or points to memory that holds one, which nobody writes during the call. If
//!    it is not const, the memory may be written, and nobody else reads it, a workspace aside.
//! 2. A plan, a workspace or a choice is one that this library returned, and was not freed. To free it, no other call may use it.
//! 3. A buffer is NULL, or has as many elements as its length says, of its type. Those to be read are initialised, gaps included,
//!    and nobody writes them during the call. Those to be written may be written, and nobody else reads or writes them during the call. Of a tensor, the
//!    buffer ends with its last element for this purpose.
//! 4. A text to be read ends with a NUL. A place for a text has the bytes that its capacity says, as 3 says of a buffer.
//! 5. `execute` does what `dw_execute` says, on any thread; `context` is what it wants.
//! 6. While a plan is made, or first run by `DW_PARALLELISM_KIND_RAYON`, no other thread changes the environment: `DEPTHWISE_ISA`,
//!    `DEPTHWISE_MACHINE` and `RAYON_NUM_THREADS` are read.
//!
//! Failures and panics become a status in [`guarded`]. No function unwinds.

use core::ffi::{CStr, c_char, c_void};
use core::mem::MaybeUninit;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, TryLockError};

use depthwise_core::{
    BatchNorm, Choice, Convolution, Element, Executor, Layout, Parallelism, Run, Shape, Strides, TensorView,
    TensorViewMut, Workspace, bf16, f16,
};

use crate::failure::{self, Failure, guarded};
use crate::plan::{self, Parameters, Plan};
use crate::types::{
    dw_activation, dw_array, dw_batch_norm, dw_choice, dw_descriptor, dw_element, dw_fusion, dw_isa, dw_operation,
    dw_padding, dw_parallelism, dw_parallelism_kind, dw_plan, dw_run_options, dw_shape, dw_status, dw_strides, dw_task,
    dw_tensor, dw_tensor_mut, dw_workspace,
};
use crate::value;

#[cfg(test)]
#[allow(clippy::multiple_unsafe_ops_per_block, reason = "calls, one after the other")]
mod tests;

// What C gives, as Rust has it.

fn check_pointer<T>(pointer: *const T, what: &str) -> Result<(), Failure> {
    if pointer.is_null() {
        return Err(Failure::null(what));
    }
    if !pointer.is_aligned() {
        let (address, align) = (pointer.addr(), align_of::<T>());
        return Err(Failure::invalid(format!("{what} is at {address:#x}: it must be aligned to {align} bytes")));
    }
    Ok(())
}

/// # Safety
/// 1, and 2 of a handle, as long as the reference lives.
unsafe fn shared<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Failure> {
    check_pointer(pointer, what)?;
    // SAFETY: it is neither NULL nor misaligned, and the caller promises the rest.
    Ok(unsafe { &*pointer })
}

/// What may be NULL.
///
/// # Safety
/// As of [`shared`].
unsafe fn optional<'a, T>(pointer: *const T, what: &str) -> Result<Option<&'a T>, Failure> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller promises it.
    unsafe { shared(pointer, what) }.map(Some)
}

/// Writes a result, whatever the place held.
///
/// # Safety
/// 1.
unsafe fn put<T>(place: *mut T, value: T, what: &str) -> Result<(), Failure> {
    check_pointer(place, what)?;
    // SAFETY: it is neither NULL nor misaligned, and the caller promises the rest.
    unsafe { place.write(value) };
    Ok(())
}

/// Fails unless a struct that begins with its size has the size that it has here.
fn check_size<T>(size: usize, what: &str) -> Result<(), Failure> {
    let here = size_of::<T>();
    if size == here {
        return Ok(());
    }
    Err(Failure::invalid(format!(
        "a {what} of {size} bytes was given, but this library's has {here}: fill it in by {what}_init with its sizeof, and compile \
         with the header of the library's version"
    )))
}

/// A struct that begins with its size.
///
/// # Safety
/// 1: at least the size is there, and as much as it says.
unsafe fn sized<'a, T>(pointer: *const T, what: &str) -> Result<&'a T, Failure> {
    // SAFETY: the caller promises that the size is there.
    let size = *unsafe { shared(pointer.cast::<usize>(), what) }?;
    check_size::<T>(size, what)?;
    // SAFETY: the caller promises as many bytes as that.
    unsafe { shared(pointer, what) }
}

/// Fails unless a buffer of so many elements can be a slice.
fn check_buffer<T>(data: *const T, len: usize, what: &str) -> Result<(), Failure> {
    if len.checked_mul(size_of::<T>()).is_none_or(|bytes| bytes > isize::MAX as usize) {
        return Err(Failure::invalid(format!("{what} has {len} elements: that does not fit the address space")));
    }
    if len == 0 { Ok(()) } else { check_pointer(data, what) }
}

/// # Safety
/// 3, as long as the slice lives.
unsafe fn elements<'a, T>(data: *const T, len: usize, what: &str) -> Result<&'a [T], Failure> {
    check_buffer(data, len, what)?;
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: it is neither NULL nor misaligned, its bytes fit an isize, and the caller promises the rest.
    Ok(unsafe { core::slice::from_raw_parts(data, len) })
}

/// # Safety
/// 3, as long as the slice lives.
unsafe fn places<'a, T>(data: *mut T, len: usize, what: &str) -> Result<&'a mut [MaybeUninit<T>], Failure> {
    check_buffer(data, len, what)?;
    if len == 0 {
        return Ok(&mut []);
    }
    // SAFETY: it is neither NULL nor misaligned, its bytes fit an isize, and the caller promises the rest.
    Ok(unsafe { core::slice::from_raw_parts_mut(data.cast(), len) })
}

/// Numbers, or `None` where there are none.
///
/// # Safety
/// 3, as long as the slice lives.
unsafe fn numbers<'a>(array: dw_array, what: &str) -> Result<Option<&'a [f32]>, Failure> {
    if array.data.is_null() && array.len == 0 {
        return Ok(None);
    }
    check_pointer(array.data, what)?;
    // SAFETY: the caller promises it.
    unsafe { elements(array.data, array.len, what) }.map(Some)
}

/// # Safety
/// 1 and 3, as long as the slices live.
unsafe fn batch_norm<'a>(norm: *const dw_batch_norm, what: &str) -> Result<Option<BatchNorm<'a>>, Failure> {
    // SAFETY: the caller promises it.
    let Some(norm) = (unsafe { optional(norm, what) })? else { return Ok(None) };
    let part = |array: dw_array, name: &str| {
        let what = format!("{what}.{name}");
        // SAFETY: the caller promises it.
        unsafe { numbers(array, &what) }?.ok_or_else(|| Failure::null(&what))
    };
    Ok(Some(BatchNorm {
        gamma: part(norm.gamma, "gamma")?,
        beta: part(norm.beta, "beta")?,
        mean: part(norm.mean, "mean")?,
        variance: part(norm.variance, "variance")?,
        epsilon: norm.epsilon,
    }))
}

/// Writes a text with a NUL, as much of it as there is place for, and its whole length without the NUL.
///
/// # Safety
/// 1 of `len`, 4 of `place`.
unsafe fn put_text(text: &str, place: *mut c_char, capacity: usize, len: *mut usize) -> Result<(), Failure> {
    // SAFETY: the caller promises it.
    let place = unsafe { places(place.cast::<u8>(), capacity, "text") }?;
    if let Some(end) = place.len().checked_sub(1) {
        let fits = (0..=end.min(text.len())).rev().find(|&fits| text.is_char_boundary(fits)).unwrap_or(0);
        for (place, byte) in place.iter_mut().zip(text.bytes().take(fits).chain([0])) {
            place.write(byte);
        }
    }
    if len.is_null() {
        return Ok(());
    }
    // SAFETY: the caller promises it.
    unsafe { put(len, text.len(), "len") }
}

/// The bytes of a buffer.
fn bytes<T>(data: *const T, len: usize) -> Range<usize> {
    data.addr()..data.addr().saturating_add(len.saturating_mul(size_of::<T>()))
}

/// Fails if what is written would be read too. `what` names both.
fn check_apart(read: Range<usize>, written: Range<usize>, what: &str) -> Result<(), Failure> {
    if read.start.max(written.start) < read.end.min(written.end) {
        return Err(Failure::invalid(format!("{what} overlap: use memory of its own for what is written")));
    }
    Ok(())
}

/// The elements of the buffer up to the tensor's last. Where the tensor does not lie within, the whole buffer, which its view refuses.
fn needed(len: usize, shape: dw_shape, strides: dw_strides) -> usize {
    let axes = [(shape.n, strides.n), (shape.c, strides.c), (shape.h, strides.h), (shape.w, strides.w)];
    if axes.iter().any(|&(extent, _)| extent == 0) {
        return 0;
    }
    let last =
        axes.iter().try_fold(0usize, |sum, &(extent, stride)| (extent - 1).checked_mul(stride)?.checked_add(sum));
    last.map_or(len, |last| len.min(last.saturating_add(1)))
}

/// # Safety
/// 3, as long as the view lives.
unsafe fn view<'a, E: Element>(tensor: &dw_tensor, what: &str) -> Result<TensorView<'a, E>, Failure> {
    let dw_tensor { data, len, element, shape, strides } = *tensor;
    plan::check_element::<E>(element, what)?;
    // SAFETY: the caller promises it, and the elements have the type that is promised.
    let data = unsafe { elements(data.cast::<E>(), needed(len, shape, strides), what) }?;
    Ok(TensorView::strided(data, shape.into(), strides.into())?)
}

// Threads of C's.

/// An executor of C's.
struct Foreign {
    threads: usize,
    execute: unsafe extern "C" fn(*mut c_void, usize, dw_task, *mut c_void),
    context: *mut c_void,
}

// SAFETY: 5 allows calls from any thread.
unsafe impl Sync for Foreign {}

/// What a task of C's is handed as its argument.
struct Tasks<'a> {
    task: &'a (dyn Fn(usize) + Sync),
    panicked: AtomicBool,
}

/// A `dw_task`.
///
/// # Safety
/// `argument` is the `Tasks` of an `execute` that has not returned.
unsafe extern "C" fn call_task(argument: *mut c_void, index: usize) {
    // SAFETY: the caller promises it. All that is done to it from several threads is allowed by shared references.
    let tasks = unsafe { &*argument.cast::<Tasks<'_>>() };
    // Nothing of the task is used again after a panic: the run fails.
    if let Err(payload) = catch_unwind(AssertUnwindSafe(|| (tasks.task)(index))) {
        core::mem::forget(payload);
        tasks.panicked.store(true, Ordering::Relaxed);
    }
}

impl Executor for Foreign {
    fn threads(&self) -> usize {
        self.threads
    }

    fn execute(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        let handed = Tasks { task, panicked: AtomicBool::new(false) };
        let argument = (&raw const handed).cast_mut().cast();
        // SAFETY: 5. `handed` lives until it returns, and by then all calls of the task have returned.
        unsafe { (self.execute)(self.context, tasks, call_task, argument) };
        assert!(!handed.panicked.load(Ordering::Relaxed), "a task panicked");
    }
}

/// Who works. An executor lives in `place`. What is relied on, 5, is relied on when it is run.
fn parallelism<'a>(given: Option<&dw_parallelism>, place: &'a mut Option<Foreign>) -> Result<Parallelism<'a>, Failure> {
    let Some(&dw_parallelism { kind, threads, execute, context }) = given else { return Ok(Parallelism::Serial) };
    match dw_parallelism_kind::try_from(kind)? {
        dw_parallelism_kind::Serial => Ok(Parallelism::Serial),
        #[cfg(feature = "rayon")]
        dw_parallelism_kind::Rayon => Ok(Parallelism::Rayon),
        #[cfg(not(feature = "rayon"))]
        dw_parallelism_kind::Rayon => Err(Failure::new(
            dw_status::Unsupported,
            "this library was built without its feature `rayon`: use DW_PARALLELISM_KIND_EXECUTOR or _SERIAL",
        )),
        dw_parallelism_kind::Executor => {
            if threads == 0 {
                return Err(Failure::invalid("an executor of 0 threads was given: `threads` must be at least 1"));
            }
            let execute = execute.ok_or_else(|| Failure::null("`execute` of an executor"))?;
            Ok(Parallelism::Executor(place.insert(Foreign { threads, execute, context })))
        }
    }
}

// The functions.

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

/// # Safety
/// NULL, or of this library, and not freed; no other call uses it.
unsafe fn free<T>(handle: *mut T) {
    if handle.is_null() {
        return;
    }
    // What it holds frees memory, no more. There is no status to say that this went wrong.
    guarded(|| {
        // SAFETY: `Box::into_raw` made it, and the caller promises the rest.
        drop(unsafe { Box::from_raw(handle) });
        Ok(())
    });
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
        // SAFETY: 1, 2 and 5.
        let choice = unsafe { prepared(plan, input, parallelism) }?;
        // SAFETY: 1.
        unsafe { put(len, choice.workspace_len(), "len") }
    })
}

/// # Safety
/// 1, 2 and 5.
unsafe fn prepared(plan: *const dw_plan, input: dw_shape, given: *const dw_parallelism) -> Result<Choice, Failure> {
    let mut place = None;
    // SAFETY: the caller promises it.
    let given = unsafe { optional(given, "parallelism") }?;
    // SAFETY: the caller promises it.
    let plan = unsafe { shared(plan, "plan") }?;
    plan.plan.prepare(input.into(), parallelism(given, &mut place)?)
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

/// Fills in a tensor without gaps, which is all of a buffer of `len` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_tensor_init(
    tensor: *mut dw_tensor,
    data: *const c_void,
    len: usize,
    element: value::dw_element,
    shape: dw_shape,
    layout: value::dw_layout,
) -> dw_status {
    guarded(|| {
        dw_element::try_from(element)?;
        let strides = contiguous(len, shape, plan::layout(layout)?)?;
        // SAFETY: 1.
        unsafe { put(tensor, dw_tensor { data, len, element, shape, strides }, "tensor") }
    })
}

/// Fills in a tensor without gaps, which is all of a buffer of `len` elements.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_tensor_mut_init(
    tensor: *mut dw_tensor_mut,
    data: *mut c_void,
    len: usize,
    element: value::dw_element,
    shape: dw_shape,
    layout: value::dw_layout,
) -> dw_status {
    guarded(|| {
        dw_element::try_from(element)?;
        let strides = contiguous(len, shape, plan::layout(layout)?)?;
        // SAFETY: 1.
        unsafe { put(tensor, dw_tensor_mut { data, len, element, shape, strides }, "tensor") }
    })
}

/// The strides of a tensor without gaps, if it has so many elements.
fn contiguous(len: usize, shape: dw_shape, layout: Layout) -> Result<dw_strides, Failure> {
    let shape = Shape::from(shape);
    let strides: Strides = layout.strides(shape)?;
    match shape.len() {
        Some(elements) if elements == len => Ok(strides.into()),
        elements => {
            let elements = elements.unwrap_or(usize::MAX);
            let way = "check the shape, or set the strides of a tensor that is not all of its buffer";
            Err(Failure::invalid(format!(
                "a tensor of shape {shape} has {elements} elements, but the buffer has {len}: {way}"
            )))
        }
    }
}

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
        match &plan.plan {
            // SAFETY: 1, 2, 3 and 5.
            Plan::F32(plan) => unsafe { run::<f32>(&**plan, input, output, options) },
            // SAFETY: as above.
            Plan::F16(plan) => unsafe { run::<f16>(&**plan, input, output, options) },
            // SAFETY: as above.
            Plan::Bf16(plan) => unsafe { run::<bf16>(&**plan, input, output, options) },
        }
    })
}

/// # Safety
/// 1, 2, 3 and 5.
unsafe fn run<E: Element>(
    plan: &dyn Convolution<E>,
    input: &dw_tensor,
    output: &dw_tensor_mut,
    options: &dw_run_options,
) -> Result<(), Failure> {
    let dw_tensor_mut { data, len, element, shape, strides } = *output;
    plan::check_element::<E>(element, "output")?;
    let (data, len) = (data.cast::<E>(), needed(len, shape, strides));
    check_buffer(data, len, "output")?;
    // SAFETY: the caller promises 1.
    let residual = unsafe { optional(options.residual, "residual") }?;
    for (read, name, what) in
        [(Some(input), "input", "the output and the input"), (residual, "residual", "the output and the residual")]
    {
        let Some(read) = read else { continue };
        plan::check_element::<E>(read.element, name)?;
        let extent = needed(read.len, read.shape, read.strides);
        check_apart(bytes(read.data.cast::<E>(), extent), bytes(data, len), what)?;
    }
    // SAFETY: the caller promises 3.
    let input = unsafe { view::<E>(input, "input") }?;
    // SAFETY: the caller promises 3.
    let residual = residual.map(|residual| unsafe { view::<E>(residual, "residual") }).transpose()?;
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
        plan.run(run.maybe_range(range.map(|&range| range.into())).maybe_choice(choice.map(|choice| &choice.choice)))
    };
    Ok(match workspace.map(|workspace| workspace.workspace.try_lock()) {
        None => Workspace::with_thread(work),
        Some(Ok(mut workspace)) => work(&mut workspace),
        // Whatever a panic left in it is overwritten.
        Some(Err(TryLockError::Poisoned(poisoned))) => work(&mut poisoned.into_inner()),
        Some(Err(TryLockError::WouldBlock)) => {
            let message = "the workspace is at work in another call: give each of the calls at a time one of its own";
            return Err(Failure::new(dw_status::Busy, message));
        }
    }?)
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
        // SAFETY: 1, 2 and 5.
        let made = Box::new(dw_choice { choice: unsafe { prepared(plan, input, parallelism) }? });
        // SAFETY: 1.
        unsafe { put(choice, Box::into_raw(made), "choice") }
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

/// Converts `len` elements of that type to `float`. `to` may not overlap `from`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_widen(
    from: *const c_void,
    element: value::dw_element,
    to: *mut f32,
    len: usize,
) -> dw_status {
    guarded(|| match dw_element::try_from(element)? {
        // SAFETY: 3.
        dw_element::F32 => unsafe { convert(from.cast::<f32>(), to, len, |x| x) },
        // SAFETY: 3.
        dw_element::F16 => unsafe { convert(from.cast::<f16>(), to, len, Element::to_f32) },
        // SAFETY: 3.
        dw_element::Bf16 => unsafe { convert(from.cast::<bf16>(), to, len, Element::to_f32) },
    })
}

/// Converts `len` `float` to elements of that type, each rounded to the nearest. `to` may not overlap `from`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dw_narrow(
    from: *const f32,
    to: *mut c_void,
    element: value::dw_element,
    len: usize,
) -> dw_status {
    guarded(|| match dw_element::try_from(element)? {
        // SAFETY: 3.
        dw_element::F32 => unsafe { convert(from, to.cast::<f32>(), len, |x| x) },
        // SAFETY: 3.
        dw_element::F16 => unsafe { convert(from, to.cast::<f16>(), len, Element::from_f32) },
        // SAFETY: 3.
        dw_element::Bf16 => unsafe { convert(from, to.cast::<bf16>(), len, Element::from_f32) },
    })
}

/// # Safety
/// 3.
unsafe fn convert<T: Copy, U>(from: *const T, to: *mut U, len: usize, one: impl Fn(T) -> U) -> Result<(), Failure> {
    check_apart(bytes(from, len), bytes(to, len), "`from` and `to`")?;
    // SAFETY: the caller promises it.
    let from = unsafe { elements(from, len, "from") }?;
    // SAFETY: the caller promises it.
    let to = unsafe { places(to, len, "to") }?;
    for (to, &from) in to.iter_mut().zip(from) {
        to.write(one(from));
    }
    Ok(())
}
