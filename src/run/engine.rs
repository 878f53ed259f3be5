//! Running a plan: checks, blocks, stages.

use alloc::sync::Arc;

use crate::choose::choice::Choice;
use crate::choose::descriptor::{Descriptor, Stages};
use crate::choose::passes::{Block, Decision, Rows};
use crate::choose::workers::Workers;
use crate::run::arguments::Run;
use crate::run::gather::gather;
use crate::run::part::{self, Part};
use crate::run::threads::Parallelism;
use depthwise_kernels::{
    Axis, DepthwiseStage, Error, Layout, PointwiseStage, Shape, Strides, TensorView, TensorViewMut,
};

/// A plan of any operation: what is behind the public types.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) descriptor: Descriptor,
    pub(crate) stages: Stages<Arc<DepthwiseStage>, Arc<PointwiseStage>>,
}

impl Engine {
    pub(crate) fn new(descriptor: Descriptor, stages: Stages<Arc<DepthwiseStage>, Arc<PointwiseStage>>) -> Self {
        Self { descriptor, stages }
    }

    /// The depthwise stage of a separable convolution as an engine of its own.
    pub(crate) fn first_stage(&self) -> Engine {
        let Stages::Separable(stage, _) = &self.stages else { unreachable!("a separable convolution has two stages") };
        Engine::new(self.descriptor.first_stage(), Stages::Depthwise(Arc::clone(stage)))
    }

    /// The pointwise stage of a separable convolution, likewise.
    pub(crate) fn second_stage(&self) -> Engine {
        let Stages::Separable(_, stage) = &self.stages else { unreachable!("a separable convolution has two stages") };
        Engine::new(self.descriptor.second_stage(), Stages::Pointwise(Arc::clone(stage)))
    }

    /// How `output`, all or a part of `whole`, is computed by that many threads, which are asked for only where the work is worth it.
    fn choose(&self, whole: Shape, output: Shape, parallelism: Parallelism) -> Decision {
        let workers = parallelism.workers(|| self.descriptor.price(whole, output));
        self.descriptor.choose(whole, output, workers.unwrap_or(Workers::ONE))
    }

    pub(crate) fn prepare(&self, input: Shape, parallelism: Parallelism) -> Result<Choice, Error> {
        let (_, output) = self.descriptor.outputs(input)?;
        Choice::new(&self.descriptor, input, parallelism.workers(|| self.descriptor.price(output, output)))
    }

