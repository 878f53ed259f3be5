//! Running a plan of 8 bits: checks, blocks, stages.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use super::quantized::{Quantized, Target};
use crate::choose::descriptor::Stages;
use crate::choose::price::Price;
use crate::choose::split::Shares;
use crate::choose::workers::Workers;
use crate::geometry::{Outputs, Window};
use crate::machine::Machine;
use crate::run::arguments::Run;
use crate::run::part::{self, Part};
use crate::run::threads::Parallelism;
use depthwise_kernels::{
    Axis, ElementType, Error, Form, Input, Int8DepthwiseStage, Int8PointwiseStage, Integer, Isa, KernelInfo, Layout,
    Output, OutputRange, Shape, Stored, Strides, Taps, TensorView, TensorViewMut, bytes_of, copy, int8_steps,
};

/// A plan of any operation: what is behind the public types.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) stages: Stages<Arc<Int8DepthwiseStage>, Arc<Int8PointwiseStage>>,
    pub(crate) window: Window,
    pub(crate) layout: Layout,
    pub(crate) isa: Isa,
    pub(crate) machine: &'static Machine,
    pub(crate) in_channels: usize,
    /// What the last stage reads for each pixel, or the only one.
    pub(crate) mid_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) input: Quantized,
    pub(crate) target: Target,
}

/// What is computed at a time, and the scratch of it, in `f32`.
#[derive(Clone, Copy, Debug)]
struct Blocks {
    rows: usize,
    columns: usize,
    /// Inputs, copied to channels last.
    inputs: usize,
    /// What the second stage reads.
    between: usize,
    /// What a pointwise kernel takes for itself.
    kernel: usize,
    /// Outputs that are copied from there.
    outputs: usize,
    /// Whether they are.
    copies_outputs: bool,
}

impl Blocks {
    fn len(&self) -> Option<usize> {
        self.inputs.checked_add(self.between)?.checked_add(self.kernel)?.checked_add(self.outputs)
    }
}

/// Bytes as `f32`, in whole cache lines.
fn lines(bytes: usize) -> usize {
    bytes.div_ceil(64).saturating_mul(16)
}

/// Bytes from a pixel to the next between the stages: pixels a large power of two apart would share cache sets.
fn apart(channels: usize) -> usize {
    if channels.is_multiple_of(256) { channels + 64 } else { channels }
}

/// The strides of pixels that follow each other, so far apart.
fn pixels(shape: Shape, apart: usize) -> Strides {
    let row = shape.w * apart;
    Strides { n: shape.h * row, c: 1, h: row, w: apart }
}

/// The price of an output of a depthwise kernel.
pub(crate) fn depthwise_price(info: &KernelInfo, taps: Taps) -> f64 {
    /// Of copying a vector of inputs, and of what becomes of a vector of sums, in products.
    const COPY: f64 = 2.5;
    const FINISH: f64 = 4.0;
    let [products, copies] = int8_steps(info, taps);
    let vector = products + COPY * copies + FINISH;
    // Products of pairs are added by an instruction of their own; of any window, inputs are widened for each.
    let instructions = match (info.form, info.isa) {
        (_, Isa::Avx512Vnni) => 1.0,
        (Form::Any, Isa::Portable) => 16.0,
        (Form::Any, _) => 5.0,
        _ => 2.0,
    };
    vector * instructions / info.lanes as f64
}

impl Engine {
    pub(crate) fn outputs(&self, input: Shape) -> Result<(Outputs, Shape), Error> {
        self.window.whole(input, [self.in_channels, self.out_channels])
    }

    pub(crate) fn output_element(&self) -> ElementType {
        self.target.element()
    }

    fn depthwise(&self) -> Option<&Int8DepthwiseStage> {
        match &self.stages {
            Stages::Depthwise(stage) | Stages::Separable(stage, _) => Some(stage),
            Stages::Pointwise(_) | Stages::Gathered(_) => None,
        }
    }

    /// Channels that a depthwise stage reads for each channel of the input.
    fn multiplier(&self) -> usize {
        if self.depthwise().is_some() { self.mid_channels / self.in_channels } else { 1 }
    }

    /// Whether inputs are copied before a kernel reads them.
    fn copies_inputs(&self) -> bool {
        self.layout == Layout::Nchw || self.multiplier() > 1
    }

    /// Output channels that are never cut.
    fn grain(&self) -> usize {
        match &self.stages {
            Stages::Depthwise(stage) => stage.grain(),
            Stages::Pointwise(stage) | Stages::Gathered(stage) | Stages::Separable(_, stage) => stage.grain(),
        }
    }

