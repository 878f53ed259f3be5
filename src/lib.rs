//! Depthwise separable convolution on CPUs: a K×K filter for each channel, then a 1×1 convolution that mixes the channels.
//!
//! ```text
//! z[i,j,c] = Σ_u Σ_v x[i·s + u·d − p, j·s + v·d − p, c] · D[u,v,c]    (+ bias, activation)
//! y[i,j,k] = Σ_c z[i,j,c] · P[c,k] + b[k]                             (+ residual, activation)
//! ```
//!
//! Here x is the input, D and P are the weights of the two stages, s is the stride, d the dilation, p the padding. The crate
//! computes both stages at once or each alone, and standard convolution too, in `f32`. It works on borrowed slices, brings no
//! tensor type of its own, and leaves threads and memory to the caller. Its kernels are written for AVX2, AVX-512 and NEON; a
//! portable one runs on any other CPU.
//!
//! # A first example
//!
//! Describe the convolution, build a plan once, run it often:
//!
//! ```
//! use depthwise::{Activation, Layout, Run, SeparableConv2d, Shape, TensorView, TensorViewMut, Workspace};
//!
//! // 3×3, stride 1, padding 1, from 4 to 2 channels; weights in PyTorch's order.
//! let plan = SeparableConv2d::builder(4, 2)
//!     .layout(Layout::Nhwc)
//!     .depthwise_weights(&[1.0; 4 * 3 * 3])
//!     .depthwise_activation(Activation::Relu6)
//!     .pointwise_weights(&[0.25; 2 * 4])
//!     .bias(&[0.0, 2.0])
//!     .build()?;
//!
//! let shape = Shape::new(1, 4, 3, 3); // batch, channels, height, width, in either layout
//! let (input, mut output) = ([0.5; 36], [0.0; 18]);
//! plan.run(Run::new(
//!     TensorView::new(&input, shape, Layout::Nhwc)?,
//!     TensorViewMut::new(&mut output, plan.output_shape(shape)?, Layout::Nhwc)?,
//!     &mut Workspace::new(),
//! ))?;
//! assert_eq!(output[..2], [2.0, 4.0]); // both channels of the first pixel
//! # Ok::<(), depthwise::Error>(())
//! ```
//!
//! # The types
//!
//! A plan is one convolution with its weights, ready to run. It fits any batch, height and width, and threads can share it.
//!
//! | plan                | computes                                      |
//! |---------------------|-----------------------------------------------|
//! | [`SeparableConv2d`] | a depthwise and then a pointwise convolution  |
//! | [`DepthwiseConv2d`] | K×K, each channel by itself                   |
//! | [`PointwiseConv2d`] | 1×1, over all channels                        |
//! | [`Conv2d`]          | K×K, over all channels: standard convolution  |
//! | [`AnyConv2d`]       | one of these three, by its number of groups   |
//!
//! * To describe one: [`Padding`], [`Activation`], [`BatchNorm`], [`WeightOrder`], [`Layout`], [`Fusion`].
//! * To run it: [`Shape`], [`TensorView`] and [`TensorViewMut`] with their [`Strides`] say where tensors lie, a [`Workspace`]
//!   is memory to use again, [`Parallelism`] says who works; a [`Run`] is all of these. Threads of your own share a run as an
//!   [`Executor`], or by [`parts`](SeparableConv2d::parts) and [`range`](Run::range), an [`OutputRange`] to be computed.
//! * To hold plans of any kind: [`Convolution`], a trait of all of them.
//! * To look into it: [`Isa`] is an instruction set, [`Choice`] what runs on inputs of one shape do, [`Description`] its kernels,
//!   [`kernels()`] the table of kernels, [`Cost`] what a run has to do; [`compare`] sets a separable beside a standard convolution.
//! * Tensors have elements of `f32`, or with the feature `half` of `f16` and `bf16`: [`Element`], [`ElementType`]. [`widen`] and
//!   [`narrow`] convert slices.
//! * What is wrong, in a sentence with the numbers that disagree: [`Error`].
//!
//! # Guarantees
//!
//! * AVX2, AVX-512 and NEON give the same bits, with any number of threads, layout, batch and split, fused or in two passes.
//!   The portable kernels round each product and each sum, so their bits are others, but the same on every CPU.
//! * No byte outside the slices is read or written. `unsafe` is in the folder `kernels` alone.
//! * Bad input is an [`Error`], not a panic.
//! * NaN propagates, nothing is flushed to zero, and a tap on padding is multiplied by +0.0.
//! * A run allocates nothing once its workspace is large enough, and starts no thread. With `Parallelism::Rayon` this holds
//!   inside a pool, with `Parallelism::Executor` as far as the executor does so.
//!
//! # Choosing an instruction set
//!
//! A plan takes the best that the CPU has. A builder's `isa`, as in `.isa(Isa::Avx2)`, or else the environment variable
//! `DEPTHWISE_ISA` (`portable`, `avx2`, `avx512` or `neon`) forces one. One that the CPU lacks is an error, never a silent
//! change. [`SeparableConv2d::prepare`] says which kernels a plan takes for an input's
//! shape.
//!
//! # Features
//!
//! * `std` (default): CPU detection at run time, `DEPTHWISE_ISA`, `Parallelism::Executor`, a workspace for each thread, `tune`, and the
//!   rates that [`Isa`] measures. Without it the crate is `no_std` with `alloc`, and uses the instruction sets that the compiler was
//!   told of (`-C target-cpu=…`).
//! * `rayon` (default): `Parallelism::Rayon`, which runs on the current `rayon` pool.
//! * `half`: tensors of `f16` and `bf16`, by a builder's `build_as`. Plans compute with `f32`, and round once what they store.
//! * `int8`: the module `int8`, plans for tensors of 8 bits.
//! * `ndarray`: views of the arrays of `ndarray` 0.17, by `TensorView::from_ndarray` and `TensorViewMut::from_ndarray`.
//!
//! The minimum supported Rust version is 1.89. It is raised only with a new minor version.
//!
//! The package has more to read: `README.md`, and in its folder `docs` a guide with examples, and pages on numerics, on
//! performance, and on errors and what to do.

