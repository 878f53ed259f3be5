//! The instruction sets: a token each, its vector operations, and its rows of the table.

#[cfg(isa = "avx2")]
pub(crate) mod avx2;
#[cfg(isa = "avx512")]
pub(crate) mod avx512;
#[cfg(isa = "neon")]
pub(crate) mod neon;
pub(crate) mod portable;
