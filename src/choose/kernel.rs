//! Which kernels run: pure functions of the machine, the instruction set, the convolution and the shape.
//!
//! A plan packs its weights for one kernel. A run takes the fastest of those that share that packing.

use super::descriptor::{Descriptor, Stages};
use super::passes::Rows;
use crate::machine::{Machine, Vast};
use crate::{Isa, Layout};
use alloc::format;
use depthwise_kernels::{
    DepthwiseTuning, ElementType, Error, Form, KernelInfo, Operation, Shape, Taps, copies_beside, fits,
    packed_channels, sub_grids, undilated_stride,
};

/// The kernels of the table for an operation on `f32` in a layout, by an instruction set, whether or not this CPU has it.
pub(crate) fn kernels_of(isa: Isa, layout: Layout, operation: Operation) -> impl Iterator<Item = &'static KernelInfo> {
    let infos = depthwise_kernels::table();
    infos.filter(move |info| {
        (info.isa, info.layout, info.operation, info.element) == (isa, layout, operation, ElementType::F32)
    })
}

/// A depthwise kernel for that window, of the packing that is the fastest, or `None` if the instruction set has none.
pub(crate) fn depthwise(
    machine: &Machine,
    isa: Isa,
    layout: Layout,
    taps: Taps,
    channels: usize,
    multiplier: usize,
) -> Option<&'static KernelInfo> {
    // The kernels' own stride: a factor that it shares with the dilation is split off.
    let (kernel_size, stride) = (taps.kernel_size[1], undilated_stride(taps.stride[1], taps.dilation[1]));
    let fitting = |isa| kernels_of(isa, layout, Operation::Depthwise).filter(|info| fits(info, taps, multiplier));
    let of_shape = |isa| fitting(isa).filter(|info| info.kernel_size.is_some());
    let narrower = filled_by(machine, isa, channels * multiplier, kernel_size, stride);
    let is_filled = layout == Layout::Nhwc && of_shape(narrower).next().is_some();
    let isa = if is_filled { narrower } else { isa };
    let buffered = |isa| fitting(isa).find(|info| info.form == Form::Buffered);
    // Of so few channels a vector would be mostly empty: it runs over pixels, too. The masks of AVX-512 are fast enough for more.
    let outputs = channels * multiplier;
    let has_shape = isa == Isa::Avx512 && of_shape(isa).next().is_some();
    let most = |info: &KernelInfo| if has_shape { info.lanes / 3 } else { info.lanes - 1 };
    let is_few = |info: &&KernelInfo| outputs <= most(info) && packed_channels(info, taps, outputs) > outputs;
    let few = buffered(isa).filter(is_few);
    // What few taps read, or taps of one row, is read where it is, but for several outputs. (094)
    let reads = [0, 1].map(|axis| taps.kernel_size[axis].div_ceil(taps.stride[axis]));
    let reads_again = |_: &&KernelInfo| multiplier > 1 || reads[0] > 1 && reads[0] * reads[1] >= MANY_READS;
    let any = |isa| {
        let rows = fitting(isa).filter(|info| info.kernel_size.is_none() && info.form != Form::Buffered);
        rows.min_by_key(|info| info.form == Form::Any)
    };
    few.or_else(|| of_shape(isa).next()).or_else(|| buffered(isa).filter(reads_again)).or_else(|| any(isa))
}

/// From so many taps of an input on, it is best copied to where they all find it.
const MANY_READS: usize = 64;

/// The pointwise kernel for maps of few pixels that takes the packing of that one.
pub(crate) fn of_few_pixels(packed: &KernelInfo) -> Option<&'static KernelInfo> {
    let mut rows = kernels_of(packed.isa, packed.layout, Operation::Pointwise);
    rows.find(|info| info.form == Form::Channels && info.packs_as(packed))
}

