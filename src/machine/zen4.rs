//! AMD Zen 4: operations of 512 bits in halves, and a second-level cache little faster than the third.

use depthwise_kernels::Isa;

use super::generic::UNMEASURED;
use super::{AcrossLines, Machine};

/// Outputs behind: 14×14×512 20.6 µs instead of 25.5 µs. Channels first, rolling: 28×28×256 41 µs instead of 62 µs, dilated by 2 51
/// and 76 µs, but 14×14×512 dilated by 2 38 and 30 µs. Strips of 28 and 7 rows: 112×112×32 69 and 72 µs.
/// Across cache lines: 086.
pub(super) static ZEN_4: Machine = Machine {
    name: "zen4",
    isas: &[Isa::Portable, Isa::Avx2, Isa::Avx512],
    avx512_slots: 2,
    read_own: 3.0 / 8.0,
    writes_behind: true,
    across_lines: Some(AcrossLines { turns: 256, tiles: ([32, 144], 56) }),
    rolls: true,
    ..UNMEASURED
};
