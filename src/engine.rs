//! Running a plan: checks, the choice between fused and two passes, blocks.

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::cost::Cost;
use crate::error::Error;
use crate::gather::gather;
use crate::geometry::{Outputs, Window};
use crate::kernels::isa::{Isa, has_distant_cache};
use crate::kernels::stage::{DepthwiseStage, PointwiseStage};
use crate::kernels::{KernelInfo, sub_grids};
use crate::schedule::{FORK, Parallelism, Part, Price, Shares, Workers};
use crate::tensor::{Axis, Layout, Shape, Strides, TensorView, TensorViewMut};
use crate::workspace::Workspace;

/// How the two stages of a separable convolution pass the values between them. The bits are the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fusion {
    /// Fused, but for outputs that fused stages would share badly between the threads, and in NCHW for small images of many
    /// channels (on some CPUs only if the output has fewer).
    #[default]
    Auto,
    /// In blocks of pixels that stay in the cache. Threads that share rows of an output with few of them, each with
    /// channels of its own, each compute the first stage there.
    Fused,
    /// All of the first stage, then all of the second.
    TwoPass,
}

/// A part of an output: images, channels and rows, all columns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutputRange {
    /// Images.
    pub n: Range<usize>,
    /// Channels.
    pub c: Range<usize>,
    /// Rows.
    pub h: Range<usize>,
}

impl OutputRange {
    /// All of an output.
    pub fn all(output: Shape) -> Self {
        Self { n: 0..output.n, c: 0..output.c, h: 0..output.h }
    }
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

/// The stages of a plan.
pub(crate) enum Stages {
    Depthwise(DepthwiseStage),
    Pointwise(PointwiseStage),
    Separable(DepthwiseStage, PointwiseStage),
    /// A standard convolution: the window's inputs, gathered pixel by pixel, times a matrix.
    Gathered(PointwiseStage),
}

/// A plan of any operation: what is behind the public types.
pub(crate) struct Engine {
    pub(crate) isa: Isa,
    pub(crate) layout: Layout,
    pub(crate) in_channels: usize,
    /// Channels between the stages: those of a depthwise stage, or the gathered inputs of a pixel.
    pub(crate) mid_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) window: Window,
    pub(crate) fusion: Fusion,
    /// Biases of the first and of the last stage, given or folded.
    pub(crate) biases: [usize; 2],
    pub(crate) stages: Stages,
    #[cfg_attr(not(feature = "rayon"), expect(dead_code, reason = "without it no run has several threads"))]
    pub(crate) last: LastRun,
}

/// `f32` that a block of pixels may take between the stages: a quarter of a megabyte, which the
/// second-level caches of the last ten years hold with room for the weights that stream past.
const BLOCK_LEN: usize = 64 * 1024;
/// Pixels in a block at the least: below this the weights pass too often.
const LEAST_PIXELS: usize = 56;
/// Prices of reading and of writing a value: measured on Zen 5, from and to the cache that cores share.
const READ: f64 = 3.0 / 8.0;
const WRITE: f64 = 1.0 / 8.0;
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
/// Elements beyond a pixel's channels, so that pixels a power of two apart do not share cache sets.
const SKEW: usize = 16;

impl Engine {
    pub(crate) fn describe(&self) -> Description {
        let (depthwise, pointwise) = match &self.stages {
            Stages::Depthwise(d) => (Some(d), None),
            Stages::Pointwise(p) | Stages::Gathered(p) => (None, Some(p)),
            Stages::Separable(d, p) => (Some(d), Some(p)),
        };
        Description {
            isa: self.isa,
            layout: self.layout,
            depthwise: depthwise.map(|stage| stage.info().name),
            pointwise: pointwise.map(|stage| stage.info().name),
        }
    }

