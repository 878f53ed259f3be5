//! Fused or in two passes, in which blocks, and who computes which part.

use alloc::vec::Vec;
use core::fmt;

use depthwise_kernels::{
    DepthwiseTuning, ElementType, Error, KernelInfo, Layout, OutputRange, Shape, Strides, fits, sub_grids,
};

use super::descriptor::{Descriptor, Fusion, Stages};
use super::kernel::Lie;
use super::split::Shares;
use super::wide::Widths;
use super::workers::Workers;

/// Pixels in a block at the least: below this the weights pass too often.
pub(super) const LEAST_PIXELS: usize = 56;
/// The share of a fused pass's price that two passes may take at the most, where its parts are near equal: prices tell no smaller
/// differences. Experiment 068.
const LEAST_GAIN: f64 = 0.995;
/// The most `f32` of a workspace.
const MOST_SCRATCH: usize = isize::MAX as usize / 8;
/// Elements beyond a pixel's channels, so that pixels a power of two apart do not share cache sets.
pub(super) const SKEW: usize = 16;

impl Descriptor {
    /// How `output`, all or a part of `whole`, is computed: a part never takes more scratch than the whole.
    pub(crate) fn choose(&self, whole: Shape, output: Shape, workers: Workers) -> Decision {
        let rows = self.rows(whole);
        let tasks = |price: f64| workers.worthwhile(price, &self.machine.sharing);
        let one_pass = self.one_pass(rows, whole, output, tasks);
        if !matches!(rows, Stages::Separable(..)) || self.fusion == Fusion::Fused {
            return one_pass;
        }
        // Channels first, blocks of rows are seldom whole tiles of the pointwise kernel's pixels.
        let near = Shape { c: self.mid_channels, ..whole }
            .len()
            .is_some_and(|len| len <= self.machine.shared_cache / size_of::<f32>());
        let near = near && (self.out_channels < self.mid_channels || !self.machine.distant_cache);
        let blocks_fit = self.layout == Layout::Nhwc || self.mid_channels < self.machine.two_passes_from || !near;
        // Two passes move more: they do not pay for one thread, nor, from a distant cache, where fused parts are near equal.
        let near_even = one_pass.shares.dearest() <= 1.05 * one_pass.shares.even();
        let one_thread = one_pass.shares.tasks() == 1;
        let stays_fused = blocks_fit && (one_thread || near_even && self.machine.distant_cache);
        if self.fusion == Fusion::Auto && (stays_fused || !self.is_addressable_between(output)) {
            return one_pass;
        }
        let two_passes = self.two_passes(rows, whole, output, tasks);
        let least = if near_even { LEAST_GAIN } else { 1.0 };
        let pays = || two_passes.total() < least * one_pass.total();
        if self.fusion == Fusion::TwoPass || !blocks_fit || pays() { two_passes } else { one_pass }
    }

    /// All rows that runs of the plan may take: those of its packing and of its instruction set, if no other was asked for by name.
    pub(crate) fn all_rows(&self) -> impl Iterator<Item = Rows> {
        let kernels = self.kernels;
        let depthwise = match kernels {
            Stages::Depthwise(d) | Stages::Separable(d, _) => Some(d),
            Stages::Pointwise(_) | Stages::Gathered(_) => None,
        };
        let multiplier = self.mid_channels / self.in_channels.max(1);
        let fitting = depthwise_kernels::table().filter(move |info| {
            depthwise.is_some_and(|d| {
                let same_bits = self.isa.includes(info.isa) && info.isa.is_fused() == d.isa.is_fused();
                let asked = !self.forced || info.name == d.name;
                let plain = self.forced || info.element == ElementType::F32;
                info.packs_as(d) && same_bits && asked && plain && fits(info, self.window.taps, multiplier)
            })
        });
        let one = depthwise.is_none().then_some(kernels);
        one.into_iter().chain(fitting.map(move |info| match kernels {
            Stages::Separable(_, p) => Stages::Separable(info, p),
            _ => Stages::Depthwise(info),
        }))
    }

    /// What lies between two passes may be more than can be addressed.
    pub(crate) fn is_addressable_between(&self, output: Shape) -> bool {
        Shape { c: self.mid_channels, ..output }.len().is_some_and(|len| len <= MOST_SCRATCH)
    }

