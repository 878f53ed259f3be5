//! What a plan computes and on which kernels, without its weights; and how a run of it is laid out. All of it is a pure function of the
//! machine, the kernels, the shape and the number of threads, whether or not this CPU could run it.

use alloc::vec::Vec;
use core::fmt;

use crate::Isa;
use crate::cost::Cost;
use crate::geometry::{Outputs, Window};
use crate::machine::Machine;
use crate::schedule::{FORK, Price, Shares, Workers};
use depthwise_kernels::{Error, KernelInfo, Layout, OutputRange, Shape, Strides, sub_grids};

/// How the two stages of a separable convolution follow each other. The result has the same bits in every case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fusion {
    /// The default. The crate chooses for each run: fused, except in two cases. Two passes run where they divide the work more
    /// evenly between the threads. In NCHW they also run where 64 or more channels lie between the stages and all of their values
    /// fit a shared cache; on CPUs whose shared cache is slow to reach, only if the output has fewer channels than that.
    #[default]
    Auto,
    /// Both stages of a block of pixels, then both stages of the next block: the values between the stages stay in the cache.
    /// Where an output has too few rows for all threads, several threads compute different channels of the same rows. Each of
    /// them then computes the first stage of these rows for itself.
    Fused,
    /// All of the first stage, then all of the second. The workspace holds the whole output of the first stage.
    TwoPass,
}

/// What a plan chose: its instruction set and kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// The instruction set. A kernel may be of one that it includes.
    pub isa: Isa,
    /// The layout.
    pub layout: Layout,
    /// The depthwise kernel.
    pub depthwise: Option<&'static str>,
    /// The pointwise kernel.
    pub pointwise: Option<&'static str>,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.depthwise, self.pointwise) {
            (Some(depthwise), Some(pointwise)) => write!(f, "{depthwise} + {pointwise}"),
            (Some(kernel), None) | (None, Some(kernel)) => f.write_str(kernel),
            (None, None) => f.write_str("no kernel"),
        }
    }
}

/// The stages of a plan, and their kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stages<D, P> {
    Depthwise(D),
    Pointwise(P),
    Separable(D, P),
    /// A standard convolution: the window's inputs, gathered pixel by pixel, times a matrix.
    Gathered(P),
}

/// How runs of a plan are laid out on a machine, which need not be this one: for simulations.
#[doc(hidden)]
#[derive(Debug)]
pub struct Schedule {
    pub(crate) descriptor: Descriptor,
}

impl Schedule {
    /// As a plan's.
    pub fn output_shape(&self, input: Shape) -> Result<Shape, Error> {
        self.descriptor.output_shape(input)
    }

    /// As a plan's.
    pub fn cost(&self, input: Shape) -> Result<Cost, Error> {
        self.descriptor.cost(input)
    }

    /// As a plan's.
    pub fn describe(&self) -> Description {
        self.descriptor.describe()
    }

    /// The parts of each step of each pass. `rayon` finishes a step before the next.
    pub fn steps(&self, input: Shape, threads: usize) -> Result<Vec<Vec<Vec<OutputRange>>>, Error> {
        self.descriptor.steps(input, threads)
    }

    /// The slots of a multiply unit that a vector of a kernel takes.
    pub fn slots(&self, kernel: &KernelInfo) -> f64 {
        self.descriptor.slots(kernel)
    }
}

/// What a plan computes, and on which kernels.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    pub(crate) isa: Isa,
    pub(crate) machine: &'static Machine,
    pub(crate) layout: Layout,
    pub(crate) in_channels: usize,
    /// Channels between the stages: those of a depthwise stage, or the gathered inputs of a pixel.
    pub(crate) mid_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) window: Window,
    pub(crate) fusion: Fusion,
    /// Biases of the first and of the last stage, given or folded.
    pub(crate) biases: [usize; 2],
    pub(crate) kernels: Stages<&'static KernelInfo, &'static KernelInfo>,
}

