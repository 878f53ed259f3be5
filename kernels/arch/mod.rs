//! The instruction sets: a token each, and its vector operations.

#[cfg(isa = "avx2")]
pub(crate) mod avx2;
#[cfg(isa = "avx512")]
pub(crate) mod avx512;
#[cfg(isa = "neon")]
pub(crate) mod neon;
pub(crate) mod portable;

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
