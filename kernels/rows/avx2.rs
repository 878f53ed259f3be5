//! The rows of AVX2.
//!
//! Register budgets (accumulators + inputs + weight), fifteen at most or LLVM spills:
//!
//! * depthwise channels last: 2×4, eight accumulators, which just hide the latency of two pipes of four
//!   cycles, and of the inputs those that the next taps need: 8 + 4 + 1 at stride 1, 8 + 4 + 4 at most at
//!   stride 2. Of 3×3, which it writes out, LLVM loads more ahead, and spills. Where pixels share cache sets, 3×3 takes turns, at
//!   stride 1 with three rows of three held, 9 + 3 + 1, at stride 2 with two of four, 8 + 4 + 1. 5×5 rolls where that is the
//!   faster: at stride 1 with five rows of two held, 10 + 2 + 1; at stride 2 with three of three, 9 + 3 + 1.
//! * depthwise channels last, any window from a buffer: 2×4, 8 + 1 + 2 weights.
//! * depthwise channels first: four rows by two vectors, weights broadcast from memory, inputs spilled.
//! * pointwise 6×16: 12 + 2 + 1.
//! * of 8 bits, pointwise 6×16: 12 + 2 + 1 + 1 for products; depthwise from rows side by side, of a vector of channels at a time, two rows of four, 8 + 1 + 2 + 1, or one
//!   of seven, 7 + 1 + 1 + 1.

use super::prelude::*;
use crate::arch::avx2::Avx2;

pub(crate) static FAMILY: Family = Family {
    depthwise: rows!(
        Avx2,
        target_feature(enable = "avx2,fma"),
        [
            nhwc::Tile<f32, K3S1, 2, 2>,
            // Loops over rows do not spill here, but take longer.
            Spills<35, nhwc::Tile<f32, K3S1, 2, 4>>,
            Spills<30, nhwc::Tile<f32, K3S2, 2, 2>>,
            Spills<50, nhwc::Tile<f32, K3S2, 2, 4>>,
            nhwc::Tile<f32, K5S1, 2, 4>,
            nhwc::Tile<f32, K5S2, 2, 4>,
            nhwc::Tile<f32, K7S1, 2, 4>,
            nhwc::Tile<f32, K7S2, 2, 4>,
            // Strips' first and last rows: the loops between hardly do.
            Spills<90, nhwc::Rolling<f32, K5S1, 5, 2>>,
            Spills<45, nhwc::Rolling<f32, K5S2, 3, 3>>,
            // The buffer that sums wait in, and an input or two.
            Spills<25, nhwc::InTurns<f32, K3S1, 3, 3>>,
            Spills<25, nhwc::InTurns<f32, K3S2, 2, 4>>,
            nhwc::Any<8>,
            nhwc::Buffered<2, 4>,
            // Registers are too few for a row of inputs or all weights, which LLVM hoists.
            Spills<115, nchw::Tile<K3S1, nchw::Loaded, 4, 2>>,
            Spills<130, nchw::Tile<K3S2, nchw::Loaded, 4, 2>>,
            Spills<80, nchw::Tile<K5S1, nchw::Loaded, 4, 2>>,
            Spills<80, nchw::Tile<K5S2, nchw::Loaded, 4, 2>>,
            Spills<120, nchw::Tile<K7S1, nchw::Loaded, 4, 2>>,
            Spills<100, nchw::Tile<K7S2, nchw::Loaded, 2, 2>>,
            Spills<60, nchw::Tile<K3S1, nchw::Loaded, 7, 1>>,
            nchw::Tile<K3S2, nchw::Loaded, 7, 1>,
            Spills<35, nchw::Tile<K5S1, nchw::Loaded, 7, 1>>,
            nchw::Tile<K5S2, nchw::Loaded, 7, 1>,
            Spills<60, nchw::Tile<K7S1, nchw::Loaded, 7, 1>>,
            nchw::Tile<K7S2, nchw::Loaded, 7, 1>,
            nchw::Copied<4, 8>,
            nchw::Any<4>,
        ]
    ),
    pointwise: rows!(
        Avx2,
        target_feature(enable = "avx2,fma"),
        [pointwise::nhwc::Tile<6>, pointwise::nchw::Tile<4>, pointwise::nchw::Tile<6>, Channels<4, 1, 6>, Channels<6, 1, 6>]
    ),
    #[cfg(feature = "int8")]
    int8: Int8 {
        depthwise: rows!(
            Avx2,
            target_feature(enable = "avx2,fma"),
            [
                Spills<25, int8::interleaved::Interleaved<2, 4, 3, 1>>,
                Spills<15, int8::interleaved::Interleaved<1, 4, 3, 2>>,
                int8::interleaved::Interleaved<2, 4>,
                int8::interleaved::Interleaved<1, 7>,
                int8::depthwise::Any,
            ]
        ),
        pointwise: rows!(Avx2, target_feature(enable = "avx2,fma"), [int8::pointwise::Widened]),
        packing: Packing::of::<Avx2>().with_taps::<Avx2>(),
        peak: products!(Avx2, target_feature(enable = "avx2,fma"), 12),
    },
    series: Avx2::SERIES,
    #[cfg(feature = "int8")]
    elementwise: int8::elementwise::elementwise!(
        target_feature(enable = "avx2,fma"),
        crate::arch::look_up::x86_64::avx2
    ),
    ..family!(Avx2, target_feature(enable = "avx2,fma"), 12)
};

impl HasSeries for Avx2 {
    const SERIES: &'static [RunSeries] = series!(Avx2, target_feature(enable = "avx2,fma"), [1 2 3 4 5 6]);
}
