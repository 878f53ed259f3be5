//! Intel Emerald Rapids: a shared cache far from each core.

use depthwise_kernels::Isa;

use super::generic::UNMEASURED;
use super::{AcrossLines, Avx2, Machine, SmallTiles, Strips, Vast};

/// Rows of a strip: 010. Its shared cache: 071. Which kernel: 088.
pub(super) static EMERALD_RAPIDS: Machine = Machine {
    name: "emerald-rapids",
    isas: &[Isa::Portable, Isa::Avx2, Isa::Avx512],
    own_cache: 2 << 20,
    read_shared: 1.0,
    write_shared: 1.0,
    distant_cache: true,
    large_block: Some([1 << 20, 1 << 20]),
    shared_cache: 1 << 20,
    strip_rows: [4, 7],
    avx2: Avx2 { turns: [512, 1], ..UNMEASURED.avx2 },
    strips: [Strips::ALWAYS; 2],
    turns: Some([0, 127]),
    small_tiles: [
        SmallTiles { bytes: 1100 << 10, channels: 320, fused: 64 },
        SmallTiles { bytes: 1434 << 10, channels: usize::MAX, fused: 0 },
    ],
    left_to_avx2: [[8, 24], [0; 2], [0; 2]],
    across_lines: Some(AcrossLines { turns: usize::MAX, tiles: ([1, 0], 0), tiles_of_parts: true, strips: 65 }),
    rolls_but: Some(Vast { columns: 36, bytes: 1 << 20 }),
    ..UNMEASURED
};