/// The kernels for one window that share a packing: as many as there may be.
pub(crate) type Alike = [Option<&'static KernelInfo>; 8];

/// The depthwise kernels for that window and those elements, of that one's packing and instruction set. A plan keeps them, as a run has
/// no time to look for them.
pub(crate) fn alike(packed: &'static KernelInfo, element: ElementType, taps: Taps, multiplier: usize) -> Alike {
    let rows = depthwise_kernels::table().filter(|info| info.isa == packed.isa && info.element == element);
    let rows = rows.filter(|info| (info.kernel_size.is_some() || info.form == Form::Copied) && info.packs_as(packed));
    let mut rows = rows.filter(|info| fits(info, taps, multiplier));
    let alike = core::array::from_fn(|_| rows.next());
    debug_assert!(rows.next().is_none(), "more kernels than there is room for");
    alike
}

/// How the input and the output of a run lie in memory, as far as it matters to what runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// What predictions are for: vectors within cache lines.
    Lines,
    /// So, but a channel's inputs and outputs fall into the same few sets of the first-level cache.
    Sharing,
    /// Vectors lie across cache lines, as those of large `Vec`s do.
    Across,
}

impl Lie {
    pub(crate) const OTHERS: [Lie; 2] = [Lie::Sharing, Lie::Across];
}

/// The bytes of a cache line.
const LINE: usize = 64;
/// Elements between pixels from which on it matters that inputs and outputs share cache sets.
const SHARED: usize = 512;

impl Descriptor {
    /// The kernels of a run with that output.
    pub(crate) fn rows(&self, output: Shape) -> Rows {
        let rows = match self.kernels {
            Stages::Depthwise(d) | Stages::Separable(d, _) if !self.forced => {
                self.kernels.with_depthwise(self.depthwise_row(d, output))
            }
            kernels => kernels,
        };
        // Where all pixels fill half a vector at the most, channels are the vector.
        let fills = |lanes: usize| output.h.saturating_mul(output.w).saturating_mul(2) > lanes;
        match self.few_pixels {
            Some(row) if !fills(row.lanes) => rows.with_pointwise(row),
            _ => rows,
        }
    }

    /// The fastest depthwise kernel of that one's packing and instruction set.
    fn depthwise_row(&self, packed: &'static KernelInfo, output: Shape) -> &'static KernelInfo {
        let wanted = match self.layout {
            Layout::Nhwc => self.preferred(packed.isa, output),
            Layout::Nchw => self.preferred_in_planes(packed, output),
        };
        self.most_like(&wanted, output).unwrap_or(packed)
    }

    /// Of the kernels that share the plan's packing, the one that is the most like that.
    fn most_like(&self, wanted: &Wanted, output: Shape) -> Option<&'static KernelInfo> {
        let columns = self.columns(output);
        let unwanted = |info: &&KernelInfo| {
            let size = info.tile[0] * info.tile[1];
            let is_narrow = self.layout == Layout::Nchw && info.tile[1] == info.lanes;
            // What a tile's columns beyond the map compute is for nothing.
            let is_too_wide = self.layout == Layout::Nhwc && info.tile[1] > columns + 2;
            // Where there is no such form, tiles.
            (
                info.form != wanted.form,
                info.form != Form::Tile,
                is_narrow != wanted.is_narrow,
                is_too_wide,
                if wanted.is_large { usize::MAX - size } else { size },
            )
        };
        self.alike.into_iter().flatten().min_by_key(unwanted)
    }

    /// The bytes of what the depthwise stage writes.
    fn bytes(&self, output: Shape) -> usize {
        let elements = Shape { c: self.mid_channels, ..output }.len();
        elements.unwrap_or(usize::MAX).saturating_mul(size_of::<f32>())
    }

    /// Whether one of these kernels copies planes of so many columns side by side.
    pub(crate) fn copies_beside(&self, mut rows: impl Iterator<Item = &'static KernelInfo>, width: usize) -> bool {
        let multiplier = self.mid_channels / self.in_channels.max(1);
        rows.any(|row| copies_beside(row, self.window.taps, multiplier, self.mid_channels, width))
    }

    /// The columns of a sub-grid of the output.
    fn columns(&self, output: Shape) -> usize {
        let taps = self.window.taps;
        output.w.div_ceil(sub_grids(taps.stride[1], taps.dilation[1]))
    }