    /// What a plan of that name shows of itself: what it was built for and chose, not its weights.
    pub(crate) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut plan, description) = (f.debug_struct(name), self.describe());
        plan.field("in_channels", &self.in_channels);
        if let Stages::Depthwise(_) | Stages::Separable(..) = self.stages {
            plan.field("multiplier", &(self.mid_channels / self.in_channels));
        }
        plan.field("out_channels", &self.out_channels);
        if !matches!(self.stages, Stages::Pointwise(_)) {
            let Window { taps, padding } = self.window;
            plan.field("kernel_size", &taps.kernel_size)
                .field("stride", &taps.stride)
                .field("dilation", &taps.dilation);
            plan.field("padding", &padding);
        }
        if let Stages::Separable(..) = self.stages {
            plan.field("fusion", &self.fusion);
        }
        plan.field("layout", &self.layout).field("isa", &self.isa);
        plan.field("kernels", &format_args!("{description}")).finish()
    }

    pub(crate) fn output_shape(&self, input: Shape) -> Result<Shape, Error> {
        Ok(self.outputs(input)?.1)
    }

    fn outputs(&self, input: Shape) -> Result<(Outputs, Shape), Error> {
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
        match self.stages {
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
    fn depthwise_price(&self, stage: &DepthwiseStage, width: usize) -> Price {
        let (info, taps) = (stage.info(), self.window.taps);
        let ([kh, kw], [sh, sw]) = (taps.kernel_size, taps.stride);
        let (channels, filled) = match self.layout {
            Layout::Nhwc => (info.lanes, 1.0),
            // Vectors along the row: the last one is seldom whole, and a row costs about one more.
            Layout::Nchw => (1, width.next_multiple_of(info.lanes).saturating_add(info.lanes) as f64 / width as f64),
        };
        let inputs = (sh.min(kh) * sw.min(kw)) as f64;
        let multiply_adds = turns(info) * (kh * kw) as f64 / info.lanes as f64;
        let value = filled * (multiply_adds + inputs * READ + WRITE);
        let (channel, seam) = if self.layout == Layout::Nhwc { (0.0, SEAM) } else { (PLANE, 0.0) };
        Price { pixel: 0.0, value, channel, seam, tile: info.tile[0], channels, joined: 0, pixels: 1 }
    }

    /// What a part of a pointwise stage costs if each of its inputs costs that.
    fn pointwise_price(&self, stage: &PointwiseStage, input: f64) -> Price {
        let (info, mid) = (stage.info(), self.mid_channels as f64);
        let (channels, pixels) = match self.layout {
            Layout::Nhwc => (2 * info.lanes, 1),
            Layout::Nchw => (info.tile[1], info.lanes),
        };
        let value = turns(info) * mid / info.lanes as f64 + WRITE;
        let joined = if info.joins() { info.tile[1] - channels } else { 0 };
        Price { pixel: mid * input, value, channel: mid * READ, seam: 0.0, tile: 1, channels, joined, pixels }
    }

    /// How `output`, all or a part of `whole`, is computed: a part never takes more scratch than the whole.
    fn layout_of_run(&self, whole: Shape, output: Shape, workers: Workers) -> Run {
        #[cfg(feature = "rayon")]
        if workers.threads > 1 {
            return self.last.or_new((whole, output, workers), || self.choose_layout(whole, output, workers));
        }
        self.choose_layout(whole, output, workers)
    }

    fn choose_layout(&self, whole: Shape, output: Shape, workers: Workers) -> Run {
        let block = self.block(whole);
        let one_pass = |price: Price| {
            let tasks = workers.worthwhile(price.of(output));
            Run { block, first: None, shares: Shares::new(output, price, tasks) }
        };
        match &self.stages {
            Stages::Depthwise(d) => one_pass(self.depthwise_price(d, whole.w)),
            Stages::Pointwise(p) | Stages::Gathered(p) => one_pass(self.pointwise_price(p, READ)),
            Stages::Separable(d, p) => {
                let price = self.depthwise_price(d, whole.w);
                let fused = one_pass(self.pointwise_price(p, price.value));
                let between = Shape { c: self.mid_channels, ..output };
                // Channels first, blocks of rows are seldom whole tiles of the pointwise kernel's pixels.
                let near = Shape { c: self.mid_channels, ..whole }.len().is_some_and(|len| len <= NEAR);
                let near = near && (self.out_channels < self.mid_channels || !has_distant_cache());
                let blocks_fit = self.layout == Layout::Nhwc || self.mid_channels < MANY_CHANNELS || !near;
                // Two passes move more: they do not pay for one thread, nor, from a distant cache, where fused parts are near equal.
                let near_even = fused.shares.dearest() <= 1.05 * fused.shares.even();
                let one_thread = fused.shares.tasks() == 1;
                match self.fusion {
                    Fusion::Fused => return fused,
                    Fusion::Auto if blocks_fit && (one_thread || near_even && has_distant_cache()) => return fused,
                    _ => {}
                }
                let second = self.pointwise_price(p, if self.layout == Layout::Nhwc { READ } else { READ_OTHERS });
                let tasks = workers.worthwhile(price.of(between) + second.of(output));
                let (first, second) = (Shares::new(between, price, tasks), Shares::new(output, second, tasks));
                let least = if near_even { LEAST_GAIN } else { 1.0 };
                let two_pass =
                    !blocks_fit || first.dearest() + second.dearest() + FORK < least * fused.shares.dearest();
                if self.fusion == Fusion::TwoPass || two_pass {
                    Run { block, first: Some(first), shares: second }
                } else {
                    fused
                }
            }
        }
    }

    /// The scratch of a run on that output: that of each task, or what lies between two passes.
    fn scratch_len(&self, run: &Run, output: Shape) -> Result<usize, Error> {
        let len = match &self.stages {
            Stages::Depthwise(_) | Stages::Pointwise(_) => Some(0),
            _ if run.first.is_some() => Shape { c: self.mid_channels, ..output }.len(),
            _ => run.block.len(self).checked_mul(run.shares.tasks()),
        };
        len.filter(|&len| len <= isize::MAX as usize / 8).ok_or(Error::Overflow { what: "the workspace" })
    }

    /// How many pixels go through both stages at a time.
    fn block(&self, output: Shape) -> Block {
        let pixels = (BLOCK_LEN / self.mid_channels.max(1)).max(LEAST_PIXELS);
        let rows = (pixels / output.w.max(1)).max(1);
        let grain = match &self.stages {
            Stages::Separable(d, _) => {
                let tile = d.info().tile[0];
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

    pub(crate) fn workspace_len(&self, input: Shape, parallelism: Parallelism) -> Result<usize, Error> {
        let (_, output) = self.outputs(input)?;
        self.scratch_len(&self.layout_of_run(output, output, parallelism.workers()), output)
    }

    /// The parts of each step of each pass.
    pub(crate) fn steps(&self, input: Shape, threads: usize) -> Result<Vec<Vec<Vec<OutputRange>>>, Error> {
        let (_, output) = self.outputs(input)?;
        let run = self.layout_of_run(output, output, Workers::called_within(threads));
        run.first.iter().chain([&run.shares]).map(Shares::steps).collect()
    }

    pub(crate) fn run(
        &self,
        input: TensorView<'_>,
        residual: Option<TensorView<'_>>,
        output: TensorViewMut<'_>,
        range: Option<&OutputRange>,
        workspace: &mut Workspace,
        parallelism: Parallelism,
    ) -> Result<(), Error> {
        let (outputs, whole) = self.outputs(input.shape())?;
        let (mut part, mut origin, mut images) = (whole, Shape::default(), 0..whole.n);
        if let Some(range) = range {
            for (axis, r) in [(Axis::N, &range.n), (Axis::C, &range.c), (Axis::H, &range.h)] {
                if r.start > r.end || r.end > whole[axis] {
                    return Err(Error::Range { axis, start: r.start, end: r.end, extent: whole[axis] });
                }
                part[axis] = r.len();
                origin[axis] = r.start;
            }
            images = range.n.clone();
            origin.n = 0;
        }
        for (what, shape) in [("output", Some(output.shape())), ("residual", residual.map(|residual| residual.shape()))]
        {
            if let Some(found) = shape.filter(|&found| found != part) {
                return Err(Error::Shape { what, expected: part, found });
            }
        }
        let axis = self.layout.vector_axis();
        for (what, shape, strides) in [
            ("input", input.shape(), input.strides()),
            ("output", part, output.strides()),
            ("residual", part, residual.map_or(output.strides(), |residual| residual.strides())),
        ] {
            if shape[axis] > 1 && strides[axis] != 1 {
                return Err(Error::NotContiguous { what, layout: self.layout, axis, stride: strides[axis] });
            }
        }
        if part.is_empty() {
            return Ok(());
        }
        let run = self.layout_of_run(whole, part, parallelism.workers());
        let scratch = workspace.take(self.scratch_len(&run, part)?)?;
        let input = input.narrow(Axis::N, images)?;
        match (&self.stages, &run.first) {
            (Stages::Separable(depthwise, pointwise), Some(first)) => {
                let between = Shape { c: self.mid_channels, ..part };
                let whole = Part {
                    input,
                    residual: None,
                    output: TensorViewMut::new(scratch, between, self.layout)?,
                    origin: Shape { c: 0, ..origin },
                    scratch: &mut [],
                    per_task: 0,
                };
                first.run(whole, parallelism, &|part: Part<'_>| {
                    depthwise.run(part.input, None, part.output, part.origin, outputs.pad);
                    Ok(())
                })?;
                let input = TensorView::new(scratch, between, self.layout)?;
                // What lies between holds the part's rows alone.
                let origin = Shape { h: 0, ..origin };
                let whole = Part { input, residual, output, origin, scratch: &mut [], per_task: 0 };
                run.shares.run(whole, parallelism, &|part: Part<'_>| pointwise_rows(pointwise, part))
            }
            _ => {
                let per_task = scratch.len() / run.shares.tasks();
                let whole = Part { input, residual, output, origin, scratch, per_task };
                run.shares.run(whole, parallelism, &|part: Part<'_>| self.leaf(part, run.block, outputs.pad))
            }
        }
    }

    /// One thread's part, in one pass.
    fn leaf(&self, part: Part<'_>, block: Block, pad: [usize; 2]) -> Result<(), Error> {
        match &self.stages {
            Stages::Depthwise(stage) => {
                stage.run(part.input, part.residual, part.output, part.origin, pad);
                Ok(())
            }
            Stages::Pointwise(stage) => pointwise_rows(stage, part),
            Stages::Separable(depthwise, pointwise) => {
                self.blocks(pointwise, part, block, pad[0], |input, panel, shape, strides, origin| {
                    depthwise.run(input, None, TensorViewMut::strided(panel, shape, strides)?, origin, pad);
                    Ok(())
                })
            }
            Stages::Gathered(pointwise) => {
                self.blocks(pointwise, part, block, pad[0], |input, panel, shape, strides, origin| {
                    gather(self.layout, &self.window.taps, pad, input, origin, panel, shape, strides);
                    Ok(())
                })
            }
        }
    }

    /// A part in blocks of pixels: `fill` computes what the pointwise stage reads, as a tensor of that shape
    /// and strides whose first pixel is at that place in the output. `pad`: at the top.
    fn blocks(
        &self,
        pointwise: &PointwiseStage,
        mut part: Part<'_>,
        block: Block,
        pad: usize,
        fill: impl Fn(TensorView<'_>, &mut [f32], Shape, Strides, Shape) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let shape = part.output.shape();
        let step = block.rows_of(shape.h);
        let read = |y: usize| {
            let rows = part.origin.h + y..part.origin.h + (y + step).min(shape.h);
            self.window.rows_read(rows, part.input.shape().h, pad)
        };
        let brings_next = self.layout == Layout::Nhwc && has_distant_cache();
        for n in 0..shape.n {
            let input = part.input.narrow(Axis::N, n..n + 1)?;
            for y in (0..shape.h).step_by(step) {
                let rows = y..(y + step).min(shape.h);
                let next = if !brings_next {
                    None
                } else if rows.end < shape.h {
                    Some(input.narrow(Axis::H, read(y).end.max(read(rows.end).start)..read(rows.end).end)?)
                } else if n + 1 < shape.n {
                    Some(part.input.narrow(Axis::N, n + 1..n + 2)?.narrow(Axis::H, read(0))?)
                } else {
                    None
                };
                for x in (0..shape.w).step_by(block.columns) {
                    let columns = x..(x + block.columns).min(shape.w);
                    let here = Shape::new(1, self.mid_channels, rows.len(), columns.len());
                    let strides = self.block_strides(here);
                    let origin = Shape::new(0, 0, part.origin.h + y, part.origin.w + x);
                    fill(input, part.scratch, here, strides, origin)?;
                    let output = part.output.reborrow();
                    let output = output.narrow(Axis::N, n..n + 1)?.narrow(Axis::H, rows.clone())?;
                    let residual = part.residual.map(|residual| {
                        let rows = residual.narrow(Axis::N, n..n + 1)?.narrow(Axis::H, rows.clone())?;
                        rows.narrow(Axis::W, columns.clone())
                    });
                    pointwise.run(
                        TensorView::strided(part.scratch, here, strides)?,
                        residual.transpose()?,
                        output.narrow(Axis::W, columns.clone())?,
                        part.origin.c,
                        next.filter(|_| columns.end == shape.w),
                    );
                }
            }
        }
        Ok(())
    }

    /// The strides of a block between the stages: pixels in one run.
    fn block_strides(&self, block: Shape) -> Strides {
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

fn turns(kernel: &KernelInfo) -> f64 {
    f64::from(kernel.isa.turns())
}

/// The rows of `part` from the same rows of its input.
fn pointwise_rows(stage: &PointwiseStage, part: Part<'_>) -> Result<(), Error> {
    let rows = part.origin.h..part.origin.h + part.output.shape().h;
    stage.run(part.input.narrow(Axis::H, rows)?, part.residual, part.output, part.origin.c, None);
    Ok(())
}

/// How a run is laid out.
#[derive(Clone, Copy, Debug)]
struct Run {
    block: Block,
    /// Of two passes, the first.
    first: Option<Shares>,
    /// Of the only pass, or of the second.
    shares: Shares,
}

/// The layout of the last run on several threads, for the next of the same shapes: to choose one takes 1 µs for two threads, and up to
/// 16 µs for seventeen (Zen 4).
#[derive(Default)]
pub(crate) struct LastRun {
    #[cfg(feature = "rayon")]
    last: std::sync::RwLock<Option<(Key, Run)>>,
}

/// The whole output, the part of it, and who works.
#[cfg(feature = "rayon")]
type Key = (Shape, Shape, Workers);

#[cfg(feature = "rayon")]
impl LastRun {
    /// The last run's if it was `of` these, or else a new one. Never waits for another thread.
    fn or_new(&self, of: Key, new: impl FnOnce() -> Run) -> Run {
        if let Ok(last) = self.last.try_read()
            && let Some((shapes, run)) = *last
            && shapes == of
        {
            return run;
        }
        let run = new();
        if let Ok(mut last) = self.last.try_write() {
            *last = Some((of, run));
        }
        run
    }
}

/// The pixels that go through both stages at a time.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// The most rows.
    rows: usize,
    /// Rows that the depthwise stage best computes together: a tile's, or with dilation some of each sub-grid.
    grain: usize,
    columns: usize,
}

impl Block {
    /// Rows that cut `height` into as few blocks as these rows do, as even as whole tiles allow.
    fn rows_of(&self, height: usize) -> usize {
        let blocks = height.div_ceil(self.rows).max(1);
        height.div_ceil(blocks).next_multiple_of(self.grain).min(self.rows)
    }

    /// The scratch it takes.
    fn len(&self, engine: &Engine) -> usize {
        let shape = Shape::new(1, engine.mid_channels, self.rows, self.columns);
        let strides = engine.block_strides(shape);
        match engine.layout {
            Layout::Nhwc => strides.h.saturating_mul(self.rows),
            Layout::Nchw => strides.c.saturating_mul(engine.mid_channels),
        }
    }
}
