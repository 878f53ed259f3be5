//! AMD Zen 3, which has no AVX-512.

use depthwise_kernels::Isa;

use super::Machine;
use super::generic::UNMEASURED;

pub(super) static ZEN_3: Machine = Machine {
    name: "zen3",
    isas: &[Isa::Portable, Isa::Avx2],
    own_cache: 512 << 10,
    read_own: 3.0 / 8.0,
    ..UNMEASURED
};
