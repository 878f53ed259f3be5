//! Convolutions of [candle](https://crates.io/crates/candle-core) models on CPUs, computed by
//! [`depthwise`](https://crates.io/crates/depthwise): modules with the names and calls of `candle_nn`.
//!
//! ```text
//! - use candle_nn::{conv2d, Conv2d, Conv2dConfig};
//! + use candle_nn::Conv2dConfig;
//! + use depthwise_candle::{conv2d, Conv2d};
//! ```
//!
//! | here                                     | in place of                                                        |
//! |------------------------------------------|--------------------------------------------------------------------|
//! | [`Conv2d`], [`conv2d`], [`conv2d_no_bias`] | those of `candle_nn`                                             |
//! | [`Conv1d`], [`conv1d`], [`conv1d_no_bias`] | those of `candle_nn`                                             |
//! | `with_activation`, `absorb_bn`           | an activation or a batch norm after the convolution                |
//! | `forward_with_residual`                  | a sum after the convolution, before its activation                 |
//! | [`SeparableConv2d`]                      | a depthwise convolution and the pointwise one after it             |
//! | `with_layout(Layout::Nhwc)`              | nothing: channels last in memory between layers, under candle's shapes |
//!
//! What no plan can compute, candle computes, as if this crate were not there: groups that are neither one nor one for each channel,
//! elements other than `f32` (with the feature `half`, `f16` and `bf16` too), devices other than the CPU, and whatever gradients are
//! asked for. [`Conv2d::fallback`] says why a layer is left to candle.
//!
//! Work is shared by the threads of `rayon`'s current pool, as candle does it. The number of threads changes no bit of a result.

#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

mod activation;
mod conv;
mod plan;
mod separable;

pub use activation::Activation;
pub use conv::{Conv1d, Conv2d, conv1d, conv1d_no_bias, conv2d, conv2d_no_bias};
#[doc(no_inline)]
pub use depthwise::Layout;
pub use separable::SeparableConv2d;

/// README's code, to be tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;
