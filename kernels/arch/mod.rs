//! The instruction sets: a token each, and its vector operations.

#[cfg(isa = "avx2")]
pub(crate) mod avx2;
#[cfg(all(feature = "int8", isa = "avx2"))]
mod avx2_int8;
#[cfg(isa = "avx512")]
pub(crate) mod avx512;
#[cfg(all(feature = "int8", isa = "avx512"))]
pub(crate) mod avx512vnni;
#[cfg(feature = "int8")]
pub(crate) mod look_up;
#[cfg(isa = "neon")]
pub(crate) mod neon;
#[cfg(all(feature = "int8", isa = "neon"))]
mod neon_int8;
pub(crate) mod portable;
#[cfg(feature = "int8")]
mod portable_int8;

/// A token's only constructor, compiled with the target features that it proves.
macro_rules! token {
    ($token:ident, $features:meta) => {
        impl $token {
            /// Only code that is compiled with the features can call this without `unsafe`.
            #[$features]
            pub(crate) fn assume() -> Self {
                $token(())
            }
        }
    };
}
use token;
