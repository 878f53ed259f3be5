#![doc = include_str!("../README.md")]
#![cfg_attr(not(feature = "std"), no_std)]
#![deny(unsafe_code)]
#![warn(missing_docs, unreachable_pub, clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]

extern crate alloc;

mod activation;
mod builder;
mod choose;
mod cost;
mod descriptor;
mod engine;
mod error;
mod gather;
mod geometry;
mod machine;
#[cfg(feature = "std")]
mod peak;
mod plan;
mod schedule;
mod tensor;
mod weights;
mod workspace;

#[allow(unsafe_code)]
#[path = "../kernels/mod.rs"]
mod kernels;

pub use activation::Activation;
pub use builder::{Conv2dBuilder, DepthwiseConv2dBuilder, PointwiseConv2dBuilder, SeparableConv2dBuilder};
pub use cost::{Comparison, Cost, compare};
#[doc(hidden)]
pub use descriptor::Schedule;
pub use descriptor::{Description, Fusion};
pub use error::Error;
pub use geometry::Padding;
pub use kernels::isa::Isa;
pub use kernels::{Form, KernelInfo, Operation};
#[doc(hidden)]
pub use machine::Machine;
pub use plan::{Conv2d, DepthwiseConv2d, PointwiseConv2d, SeparableConv2d};
pub use schedule::{OutputRange, Parallelism};
pub use tensor::{Axis, Layout, Shape, Strides, TensorView, TensorViewMut};
pub use weights::{BatchNorm, WeightOrder};
pub use workspace::Workspace;

/// The one table of kernels: every kernel of this target, whether or not this CPU has its instruction set.
pub fn kernels() -> impl Iterator<Item = KernelInfo> {
    kernels::table().map(|kernel| kernel.info)
}

/// Where the machine code of the inner loops of each kernel of the table starts: for the check of it in `tests/codegen.rs`.
#[doc(hidden)]
pub fn kernel_code() -> impl Iterator<Item = (KernelInfo, *const ())> {
    kernels::inner_loops()
}
