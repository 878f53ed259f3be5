//! Stages between tensors of any elements. Kernels compute with `f32`: what is narrow is widened to scratch before a stage reads it,
//! a block at a time, and what it writes to scratch is narrowed from there. Views of `f32` go straight to the stage.

use core::ops::Range;

use super::engine::Engine;
use crate::choose::passes::Block;
use crate::choose::wide::Wide;
use depthwise_kernels::{
    Axis, Converter, DepthwiseStage, DepthwiseTuning, Element, Error, KernelInfo, PointwiseStage, Shape, TensorView,
    TensorViewMut,
};

/// What a stage reads and writes. Where the output's elements are `f32`, a residual's are.
pub(crate) struct Tensors<'a, A, B> {
    pub(crate) input: TensorView<'a, A>,
    pub(crate) residual: Option<TensorView<'a, B>>,
    pub(crate) output: TensorViewMut<'a, B>,
    /// Where the output starts in the whole.
    pub(crate) origin: Shape,
}

impl<'a, A: Element, B: Element> Tensors<'a, A, B> {
    /// As they are, if all elements are `f32`.
    fn of_f32(&mut self) -> Option<Tensors<'_, f32, f32>> {
        let (input, output) = self.input.of_type().zip(self.output.reborrow().of_type())?;
        let residual = self.residual.and_then(TensorView::of_type);
        Some(Tensors { input, residual, output, origin: self.origin })
    }

    /// Residual and output of a block.
    fn block(
        &mut self,
        [n, rows, columns]: [Range<usize>; 3],
    ) -> Result<(Option<TensorView<'a, B>>, TensorViewMut<'_, B>), Error> {
        let (y, x) = (rows.clone(), columns.clone());
        let residual =
            self.residual.map(|view| view.narrow(Axis::N, n.clone())?.narrow(Axis::H, y)?.narrow(Axis::W, x));
        let output = self.output.reborrow().narrow(Axis::N, n)?.narrow(Axis::H, rows)?.narrow(Axis::W, columns)?;
        Ok((residual.transpose()?, output))
    }
}

/// Calls `run` with images, rows and columns of each block, one image at a time.
fn each_block(
    shape: Shape,
    block: Block,
    mut run: impl FnMut([Range<usize>; 3]) -> Result<(), Error>,
) -> Result<(), Error> {
    let step = block.rows_of(shape.h).max(1);
    for n in 0..shape.n {
        for y in (0..shape.h).step_by(step) {
            for x in (0..shape.w).step_by(block.columns.max(1)) {
                run([n..n + 1, y..(y + step).min(shape.h), x..(x + block.columns).min(shape.w)])?;
            }
        }
    }
    Ok(())
}

impl Engine {
    pub(crate) fn converter<E: Element>(&self) -> Result<Converter<E>, Error> {
        let isa = self.descriptor.isa;
        Converter::new(isa).ok_or(Error::UnavailableIsa { isa, from_environment: false })
    }

