//! What kinds of CPU are good at, as data.
//!
//! A kernel computes the same bits on each. Which kernel is chosen, how it goes about its work and how a run is split are
//! pure functions of the machine, the kernels, the shape and the number of threads, so that any machine can be simulated on any other.

use core::fmt;

use alloc::string::String;
use depthwise_kernels::{DepthwiseTuning, Error, Form, Isa, KernelInfo, Layout, Operation};

mod detect;
mod emerald_rapids;
mod generic;
mod zen3;
mod zen4;
mod zen5;

/// A kind of CPU, for which kernels are chosen and runs are split. No bit of any result depends on it.
///
/// Plans take the description that fits this CPU best, unless the builder or the environment variable `DEPTHWISE_MACHINE` names another.
#[derive(Clone, Copy, Debug)]
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
    /// [`Price`](crate::choose::price::Price).
    pub(crate) read_own: f64,
    pub(crate) read_shared: f64,
    pub(crate) write_shared: f64,
    /// What it costs to share work among threads.
    pub(crate) sharing: Sharing,
    /// The bytes that a block of pixels may take between the stages: its core's own cache holds them, with room for the weights that
    /// stream past once for each block.
    pub(crate) block: usize,
    /// Channels first, the bytes of pointwise weights from which on a block may take so many instead.
    pub(crate) large_block: Option<[usize; 2]>,
    /// The bytes that stay in a cache that cores share, if that is not far.
    pub(crate) shared_cache: usize,
    /// Channels first, channels from which on two passes are the faster, if what lies between them stays in such a cache.
    pub(crate) two_passes_from: usize,
    /// The last half vector of output channels costs a pointwise kernel what a whole one does, unless two pixels share a vector.
    pub(crate) joins_halves: bool,
    /// The cache that cores share is far from each: what is read and written next should be on its way early.
    pub(crate) distant_cache: bool,
    /// Rows of a strip at the most, at stride 1 and at stride 2. More rows make each pass over the channels touch more pages, in each
    /// of which hardware prefetches begin anew. Fewer rows read more of them twice.
    strip_rows: [usize; 2],
    /// Columns of a strip whose channels take turns, at the most, where pixels are a multiple of so many elements apart: the more
    /// columns, the more lines of a cache set are in use. The greatest distance first.
    strip_columns: [(usize, usize); 2],
    /// AVX2, channels last.
    pub(crate) avx2: Avx2,
    /// 3×3 at stride 1 and at stride 2, channels last, AVX-512: when strips are best.
    pub(crate) strips: [Strips; 2],
    /// 3×3 at stride 2, channels last, AVX-512: channels are best taken in turns, if they fill vectors, or are from so many to so many.
    pub(crate) turns: Option<[usize; 2]>,
    /// 3×3 at stride 1 and at stride 2, channels last, AVX-512: which maps come from so far that small tiles are best.
    pub(crate) small_tiles: [SmallTiles; 2],
    /// 3×3, 5×5 and wider, at stride 1 and at stride 2, channels last: up to so many channels that leave half a vector of AVX-512
    /// are best left to AVX2.
    pub(crate) left_to_avx2: [[usize; 2]; 3],
    /// Where inputs and outputs share cache sets, outputs are best written a vector of channels behind.
    pub(crate) writes_behind: bool,
    /// What is best for 3×3 at stride 1, channels last, where vectors lie across cache lines, if it is known.
    pub(crate) across_lines: Option<AcrossLines>,
    /// The same as [`Avx2::beside`], AVX-512.
    pub(crate) beside: [[usize; 2]; 3],
    /// Channels first, AVX-512, 3×3 at stride 1 and dilated columns are best rolled down, but for 3×3 on such maps.
    pub(crate) rolls_but: Option<Vast>,
}

/// Maps of long rows that come from afar. Channels first, strips of two vectors read a line or two of each page, before which hardware
/// prefetches begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Vast {
    /// Of more columns.
    pub(crate) columns: usize,
    /// And of more bytes of a run's outputs.
    pub(crate) bytes: usize,
}

