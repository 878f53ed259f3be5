//! AMD Zen 4: operations of 512 bits in halves, and a second-level cache little faster than the third.

use depthwise_kernels::Isa;

use super::generic::UNMEASURED;
use super::{AcrossLines, Machine, SmallTiles, Strips, Vast};

/// Strips: 010, 023, 027. In turns at stride 2: 024. Left to AVX2: 032. Across cache lines, and from afar: 086. Channels first: 038, 094.
pub(super) static ZEN_4: Machine = Machine {
    name: "zen4",
    isas: &[Isa::Portable, Isa::Avx2, Isa::Avx512],
    avx512_slots: 2,
    read_own: 3.0 / 8.0,
    strips: [Strips::ALWAYS, Strips::NEVER],
    turns: Some([72, usize::MAX]),
    small_tiles: [SmallTiles::NEVER, SmallTiles { bytes: (4 << 20) + 1, channels: 64, fused: 0 }],
    left_to_avx2: [[8, 24], [72, 24], [40, 24]],
    writes_behind: true,
    across_lines: Some(AcrossLines { turns: 256, tiles: ([32, 144], 56), tiles_of_parts: false, strips: usize::MAX }),
    beside: [[5, 5], [7, 7], [7, 7]],
    rolls_but: Some(Vast { columns: 96, bytes: 4 << 20 }),
    ..UNMEASURED
};
