//! Threads of C's.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};
use std::panic::{AssertUnwindSafe, catch_unwind};

use depthwise_core::{Executor, Parallelism};

use crate::failure::Failure;
#[cfg(not(feature = "rayon"))]
use crate::types::dw_status;
use crate::types::{dw_parallelism, dw_parallelism_kind, dw_task};

/// An executor of C's.
pub(super) struct Foreign {
    pub(super) threads: usize,
    pub(super) execute: unsafe extern "C" fn(*mut c_void, usize, dw_task, *mut c_void),
    pub(super) context: *mut c_void,
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
pub(super) fn parallelism<'a>(
    given: Option<&dw_parallelism>,
    place: &'a mut Option<Foreign>,
) -> Result<Parallelism<'a>, Failure> {
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