    /// A depthwise stage, on that kernel.
    pub(crate) fn depthwise<A: Element, B: Element>(
        &self,
        stage: &DepthwiseStage,
        way: (&'static KernelInfo, DepthwiseTuning),
        mut tensors: Tensors<'_, A, B>,
        pad: [usize; 2],
        wide: &Wide,
        scratch: &mut [f32],
    ) -> Result<(), Error> {
        if let Some(Tensors { input, residual, output, origin }) = tensors.of_f32() {
            stage.run(way, input, residual, output, origin, pad);
            return Ok(());
        }
        if way.0.element == A::TYPE {
            // A kernel of these elements, which are those of the outputs.
            let Tensors { input, residual, output, origin } = tensors;
            let residual = residual.and_then(TensorView::of_type::<A>);
            let Some(output) = output.of_type::<A>() else { unreachable!("inputs and outputs are of one type") };
            stage.run_on(way, input, residual, output, origin, pad);
            return Ok(());
        }
        let (shape, origin, input) = (tensors.output.shape(), tensors.origin, tensors.input);
        let (inputs, scratch) = scratch.split_at_mut(wide.inputs);
        each_block(shape, wide.block, |at| {
            let [n, rows, columns] = at.clone();
            let here = Shape::new(1, shape.c, rows.len(), columns.len());
            let origin = Shape { h: origin.h + rows.start, w: origin.w + columns.start, ..origin };
            let (input, origin, pad) = self.wide_inputs(input.narrow(Axis::N, n)?, here, origin, pad, inputs)?;
            let (residual, output) = tensors.block(at)?;
            self.narrow_outputs(residual, output, wide, scratch, |residual, output| {
                stage.run(way, input, residual, output, origin, pad);
            })
        })
    }

    /// A pointwise stage, on that kernel, on the pixels of the input, which are the output's. `next`: what will be read after this.
    pub(crate) fn pointwise<A: Element, B: Element>(
        &self,
        stage: &PointwiseStage,
        row: &'static KernelInfo,
        mut tensors: Tensors<'_, A, B>,
        next: Option<TensorView<'_>>,
        wide: &Wide,
        scratch: &mut [f32],
    ) -> Result<(), Error> {
        if let Some(Tensors { input, residual, output, origin }) = tensors.of_f32() {
            stage.run(row, input, residual, output, origin.c, next);
            return Ok(());
        }
        let (descriptor, shape, input) = (&self.descriptor, tensors.output.shape(), tensors.input);
        let (inputs, scratch) = scratch.split_at_mut(wide.inputs);
        let channel = tensors.origin.c;
        each_block(shape, wide.block, |at| {
            let [n, rows, columns] = at.clone();
            let from = input.narrow(Axis::N, n)?.narrow(Axis::H, rows)?.narrow(Axis::W, columns)?;
            let input = match from.of_type() {
                Some(input) => input,
                None => {
                    let strides = descriptor.wide_strides(from.shape());
                    let to = TensorViewMut::strided(inputs, from.shape(), strides)?;
                    self.converter()?.widen_view(descriptor.layout, from, to);
                    TensorView::strided(inputs, from.shape(), strides)?
                }
            };
            let (residual, output) = tensors.block(at)?;
            self.narrow_outputs(residual, output, wide, scratch, |residual, output| {
                stage.run(row, input, residual, output, channel, next);
            })
        })
    }

    /// What outputs of that shape and origin read of an image, in `f32`, and their origin and padding there.
    pub(crate) fn wide_inputs<'a, A: Element>(
        &self,
        input: TensorView<'a, A>,
        outputs: Shape,
        origin: Shape,
        pad: [usize; 2],
        scratch: &'a mut [f32],
    ) -> Result<(TensorView<'a>, Shape, [usize; 2]), Error> {
        if let Some(input) = input.of_type() {
            return Ok((input, origin, pad));
        }
        let (descriptor, whole) = (&self.descriptor, input.shape());
        let rows = descriptor.window.excerpt(0, origin.h..origin.h + outputs.h, whole.h, pad[0]);
        let columns = descriptor.window.excerpt(1, origin.w..origin.w + outputs.w, whole.w, pad[1]);
        let multiplier = descriptor.mid_channels / descriptor.in_channels;
        // Others are in the view, but nothing reads them.
        let channels = origin.c / multiplier..(origin.c + outputs.c).div_ceil(multiplier);
        let shape = Shape { n: 1, c: whole.c, h: rows.inputs.len(), w: columns.inputs.len() };
        let strides = descriptor.wide_strides(shape);
        let from = input.narrow(Axis::H, rows.inputs)?.narrow(Axis::W, columns.inputs)?;
        let to = TensorViewMut::strided(scratch, shape, strides)?.narrow(Axis::C, channels.clone())?;
        self.converter()?.widen_view(descriptor.layout, from.narrow(Axis::C, channels)?, to);
        let origin = Shape { h: rows.first, w: columns.first, ..origin };
        Ok((TensorView::strided(scratch, shape, strides)?, origin, [rows.pad, columns.pad]))
    }

    /// Calls `run` with a residual and an output of `f32`, and narrows what it wrote.
    fn narrow_outputs<B: Element>(
        &self,
        residual: Option<TensorView<'_, B>>,
        mut output: TensorViewMut<'_, B>,
        wide: &Wide,
        scratch: &mut [f32],
        run: impl FnOnce(Option<TensorView<'_>>, TensorViewMut<'_>),
    ) -> Result<(), Error> {
        if let Some(output) = output.reborrow().of_type() {
            run(residual.and_then(TensorView::of_type), output);
            return Ok(());
        }
        let (layout, shape, converter) = (self.descriptor.layout, output.shape(), self.converter()?);
        let strides = self.descriptor.wide_strides(shape);
        let (outputs, residuals) = scratch.split_at_mut(wide.outputs);
        let residual = match residual {
            None => None,
            Some(residual) => {
                converter.widen_view(layout, residual, TensorViewMut::strided(residuals, shape, strides)?);
                Some(TensorView::strided(residuals, shape, strides)?)
            }
        };
        run(residual, TensorViewMut::strided(outputs, shape, strides)?);
        converter.narrow_view(layout, TensorView::strided(outputs, shape, strides)?, output);
        Ok(())
    }
}
