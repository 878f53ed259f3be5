//! Running a plan: checks, blocks, stages.

use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::choose::choice::Choice;
use crate::choose::descriptor::{Descriptor, Stages};
use crate::choose::passes::{Decision, Rows};
use crate::choose::wide::{Wide, Widths};
use crate::choose::workers::Workers;
use crate::geometry::Outputs;
use crate::run::arguments::Run;
use crate::run::gather::gather;
use crate::run::part::{self, Part};
use crate::run::threads::Parallelism;
use crate::run::twin::{Label, Twin};
use crate::run::wide::Tensors;
use depthwise_kernels::{
    Axis, DepthwiseStage, DepthwiseTuning, Element, ElementType, Error, KernelInfo, Layout, OutputRange,
    PointwiseStage, Shape, Strides, TensorView, TensorViewMut, elements_of,
};
#[cfg(feature = "half")]
use depthwise_kernels::{bf16, f16};

/// A plan of any operation: what is behind the public types.
#[derive(Clone)]
pub(crate) struct Engine {
    pub(crate) descriptor: Descriptor,
    pub(crate) stages: Stages<Arc<DepthwiseStage>, Arc<PointwiseStage>>,
    pub(crate) twin: Option<Twin>,
}

impl Engine {
    pub(crate) fn new(descriptor: Descriptor, stages: Stages<Arc<DepthwiseStage>, Arc<PointwiseStage>>) -> Self {
        Self { descriptor, stages, twin: None }
    }

    /// With a twin, if there is one.
    pub(crate) fn with_twin(self, label: Label, twin: Option<Engine>) -> Self {
        match twin {
            Some(engine) => Self { twin: Some(Twin::new(label, engine)), ..self },
            None => self,
        }
    }

    /// The twin that takes runs on inputs of that shape, if their tensors have no gaps.
    pub(crate) fn twin(&self, input: Shape) -> Option<&Twin> {
        self.twin.as_ref().filter(|twin| twin.suits(&self.descriptor, input))
    }

    /// The depthwise stage of a separable convolution as an engine of its own.
    pub(crate) fn first_stage(&self) -> Engine {
        let Stages::Separable(stage, _) = &self.stages else { unreachable!("a separable convolution has two stages") };
        let engine = Engine::new(self.descriptor.first_stage(), Stages::Depthwise(Arc::clone(stage)));
        Engine { twin: self.twin.as_ref().map(|twin| twin.of_stage(Engine::first_stage)), ..engine }
    }

    /// The pointwise stage of a separable convolution, likewise.
    pub(crate) fn second_stage(&self) -> Engine {
        let Stages::Separable(_, stage) = &self.stages else { unreachable!("a separable convolution has two stages") };
        Engine::new(self.descriptor.second_stage(), Stages::Pointwise(Arc::clone(stage)))
    }

    /// How `output`, all or a part of `whole`, is computed by that many threads, which are asked for only where the work is worth it.
    fn choose(&self, whole: Shape, output: Shape, parallelism: Parallelism<'_>) -> Decision {
        let price = || self.descriptor.price(whole, output);
        let workers = parallelism.workers(price, &self.descriptor.machine.sharing);
        self.descriptor.choose(whole, output, workers.unwrap_or(Workers::ONE))
    }

    pub(crate) fn prepare(&self, input: Shape, parallelism: Parallelism<'_>) -> Result<Choice, Error> {
        let choice = self.prepare_as_said(input, parallelism)?;
        match self.twin(input) {
            // Tensors with gaps may keep a run from its twin.
            Some(twin) => Ok(twin.engine.prepare(twin.shape(input), parallelism)?.with_workspace_of(&choice)),
            None => Ok(choice),
        }
    }

    /// The choice for runs that no twin takes.
    fn prepare_as_said(&self, input: Shape, parallelism: Parallelism<'_>) -> Result<Choice, Error> {
        let (_, output) = self.descriptor.outputs(input)?;
        let price = || self.descriptor.price(output, output);
        Choice::new(&self.descriptor, input, parallelism.workers(price, &self.descriptor.machine.sharing))
    }

