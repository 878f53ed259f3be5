//! The C interface of [`depthwise`](depthwise_core). `include/depthwise.h` is made from this crate, and `README.md` says how to use it.
//!
//! All unsafe code is in `border`: what C gives is checked there, and becomes slices and references. The rest is safe.

#![deny(unsafe_code, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks, clippy::multiple_unsafe_ops_per_block)]
#![warn(missing_docs)]

#[allow(unsafe_code, reason = "functions that C calls")]
mod border;
mod failure;
mod plan;
mod types;
mod value;
