//! What a call that failed says: a status, and a sentence for its thread.

use core::any::Any;
use core::cell::RefCell;
use core::ffi::{CStr, c_char};
use std::ffi::CString;
use std::panic::{AssertUnwindSafe, catch_unwind};

use depthwise_core::Error;

use crate::types::dw_status;

/// Why a call failed.
#[derive(Debug)]
pub struct Failure {
    pub(crate) status: dw_status,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(status: dw_status, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(dw_status::InvalidArgument, message)
    }

    pub(crate) fn null(what: &str) -> Self {
        Self::new(dw_status::NullPointer, format!("{what} is NULL"))
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let status = match error {
            Error::OutOfMemory { .. } => dw_status::OutOfMemory,
            Error::UnavailableIsa { .. } | Error::Groups { .. } => dw_status::Unsupported,
            _ => dw_status::InvalidArgument,
        };
        let message = match error {
            // The crate's sentences name methods of Rust's.
            Error::PaddingNotGiven { axis, kernel, dilation } => format!(
                "no padding was given, and along the {axis} half of it on each side is no whole number: ({kernel} - 1) * \
                 {dilation} is odd; set `padding.kind`, such as to DW_PADDING_KIND_SAME_UPPER"
            ),
            Error::Missing { what, .. } => {
                format!("{what} must be given: set `weights`, and of a separable convolution `depthwise_weights` too")
            }
            error => error.to_string(),
        };
        Self { status, message }
    }
}

thread_local! {
    static MESSAGE: RefCell<CString> = RefCell::default();
}

/// Does the work of a call. A failure and a panic become a status, and the thread's message.
pub(crate) fn guarded(work: impl FnOnce() -> Result<(), Failure>) -> dw_status {
    // What a panic leaves behind is either the call's own, or a lock, which says that it is poisoned.
    let failure = match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(())) => return dw_status::Ok,
        Ok(Err(failure)) => failure,
        Err(payload) => {
            let failure = Failure::new(dw_status::Internal, format!("a bug in depthwise: {}", sentence(&*payload)));
            // To drop it may panic in turn.
            core::mem::forget(payload);
            failure
        }
    };
    let message = CString::new(failure.message.replace('\0', " ")).unwrap_or_default();
    // A thread that ends has no place for it any more.
    let _ = MESSAGE.try_with(|place| place.replace(message));
    failure.status
}

/// What a panic says.
fn sentence(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("a panic without words")
}

/// The message of the thread's last call that failed.
pub(crate) fn message() -> *const c_char {
    const NONE: &CStr = c"";
    MESSAGE.try_with(|place| place.borrow().as_ptr()).unwrap_or(NONE.as_ptr())
}
