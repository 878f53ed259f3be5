//! The rows of NEON.
//!
//! Register budgets (accumulators + inputs + weights), of thirty-two:
//!
//! * depthwise channels last: 3×3 at stride 1 as 2×4 with all weights held: 8 + 4 + 9, and as 2×7 where that computes fewer columns twice: 14 + 7;
//!   at stride 2 as 2×4, of which LLVM holds all weights, too: 8 + 8 + 9. Wider windows as 2×7, a weight at a time: 14 + 7, or 14 + 14.
//! * depthwise channels last, any window from a buffer: 2×8, 16 + 1 + 2 weights.
//! * depthwise channels first: four rows by two vectors, 8 + 2·K + weights as far as they fit; 3×3 and 7×7 at stride 2 two rows; 3×3 spills a little.
//! * pointwise 8×8: 16 + 8 for four channels of each pixel + 2.

use super::prelude::*;
use crate::arch::neon::Neon;

pub(crate) static FAMILY: Family = Family {
    depthwise: rows!(
        Neon,
        target_feature(enable = "neon"),
        [
            nhwc::Tile<f32, K3S1, 2, 4>,
            nhwc::Tile<f32, K3S1, 2, 7>,
            nhwc::Tile<f32, K3S2, 2, 4>,
            nhwc::Tile<f32, K5S1, 2, 7>,
            nhwc::Tile<f32, K5S2, 2, 7>,
            nhwc::Tile<f32, K7S1, 2, 7>,
            nhwc::Tile<f32, K7S2, 2, 7>,
            nhwc::Any<8>,
            nhwc::Buffered<2, 8>,
            nchw::Tile<K3S1, nchw::Loaded, 4, 2>,
            Spills<25, nchw::Tile<K3S2, nchw::Loaded, 2, 2>>,
            nchw::Tile<K5S1, nchw::Loaded, 4, 2>,
            nchw::Tile<K5S2, nchw::Loaded, 4, 2>,
            nchw::Tile<K7S1, nchw::Loaded, 4, 2>,
            nchw::Tile<K7S2, nchw::Loaded, 2, 2>,
            nchw::Tile<K3S1, nchw::Loaded, 7, 1>,
            nchw::Tile<K3S2, nchw::Loaded, 7, 1>,
            nchw::Tile<K5S1, nchw::Loaded, 7, 1>,
            nchw::Tile<K5S2, nchw::Loaded, 7, 1>,
            nchw::Tile<K7S1, nchw::Loaded, 7, 1>,
            nchw::Tile<K7S2, nchw::Loaded, 7, 1>,
            nchw::Copied<4, 8>,
            nchw::Any<4>,
        ]
    ),
    pointwise: rows!(
        Neon,
        target_feature(enable = "neon"),
        [pointwise::nhwc::Tile<8>, pointwise::nchw::Tile<8>, Channels<8, 2, 6>]
    ),
    #[cfg(feature = "int8")]
    int8: Int8 {
        depthwise: rows!(Neon, target_feature(enable = "neon"), [int8::depthwise::Any]),
        pointwise: rows!(Neon, target_feature(enable = "neon"), [int8::pointwise::Widened]),
        packing: Packing::of::<Neon>().with_taps::<Neon>(),
        peak: products!(Neon, target_feature(enable = "neon"), 12),
    },
    series: Neon::SERIES,
    #[cfg(feature = "int8")]
    elementwise: int8::elementwise::elementwise!(target_feature(enable = "neon"), crate::arch::look_up::aarch64::neon),
    ..family!(Neon, target_feature(enable = "neon"), 24)
};

impl HasSeries for Neon {
    const SERIES: &'static [RunSeries] = series!(Neon, target_feature(enable = "neon"), [1 2 3 4 5 6 7 8]);
}
