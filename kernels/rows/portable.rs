//! The portable rows.
//!
//! Sixteen registers of four lanes hold four vectors of accumulators beside inputs and weights.

use super::prelude::*;
use crate::arch::portable::Portable;

pub(crate) static FAMILY: Family = Family {
    depthwise: rows!(
        Portable,
        inline,
        [
            Spills<35, nhwc::Tile<f32, K3S1, 1, 4>>,
            Spills<35, nhwc::Tile<f32, K3S2, 1, 4>>,
            // Its accumulators stay in memory.
            Spills<100, nhwc::Any<4>>,
            nhwc::Buffered<2, 2>,
            Spills<90, nchw::Tile<K3S1, nchw::Loaded, 2, 2>>,
            Spills<120, nchw::Tile<K3S2, nchw::Loaded, 2, 2>>,
            nchw::Tile<K3S1, nchw::Loaded, 7, 1>,
            nchw::Tile<K3S2, nchw::Loaded, 7, 1>,
            nchw::Copied<2, 4>,
            nchw::Any<2>,
        ]
    ),
    pointwise: rows!(Portable, inline, [pointwise::nhwc::Tile<2>, pointwise::nchw::Tile<2>, Spills<50, Channels<2, 1, 2>>]),
    #[cfg(feature = "int8")]
    int8: Int8 {
        depthwise: rows!(Portable, inline, [int8::depthwise::Any]),
        pointwise: rows!(Portable, inline, [int8::pointwise::Widened]),
        packing: Packing::of::<Portable>().with_taps::<Portable>(),
        peak: products!(Portable, inline, 4),
    },
    series: Portable::SERIES,
    ..family!(Portable, inline, 5)
};

impl HasSeries for Portable {
    const SERIES: &'static [RunSeries] = series!(Portable, inline, [1 2]);
}
