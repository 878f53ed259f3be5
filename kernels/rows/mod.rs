//! The rows of the table, a file for each instruction set: which algorithms are compiled for it, in which sizes, and what registers
//! these take. Order means nothing.

#[cfg(isa = "avx2")]
pub(crate) mod avx2;
#[cfg(isa = "avx512")]
pub(crate) mod avx512;
#[cfg(isa = "neon")]
pub(crate) mod neon;
pub(crate) mod portable;

/// What the rows' files are written with.
mod prelude {
    pub(super) use super::{columns, family, rows};
    pub(super) use crate::depthwise::window::*;
    pub(super) use crate::depthwise::{nchw, nhwc};
    pub(super) use crate::pointwise::nchw_channels::Channels;
    pub(super) use crate::pointwise::nhwc::{Column, Columns, RunColumn, column};
    pub(super) use crate::pointwise::{self, PointwiseArgs};
    pub(super) use crate::simd::Simd;
    pub(super) use crate::table::{Algorithm, Family, Kernel, Named, Spills};
}

/// Rows: an entry point for each algorithm, compiled with the instruction set's features.
macro_rules! rows {
    ($token:ident, $features:meta, [$($(#[$condition:meta])? $algorithm:ty),* $(,)?]) => {
        &[$($(#[$condition])? {
            // A module of its own, lest the compiler take all kernels of a family for one unit, and so one thread to generate them.
            mod code {
                use super::*;

                /// # Safety
                /// As [`Kernel::entry`].
                #[$features]
                pub(crate) unsafe fn entry(args: &<$algorithm as Algorithm<$token>>::Args) {
                    $crate::memory::align_frame();
                    let token = $token::assume();
                    // SAFETY: the caller's.
                    unsafe { <$algorithm as Algorithm<$token>>::run(token, args) }
                }
            }
            Kernel { info: Named::<$token, $algorithm>::INFO, entry: code::entry }
        }),*]
    };
}
use rows;

/// The code of columns of pointwise tiles, channels last, as high as their place in the list says.
macro_rules! columns {
    ($token:ident, $features:meta, [$($height:literal)*]) => {{
        const HEIGHTS: &[usize] = &[$($height),*];
        const _: () = {
            let mut i = 0;
            while i < HEIGHTS.len() {
                assert!(HEIGHTS[i] == i + 1);
                i += 1;
            }
        };
        &[$({
            mod code {
                use super::*;

                /// # Safety
                /// As [`RunColumn`].
                #[$features]
                pub(crate) unsafe fn run(c: &Column, args: &PointwiseArgs) {
                    $crate::memory::align_frame();
                    let token = $token::assume();
                    // SAFETY: the caller's.
                    unsafe { column::<$token, $height>(token, c, args) }
                }
            }
            code::run as RunColumn
        }),*]
    }};
}
use columns;

/// What all kernels of an instruction set share, without its rows. `$chains`: the independent multiply-adds that hide their latency.
macro_rules! family {
    ($token:ident, $features:meta, $chains:literal) => {{
        // As [`Family`] says of each.
        #[$features]
        unsafe fn activate(curve: $crate::epilogue::Curve, p: *mut f32, n: usize) {
            let token = $token::assume();
            // SAFETY: the caller's.
            unsafe { $crate::epilogue::sweep::sweep(token, curve, p, n) }
        }
        #[$features]
        unsafe fn multiply_adds(rounds: usize) -> (usize, f32) {
            $crate::probe::multiply_adds::<$token, $chains>($token::assume(), rounds)
        }
        #[$features]
        unsafe fn read(data: &[f32], times: usize) -> f32 {
            $crate::probe::read::<$token, $chains>($token::assume(), data, times)
        }
        Family {
            isa: <$token as Simd>::ISA,
            depthwise: &[],
            pointwise: &[],
            columns: &[],
            half_lanes: <<$token as Simd>::Half as Simd>::LANES,
            activate,
            #[cfg(feature = "half")]
            conversions: $token::conversions,
            peak: multiply_adds,
            read,
        }
    }};
}
use family;
