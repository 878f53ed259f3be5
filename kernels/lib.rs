//! The micro-kernels of [`depthwise`](https://docs.rs/depthwise): all of its `unsafe` code. Depend on `depthwise`, not on this package, whose
//! interface changes with it.
//!
//! * `types`: the words that the rest is written in; `memory`: checked tensors and aligned buffers;
//! * `simd`: the vector operations; `arch`: one instruction set each;
//! * `depthwise`, `pointwise`: the algorithms, written once, a folder for each operation and layout; `epilogue`: what becomes of a
//!   finished sum;
//! * `int8`: the same with tensors of 8 bits;
//! * `convert`: other types of elements as `f32`, and back;
//! * `rows`: which algorithms are compiled for an instruction set, a file each; `table`: all rows;
//! * `stage`: packed weights with the kernel that they were packed for, the one place where a kernel is called;
//! * `probe`: the rates that no kernel exceeds.
//!
//! A kernel runs only through a stage, a stage is built only from an [`Available`] kernel, and that
//! exists only where the CPU was found to have the instruction set.

#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_docs, clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]
// Kernels name their loop variables after the axes, and index several arrays with one of them.
#![allow(clippy::needless_range_loop)]

extern crate alloc;

mod arch;
mod convert;
mod depthwise;
mod epilogue;
mod info;
#[cfg(feature = "int8")]
mod int8;
mod memory;
mod pointwise;
mod probe;
mod rows;
mod simd;
mod stage;
mod table;
mod types;

pub use self::convert::{Converter, elements_of};
pub use self::depthwise::{DepthwiseTuning, MOST_STRIP_ROWS};
pub use self::info::{Form, KernelInfo, Operation};
#[cfg(feature = "int8")]
pub use self::int8::{
    copy::copy,
    elementwise::{Elementwise, Numbers, SumFactors},
    finish::{Ends, Fixed, Scaling},
    stage::{
        Input, Int8DepthwiseStage, Int8PointwiseStage, Integer, Output, Parameters, Stored, bytes_of, fits_int8,
        int8_steps, multiplies_wide, sums_of,
    },
};
pub use self::memory::{AlignedBuf, TensorView, TensorViewMut};
pub use self::stage::{DepthwiseStage, PointwiseStage, copies_beside, fits, packed_channels};
pub use self::table::{Available, available, inner_loops, table};
pub use self::types::*;
#[cfg(feature = "half")]
pub use half::{bf16, f16};

use self::table::Family;

impl Activation {
    /// Applies it to each element, as a convolution does to its outputs: for what an engine computes beside them.
    ///
    /// ```
    /// let mut data = [-1.0, 0.5, 9.0];
    /// depthwise::Activation::Relu6.apply(&mut data);
    /// assert_eq!(data, [0.0, 0.5, 6.0]);
    /// ```
    pub fn apply(self, data: &mut [f32]) {
        let epilogue::Epilogue { min, max, curve } = epilogue::Epilogue::of(self);
        if epilogue::clamps(min, max) {
            for x in &mut *data {
                // NaN stays, and so does −0 at a bound of +0.
                let y = if min > *x { min } else { *x };
                *x = if max < y { max } else { y };
            }
        }
        if let Some(curve) = curve {
            let family = Family::available(Isa::detect()).unwrap_or(&rows::portable::FAMILY);
            // SAFETY: 1. the CPU has the instruction set. 2. They are the slice's.
            unsafe { (family.activate)(curve, data.as_mut_ptr(), data.len()) }
        }
    }
}

/// Does `rounds` rounds of independent multiply-adds with an available instruction set's vectors.
/// Returns the floating-point operations done, and a result that must not be optimised away.
#[cfg(feature = "std")]
pub(crate) fn multiply_adds(isa: Isa, rounds: usize) -> Option<(usize, f32)> {
    let family = Family::available(isa)?;
    // SAFETY: the CPU has the instruction set.
    let (operations, result) = unsafe { (family.peak)(rounds) };
    Some((operations * rounds, result))
}

/// Does `rounds` rounds of independent products of 8 bits with an available instruction set's vectors. Returns the operations done, and a
/// sum.
#[cfg(all(feature = "int8", feature = "std"))]
pub(crate) fn products(isa: Isa, rounds: usize) -> Option<(usize, i32)> {
    let family = Family::available(isa)?;
    // SAFETY: the CPU has the instruction set.
    let (operations, sum) = unsafe { (family.int8.peak)(rounds) };
    Some((operations * rounds, sum))
}

/// Reads `data` that many times with an available instruction set's vectors; returns the sum.
#[cfg(feature = "std")]
pub(crate) fn read(isa: Isa, data: &[f32], times: usize) -> Option<f32> {
    let family = Family::available(isa)?;
    // SAFETY: the CPU has the instruction set.
    Some(unsafe { (family.read)(data, times) })
}