/// When other kernels are best where vectors lie across cache lines, 3×3 at stride 1. A strip's lines are twice as many there, and
/// each is read for two vectors of channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AcrossLines {
    /// Elements between pixels from which on channels take turns.
    pub(crate) turns: usize,
    /// From how many channels to how many, and from how many columns on, tiles are best.
    pub(crate) tiles: ([usize; 2], usize),
    /// Tiles are best, too, where channels fill a vector in part, and columns whole tiles.
    pub(crate) tiles_of_parts: bool,
    /// From how many channels on strips are better than small tiles.
    pub(crate) strips: usize,
}

impl AcrossLines {
    /// `tile`: the columns of one.
    pub(crate) fn suits_tiles(&self, channels: usize, columns: usize, tile: usize) -> bool {
        let ([least, most], large) = self.tiles;
        let parts = self.tiles_of_parts && !channels.is_multiple_of(16) && columns.is_multiple_of(tile);
        parts || ((least..=most).contains(&channels) && columns >= large)
    }
}

/// What it costs to share work among threads. The unit is that of [`Price`](crate::choose::price::Price).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sharing {
    /// To hand out tasks and to wait for the last.
    pub(crate) fork: f64,
    /// The same for each level of the tree by which a pool does so.
    pub(crate) level: f64,
    /// The least price of a part that is worth a thread of its own. Halves of a run wait for each other less than that if both threads
    /// are awake, longer if one was asleep. Layers follow each other faster than threads fall asleep.
    pub(crate) least: f64,
    /// The least price of work that is worth handing to a pool from outside.
    pub(crate) least_outside: f64,
    /// Channels last, a cut between channels of a depthwise convolution.
    pub(crate) seam: f64,
    /// Channels first, a plane beyond its pixels: a plane that is cut has a cache line that two threads write, so planes are not cut but
    /// where whole ones share badly.
    pub(crate) plane: f64,
    /// Channels first, reading a value in the second of two passes, whose parts read what other cores wrote.
    pub(crate) read_others: f64,
}

impl Sharing {
    /// Of so many tasks, which are handed out by a tree.
    pub(crate) fn fork(&self, tasks: usize) -> f64 {
        self.fork.max(self.level * f64::from(tasks.next_power_of_two().ilog2()))
    }
}

/// Which forms AVX2 is best in. Pixels and rows a large power of two apart share cache sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Avx2 {
    /// 3×3 at stride 1 and at stride 2: multiples of so many channels are taken in turns.
    pub(crate) turns: [usize; 2],
    /// 3×3 at stride 2: multiples of so many others in small tiles.
    pub(crate) small_tiles: usize,
    /// 5×5: multiples of so many channels, up to so many, in tiles. The others in strips.
    pub(crate) tiles_5x5: (usize, usize),
    /// Channels first, 3×3, 5×5 and wider, at stride 1 and at stride 2: planes of up to so many columns are best copied side by side.
    pub(crate) beside: [[usize; 2]; 3],
}

/// When strips are better than tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Strips {
    /// From so many channels on.
    pub(crate) channels: usize,
    /// But not for multiples of so many channels: where pixels share cache sets, tiles touch fewer lines at a time.
    pub(crate) but: Option<usize>,
}

impl Strips {
    pub(crate) const ALWAYS: Strips = Strips { channels: 0, but: None };
    pub(crate) const NEVER: Strips = Strips { channels: usize::MAX, but: None };

    pub(crate) fn suit(&self, channels: usize) -> bool {
        channels >= self.channels && !self.but.is_some_and(|but| channels.is_multiple_of(but))
    }
}

/// Maps whose rows come from the cache that cores share, or from memory. A small tile's few streams of addresses are what hardware
/// prefetches best.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SmallTiles {
    /// From so many bytes of a run's inputs on.
    pub(crate) bytes: usize,
    /// Up to so many channels.
    pub(crate) channels: usize,
    /// And from so many in a fused pass, whose outputs stay near.
    pub(crate) fused: usize,
}

impl SmallTiles {
    pub(crate) const NEVER: SmallTiles = SmallTiles { bytes: usize::MAX, channels: 0, fused: 0 };

    pub(crate) fn suit(&self, channels: usize, bytes: usize, is_fused: bool) -> bool {
        channels <= self.channels && bytes >= self.bytes && !(is_fused && channels < self.fused)
    }
}

