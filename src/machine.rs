//! What kinds of CPU are good at, as data.
//!
//! A kernel computes the same bits on each. Which kernel is chosen, how it goes about its work and how a run is split are
//! pure functions of the machine, the kernels, the shape and the number of threads, so that any machine can be simulated on any other.

use core::fmt;

use depthwise_kernels::{DepthwiseTuning, Form, Isa, KernelInfo, Layout, Operation};

#[cfg(all(feature = "std", target_arch = "aarch64", target_endian = "little"))]
use std::arch::is_aarch64_feature_detected as has;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
use std::arch::is_x86_feature_detected as has;

/// Without `std`, what the compiler was told of the CPU.
#[cfg(all(not(feature = "std"), any(target_arch = "x86_64", all(target_arch = "aarch64", target_endian = "little"))))]
macro_rules! has {
    ($feature:tt) => {
        cfg!(target_feature = $feature)
    };
}

/// A kind of CPU, for which kernels are chosen and runs are split. No bit of any result depends on it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Machine {
    name: &'static str,
    /// The instruction sets that such a CPU may have.
    isas: &'static [Isa],
    /// The slots of a multiply unit that an operation of 512 bits takes: two where it is computed in halves.
    pub(crate) avx512_slots: u8,
    /// The bytes of the cache that a core has of its own, behind the first-level one.
    pub(crate) own_cache: usize,
    /// The prices of reading a value from there, and of reading and writing one in the cache that cores share. The unit is that of
    /// [`Price`](crate::schedule::Price).
    pub(crate) read_own: f64,
    pub(crate) read_shared: f64,
    pub(crate) write_shared: f64,
    /// The last half vector of output channels costs a pointwise kernel what a whole one does, unless two pixels share a vector.
    pub(crate) joins_halves: bool,
    /// The cache that cores share is far from each: what is read and written next should be on its way early.
    pub(crate) distant_cache: bool,
    /// A core has four pipes of NEON multiply-adds rather than two, which larger tiles keep busy.
    pub(crate) wide_cores: bool,
    /// Rows of a strip at the most, at stride 1 and at stride 2. More rows make each pass over the channels touch more pages, in each
    /// of which hardware prefetches begin anew. Fewer rows read more of them twice.
    strip_rows: [usize; 2],
    /// Where inputs and outputs share cache sets, outputs are best written a vector of channels behind.
    writes_behind: bool,
    /// Channels first, 3×3 at stride 1 and dilated columns are best rolled down.
    rolls: bool,
}

const X86_64: &[Isa] = &[Isa::Portable, Isa::Avx2, Isa::Avx512];

/// What every description begins with.
const UNMEASURED: Machine = Machine {
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
    writes_behind: false,
    rolls: false,
};

/// A CPU that nobody measured.
static GENERIC: Machine = UNMEASURED;

/// AMD Zen 4 (family 25, models 16 to 31 and 96 to 127): AVX-512 in halves, and a second-level cache little faster than the third.
///
/// Outputs behind: 14×14×512 20.6 µs instead of 25.5 µs. Channels first, rolling: 28×28×256 41 µs instead of 62 µs, dilated by 2 51
/// and 76 µs, but 14×14×512 dilated by 2 38 and 30 µs. Strips of 28 and 7 rows: 112×112×32 69 and 72 µs.
static ZEN_4: Machine = Machine {
    name: "zen4",
    isas: X86_64,
    avx512_slots: 2,
    read_own: 3.0 / 8.0,
    writes_behind: true,
    rolls: true,
    ..UNMEASURED
};

/// AMD Zen 5 (family 26): AVX-512 at full width.
///
/// Joined halves: from 240 to 40 channels 59 µs instead of 71 µs. Channels first, rolling: 14×14×512 21 µs instead of 16 µs.
static ZEN_5: Machine = Machine { name: "zen5", isas: X86_64, joins_halves: true, ..UNMEASURED };

/// Intel Emerald Rapids (family 6, model 207): the shared cache gives a core 25 GB/s.
///
/// Strips of 28, 7 and 4 rows: 56×56×128 220, 164 and 154 µs; 14×14×512 at stride 2 8.4, 8.0 and 9.2 µs.
static EMERALD_RAPIDS: Machine = Machine {
    name: "emerald-rapids",
    isas: X86_64,
    own_cache: 2 << 20,
    read_shared: 1.0,
    write_shared: 1.0,
    distant_cache: true,
    strip_rows: [4, 7],
    ..UNMEASURED
};