    pub(crate) fn run(&self, run: Run<'_>) -> Result<(), Error> {
        let Run { input, residual, output, range, workspace, parallelism, choice } = run;
        let descriptor = &self.descriptor;
        let (outputs, whole) = descriptor.outputs(input.shape())?;
        let (mut part, mut origin, mut images) = (whole, Shape::default(), 0..whole.n);
        if let Some(range) = range {
            for axis in Axis::ALL {
                let (start, end, extent) = (range[axis].start, range[axis].end, whole[axis]);
                if start > end || end > extent {
                    return Err(Error::Range { axis, start, end, extent });
                }
                (part[axis], origin[axis]) = (end - start, start);
            }
            images = range.n;
            origin.n = 0;
        }
        if let Some(choice) = choice {
            choice.check(descriptor, input.shape(), || parallelism.threads())?;
        }
        for (what, shape) in [("output", Some(output.shape())), ("residual", residual.map(|residual| residual.shape()))]
        {
            if let Some(found) = shape.filter(|&found| found != part) {
                return Err(Error::Shape { what, expected: part, found });
            }
        }
        let (layout, axis) = (descriptor.layout, descriptor.layout.vector_axis());
        for (what, shape, strides) in [
            ("input", input.shape(), input.strides()),
            ("output", part, output.strides()),
            ("residual", part, residual.map_or(output.strides(), |residual| residual.strides())),
        ] {
            if shape[axis] > 1 && strides[axis] != 1 {
                return Err(Error::NotContiguous { what, layout, axis, stride: strides[axis] });
            }
        }
        if part.is_empty() {
            return Ok(());
        }
        let made;
        let decision = match choice {
            Some(choice) if part == whole => choice.decision(),
            Some(choice) => {
                made = choice.of_part(part);
                &made
            }
            None => {
                made = self.choose(whole, part, parallelism);
                &made
            }
        };
        let mut rows = decision.rows;
        let scratch = workspace.take(descriptor.scratch_len(decision, part)?)?;
        let input = input.narrow(Axis::N, images)?;
        if let Some(row) = decision.sharing {
            let outputs = match (&self.stages, &decision.first) {
                (_, Some(_)) => Some((scratch.as_ptr().addr(), descriptor.mid_channels)),
                (Stages::Depthwise(_), None) => Some((output.address(), output.strides().w)),
                // Pixels of a block are not a power of two apart.
                _ => None,
            };
            let inputs = (input.address(), input.strides().w);
            if outputs.is_some_and(|outputs| descriptor.shares_sets(inputs, outputs, origin.c)) {
                rows = rows.with_depthwise(row);
            }
        }
        match (&self.stages, rows, &decision.first) {
            (Stages::Separable(depthwise, pointwise), Stages::Separable(row, _), Some(first)) => {
                let way = (row, decision.tuning);
                let between = Shape { c: descriptor.mid_channels, ..part };
                let whole = Part {
                    input,
                    residual: None,
                    output: TensorViewMut::new(scratch, between, layout)?,
                    origin: Shape { c: 0, ..origin },
                    scratch: &mut [],
                    per_task: 0,
                };
                part::run(first, whole, parallelism, &|part: Part<'_>| {
                    depthwise.run(way, part.input, None, part.output, part.origin, outputs.pad);
                    Ok(())
                })?;
                let input = TensorView::new(scratch, between, layout)?;
                // What lies between holds the part's pixels alone.
                let origin = Shape { h: 0, w: 0, ..origin };
                let whole = Part { input, residual, output, origin, scratch: &mut [], per_task: 0 };
                part::run(&decision.shares, whole, parallelism, &|part: Part<'_>| pointwise_pixels(pointwise, part))
            }
            _ => {
                let per_task = scratch.len() / decision.shares.tasks();
                let whole = Part { input, residual, output, origin, scratch, per_task };
                part::run(&decision.shares, whole, parallelism, &|part: Part<'_>| {
                    self.leaf(part, decision, rows, outputs.pad)
                })
            }
        }
    }

    /// One thread's part, in one pass.
    fn leaf(&self, part: Part<'_>, decision: &Decision, rows: Rows, pad: [usize; 2]) -> Result<(), Error> {
        let (descriptor, tuning, block) = (&self.descriptor, decision.tuning, decision.block);
        match (&self.stages, rows) {
            (Stages::Depthwise(stage), Stages::Depthwise(row)) => {
                stage.run((row, tuning), part.input, part.residual, part.output, part.origin, pad);
                Ok(())
            }
            (Stages::Pointwise(stage), _) => pointwise_pixels(stage, part),
            (Stages::Separable(depthwise, pointwise), Stages::Separable(row, _)) => {
                self.blocks(pointwise, part, block, pad[0], |input, panel, shape, strides, origin| {
                    let panel = TensorViewMut::strided(panel, shape, strides)?;
                    depthwise.run((row, tuning), input, None, panel, origin, pad);
                    Ok(())
                })
            }
            (Stages::Gathered(pointwise), _) => {
                self.blocks(pointwise, part, block, pad[0], |input, panel, shape, strides, origin| {
                    gather(descriptor.layout, &descriptor.window.taps, pad, input, origin, panel, shape, strides);
                    Ok(())
                })
            }
            (Stages::Depthwise(_) | Stages::Separable(..), _) => unreachable!("a stage runs on a row of its operation"),
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
        let (descriptor, shape) = (&self.descriptor, part.output.shape());
        let step = block.rows_of(shape.h);
        let read = |y: usize| {
            let rows = part.origin.h + y..part.origin.h + (y + step).min(shape.h);
            descriptor.window.rows_read(rows, part.input.shape().h, pad)
        };
        let brings_next = descriptor.layout == Layout::Nhwc && descriptor.machine.distant_cache;
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
                    let here = Shape::new(1, descriptor.mid_channels, rows.len(), columns.len());
                    let strides = descriptor.block_strides(here);
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
}

/// The pixels of `part` from the same pixels of its input.
fn pointwise_pixels(stage: &PointwiseStage, part: Part<'_>) -> Result<(), Error> {
    let (shape, origin) = (part.output.shape(), part.origin);
    let rows = part.input.narrow(Axis::H, origin.h..origin.h + shape.h)?;
    let pixels = rows.narrow(Axis::W, origin.w..origin.w + shape.w)?;
    stage.run(pixels, part.residual, part.output, origin.c, None);
    Ok(())
}