    /// `output`, all or a part of `whole`, by these rows. `tasks`: for work of that price.
    pub(crate) fn one_pass(&self, rows: Rows, whole: Shape, output: Shape, tasks: impl Fn(f64) -> usize) -> Decision {
        let price = match rows {
            Stages::Depthwise(d) => self.depthwise_price(d, whole),
            Stages::Pointwise(p) | Stages::Gathered(p) => self.pointwise_price(p, self.machine.pointwise_read()),
            Stages::Separable(d, p) => self.pointwise_price(p, self.depthwise_price(d, whole).value),
        };
        let most = tasks(price.of(output));
        self.decision(rows, whole, most, None, Shares::new(output, price, most))
    }

    /// Of a separable convolution, first all of the one stage, then all of the other.
    pub(crate) fn two_passes(&self, rows: Rows, whole: Shape, output: Shape, tasks: impl Fn(f64) -> usize) -> Decision {
        let Stages::Separable(d, p) = rows else { unreachable!("of two passes each has a stage") };
        let (first, second) = (self.depthwise_price(d, whole), self.second_price(p));
        let between = Shape { c: self.mid_channels, ..output };
        let most = tasks(first.of(between) + second.of(output));
        let (first, second) = (Shares::new(between, first, most), Shares::new(output, second, most));
        self.decision(rows, whole, most, Some(first), second)
    }

    fn decision(&self, rows: Rows, whole: Shape, most: usize, first: Option<Shares>, shares: Shares) -> Decision {
        let rows = self.on_own_elements(rows, first.is_some());
        let row = rows.depthwise();
        let tuning = row.map_or_else(DepthwiseTuning::default, |row| self.depthwise_tuning(row));
        let elsewhere = Lie::OTHERS.map(|lie| self.row_where(lie, row?, whole)).map(|row| self.tuned(row));
        Decision { rows, tuning, elsewhere, block: self.block(rows, whole), most, first, shares }
    }

    /// The scratch of a run on that output: what lies between two passes, and that of each task.
    pub(crate) fn scratch_len(&self, decision: &Decision, widths: &Widths, output: Shape) -> Result<usize, Error> {
        let between = match decision.first {
            Some(_) => self.between_len(output),
            None => Some(0),
        };
        let task = self.block_len(decision).checked_add(widths.len());
        let tasks = task.and_then(|len| len.checked_mul(decision.tasks()));
        let len = between.zip(tasks).and_then(|(between, tasks)| between.checked_add(tasks));
        len.filter(|&len| len <= MOST_SCRATCH).ok_or(Error::Overflow { what: "the workspace" })
    }

    /// The `f32` that as much memory holds as what lies between two passes.
    pub(crate) fn between_len(&self, output: Shape) -> Option<usize> {
        let elements = Shape { c: self.mid_channels, ..output }.len()?;
        Some(elements.div_ceil(size_of::<f32>() / self.element.size()))
    }

    /// The scratch of a block between the stages.
    pub(crate) fn block_len(&self, decision: &Decision) -> usize {
        match self.kernels {
            Stages::Separable(..) | Stages::Gathered(_) if decision.first.is_none() => decision.block.len(self),
            _ => 0,
        }
    }

    /// How many pixels go through both stages at a time.
    fn block(&self, rows: Rows, output: Shape) -> Block {
        let weights = self.mid_channels.saturating_mul(self.out_channels).saturating_mul(size_of::<f32>());
        let bytes = match self.machine.large_block {
            Some([least, bytes]) if self.layout == Layout::Nchw && weights >= least => bytes,
            _ => self.machine.block,
        };
        let pixels = (bytes / size_of::<f32>() / self.mid_channels.max(1)).max(LEAST_PIXELS);
        let height = (pixels / output.w.max(1)).max(1);
        let grain = match rows {
            Stages::Separable(d, _) => {
                let tile = d.tile[0];
                let grids = sub_grids(self.window.taps.stride[0], self.window.taps.dilation[0]);
                // Of each sub-grid two rows at least, if they fit: one alone reads almost as many inputs.
                let pairs = grids * tile.max(2);
                let fit = height.next_multiple_of(pairs).saturating_mul(output.w) <= 2 * pixels;
                if grids > 1 && fit { pairs } else { tile }
            }
            _ => 1,
        };
        let rows = height.next_multiple_of(grain).min(output.h.max(1));
        let columns = if rows * output.w <= 2 * pixels {
            output.w
        } else {
            // Whole vectors of either layout's kernels, and whole tiles.
            (pixels / rows).next_multiple_of(112).min(output.w)
        };
        Block { rows, grain, columns: columns.max(1) }
    }

