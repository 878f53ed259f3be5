//! AMD Zen 4: operations of 512 bits in halves, and a second-level cache little faster than the third.

use depthwise_kernels::Isa;

use super::generic::UNMEASURED;
use super::{AcrossLines, Machine, SmallTiles, Vast};

/// Outputs behind: 14×14×512 20.6 µs instead of 25.5 µs. Channels first, rolling: 28×28×256 41 µs instead of 62 µs, dilated by 2 51
/// and 76 µs, but 14×14×512 dilated by 2 38 and 30 µs. Strips of 28 and 7 rows: 112×112×32 69 and 72 µs.
/// Across cache lines: 086. In turns at stride 2: 56×56×64 11.5 µs instead of the tiles' 12.7 µs, 28×28×32 1.55 and 1.83 µs, 116
/// channels at 20×20 3.8 and 4.2 µs, but 80×80×58 40 µs and 36.5 µs.
/// Left to AVX2, 80×80: of 8 channels 3×3 takes 12.5 µs instead of 16.7 µs, at stride 2 4.4 and 9.1 µs, 5×5 25 and 49 µs; of 24 33 and
/// 36 µs, but of a map of 20×20 2.46 and 2.34 µs, at stride 2 11.5 and 14.9 µs, 5×5 76 and 96 µs; of 40 5×5 133 and 145 µs, but at
/// stride 2 45 and 41 µs.
pub(super) static ZEN_4: Machine = Machine {
    name: "zen4",
    isas: &[Isa::Portable, Isa::Avx2, Isa::Avx512],
    avx512_slots: 2,
    read_own: 3.0 / 8.0,
    turns_from: Some(72),
    small_tiles: [SmallTiles::NEVER, SmallTiles { bytes: (4 << 20) + 1, channels: 64 }],
    left_to_avx2: [[8, 24], [72, 24], [40, 24]],
    writes_behind: true,
    across_lines: Some(AcrossLines { turns: 256, tiles: ([32, 144], 56), strips: usize::MAX }),
    rolls_but: Some(Vast { columns: 96, bytes: 4 << 20 }),
    ..UNMEASURED
};
