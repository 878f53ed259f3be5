//! The rows of the table, a file for each instruction set: which algorithms are compiled for it, in which sizes, and what registers
//! these take. Order means nothing.

#[cfg(isa = "avx2")]
pub(crate) mod avx2;
#[cfg(isa = "avx512")]
pub(crate) mod avx512;
#[cfg(all(feature = "int8", isa = "avx512"))]
pub(crate) mod avx512vnni;
#[cfg(isa = "neon")]
pub(crate) mod neon;
pub(crate) mod portable;

/// What the rows' files are written with.
mod prelude {
    #[cfg(feature = "int8")]
    pub(super) use super::products;
    pub(super) use super::{family, rows, series};
    pub(super) use crate::depthwise::window::*;
    pub(super) use crate::depthwise::{nchw, nhwc};
    #[cfg(feature = "int8")]
    pub(super) use crate::int8::{self, stage::Packing};
    pub(super) use crate::pointwise::nchw_channels::Channels;
    pub(super) use crate::pointwise::nhwc::{HasSeries, RunSeries, Series, run_series};
    pub(super) use crate::pointwise::{self, PointwiseArgs};
    pub(super) use crate::simd::Simd;
    #[cfg(feature = "int8")]
    pub(super) use crate::table::Int8;
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
                /// 1. As [`Kernel::entry`].
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

/// The code of series of pointwise tiles, channels last, as high as their place in the list says.
macro_rules! series {
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
                /// 1. 2. As [`RunSeries`].
                #[$features]
                pub(crate) unsafe fn run(c: &Series, args: &PointwiseArgs) {
                    $crate::memory::align_frame();
                    let token = $token::assume();
                    // SAFETY: the caller's.
                    unsafe { run_series::<$token, $height>(token, c, args) }
                }
            }
            code::run as RunSeries
        }),*]
    }};
}
use series;

/// An instruction set's products of 8 bits, of which so many hide their latency.
#[cfg(feature = "int8")]
macro_rules! products {
    ($token:ident, $features:meta, $chains:literal) => {{
        // As [`Int8`] says.
        #[$features]
        unsafe fn products(rounds: usize) -> (usize, i32) {
            $crate::probe::products::<$token, $chains>($token::assume(), rounds)
        }
        products
    }};
}
#[cfg(feature = "int8")]
use products;

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
            #[cfg(feature = "int8")]
            int8: Int8 {
                depthwise: &[],
                pointwise: &[],
                packing: $crate::int8::stage::Packing::of::<$crate::arch::portable::Portable>(),
                peak: |_| (0, 0),
            },
            series: &[],
            #[cfg(feature = "int8")]
            elementwise: $crate::int8::elementwise::elementwise!($features),
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
