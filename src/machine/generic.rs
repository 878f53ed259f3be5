//! A CPU that nobody measured, and what the other descriptions begin with.

use depthwise_kernels::Isa;

use super::{Machine, SmallTiles};

pub(super) static GENERIC: Machine = UNMEASURED;

pub(super) const UNMEASURED: Machine = Machine {
    name: "generic",
    isas: &[Isa::Portable, Isa::Avx2, Isa::Avx512, Isa::Neon],
    avx512_slots: 1,
    own_cache: 1 << 20,
    read_own: 1.0 / 8.0,
    read_shared: 3.0 / 8.0,
    write_shared: 1.0 / 8.0,
    joins_halves: false,
    distant_cache: false,
    wide_cores: false,
    strip_rows: [28, 28],
    strip_columns: [(512, 2), (256, 4)],
    turns_from: None,
    small_tiles: [SmallTiles::NEVER; 2],
    left_to_avx2: [[0; 2]; 3],
    writes_behind: false,
    across_lines: None,
    rolls_but: None,
};