    /// The kernel instead of this one where tensors lie like that, if there is a faster one.
    ///
    /// Where inputs and outputs share sets, outputs are written behind. That is for whole strips: where the map is not of these, or
    /// all pixels share the same few sets, channels take turns. Across cache lines they take turns where pixels are far apart; of few
    /// channels tiles are faster than strips if the map is large: a strip's lines, twice as many there, are gone before the next vector.
    /// Small tiles read each line for two vectors, too, with a row of the map between: of more channels strips are faster. (086, 088)
    pub(crate) fn row_where(&self, lie: Lie, row: &'static KernelInfo, output: Shape) -> Option<&'static KernelInfo> {
        let matters = match lie {
            Lie::Lines => false,
            Lie::Sharing => self.machine.writes_behind,
            Lie::Across => self.machine.across_lines.is_some(),
        };
        let is_small_tile = row.form == Form::Tile && row.stride.is_some_and(|[_, stride]| stride == 1);
        let is_strip = row.form == Form::Rolling;
        let has_others = (is_strip || is_small_tile) && row.isa == Isa::Avx512 && row.kernel_size == Some([3; 2]);
        let converts = self.element != ElementType::F32;
        if self.forced || self.layout != Layout::Nhwc || converts || !has_others || !matters {
            return None;
        }
        let columns = self.columns(output);
        let spacing = self.spacing(self.in_channels);
        let form = match (lie, self.machine.across_lines) {
            (Lie::Across, Some(across)) if is_small_tile && self.in_channels >= across.strips => Form::Rolling,
            _ if is_small_tile => return None,
            (Lie::Across, Some(across)) if spacing >= across.turns => Form::InTurns,
            (Lie::Across, Some(across)) if across.suits_tiles(self.in_channels, columns, row.tile[1]) => Form::Tile,
            (Lie::Sharing, _) if columns.is_multiple_of(row.tile[1]) && spacing < 1024 => Form::RollingBehind,
            (Lie::Sharing, _) => Form::InTurns,
            _ => return None,
        };
        let wanted = Wanted { form, is_large: true, is_narrow: false };
        self.most_like(&wanted, output).filter(|other| other.form == form)
    }

    /// How a kernel that is taken where tensors lie otherwise goes about its work.
    pub(crate) fn tuned(&self, row: Option<&'static KernelInfo>) -> Option<(&'static KernelInfo, DepthwiseTuning)> {
        row.map(|row| (row, self.depthwise_tuning(row)))
    }

    /// Whether tensors without gaps may lie like that, and a kernel may be chosen for it.
    pub(crate) fn may_lie(&self, lie: Lie) -> bool {
        let several = self.alike.iter().flatten().count() > 1;
        let has_strips = self.alike.iter().flatten().any(|row| row.form == Form::Rolling);
        let plain = self.layout == Layout::Nhwc && self.mid_channels == self.in_channels && !self.forced;
        plain
            && self.element == ElementType::F32
            && several
            && match lie {
                Lie::Lines => true,
                Lie::Sharing => self.machine.writes_behind && has_strips && self.spacing(self.in_channels) >= SHARED,
                Lie::Across => self.machine.across_lines.is_some() && has_strips,
            }
    }

    /// The greatest power of two that divides the elements from one input pixel of a channel to the next that it reads, up to that
    /// of a page: pixels so far apart fall into the same few sets.
    pub(crate) fn spacing(&self, pixels_apart: usize) -> usize {
        let apart = pixels_apart.saturating_mul(self.window.taps.dilation[1]);
        1 << apart.trailing_zeros().min(10)
    }

    /// How inputs and outputs lie. Of each, where it starts, and the elements between pixels; of outputs in a block, nothing. The outputs
    /// begin with that channel.
    pub(crate) fn lie(&self, inputs: (usize, usize), outputs: Option<(usize, usize)>, channel: usize) -> Lie {
        let bytes = channel.wrapping_mul(size_of::<f32>());
        if !inputs.0.wrapping_add(bytes).is_multiple_of(LINE) {
            return Lie::Across;
        }
        let spacing = self.spacing(inputs.1);
        let shares = outputs.is_some_and(|(start, apart)| {
            let distance = inputs.0.wrapping_sub(start).wrapping_add(bytes);
            apart == inputs.1 && distance.is_multiple_of(spacing * size_of::<f32>())
        });
        if spacing >= SHARED && shares { Lie::Sharing } else { Lie::Lines }
    }

    /// This, with the kernels for its own narrow elements. `packed`: the one that the depthwise stage is packed for; it `sweeps` if a
    /// sweep over `f32` follows.
    pub(crate) fn with_own_kernels(self, packed: &'static KernelInfo, sweeps: bool) -> Result<Self, Error> {
        let why = match packed.element {
            ElementType::F32 => None,
            element if element != self.element => {
                Some(format!("its elements are {element}, the plan's {}", self.element))
            }
            _ if matches!(self.kernels, Stages::Separable(..)) => Some("the first stage of two writes f32".into()),
            _ if sweeps => Some("an activation that is more than a clamp is applied to f32".into()),
            _ => None,
        };
        if let Some(why) = why {
            return Err(Error::KernelDoesNotFit { name: packed.name, why });
        }
        // Of part of a vector such kernels are slow.
        if self.element == ElementType::F32 || sweeps || self.forced || !self.mid_channels.is_multiple_of(packed.lanes)
        {
            return Ok(self);
        }
        let own = alike(packed, self.element, self.window.taps, self.mid_channels / self.in_channels.max(1));
        Ok(Self { own, ..self })
    }

    /// Kernels that read and write the plan's narrow elements in place of these, if there are any. The first stage of one pass writes
    /// `f32`.
    pub(crate) fn on_own_elements(&self, rows: Rows, two_passes: bool) -> Rows {
        match rows {
            Stages::Separable(..) if !two_passes => rows,
            Stages::Depthwise(d) | Stages::Separable(d, _) => {
                self.own[0].map_or(rows, |own| rows.with_depthwise(self.own_like(d).unwrap_or(own)))
            }
            Stages::Pointwise(_) | Stages::Gathered(_) => rows,
        }
    }

    /// That of its own kernels that goes the same way.
    fn own_like(&self, row: &KernelInfo) -> Option<&'static KernelInfo> {
        self.own.into_iter().flatten().find(|own| (own.form, own.tile) == (row.form, row.tile))
    }

