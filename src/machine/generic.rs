//! A CPU that nobody measured, and what the other descriptions begin with.

use depthwise_kernels::Isa;

use super::{Avx2, Machine, Sharing, SmallTiles, Strips};

pub(super) static GENERIC: Machine = UNMEASURED;

/// A microsecond in the unit of prices, half a cycle, at 4 GHz.
const MICROSECOND: f64 = (1 << 13) as f64;

/// Sharing: 062 to 066 (Zen 4). Two passes: 067 (Zen 5, Emerald Rapids).
/// AVX2: 020 (5×5, Zen 3), 028 (turns, Zen 4), 031 (small tiles, Zen 5), 094 (side by side, Zen 4). AVX-512: 029, 030 (Zen 5).
pub(super) const UNMEASURED: Machine = Machine {
    name: "generic",
    isas: &[Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Neon],
    avx512_slots: 1,
    own_cache: 1 << 20,
    read_own: 1.0 / 8.0,
    read_shared: 3.0 / 8.0,
    write_shared: 1.0 / 8.0,
    sharing: Sharing {
        fork: MICROSECOND,
        level: 0.7 * MICROSECOND,
        least: 4.0 * MICROSECOND,
        least_outside: 24.0 * MICROSECOND,
        seam: 1.5 * MICROSECOND,
        plane: MICROSECOND / 32.0,
        read_others: 1.0,
    },
    block: 256 << 10,
    large_block: None,
    shared_cache: 8 << 20,
    two_passes_from: 64,
    joins_halves: false,
    distant_cache: false,
    strip_rows: [28, 28],
    strip_columns: [(512, 2), (256, 4)],
    avx2: Avx2 { turns: [512, 256], small_tiles: 128, tiles_5x5: (32, 224), beside: [[16, 12], [32, 32], [64, 32]] },
    strips: [Strips { channels: 0, but: Some(128) }, Strips { channels: 160, but: Some(256) }],
    turns: None,
    small_tiles: [SmallTiles::NEVER; 2],
    left_to_avx2: [[0; 2]; 3],
    writes_behind: false,
    across_lines: None,
    beside: [[4; 2]; 3],
    rolls_but: None,
};