    /// The price of a part.
    fn price(&self, whole: Shape) -> Price {
        let depthwise = |stage: &Int8DepthwiseStage| depthwise_price(stage.kernel(), stage.taps());
        let pointwise = |stage: &Int8PointwiseStage| {
            let products = match stage.kernel().isa {
                Isa::Avx512Vnni => 32.0,
                Isa::Avx2 | Isa::Avx512 => 16.0,
                Isa::Neon => 4.0,
                _ => 2.0,
            };
            self.mid_channels as f64 / products
        };
        let mid = self.mid_channels as f64;
        let (pixel, value) = match &self.stages {
            Stages::Depthwise(stage) => (0.0, depthwise(stage)),
            Stages::Pointwise(stage) => (0.0, pointwise(stage)),
            Stages::Gathered(stage) => (mid / 8.0, pointwise(stage)),
            Stages::Separable(first, second) => (mid * depthwise(first), pointwise(second)),
        };
        Price {
            pixel,
            value,
            channel: 0.0,
            seam: 0.0,
            overlap: 0.0,
            rows: whole.h,
            alone: 1.0,
            tile: 2,
            channels: self.grain(),
            joined: 0,
            pixels: 1,
            columns: 4,
            sharing: &self.machine.sharing,
        }
    }

    fn shares(&self, whole: Shape, output: Shape, workers: Workers) -> Shares {
        let price = self.price(whole);
        Shares::new(output, price, workers.worthwhile(price.of(output), &self.machine.sharing))
    }

    fn workers(&self, whole: Shape, output: Shape, parallelism: Parallelism<'_>) -> Workers {
        let price = || self.price(whole).of(output);
        parallelism.workers(price, &self.machine.sharing).unwrap_or(Workers::ONE)
    }

    pub(crate) fn parts(&self, input: Shape, threads: usize) -> Result<Vec<OutputRange>, Error> {
        let (_, output) = self.outputs(input)?;
        Ok(self.shares(output, output, Workers::called_within(threads)).steps()?.concat())
    }

    /// How an output, or a part of it from that channel on, is computed.
    fn blocks(&self, input: Shape, output: Shape, channel: usize) -> Blocks {
        let (taps, budget) = (self.window.taps, self.machine.block);
        let reach = |i: usize| (taps.kernel_size[i] - 1) * taps.dilation[i] + 1;
        let copies_outputs = self.layout == Layout::Nchw || !channel.is_multiple_of(self.grain());
        let size = self.output_element().size();
        // A channel that starts no panel is computed with those before it.
        let out_pixel = if copies_outputs { output.c.saturating_add(self.grain()).saturating_mul(size) } else { 0 };
        let mid_pixel = match self.stages {
            Stages::Separable(..) | Stages::Gathered(_) => apart(self.mid_channels),
            Stages::Depthwise(_) | Stages::Pointwise(_) => 0,
        };
        let in_row = if self.copies_inputs() { input.w.saturating_mul(input.c * self.multiplier()) } else { 0 };
        // Outputs that are written a second time are in a cache then.
        let again = match self.target {
            Target::Table(_) | Target::Real if !copies_outputs => output.c.saturating_mul(size),
            _ => 0,
        };
        let pixel = out_pixel.saturating_add(mid_pixel).saturating_add(again);
        let columns = match budget.checked_div(pixel) {
            Some(most) => output.w.min(most.max(48)),
            None => output.w,
        };
        let row = in_row.saturating_mul(taps.stride[0]).saturating_add(columns.saturating_mul(pixel));
        let rows = match budget.checked_div(row) {
            Some(most) if most > 1 => most / 2 * 2,
            Some(_) => 1,
            None => output.h,
        };
        let rows = rows.clamp(1, output.h.max(1));
        let in_rows = (rows - 1).saturating_mul(taps.stride[0]).saturating_add(reach(0)).min(input.h);
        let pixels = rows.saturating_mul(columns);
        let kernel = match &self.stages {
            Stages::Depthwise(_) => 0,
            Stages::Pointwise(stage) | Stages::Gathered(stage) | Stages::Separable(_, stage) => stage.scratch_len(),
        };
        Blocks {
            rows,
            columns: columns.max(1),
            inputs: lines(in_rows.saturating_mul(in_row)),
            between: lines(pixels.saturating_mul(mid_pixel)),
            kernel: lines(kernel),
            outputs: lines(pixels.saturating_mul(out_pixel)),
            copies_outputs,
        }
    }

    fn scratch_len(blocks: &Blocks, shares: &Shares) -> Result<usize, Error> {
        let len = blocks.len().and_then(|len| len.checked_mul(shares.tasks()));
        len.filter(|&len| len <= isize::MAX as usize / 8).ok_or(Error::Overflow { what: "the workspace" })
    }

    pub(crate) fn workspace_len(&self, input: Shape, parallelism: Parallelism<'_>) -> Result<usize, Error> {
        let (_, output) = self.outputs(input)?;
        let shares = self.shares(output, output, self.workers(output, output, parallelism));
        Self::scratch_len(&self.blocks(input, output, 0), &shares)
    }