/// `f32` that a block of pixels may take between the stages: a quarter of a megabyte, which the
/// second-level caches of the last ten years hold with room for the weights that stream past.
const BLOCK_LEN: usize = 64 * 1024;
/// Pixels in a block at the least: below this the weights pass too often.
const LEAST_PIXELS: usize = 56;
/// Channels first, the price of reading in the second of two passes, whose parts read what other cores wrote. (Zen 4, two threads,
/// rows shared and channels: 28×28×256 481 and 491 µs, 28×28×128 to 256 245.5 and 248.)
const READ_OTHERS: f64 = 1.0;
/// What it costs a depthwise convolution to cut between channels that lie side by side, 1.5 µs. (Zen 4, two threads, even rows and cut
/// channels: 7×7×576 to 1152 3.3 to 6.9 µs and 6.4 to 10 µs, 13×13×960 16 µs both, 17×17×1024 43 and 40 µs.)
const SEAM: f64 = 1.5 * FORK;
/// Channels first, what a plane costs a part beyond its pixels, 32 ns: a plane that is cut has a cache line that two threads write,
/// so planes are not cut but where whole ones share badly. (Zen 4, two threads, half the rows each and half the channels:
/// 28×28×128 of 56×56 22 and 17 µs, 10×10×136 of 20×20 6.4 and 4.7 µs.)
const PLANE: f64 = 256.0;
/// Channels first, channels from which on two passes are the faster, if what lies between them stays in a cache: 1 to 9 %
/// with 64 to 728 channels; with 32 they are 4 to 9 % slower (Zen 5). From a distant cache they are up to 13 % slower, but not
/// to fewer channels, where the first stage weighs more: 12 % faster from 240 to 40 (Emerald Rapids).
const MANY_CHANNELS: usize = 64;
/// Values that stay in a cache that cores share: 8 MB.
const NEAR: usize = 2 << 20;
/// The share of a fused pass that two may take at the most, where its parts are near equal: the prices are no better. (Zen 5, two
/// threads: of 7×7×512 to 1024 the price is 0.991, and the time 0.97; of 14×14×512 to 512 0.998, and 1.02.)
const LEAST_GAIN: f64 = 0.995;
/// What lies in a thread's own cache is shared only if that gains so much: the prices are no better.
const CERTAIN: f64 = 0.92;
/// The most `f32` of a workspace.
const MOST_SCRATCH: usize = isize::MAX as usize / 8;
/// Elements beyond a pixel's channels, so that pixels a power of two apart do not share cache sets.
const SKEW: usize = 16;

impl Descriptor {
    pub(crate) fn describe(&self) -> Description {
        let (depthwise, pointwise) = match self.kernels {
            Stages::Depthwise(d) => (Some(d), None),
            Stages::Pointwise(p) | Stages::Gathered(p) => (None, Some(p)),
            Stages::Separable(d, p) => (Some(d), Some(p)),
        };
        Description {
            isa: self.isa,
            layout: self.layout,
            depthwise: depthwise.map(|kernel| kernel.name),
            pointwise: pointwise.map(|kernel| kernel.name),
        }
    }

    /// Of a separable convolution's first stage alone.
    pub(crate) fn first_stage(&self) -> Descriptor {
        let Stages::Separable(kernel, _) = self.kernels else { unreachable!("a separable convolution has two stages") };
        let (out_channels, biases) = (self.mid_channels, [0, self.biases[0]]);
        Descriptor { out_channels, biases, kernels: Stages::Depthwise(kernel), ..*self }
    }

    /// Of a separable convolution's second stage alone.
    pub(crate) fn second_stage(&self) -> Descriptor {
        let Stages::Separable(_, kernel) = self.kernels else { unreachable!("a separable convolution has two stages") };
        let (in_channels, biases) = (self.mid_channels, [0, self.biases[1]]);
        Descriptor { in_channels, biases, window: Window::POINT, kernels: Stages::Pointwise(kernel), ..*self }
    }

