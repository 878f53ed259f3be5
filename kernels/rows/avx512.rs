//! The rows of AVX-512.
//!
//! Register budgets (accumulators + inputs + weight), thirty or little more, or LLVM spills:
//!
//! * depthwise channels last: tiles are seven wide, which divides the maps of the usual networks
//!   (112, 56, 28, 14, 7). 3×3 rolls, at stride 1 with three rows held: 21 + 7 + 1; at stride 2 with two: 14 + 14 + 1, of which
//!   LLVM spills some. Where pixels share cache sets, tiles of 2×7 and, at stride 2, 2×2. On Zen 4 channels take turns, at
//!   stride 2 as at stride 2 above, at stride 1 with three columns: 9 + 3 + 1. Wider windows as 2×7, of whose inputs
//!   a stride's columns are held: 14 + 7 or, at stride 2, 14 + 14, + 1 + 1. Of maps that come from afar 2×2, and of maps four columns
//!   wide 7×7 at stride 2 as 2×4.
//! * depthwise channels last, any window from a buffer: 2×4, 8 + 1 + 2 weights.
//! * depthwise channels first: four rows by two vectors: 8 + 2·K + weights as far as they fit. 5×5, 7×7, all at
//!   stride 2 and, on Zen 4, 3×3 and dilated columns roll, with K rows held, or half as many: at stride 1 2·K + 2·K + 1, at
//!   stride 2 K + 1 + 2·K + 1 and, but for 7×7, up to seven of the next row. Rows of up to eight columns, two to a vector: 4 + 2·K.
//! * pointwise channels last 14×32: 28 + 2 + 1, at a tile's end 28 + 4 with factors from memory. The last eight channels
//!   as 14×8 of AVX2's vectors, 14 + 1 + 1, or joined with whole vectors as 10×40, 25 + 3 + 3, and 14×24, 21 + 2 + 3.
//! * pointwise channels first 8×32, since channels are multiples of eight in most networks, and 8×48 with a pixel: 24 + 3 + 1
//!   and 1 + 1 + 1.

use super::prelude::*;
use crate::arch::avx512::Avx512;
#[cfg(feature = "half")]
use half::{bf16, f16};

pub(crate) static FAMILY: Family = Family {
    depthwise: rows!(
        Avx512,
        target_feature(enable = "avx512f"),
        [
            nhwc::Tile<f32, K3S1, 2, 7>,
            nhwc::Tile<f32, K3S1, 2, 2>,
            nhwc::Tile<f32, K3S2, 2, 2>,
            nhwc::Tile<f32, K5S1, 2, 7>,
            nhwc::Tile<f32, K5S2, 2, 7>,
            nhwc::Tile<f32, K7S1, 2, 7>,
            nhwc::Tile<f32, K7S2, 2, 7>,
            nhwc::Tile<f32, K7S2, 2, 4>,
            nhwc::Rolling<f32, K3S1, 3, 7>,
            // Thirty-two registers are too few for what LLVM loads ahead.
            Spills<35, nhwc::Rolling<f32, K3S2, 2, 7>>,
            nhwc::RollingBehind<K3S1, 3, 7>,
            nhwc::InTurns<f32, K3S1, 3, 3>,
            nhwc::InTurns<f32, K3S2, 2, 7>,
            nhwc::Any<8>,
            nhwc::Buffered<2, 4>,
            nchw::Tile<K3S1, nchw::Picked, 4, 2>,
            nchw::Tile<K3S1, nchw::Picked, 7, 1>,
            nchw::Rolling<K3S1, nchw::Picked>,
            nchw::Pairs<K3S1>,
            nchw::Rolling<K3S2, nchw::Picked>,
            nchw::Pairs<K3S2>,
            // The masks of five loads a row for each vector, and addresses.
            Spills<55, nchw::Tile<K5S1, nchw::Loaded, 4, 2>>,
            nchw::Tile<K5S1, nchw::Loaded, 7, 1>,
            nchw::Rolling<K5S1, nchw::Picked>,
            Spills<20, nchw::Pairs<K5S1>>,
            nchw::Rolling<K5S2, nchw::Picked>,
            Spills<40, nchw::Pairs<K5S2>>,
            nchw::Tile<K7S1, nchw::Loaded, 4, 2>,
            nchw::Tile<K7S1, nchw::Loaded, 7, 1>,
            nchw::Rolling<K7S1, nchw::Picked>,
            nchw::Pairs<K7S1>,
            nchw::Rolling<K7S2, nchw::Picked>,
            nchw::Pairs<K7S2>,
            nchw::Copied<4, 8>,
            nchw::Any<4>,
            // Of part of a vector, elements of 16 bits are loaded one by one.
            #[cfg(feature = "half")]
            Spills<145, nhwc::InTurns<bf16, K3S1, 3, 3>>,
            #[cfg(feature = "half")]
            nhwc::InTurns<bf16, K3S2, 2, 7>,
            #[cfg(feature = "half")]
            nhwc::InTurns<f16, K3S1, 3, 3>,
            #[cfg(feature = "half")]
            Spills<40, nhwc::InTurns<f16, K3S2, 2, 7>>,
        ]
    ),
    pointwise: rows!(
        Avx512,
        target_feature(enable = "avx512f"),
        [pointwise::nhwc::Tile<14>, pointwise::nhwc::Joined<14, 10>, pointwise::nchw::Tile<8>, Spills<2, pointwise::nchw::Tile<14>>, Channels<8, 1, 6>, Channels<14, 1, 6>]
    ),
    series: Avx512::SERIES,
    #[cfg(feature = "int8")]
    elementwise: int8::elementwise::elementwise!(
        target_feature(enable = "avx512f"),
        crate::arch::look_up::x86_64::avx2
    ),
    ..family!(Avx512, target_feature(enable = "avx512f"), 12)
};

impl HasSeries for Avx512 {
    const SERIES: &'static [RunSeries] =
        series!(Avx512, target_feature(enable = "avx512f"), [1 2 3 4 5 6 7 8 9 10 11 12 13 14]);
}
