//! Memory that kernels read and write: views that were checked once, and buffers that start on a cache line.

mod aligned;
#[cfg(feature = "ndarray")]
mod ndarray;
mod view;

pub use self::aligned::AlignedBuf;
pub(crate) use self::aligned::align_frame;
pub use self::view::{TensorView, TensorViewMut};