    pub(crate) fn run<I: Integer<Stored = u8>, O: Output>(&self, run: Run<'_, I, O>) -> Result<(), Error> {
        let Run { input, residual, output, range, workspace, parallelism, choice, quantized } = run;
        let of_run = quantized.map(|of| self.check_of_run(of)).transpose()?;
        let types = [("input", self.input.element(), I::TYPE), ("output", self.output_element(), O::TYPE)];
        for (what, expected, found) in types {
            if expected != found {
                return Err(Error::ElementType { what, expected, found });
            }
        }
        if residual.is_some() {
            return Err(Error::NotOf8Bits { what: "a residual", hint: "add it after the run, by `int8::add`" });
        }
        if choice.is_some() {
            return Err(Error::NotOf8Bits { what: "a choice", hint: "a run makes its own" });
        }
        let (outputs, whole) = self.outputs(input.shape())?;
        let (shape, origin, images) = part::asked(whole, range)?;
        if output.shape() != shape {
            return Err(Error::Shape { what: "output", expected: shape, found: output.shape() });
        }
        let tensors = [("input", input.shape(), input.strides()), ("output", shape, output.strides())];
        part::check_contiguous(self.layout, tensors)?;
        if shape.is_empty() {
            return Ok(());
        }
        let shares = self.shares(whole, shape, self.workers(whole, shape, parallelism));
        let blocks = self.blocks(input.shape(), shape, origin.c);
        let scratch = workspace.take(Self::scratch_len(&blocks, &shares)?)?;
        let per_task = scratch.len() / shares.tasks();
        let input = input.narrow(Axis::N, images)?.stored();
        let whole = Part { input, residual: None, output: output.stored(), origin, scratch, per_task };
        part::run(&shares, whole, parallelism, &|part| self.leaf(part, &blocks, outputs.pad, of_run))
    }

    /// What a run says of its input.
    fn check_of_run(&self, of: Quantized) -> Result<Input, Error> {
        let infinite_factor = match (&self.target, &self.stages) {
            (Target::Real, Stages::Depthwise(stage)) => stage.infinite_factor(of.scale),
            (Target::Real, Stages::Pointwise(stage) | Stages::Gathered(stage)) => stage.infinite_factor(of.scale),
            _ => {
                return Err(Error::NotOf8Bits {
                    what: "what a run says of its input, unless outputs are of f32 and there is one stage",
                    hint: "say it when the plan is built, by `input`",
                });
            }
        };
        of.check("the input")?;
        let (expected, found) = (self.input.element(), of.element());
        if expected != found {
            return Err(Error::ElementType { what: "input", expected, found });
        }
        match infinite_factor {
            Some((channel, factor)) => Err(Error::Factor { channel, factor: factor.into() }),
            None => Ok(of.as_input()),
        }
    }

    /// One thread's part.
    fn leaf<O: Stored>(
        &self,
        part: Part<'_, u8, O>,
        blocks: &Blocks,
        pad: [usize; 2],
        of_run: Option<Input>,
    ) -> Result<(), Error> {
        let Part { input, mut output, origin, scratch, .. } = part;
        let shape = output.shape();
        let (copied, scratch) = scratch.split_at_mut(blocks.inputs);
        let (between, scratch) = scratch.split_at_mut(blocks.between);
        let (kernel, scratch) = scratch.split_at_mut(blocks.kernel);
        let (computed, _) = scratch.split_at_mut(blocks.outputs);
        let (between, kernel) = (bytes_of(between), bytes_of(kernel));
        let multiplier = self.multiplier();
        for n in 0..shape.n {
            let image = input.narrow(Axis::N, n..n + 1)?;
            for y in (0..shape.h).step_by(blocks.rows) {
                let rows = y..(y + blocks.rows).min(shape.h);
                let read = self.window.read(0, origin.h + rows.start..origin.h + rows.end, input.shape().h, pad[0]);
                let all = Shape { c: input.shape().c * multiplier, ..image.shape() };
                let copy_shape = Shape { h: read.len(), ..all };
                let copy_strides = pixels(copy_shape, all.c);
                if self.copies_inputs() {
                    let to = TensorViewMut::strided(bytes_of(copied), copy_shape, copy_strides)?;
                    copy(image.narrow(Axis::H, read.clone())?, to, multiplier);
                }
                // The rows that the kernel sees, and the first of them.
                let (seen, top) = if self.copies_inputs() {
                    (TensorView::strided(bytes_of(copied), copy_shape, copy_strides)?, read.start)
                } else {
                    (image, 0)
                };
                for x in (0..shape.w).step_by(blocks.columns) {
                    let columns = x..(x + blocks.columns).min(shape.w);
                    let target = output.reborrow().narrow(Axis::N, n..n + 1)?;
                    let target = target.narrow(Axis::H, rows.clone())?.narrow(Axis::W, columns.clone())?;
                    let here = [origin.h + rows.start, origin.w + columns.start];
                    let first = [0, 1].map(|i| {
                        let start = here[i] * self.window.taps.stride[i];
                        start as isize - pad[i] as isize - if i == 0 { top as isize } else { 0 }
                    });
                    if !blocks.copies_outputs {
                        self.block(seen, target, (here, top, first), (origin.c, of_run), between, kernel)?;
                        continue;
                    }
                    // Channels before the first, from where a panel starts, are computed, too.
                    let more = origin.c % self.grain();
                    let shape = Shape { c: target.shape().c + more, ..target.shape() };
                    let strides = pixels(shape, shape.c);
                    let to = TensorViewMut::strided(O::of(computed), shape, strides)?;
                    self.block(seen, to, (here, top, first), (origin.c - more, of_run), between, kernel)?;
                    let from = TensorView::strided(O::of(computed), shape, strides)?;
                    copy(from.narrow(Axis::C, more..shape.c)?, target, 1);
                }
            }
        }
        Ok(())
    }