    /// What a plan of that name shows of itself: what it was built for and chose, not its weights.
    pub(crate) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut plan, description) = (f.debug_struct(name), self.describe());
        plan.field("in_channels", &self.in_channels);
        if let Stages::Depthwise(_) | Stages::Separable(..) = self.kernels {
            plan.field("multiplier", &(self.mid_channels / self.in_channels));
        }
        plan.field("out_channels", &self.out_channels);
        if !matches!(self.kernels, Stages::Pointwise(_)) {
            let Window { taps, padding } = self.window;
            plan.field("kernel_size", &taps.kernel_size)
                .field("stride", &taps.stride)
                .field("dilation", &taps.dilation);
            plan.field("padding", &padding);
        }
        if let Stages::Separable(..) = self.kernels {
            plan.field("fusion", &self.fusion);
        }
        plan.field("layout", &self.layout).field("isa", &self.isa);
        plan.field("kernels", &format_args!("{description}")).finish()
    }

    pub(crate) fn output_shape(&self, input: Shape) -> Result<Shape, Error> {
        Ok(self.outputs(input)?.1)
    }

    pub(crate) fn outputs(&self, input: Shape) -> Result<(Outputs, Shape), Error> {
        if input.c != self.in_channels {
            return Err(Error::Channels { expected: self.in_channels, found: input.c });
        }
        let outputs = self.window.outputs(input)?;
        let shape = Shape::new(input.n, self.out_channels, outputs.extent[0], outputs.extent[1]);
        for shape in [input, shape] {
            if shape.len().is_none_or(|len| len > isize::MAX as usize / 4) {
                return Err(Error::Overflow { what: "the number of elements of a tensor" });
            }
        }
        Ok((outputs, shape))
    }

    pub(crate) fn cost(&self, input: Shape) -> Result<Cost, Error> {
        let (_, output) = self.outputs(input)?;
        let [first, last] = self.biases;
        match self.kernels {
            Stages::Depthwise(_) => Cost::of(&self.window, input, output, 1, last),
            Stages::Pointwise(_) | Stages::Gathered(_) => Cost::of(&self.window, input, output, input.c, last),
            Stages::Separable(..) => {
                let between = Shape { c: self.mid_channels, ..output };
                let depthwise = Cost::of(&self.window, input, between, 1, first)?;
                depthwise.then(Cost::of(&Window::POINT, between, output, between.c, last)?, between)
            }
        }
    }

    /// What a part of the first stage of two passes, or of a depthwise convolution, costs.
    fn depthwise_price(&self, info: &KernelInfo, whole: Shape) -> Price {
        let (taps, width) = (self.window.taps, whole.w);
        let ([kh, kw], [sh, sw]) = (taps.kernel_size, taps.stride);
        let (channels, filled) = match self.layout {
            Layout::Nhwc => (info.lanes, 1.0),
            // Vectors along the row: the last one is seldom whole, and a row costs about one more.
            Layout::Nchw => (1, width.next_multiple_of(info.lanes).saturating_add(info.lanes) as f64 / width as f64),
        };
        let inputs = (sh.min(kh) * sw.min(kw)) as f64;
        let multiply_adds = self.slots(info) * (kh * kw) as f64 / info.lanes as f64;
        let (read, write) = (self.machine.read_shared, self.machine.write_shared);
        let value = filled * (multiply_adds + inputs * read + write);
        // Rows that two parts read, where rows are cut.
        let overlap = filled * (kh.saturating_sub(sh) * sw.min(kw)) as f64 * read;
        let (channel, seam) = if self.layout == Layout::Nhwc { (0.0, SEAM) } else { (PLANE, 0.0) };
        // What one thread uses run after run stays in its own cache, if that holds it.
        let outputs = Shape { c: self.mid_channels, ..whole }.len();
        let bytes = (1.0 + inputs) * 4.0 * outputs.map_or(f64::INFINITY, |len| len as f64);
        let read_own = self.machine.read_own;
        let alone = if read_own < read && bytes <= self.machine.own_cache as f64 {
            let own = multiply_adds + inputs * read_own + write.min(read_own);
            CERTAIN * own / (multiply_adds + inputs * read + write)
        } else {
            1.0
        };
        Price {
            pixel: 0.0,
            value,
            channel,
            seam,
            overlap,
            rows: whole.h,
            alone,
            tile: info.tile[0],
            channels,
            joined: 0,
            pixels: 1,
        }
    }

    /// What a part of a pointwise stage costs if each of its inputs costs that.
    fn pointwise_price(&self, info: &KernelInfo, input: f64) -> Price {
        let mid = self.mid_channels as f64;
        let (channels, pixels) = match self.layout {
            Layout::Nhwc => (2 * info.lanes, 1),
            Layout::Nchw => (info.tile[1], info.lanes),
        };
        let value = self.slots(info) * mid / info.lanes as f64 + self.machine.write_shared;
        let joined = if info.joins() { info.tile[1] - channels } else { 0 };
        Price {
            pixel: mid * input,
            value,
            channel: mid * self.machine.pointwise_read(),
            seam: 0.0,
            overlap: 0.0,
            rows: 0,
            alone: 1.0,
            tile: 1,
            channels,
            joined,
            pixels,
        }
    }

    /// The slots of a multiply unit that a vector of a kernel takes.
    fn slots(&self, info: &KernelInfo) -> f64 {
        f64::from(self.machine.slots(info.isa))
    }

    /// What `output`, a part of `whole`, costs at the most.
    pub(crate) fn price(&self, whole: Shape, output: Shape) -> f64 {
        match self.kernels {
            Stages::Depthwise(d) => self.depthwise_price(d, whole).of(output),
            Stages::Pointwise(p) | Stages::Gathered(p) => {
                self.pointwise_price(p, self.machine.pointwise_read()).of(output)
            }
            Stages::Separable(d, p) => {
                let first = self.depthwise_price(d, whole);
                let between = Shape { c: self.mid_channels, ..output };
                let two_pass = first.of(between) + self.second_price(p).of(output);
                two_pass.max(self.pointwise_price(p, first.value).of(output))
            }
        }
    }

    /// What a part of the second of two passes costs.
    fn second_price(&self, info: &KernelInfo) -> Price {
        let nhwc = self.layout == Layout::Nhwc;
        self.pointwise_price(info, if nhwc { self.machine.pointwise_read() } else { READ_OTHERS })
    }

    /// How `output`, all or a part of `whole`, is computed: a part never takes more scratch than the whole.
    pub(crate) fn choose(&self, whole: Shape, output: Shape, workers: Workers) -> Run {
        let block = self.block(whole);
        let one_pass = |price: Price| {
            let tasks = workers.worthwhile(price.of(output));
            Run { block, first: None, shares: Shares::new(output, price, tasks) }
        };
        match self.kernels {
            Stages::Depthwise(d) => one_pass(self.depthwise_price(d, whole)),
            Stages::Pointwise(p) | Stages::Gathered(p) => {
                one_pass(self.pointwise_price(p, self.machine.pointwise_read()))
            }
            Stages::Separable(d, p) => {
                let price = self.depthwise_price(d, whole);
                let fused = one_pass(self.pointwise_price(p, price.value));
                let between = Shape { c: self.mid_channels, ..output };
                // Channels first, blocks of rows are seldom whole tiles of the pointwise kernel's pixels.
                let near = Shape { c: self.mid_channels, ..whole }.len().is_some_and(|len| len <= NEAR);
                let near = near && (self.out_channels < self.mid_channels || !self.machine.distant_cache);
                let blocks_fit = self.layout == Layout::Nhwc || self.mid_channels < MANY_CHANNELS || !near;
                // Two passes move more: they do not pay for one thread, nor, from a distant cache, where fused parts are near equal.
                let near_even = fused.shares.dearest() <= 1.05 * fused.shares.even();
                let one_thread = fused.shares.tasks() == 1;
                // What lies between two passes may be more than can be addressed.
                let addressable = between.len().is_some_and(|len| len <= MOST_SCRATCH);
                match self.fusion {
                    Fusion::Fused => return fused,
                    Fusion::Auto if !addressable => return fused,
                    Fusion::Auto if blocks_fit && (one_thread || near_even && self.machine.distant_cache) => {
                        return fused;
                    }
                    _ => {}
                }
                let second = self.second_price(p);
                let tasks = workers.worthwhile(price.of(between) + second.of(output));
                let (first, second) = (Shares::new(between, price, tasks), Shares::new(output, second, tasks));
                let least = if near_even { LEAST_GAIN } else { 1.0 };
                let two_pass = !blocks_fit || first.total() + second.total() < least * fused.shares.total();
                if self.fusion == Fusion::TwoPass || two_pass {
                    Run { block, first: Some(first), shares: second }
                } else {
                    fused
                }
            }
        }
    }

    /// The scratch of a run on that output: that of each task, or what lies between two passes.
    pub(crate) fn scratch_len(&self, run: &Run, output: Shape) -> Result<usize, Error> {
        let len = match self.kernels {
            Stages::Depthwise(_) | Stages::Pointwise(_) => Some(0),
            _ if run.first.is_some() => Shape { c: self.mid_channels, ..output }.len(),
            _ => run.block.len(self).checked_mul(run.shares.tasks()),
        };
        len.filter(|&len| len <= MOST_SCRATCH).ok_or(Error::Overflow { what: "the workspace" })
    }

    /// How many pixels go through both stages at a time.
    fn block(&self, output: Shape) -> Block {
        let pixels = (BLOCK_LEN / self.mid_channels.max(1)).max(LEAST_PIXELS);
        let rows = (pixels / output.w.max(1)).max(1);
        let grain = match self.kernels {
            Stages::Separable(d, _) => {
                let tile = d.tile[0];
                let grids = sub_grids(self.window.taps.stride[0], self.window.taps.dilation[0]);
                // Of each sub-grid two rows at least, if they fit: one alone reads almost as many inputs.
                let pairs = grids * tile.max(2);
                let fit = rows.next_multiple_of(pairs).saturating_mul(output.w) <= 2 * pixels;
                if grids > 1 && fit { pairs } else { tile }
            }
            _ => 1,
        };
        let rows = rows.next_multiple_of(grain).min(output.h.max(1));
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
        let run = self.choose(output, output, Workers::called_within(threads));
        run.first.iter().chain([&run.shares]).map(Shares::steps).collect()
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

/// How a run is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) block: Block,
    /// Of two passes, the first.
    pub(crate) first: Option<Shares>,
    /// Of the only pass, or of the second.
    pub(crate) shares: Shares,
}

/// The pixels that go through both stages at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    /// The most rows.
    rows: usize,
    /// Rows that the depthwise stage best computes together: a tile's, or with dilation some of each sub-grid.
    grain: usize,
    pub(crate) columns: usize,
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
