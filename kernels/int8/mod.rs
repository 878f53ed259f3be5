//! Tensors of 8 bits: sums of 32, exact, so in any order, and what becomes of them.
//!
//! Kernels compute with `u8`. An `i8` is the same bits with the highest one flipped, and its zero point 128 more: inputs are flipped as
//! they are loaded, outputs as they are stored. Zero points are in the bias: Σ (a − za) · w = Σ a · w − za · Σ w, where a tap on padding
//! reads za.
//!
//! * `simd`: the vector operations; `finish`: what becomes of a sum;
//! * `depthwise`, `interleaved`, `pointwise`: the algorithms; `stage`: packed weights with their kernel; `copy`: other layouts;
//! * `elementwise`: what goes element by element.
//!
//! Kernels are for channels last.

pub(crate) mod copy;
pub(crate) mod depthwise;
pub(crate) mod elementwise;
pub(crate) mod finish;
pub(crate) mod interleaved;
pub(crate) mod pointwise;
pub(crate) mod simd;
pub(crate) mod stage;

/// What an i8 and its u8 differ in.
pub(crate) const SIGN: u8 = 0x80;