/// Arm cores with four pipes: Apple's, and Neoverse V1, Cortex-X2 and later.
static WIDE_ARM: Machine =
    Machine { name: "wide-arm", isas: &[Isa::Portable, Isa::Neon], wide_cores: true, ..UNMEASURED };

impl Machine {
    /// Every machine that there is a description of.
    pub fn all() -> &'static [&'static Machine] {
        static ALL: [&Machine; 5] = [&GENERIC, &ZEN_4, &ZEN_5, &EMERALD_RAPIDS, &WIDE_ARM];
        &ALL
    }

    /// The description that fits this CPU best.
    ///
    /// Without the feature `std` it goes by what the compiler was told of the CPU.
    pub fn detect() -> &'static Machine {
        match () {
            () if cfg!(miri) => &GENERIC,
            #[cfg(target_arch = "x86_64")]
            () if !has!("avx512f") => &GENERIC,
            // Of the CPUs with AVX-512, AMD's have SSE4a, and those after Zen 4 have VP2INTERSECT.
            #[cfg(target_arch = "x86_64")]
            () if !has!("sse4a") => &EMERALD_RAPIDS,
            #[cfg(target_arch = "x86_64")]
            () if has!("avx512vp2intersect") => &ZEN_5,
            #[cfg(target_arch = "x86_64")]
            () => &ZEN_4,
            // Products of 8-bit matrices came with the generation that has four pipes.
            #[cfg(all(target_arch = "aarch64", target_endian = "little"))]
            () if cfg!(target_vendor = "apple") || has!("i8mm") => &WIDE_ARM,
            #[cfg(not(target_arch = "x86_64"))]
            () => &GENERIC,
        }
    }

    /// Its name in lower case.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The instruction sets that such a CPU may have.
    pub fn isas(&self) -> &'static [Isa] {
        self.isas
    }

    /// The slots of a multiply unit that a vector of an instruction set takes.
    pub(crate) fn slots(&self, isa: Isa) -> u8 {
        if isa == Isa::Avx512 { self.avx512_slots } else { 1 }
    }

    /// How a depthwise kernel goes about its work here. What the kernel does not ask for is the default.
    pub(crate) fn depthwise_tuning(&self, info: &KernelInfo) -> DepthwiseTuning {
        let default = DepthwiseTuning::default();
        let is_avx512 = info.isa == Isa::Avx512;
        match (info.layout, info.form, info.stride) {
            (Layout::Nhwc, Form::Rolling | Form::InTurns, Some([stride, _])) => DepthwiseTuning {
                strip_rows: self.strip_rows[usize::from(stride > 1)],
                writes_behind: self.writes_behind && is_avx512 && info.form == Form::Rolling && stride == 1,
                ..default
            },
            (Layout::Nchw, Form::Tile, Some([_, 1])) if is_avx512 => DepthwiseTuning { rolls: self.rolls, ..default },
            _ => default,
        }
    }

    /// The price of what a pointwise kernel reads: where the shared cache is far, it is brought nearer while the kernel multiplies.
    pub(crate) fn pointwise_read(&self) -> f64 {
        if self.distant_cache { self.read_own } else { self.read_shared }
    }

    /// Whether a pointwise kernel prefetches the outputs that it writes next.
    pub(crate) fn prefetches_outputs(&self, info: &KernelInfo) -> bool {
        self.distant_cache && info.layout == Layout::Nhwc
    }

    /// One machine for each way in which a kernel goes about its work.
    #[doc(hidden)]
    pub fn each_way_of(kernel: &KernelInfo) -> impl Iterator<Item = &'static Machine> {
        let kernel = *kernel;
        let way = move |machine: &Machine| match kernel.operation {
            Operation::Pointwise => (DepthwiseTuning::default(), machine.prefetches_outputs(&kernel)),
            _ => (machine.depthwise_tuning(&kernel), false),
        };
        let all = Self::all().iter().copied();
        all.clone()
            .enumerate()
            .filter(move |(i, machine)| all.clone().take(*i).all(|m| way(m) != way(machine)))
            .map(|(_, m)| m)
    }
}

impl PartialEq for Machine {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}
