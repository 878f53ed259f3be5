//! Intel Emerald Rapids: a shared cache far from each core.

use depthwise_kernels::Isa;

use super::generic::UNMEASURED;
use super::{AcrossLines, Machine, SmallTiles, Strips, Vast};

/// Rows of a strip: 010. Its shared cache: 071. Which kernel: 088.
pub(super) static EMERALD_RAPIDS: Machine = Machine {
    name: "emerald-rapids",
    isas: &[Isa::Portable, Isa::Avx2, Isa::Avx512],
    own_cache: 2 << 20,
    read_shared: 1.0,
    write_shared: 1.0,
    distant_cache: true,
    strip_rows: [4, 7],
    strips: [Strips::ALWAYS; 2],
    turns_from: Some(0),
    small_tiles: [
        SmallTiles { bytes: 1100 << 10, channels: 320 },
        SmallTiles { bytes: 1434 << 10, channels: usize::MAX },
    ],
    left_to_avx2: [[8, 24], [0; 2], [0; 2]],
    across_lines: Some(AcrossLines { turns: usize::MAX, tiles: ([1, 0], 0), strips: 65 }),
    rolls_but: Some(Vast { columns: 36, bytes: 1 << 20 }),
    ..UNMEASURED
};
