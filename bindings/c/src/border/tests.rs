//! What the programs in C cannot bring about: panics, and texts of several bytes a letter.

use core::ffi::{CStr, c_char, c_void};
use core::ptr::null;

use depthwise_core::Isa;

use super::given::{needed, put_text};
use super::plans::*;
use super::runs::*;
use super::tensors::*;
use super::threads::Foreign;
use crate::failure::{Failure, guarded};
use crate::types::{
    dw_array, dw_descriptor, dw_operation, dw_parallelism, dw_parallelism_kind, dw_run_options, dw_shape, dw_status,
    dw_strides, dw_task,
};

fn message() -> String {
    // SAFETY: the message ends with a NUL, and no call fails meanwhile.
    unsafe { CStr::from_ptr(dw_last_error_message()) }.to_str().expect("UTF-8").into()
}

#[test]
fn a_panic_is_a_status_and_a_message() {
    assert_eq!(guarded(|| panic!("number {}", 7)), dw_status::Internal);
    assert_eq!(message(), "a bug in depthwise: number 7");
    assert_eq!(guarded(|| panic!("words")), dw_status::Internal);
    assert_eq!(message(), "a bug in depthwise: words");
    assert_eq!(guarded(|| std::panic::panic_any(7)), dw_status::Internal);
    assert_eq!(message(), "a bug in depthwise: a panic without words");
    assert_eq!(guarded(|| Ok(())), dw_status::Ok);
    assert_eq!(message(), "a bug in depthwise: a panic without words");
    assert_eq!(guarded(|| Err(Failure::invalid("one\0two"))), dw_status::InvalidArgument);
    assert_eq!(message(), "one two");
}

/// Calls each task once.
unsafe extern "C" fn one_by_one(_context: *mut c_void, tasks: usize, task: dw_task, argument: *mut c_void) {
    for index in 0..tasks {
        // SAFETY: that is what an executor is to do.
        unsafe { task(argument, index) };
    }
}

#[test]
fn a_task_that_panics_fails_after_all_have_ended() {
    let executor = Foreign { threads: 2, execute: one_by_one, context: core::ptr::null_mut() };
    let ended = std::sync::atomic::AtomicUsize::new(0);
    let status = guarded(|| {
        depthwise_core::Executor::execute(&executor, 4, &|index| {
            assert_ne!(index, 1, "this one panics");
            ended.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        Ok(())
    });
    assert_eq!(status, dw_status::Internal);
    assert_eq!(message(), "a bug in depthwise: a task panicked");
    assert_eq!(ended.into_inner(), 3);
}

#[test]
fn a_text_is_cut_between_letters() {
    for (capacity, expected) in [(0, "xxxx"), (1, "\0xxx"), (2, "a\0xx"), (3, "a\0xx"), (4, "aµ\0")] {
        let (mut place, mut len) = ([b'x'; 4], 0);
        // SAFETY: the place has four bytes.
        let result = unsafe { put_text("aµb", place.as_mut_ptr().cast::<c_char>(), capacity, &mut len) };
        result.expect("a place");
        assert_eq!((place.as_slice(), len), (expected.as_bytes(), 4), "{capacity}");
    }
}

#[test]
fn the_last_element_ends_the_buffer() {
    let (shape, strides) = (dw_shape { n: 2, c: 3, h: 4, w: 5 }, dw_strides { n: 60, c: 20, h: 5, w: 1 });
    assert_eq!(needed(1000, shape, strides), 120);
    assert_eq!(needed(7, shape, strides), 7);
    assert_eq!(needed(1000, shape, dw_strides { h: usize::MAX, ..strides }), 1000);
    assert_eq!(needed(1000, dw_shape { c: 0, ..shape }, strides), 0);
}

/// A pointwise convolution of 2 by an executor: from C's calls alone, for Miri to see.
#[test]
fn a_run_from_the_descriptor_to_the_output() {
    let (weight, x, mut y) = ([2.0f32], [1.0f32, 2.0, 3.0], [0.0f32; 3]);
    let shape = dw_shape { n: 1, c: 1, h: 1, w: 3 };
    let (mut descriptor, mut options) = (core::mem::MaybeUninit::uninit(), core::mem::MaybeUninit::uninit());
    let (mut input, mut output) = (core::mem::MaybeUninit::uninit(), core::mem::MaybeUninit::uninit());
    let (mut plan, mut clone, mut workspace) = (core::ptr::null_mut(), core::ptr::null_mut(), core::ptr::null_mut());
    let parallelism = dw_parallelism {
        kind: dw_parallelism_kind::Executor as i32,
        threads: 2,
        execute: Some(one_by_one),
        context: core::ptr::null_mut(),
    };
    let pointwise = dw_operation::Pointwise as i32;
    // SAFETY: all pointers are to variables of the right types, and `data` is as long as it says.
    unsafe {
        let size = size_of::<dw_descriptor>();
        assert_eq!(dw_descriptor_init(descriptor.as_mut_ptr(), size, pointwise, 1, 1), dw_status::Ok);
        let mut descriptor = descriptor.assume_init();
        descriptor.weights = dw_array { data: weight.as_ptr(), len: 1 };
        assert_eq!(dw_plan_new(&descriptor, &mut plan), dw_status::Ok);
        assert_eq!(dw_plan_clone(plan, &mut clone), dw_status::Ok);
        dw_plan_free(plan);
        assert_eq!(dw_tensor_init(input.as_mut_ptr(), x.as_ptr().cast(), 3, 0, shape, 0), dw_status::Ok);
        assert_eq!(dw_tensor_mut_init(output.as_mut_ptr(), y.as_mut_ptr().cast(), 3, 0, shape, 0), dw_status::Ok);
        assert_eq!(dw_run_options_init(options.as_mut_ptr(), size_of::<dw_run_options>()), dw_status::Ok);
        assert_eq!(dw_workspace_new(4, &mut workspace), dw_status::Ok);
        let mut options = options.assume_init();
        (options.parallelism, options.workspace, options.range) = (&parallelism, workspace, null());
        assert_eq!(dw_plan_run(clone, input.as_ptr(), output.as_ptr(), &options), dw_status::Ok);
        dw_workspace_free(workspace);
        dw_plan_free(clone);
    }
    assert_eq!(y, [2.0, 4.0, 6.0]);
}

/// An instruction set that C's enumeration lacks would be named `DW_ISA_AUTO`.
#[test]
fn every_instruction_set_has_a_number() {
    for isa in Isa::EVERY {
        let numbers = (1..=5).filter(|&number| crate::plan::isa(number).is_ok_and(|found| found == Some(isa)));
        assert_eq!(numbers.count(), 1, "{isa}");
    }
}