    /// The parts of each step of each pass, for that many threads.
    pub(crate) fn steps(&self, input: Shape, threads: usize) -> Result<Vec<Vec<Vec<OutputRange>>>, Error> {
        let Some(twin) = self.twin(input) else { return self.descriptor.steps(input, threads) };
        let mut passes = twin.engine.steps(twin.shape(input), threads)?;
        for range in passes.iter_mut().flatten().flatten() {
            *range = twin.range(range.clone());
        }
        Ok(passes)
    }

    /// The choice that a text says.
    pub(crate) fn choice_from_text(&self, text: &str) -> Result<Choice, Error> {
        let here = Choice::from_text(&self.descriptor, text);
        match &self.twin {
            Some(twin) if here.is_err() => twin.engine.choice_from_text(text).or(here),
            _ => here,
        }
    }

    /// A run of the plan, whose elements are of that type.
    #[inline]
    pub(crate) fn run<E: Element>(&self, run: Run<'_, E>) -> Result<(), Error> {
        let Some(twin) = self.twin(run.input.shape()) else { return self.run_as_said(run) };
        if twin.can_run(&run) {
            return twin.engine.run(twin.run(run)).map_err(|error| twin.error(error));
        }
        // Its choice is that of the twin.
        if let Some(choice) = run.choice {
            choice.check(&twin.engine.descriptor, twin.shape(run.input.shape()), || run.parallelism.threads())?;
        }
        self.run_as_said(Run { choice: None, ..run })
    }

    /// A run that no twin takes.
    fn run_as_said<E: Element>(&self, run: Run<'_, E>) -> Result<(), Error> {
        match E::TYPE {
            ElementType::F32 => run.of_type().map(|run| self.run_f32(run)),
            #[cfg(feature = "half")]
            ElementType::F16 => run.of_type().map(|run| self.run_f16(run)),
            #[cfg(feature = "half")]
            ElementType::Bf16 => run.of_type().map(|run| self.run_bf16(run)),
            _ => None,
        }
        .unwrap_or_else(|| unreachable!("no element is of this type"))
    }

    // A function for each type, so that they are compiled with this crate. A caller's own may be compiled without optimisation.

    fn run_f32(&self, run: Run<'_>) -> Result<(), Error> {
        self.run_as(run)
    }

    #[cfg(feature = "half")]
    fn run_f16(&self, run: Run<'_, f16>) -> Result<(), Error> {
        self.run_as(run)
    }

    #[cfg(feature = "half")]
    fn run_bf16(&self, run: Run<'_, bf16>) -> Result<(), Error> {
        self.run_as(run)
    }