    /// The numbers of a depthwise kernel's way. What the kernel does not ask for is the default.
    pub(crate) fn depthwise_tuning(&self, row: &KernelInfo) -> DepthwiseTuning {
        let apart = self.mid_channels.saturating_mul(self.window.taps.dilation[1]);
        self.machine.depthwise_tuning(row, apart)
    }
}

/// The index of a window in a machine's lists: 3×3, 5×5, wider.
fn extent(kernel_size: usize) -> usize {
    match kernel_size {
        ..=3 => 0,
        5 => 1,
        _ => 2,
    }
}

/// What a kernel should be like.
struct Wanted {
    form: Form,
    /// Of two tiles the larger one.
    is_large: bool,
    /// Channels first: tiles of a single vector.
    is_narrow: bool,
}

impl Descriptor {
    /// Channels first. Narrow maps are best copied side by side, up to a width that the machine knows (094). Others of few columns are
    /// best taken two rows to a vector, else in a tile of one vector, which is taller. Taps that are picked are best picked once for
    /// all rows that they feed, but for 3×3 at stride 1 on some CPUs.
    fn preferred_in_planes(&self, packed: &KernelInfo, output: Shape) -> Wanted {
        let Taps { kernel_size: [_, kw], stride: [sh, sw], dilation: [dh, dw] } = self.window.taps;
        let (lanes, width) = (packed.lanes, output.w);
        let rows = output.h.div_ceil(sub_grids(sh, dh));
        let reach = width.saturating_sub(1).saturating_mul(sw).saturating_add((kw - 1).saturating_mul(dw));
        let bytes = self.bytes(output);
        let is_vast = |vast: Vast| kw == 3 && width > vast.columns && bytes > vast.bytes;
        let columns = match packed.isa {
            Isa::Avx2 => self.machine.avx2.beside[extent(kw)][usize::from(sw > 1)],
            Isa::Avx512 => self.machine.beside[extent(kw)][usize::from(sw > 1)],
            _ => lanes / 2,
        };
        let form = if width <= columns && self.copies_beside(self.alike.iter().flatten().copied(), width) {
            Form::Copied
        } else if packed.isa != Isa::Avx512 {
            Form::Tile
        } else if width <= lanes / 2 && reach < lanes {
            Form::Pairs
        } else if sw == 2
            || (dw == 1 && kw > 3)
            || ((dw == 1 || width > lanes || kw > 3) && self.machine.rolls_but.is_some_and(|vast| !is_vast(vast)))
        {
            Form::Rolling
        } else {
            Form::Tile
        };
        Wanted { form, is_large: true, is_narrow: form == Form::Tile && width <= lanes && rows >= 7 }
    }
}