    /// A block of outputs of one image, channels last, whose first is at that place in the output. `top`: the image's row that the input
    /// starts with; `first`: where in the input the first tap is.
    fn block<O: Stored>(
        &self,
        input: TensorView<'_, u8>,
        output: TensorViewMut<'_, O>,
        (here, top, first): ([usize; 2], usize, [isize; 2]),
        (channel, of_run): (usize, Option<Input>),
        between: &mut [u8],
        kernel: &mut [u8],
    ) -> Result<(), Error> {
        let shape = output.shape();
        let mid = Shape { c: self.mid_channels, ..shape };
        let strides = pixels(mid, apart(self.mid_channels));
        match &self.stages {
            Stages::Depthwise(stage) => {
                let input = input.narrow(Axis::C, channel..channel + shape.c)?;
                stage.run(input, output, first, channel, of_run);
            }
            Stages::Pointwise(stage) => {
                let start = here[0] - top;
                let rows = input.narrow(Axis::H, start..start + shape.h)?;
                stage.run(rows.narrow(Axis::W, here[1]..here[1] + shape.w)?, output, channel, of_run, kernel);
            }
            Stages::Separable(depthwise, pointwise) => {
                depthwise.run(input, TensorViewMut::strided(between, mid, strides)?, first, 0, None);
                pointwise.run(TensorView::strided(between, mid, strides)?, output, channel, None, kernel);
            }
            Stages::Gathered(stage) => {
                self.gather(input, between, mid, (first, of_run));
                stage.run(TensorView::strided(between, mid, strides)?, output, channel, of_run, kernel);
            }
        }
        Ok(())
    }

    /// The inputs of each output's window, one after the other.
    fn gather(
        &self,
        input: TensorView<'_, u8>,
        to: &mut [u8],
        shape: Shape,
        (first, of_run): ([isize; 2], Option<Input>),
    ) {
        let taps = self.window.taps;
        // As it is stored.
        let zero_point = of_run.unwrap_or(self.input.as_input()).zero_point;
        let (channels, padding) =
            (self.in_channels, if self.input.is_signed() { zero_point ^ 0x80 } else { zero_point });
        for (pixel, to) in to.chunks_mut(apart(self.mid_channels)).take(shape.h * shape.w).enumerate() {
            let at = |i: usize, output: usize, tap: usize| {
                first[i] + (output * taps.stride[i] + tap * taps.dilation[i]) as isize
            };
            let mut to = to.chunks_exact_mut(channels);
            for ky in 0..taps.kernel_size[0] {
                for kx in 0..taps.kernel_size[1] {
                    let (y, x) = (at(0, pixel / shape.w, ky), at(1, pixel % shape.w, kx));
                    let inputs = usize::try_from(y).ok().zip(usize::try_from(x).ok());
                    let Some(to) = to.next() else { return };
                    match inputs.and_then(|(y, x)| input.pixel(0, y, x)) {
                        Some(from) => to.copy_from_slice(from),
                        None => to.fill(padding),
                    }
                }
            }
        }
    }
}

impl fmt::Display for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let input = self.input.element();
        write!(
            f,
            "{} to {} channels, {input} to {}, {}",
            self.in_channels,
            self.out_channels,
            self.output_element(),
            self.layout
        )?;
        let depthwise = self.depthwise().map(|stage| stage.kernel().name);
        let pointwise = match &self.stages {
            Stages::Pointwise(stage) | Stages::Gathered(stage) | Stages::Separable(_, stage) => {
                Some(stage.kernel().name)
            }
            Stages::Depthwise(_) => None,
        };
        for name in depthwise.into_iter().chain(pointwise) {
            write!(f, ", {name}")?;
        }
        Ok(())
    }
}