    /// The parts of each step of each pass.
    pub(crate) fn steps(&self, input: Shape, threads: usize) -> Result<Vec<Vec<Vec<OutputRange>>>, Error> {
        let (_, output) = self.outputs(input)?;
        self.choose(output, output, Workers::called_within(threads)).steps()
    }

    /// The strides of a block between the stages: pixels in one run.
    pub(crate) fn block_strides(&self, block: Shape) -> Strides {
        match self.layout {
            Layout::Nhwc => {
                let w = block.c.next_multiple_of(16) + SKEW;
                Strides { n: 0, c: 1, h: block.w * w, w }
            }
            Layout::Nchw => {
                let c = (block.h * block.w).next_multiple_of(16) + SKEW;
                Strides { n: 0, c, h: block.w, w: 1 }
            }
        }
    }
}

/// The kernels of a run.
pub(crate) type Rows = Stages<&'static KernelInfo, &'static KernelInfo>;

/// What a run does: on which kernels, in how many passes, in which blocks, and who computes which part.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decision {
    pub(crate) rows: Rows,
    /// How the depthwise kernel, if there is one, goes about its work.
    pub(crate) tuning: DepthwiseTuning,
    /// Of each of [`Lie::OTHERS`], the depthwise kernel where tensors lie so, if it is another one, and how that goes about its work.
    pub(crate) elsewhere: [Option<(&'static KernelInfo, DepthwiseTuning)>; 2],
    pub(crate) block: Block,
    /// The tasks that were asked for; a pass may be better off with fewer.
    pub(crate) most: usize,
    /// Of two passes, the first.
    pub(crate) first: Option<Shares>,
    /// Of the only pass, or of the second.
    pub(crate) shares: Shares,
}

impl Decision {
    /// The depthwise kernel where tensors lie like that, if it is another one, and how it goes about its work.
    pub(crate) fn where_they_lie(&self, lie: Lie) -> Option<(&'static KernelInfo, DepthwiseTuning)> {
        let index = Lie::OTHERS.iter().position(|&other| other == lie)?;
        self.elsewhere[index]
    }

    /// The shares of each pass.
    fn passes(&self) -> impl Iterator<Item = &Shares> {
        self.first.iter().chain([&self.shares])
    }

    /// The price of all of it.
    fn total(&self) -> f64 {
        self.passes().map(Shares::total).sum()
    }

    /// The most tasks at a time.
    pub(crate) fn tasks(&self) -> usize {
        self.passes().map(Shares::tasks).fold(1, usize::max)
    }

    /// The parts of each step of each pass.
    pub(crate) fn steps(&self) -> Result<Vec<Vec<Vec<OutputRange>>>, Error> {
        self.passes().map(Shares::steps).collect()
    }
}

/// The pixels that go through both stages at a time, or that one stage computes at a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Block {
    /// The most rows.
    pub(super) rows: usize,
    /// Rows that the depthwise stage best computes together: a tile's, or with dilation some of each sub-grid.
    pub(super) grain: usize,
    pub(crate) columns: usize,
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{} pixels", self.rows, self.columns)
    }
}

impl Block {
    /// Rows that cut `height` into as few blocks as these rows do, as even as whole tiles allow.
    pub(crate) fn rows_of(&self, height: usize) -> usize {
        let blocks = height.div_ceil(self.rows).max(1);
        height.div_ceil(blocks).next_multiple_of(self.grain).min(self.rows)
    }

    /// The scratch it takes.
    fn len(&self, descriptor: &Descriptor) -> usize {
        let shape = Shape::new(1, descriptor.mid_channels, self.rows, self.columns);
        let strides = descriptor.block_strides(shape);
        match descriptor.layout {
            Layout::Nhwc => strides.h.saturating_mul(self.rows),
            Layout::Nchw => strides.c.saturating_mul(descriptor.mid_channels),
        }
    }
}
