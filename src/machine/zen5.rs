//! AMD Zen 5: operations of 512 bits at full width.

use depthwise_kernels::Isa;

use super::Machine;
use super::generic::UNMEASURED;

/// Joined halves: 056. Channels first in tiles: 038.
pub(super) static ZEN_5: Machine =
    Machine { name: "zen5", isas: &[Isa::Portable, Isa::Avx2, Isa::Avx512], joins_halves: true, ..UNMEASURED };