/// The instruction set, this one or one that it includes, whose vectors so many channels of a depthwise convolution fill best,
/// channels last.
fn filled_by(machine: &Machine, isa: Isa, channels: usize, kernel_size: usize, stride: usize) -> Isa {
    let few = machine.left_to_avx2[extent(kernel_size)][usize::from(stride > 1)];
    let leaves_half = channels <= few && (1..=8).contains(&(channels % 16));
    if isa == Isa::Avx512 && leaves_half { Isa::Avx2 } else { isa }
}

impl Descriptor {
    /// Channels last. What this CPU is best at, for these channels and this map. Where a run's tensors lie so that it is slow, the run
    /// takes another kernel ([`row_where`](Descriptor::row_where)).
    fn preferred(&self, isa: Isa, output: Shape) -> Wanted {
        let (taps, channels, machine) = (self.window.taps, self.in_channels, self.machine);
        let (kernel_size, stride) = (taps.kernel_size[1], undilated_stride(taps.stride[1], taps.dilation[1]));
        let is_fused = matches!(self.kernels, Stages::Separable(..));
        let strided = usize::from(stride > 1);
        let inputs = self.bytes(output).saturating_mul(stride).saturating_mul(stride);
        let (form, is_large) = match isa {
            Isa::Avx2 if kernel_size == 5 => {
                let (divisor, most) = machine.avx2.tiles_5x5;
                let in_tiles = channels.is_multiple_of(divisor) && channels <= most;
                (if in_tiles { Form::Tile } else { Form::Rolling }, true)
            }
            Isa::Avx2 if channels.is_multiple_of(machine.avx2.turns[strided]) => (Form::InTurns, true),
            Isa::Avx2 => (Form::Tile, stride == 1 || !channels.is_multiple_of(machine.avx2.small_tiles)),
            Isa::Avx512 if machine.small_tiles[strided].suit(channels, inputs, is_fused) => {
                (Form::Tile, kernel_size != 3)
            }
            Isa::Avx512 => {
                let in_turns =
                    |[least, most]: [usize; 2]| channels.is_multiple_of(16) || (least..=most).contains(&channels);
                let form = if stride > 1 && machine.turns.is_some_and(in_turns) {
                    Form::InTurns
                } else if machine.strips[strided].suit(channels) {
                    Form::Rolling
                } else {
                    Form::Tile
                };
                (form, true)
            }
            Isa::Neon => {
                // Tiles of seven and of four columns are as fast: what they compute twice decides. (093)
                let [seven, four] = [7, 4].map(|tile| self.columns(output).next_multiple_of(tile));
                (Form::Tile, seven < four)
            }
            _ => (Form::Tile, true),
        };
        Wanted { form, is_large, is_narrow: false }
    }
}

/// The fastest pointwise kernel to so many output channels, or `None` if the instruction set has none: of the kernels that join, or of
/// the others, that with the fewest channels computed for nothing; of those, with the largest tile.
pub(crate) fn pointwise(
    machine: &Machine,
    isa: Isa,
    layout: Layout,
    out_channels: usize,
) -> Option<&'static KernelInfo> {
    let half_left = out_channels > 16 && (1..=8).contains(&(out_channels % 16));
    let joins = layout == Layout::Nhwc && isa == Isa::Avx512 && machine.joins_halves && half_left;
    let unwanted = |info: &&KernelInfo| {
        let [rows, columns] = info.tile;
        let size = rows * columns;
        let for_nothing = (columns - out_channels % columns) % columns;
        (info.form == Form::Channels, info.joins() != joins, for_nothing, usize::MAX - size)
    };
    kernels_of(isa, layout, Operation::Pointwise).min_by_key(unwanted)
}