    fn run_as<E: Element>(&self, run: Run<'_, E>) -> Result<(), Error> {
        let Run { input, residual, output, range, workspace, parallelism, choice, .. } = run;
        let descriptor = &self.descriptor;
        let (outputs, whole) = descriptor.outputs(input.shape())?;
        let (part, origin, images) = part::asked(whole, range)?;
        if let Some(choice) = choice {
            choice.check(descriptor, input.shape(), || parallelism.threads())?;
        }
        for (what, shape) in [("output", Some(output.shape())), ("residual", residual.map(|residual| residual.shape()))]
        {
            if let Some(found) = shape.filter(|&found| found != part) {
                return Err(Error::Shape { what, expected: part, found });
            }
        }
        let layout = descriptor.layout;
        let tensors = [
            ("input", input.shape(), input.strides()),
            ("output", part, output.strides()),
            ("residual", part, residual.map_or(output.strides(), |residual| residual.strides())),
        ];
        part::check_contiguous(layout, tensors)?;
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
        let (mut rows, mut tuning) = (decision.rows, decision.tuning);
        let widths = descriptor.widths(decision, input.shape(), whole);
        let scratch = workspace.take(descriptor.scratch_len(decision, &widths, part)?)?;
        let input = input.narrow(Axis::N, images)?;
        // What is converted lies on cache lines, and where it shares no sets.
        if E::TYPE == ElementType::F32 && decision.elsewhere.iter().any(Option::is_some) {
            let outputs = match (&self.stages, &decision.first) {
                (_, Some(_)) => Some((scratch.as_ptr().addr(), descriptor.mid_channels)),
                (Stages::Depthwise(_), None) => Some((output.address(), output.strides().w)),
                // Pixels of a block are not a power of two apart.
                _ => None,
            };
            let inputs = (input.address(), input.strides().w);
            if let Some((row, its_tuning)) = decision.where_they_lie(descriptor.lie(inputs, outputs, origin.c)) {
                (rows, tuning) = (rows.with_depthwise(row), its_tuning);
            }
        }
        match (&self.stages, rows, &decision.first) {
            (Stages::Separable(depthwise, pointwise), Stages::Separable(row, pointwise_row), Some(first)) => {
                let way = (row, tuning);
                let between = Shape { c: descriptor.mid_channels, ..part };
                let len = descriptor.between_len(part).ok_or(Error::Overflow { what: "the workspace" })?;
                let (middle, scratch) = scratch.split_at_mut(len);
                let per_task = scratch.len() / decision.tasks();
                let middle = elements_of::<E>(middle);
                let middle = &mut middle[..between.len().ok_or(Error::Overflow { what: "the workspace" })?];
                let whole = Part {
                    input,
                    residual: None,
                    output: TensorViewMut::new(middle, between, layout)?,
                    origin: Shape { c: 0, ..origin },
                    scratch: &mut *scratch,
                    per_task,
                };
                part::run(first, whole, parallelism, &|part: Part<'_, E>| {
                    let (tensors, scratch) = part.tensors();
                    self.depthwise(depthwise, way, tensors, outputs.pad, &widths.first, scratch)
                })?;
                let input = TensorView::new(middle, between, layout)?;
                // What lies between holds the part's pixels alone.
                let origin = Shape { h: 0, w: 0, ..origin };
                let whole = Part { input, residual, output, origin, scratch, per_task };
                part::run(&decision.shares, whole, parallelism, &|part: Part<'_, E>| {
                    self.pointwise_pixels((pointwise, pointwise_row), part, &widths.last)
                })
            }
            _ => {
                let per_task = scratch.len() / decision.shares.tasks();
                let whole = Part { input, residual, output, origin, scratch, per_task };
                part::run(&decision.shares, whole, parallelism, &|part: Part<'_, E>| {
                    self.leaf(part, decision, &widths, (rows, tuning), outputs.pad)
                })
            }
        }
    }

    /// One thread's part, in one pass.
    fn leaf<E: Element>(
        &self,
        part: Part<'_, E>,
        decision: &Decision,
        widths: &Widths,
        (rows, tuning): (Rows, DepthwiseTuning),
        pad: [usize; 2],
    ) -> Result<(), Error> {
        let descriptor = &self.descriptor;
        match (&self.stages, rows) {
            (Stages::Depthwise(stage), Stages::Depthwise(row)) => {
                let (tensors, scratch) = part.tensors();
                self.depthwise(stage, (row, tuning), tensors, pad, &widths.first, scratch)
            }
            (Stages::Pointwise(stage), Stages::Pointwise(row)) => {
                self.pointwise_pixels((stage, row), part, &widths.last)
            }
            (Stages::Separable(depthwise, pointwise), Stages::Separable(row, pointwise_row)) => {
                self.blocks(
                    (pointwise, pointwise_row),
                    part,
                    decision,
                    widths,
                    pad[0],
                    |input, values, scratch, shape, strides, origin| {
                        let output = TensorViewMut::strided(values, shape, strides)?;
                        let to_panel = Tensors { input, residual: None, output, origin };
                        self.depthwise(depthwise, (row, tuning), to_panel, pad, &widths.first, scratch)?;
                        if E::TYPE != ElementType::F32 {
                            // As if it had been stored. What lies in the gaps does not matter.
                            let end = strides.offset(0, shape.c - 1, shape.h - 1, shape.w - 1) + 1;
                            self.converter::<E>()?.round(&mut values[..end]);
                        }
                        Ok(())
                    },
                )
            }
            (Stages::Gathered(pointwise), Stages::Gathered(row)) => match self.gathered(part.input) {
                Some(input) => self.pointwise_pixels((pointwise, row), Part { input, ..part }, &widths.last),
                None => self.blocks(
                    (pointwise, row),
                    part,
                    decision,
                    widths,
                    pad[0],
                    |input, values, scratch, shape, strides, origin| {
                        let (input, origin, pad) = self.wide_inputs(input, shape, origin, pad, scratch)?;
                        gather(descriptor.layout, &descriptor.window.taps, pad, input, origin, values, shape, strides);
                        Ok(())
                    },
                ),
            },
            _ => unreachable!("a stage runs on a row of its operation"),
        }
    }

    /// The inputs as they would be gathered, if they lie so: those of a window as large as the image, channels last.
    fn gathered<'a, E: Element>(&self, input: TensorView<'a, E>) -> Option<TensorView<'a, E>> {
        let (Descriptor { layout, window, .. }, Shape { h, w, .. }) = (&self.descriptor, input.shape());
        let is_image = window.taps.kernel_size == [h, w] && window.taps.dilation == [1, 1];
        let one_window = window.outputs(input.shape()) == Ok(Outputs { extent: [1, 1], pad: [0, 0] });
        let as_it_is = *layout == Layout::Nhwc && E::TYPE == ElementType::F32;
        if as_it_is && is_image && one_window { input.pixels() } else { None }
    }

    /// A part in blocks of pixels: `fill` computes what the pointwise stage reads, as a tensor of that shape
    /// and strides whose first pixel is at that place in the output. `pad`: at the top.
    fn blocks<E: Element>(
        &self,
        (pointwise, row): (&PointwiseStage, &'static KernelInfo),
        mut part: Part<'_, E>,
        decision: &Decision,
        widths: &Widths,
        pad: usize,
        fill: impl Fn(TensorView<'_, E>, &mut [f32], &mut [f32], Shape, Strides, Shape) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (descriptor, shape, block) = (&self.descriptor, part.output.shape(), decision.block);
        let (values, scratch) = part.scratch.split_at_mut(descriptor.block_len(decision));
        let step = block.rows_of(shape.h);
        let read = |y: usize| {
            let rows = part.origin.h + y..part.origin.h + (y + step).min(shape.h);
            descriptor.window.read(0, rows, part.input.shape().h, pad)
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
                    fill(input, values, scratch, here, strides, origin)?;
                    let output = part.output.reborrow();
                    let output = output.narrow(Axis::N, n..n + 1)?.narrow(Axis::H, rows.clone())?;
                    let residual = part.residual.map(|residual| {
                        let rows = residual.narrow(Axis::N, n..n + 1)?.narrow(Axis::H, rows.clone())?;
                        rows.narrow(Axis::W, columns.clone())
                    });
                    let from_panel = Tensors {
                        input: TensorView::strided(values, here, strides)?,
                        residual: residual.transpose()?,
                        output: output.narrow(Axis::W, columns.clone())?,
                        origin: part.origin,
                    };
                    let next = next.filter(|_| columns.end == shape.w).and_then(TensorView::of_type);
                    self.pointwise(pointwise, row, from_panel, next, &widths.last, scratch)?;
                }
            }
        }
        Ok(())
    }

    /// The pixels of `part` from the same pixels of its input.
    fn pointwise_pixels<E: Element>(
        &self,
        (stage, row): (&PointwiseStage, &'static KernelInfo),
        part: Part<'_, E>,
        wide: &Wide,
    ) -> Result<(), Error> {
        let (mut tensors, scratch) = part.tensors();
        let (shape, origin) = (tensors.output.shape(), tensors.origin);
        let rows = tensors.input.narrow(Axis::H, origin.h..origin.h + shape.h)?;
        tensors.input = rows.narrow(Axis::W, origin.w..origin.w + shape.w)?;
        self.pointwise(stage, row, tensors, None, wide, scratch)
    }
}
