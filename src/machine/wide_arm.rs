//! Arm cores with four pipes of NEON: Apple's, and Neoverse V1, Cortex-X2 and later. Simulated, not measured.

use depthwise_kernels::Isa;

use super::Machine;
use super::generic::UNMEASURED;

pub(super) static WIDE_ARM: Machine =
    Machine { name: "wide-arm", isas: &[Isa::Portable, Isa::Neon], wide_cores: true, ..UNMEASURED };