#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_docs, unreachable_pub)]

extern crate alloc;

mod api;
mod choose;
mod cost;
mod geometry;
#[cfg(feature = "int8")]
pub mod int8;
mod machine;
mod run;

pub use api::builder::{
    AnyConv2dBuilder, Conv2dBuilder, DepthwiseConv2dBuilder, PointwiseConv2dBuilder, SeparableConv2dBuilder,
};
pub use api::elements::{narrow, widen};
pub use api::plan::{AnyConv2d, Conv2d, Convolution, DepthwiseConv2d, PointwiseConv2d, SeparableConv2d};
pub use api::weights::{BatchNorm, WeightOrder};
pub use choose::choice::{Choice, Description};
pub use choose::descriptor::Fusion;
#[doc(hidden)]
pub use choose::descriptor::Schedule;
pub use cost::{Comparison, Cost, compare};
#[doc(inline)]
pub use depthwise_kernels::{
    Activation, Axis, Error, Form, Isa, KernelInfo, Layout, Operation, OutputRange, Shape, Strides, TensorView,
    TensorViewMut,
};
#[doc(inline)]
pub use depthwise_kernels::{Element, ElementType};
#[doc(hidden)]
pub use depthwise_kernels::{Taps, packed_channels};
#[cfg(feature = "half")]
pub use depthwise_kernels::{bf16, f16};
pub use geometry::Padding;
pub use machine::Machine;
pub use run::arguments::Run;
#[cfg(feature = "std")]
pub use run::executor::Executor;
pub use run::threads::Parallelism;
pub use run::workspace::Workspace;

/// The one table of kernels: every kernel of this target, whether or not this CPU has its instruction set.
pub fn kernels() -> impl Iterator<Item = KernelInfo> {
    depthwise_kernels::table().copied()
}

/// Where the machine code of the inner loops of each kernel of the table starts: for the check of it in `tests/codegen/`.
#[doc(hidden)]
pub fn kernel_code() -> impl Iterator<Item = (KernelInfo, *const ())> {
    depthwise_kernels::inner_loops()
}

/// README's code, to be tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeDoctests;

/// The guide's code, to be tested.
#[cfg(doctest)]
#[doc = include_str!("../docs/guide.md")]
struct GuideDoctests;
