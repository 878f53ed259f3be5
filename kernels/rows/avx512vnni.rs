//! The rows of AVX-512 VNNI, for tensors of 8 bits.
//!
//! Register budgets (accumulators + inputs + weights):
//!
//! * pointwise 6×64: 24 + 1 + 4;
//! * depthwise from rows side by side, of a vector of channels at a time: 3×3 at stride 1 two rows of four, 8 + 1 + 2, beside 16 that are
//!   rounded; at stride 2 one of four; any window four of four, 16 + 1 + 4, two of four, or one of seven.

use super::prelude::*;
use crate::arch::avx512::Avx512;
use crate::arch::avx512vnni::Avx512Vnni;
use crate::types::Isa;

pub(crate) static FAMILY: Family = Family {
    isa: Isa::Avx512Vnni,
    int8: Int8 {
        depthwise: rows!(
            Avx512Vnni,
            target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni"),
            [
                Spills<30, int8::interleaved::Interleaved<2, 4, 3, 1>>,
                Spills<25, int8::interleaved::Interleaved<1, 4, 3, 2>>,
                int8::interleaved::Interleaved<4, 4>,
                int8::interleaved::Interleaved<2, 4>,
                int8::interleaved::Interleaved<1, 7>,
            ]
        ),
        pointwise: rows!(
            Avx512Vnni,
            target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni"),
            [int8::pointwise::Tile]
        ),
        packing: Packing::of::<Avx512Vnni>(),
        peak: products!(Avx512Vnni, target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni"), 12),
    },
    elementwise: int8::elementwise::elementwise!(
        target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni"),
        crate::arch::look_up::x86_64::avx512
    ),
    ..family!(Avx512, target_feature(enable = "avx512f"), 12)
};