impl Machine {
    /// Every machine that there is a description of.
    pub fn all() -> &'static [&'static Machine] {
        static ALL: [&Machine; 5] =
            [&generic::GENERIC, &zen3::ZEN_3, &zen4::ZEN_4, &zen5::ZEN_5, &emerald_rapids::EMERALD_RAPIDS];
        &ALL
    }

    /// One whose caches are so small that whatever is done in blocks is done in many: for tests.
    #[doc(hidden)]
    pub fn with_little_cache() -> &'static Machine {
        static LITTLE: Machine = Machine { name: "little cache", own_cache: 2 << 10, ..generic::GENERIC };
        &LITTLE
    }

    /// The description that fits this CPU best, with the sizes of its caches.
    pub fn detect() -> &'static Machine {
        #[cfg(feature = "std")]
        {
            static DETECTED: std::sync::OnceLock<Machine> = std::sync::OnceLock::new();
            DETECTED.get_or_init(|| {
                let described = *detect::described();
                Machine { own_cache: detect::own_cache().unwrap_or(described.own_cache), ..described }
            })
        }
        #[cfg(not(feature = "std"))]
        detect::described()
    }

    /// The machine of that name, in upper or lower case.
    ///
    /// # Errors
    /// If there is none.
    pub fn named(name: &str) -> Result<&'static Machine, Error> {
        let found = Self::all().iter().copied().find(|machine| machine.name.eq_ignore_ascii_case(name));
        found.ok_or_else(|| {
            let mut known = String::new();
            for machine in Self::all() {
                known += if known.is_empty() { "" } else { ", " };
                known += machine.name;
            }
            Error::UnknownMachine { name: name.into(), known, from_environment: false }
        })
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

    /// The numbers of a depthwise kernel's way here. What the kernel does not ask for is the default. `apart`: the elements from a
    /// pixel that it reads to the next.
    pub(crate) fn depthwise_tuning(&self, info: &KernelInfo, apart: usize) -> DepthwiseTuning {
        let mut tuning = DepthwiseTuning::default();
        let Some([stride, _]) = info.stride else { return tuning };
        if info.layout == Layout::Nhwc && matches!(info.form, Form::Rolling | Form::RollingBehind | Form::InTurns) {
            tuning.strip_rows = self.strip_rows[usize::from(stride > 1)];
        }
        if info.form == Form::InTurns {
            let (_, columns) = self
                .strip_columns
                .into_iter()
                .find(|&(spacing, _)| apart.is_multiple_of(spacing))
                .unwrap_or((1, usize::MAX));
            tuning.strip_columns = columns;
        }
        tuning
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
        Self::first_of_each(Self::all().iter().copied(), move |machine| match kernel.operation {
            Operation::Pointwise => (DepthwiseTuning::default(), machine.prefetches_outputs(&kernel)),
            _ => (machine.depthwise_tuning(&kernel, 1), false),
        })
    }

    /// One machine for each way in which plans of an instruction set are made and run, prices aside.
    #[doc(hidden)]
    pub fn each_for(isa: Isa) -> impl Iterator<Item = &'static Machine> {
        let having = Self::all().iter().copied().filter(move |machine| machine.isas.contains(&isa));
        Self::first_of_each(having, move |machine| {
            let of_avx512 = (
                machine.avx512_slots,
                machine.joins_halves,
                machine.writes_behind,
                machine.across_lines,
                machine.rolls_but,
                machine.beside,
                (machine.strips, machine.turns, machine.small_tiles, machine.left_to_avx2),
            );
            let of_blocks = (machine.block, machine.large_block);
            let of_avx2 = machine.avx2;
            (machine.distant_cache, machine.strip_rows, of_blocks, of_avx2, (isa == Isa::Avx512).then_some(of_avx512))
        })
    }

    /// Of machines with the same key, the first.
    fn first_of_each<K: PartialEq>(
        machines: impl Iterator<Item = &'static Machine> + Clone,
        key: impl Fn(&Machine) -> K,
    ) -> impl Iterator<Item = &'static Machine> {
        let earlier = machines.clone();
        let is_new = move |i: usize, machine: &Machine| earlier.clone().take(i).all(|other| key(other) != key(machine));
        machines.enumerate().filter(move |(i, machine)| is_new(*i, machine)).map(|(_, machine)| machine)
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
