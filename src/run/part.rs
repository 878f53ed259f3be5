//! A part of a run.

use core::ops::Range;

use depthwise_kernels::{Axis, Element, Error, Layout, OutputRange, Shape, Strides, TensorView, TensorViewMut};

#[cfg(feature = "std")]
use super::executor;
use super::threads::Parallelism;
use super::wide::Tensors;
use crate::choose::split::{Piece, Shares};

/// A part of a run: what one thread computes without asking anybody.
pub(crate) struct Part<'a, E = f32, O = E> {
    /// The images of the part, whole.
    pub(crate) input: TensorView<'a, E>,
    /// Shaped as the output.
    pub(crate) residual: Option<TensorView<'a, O>>,
    pub(crate) output: TensorViewMut<'a, O>,
    /// Where the output starts in the whole, counting images from the input's first.
    pub(crate) origin: Shape,
    /// Scratch of its own, `per_task` of it for each of its tasks.
    pub(crate) scratch: &'a mut [f32],
    pub(crate) per_task: usize,
}

impl<'a, E: Element> Part<'a, E> {
    /// Its tensors, and the scratch.
    pub(crate) fn tensors(self) -> (Tensors<'a, E, E>, &'a mut [f32]) {
        let Self { input, residual, output, origin, scratch, .. } = self;
        (Tensors { input, residual, output, origin }, scratch)
    }
}

impl<E: Copy, O: Copy> Part<'_, E, O> {
    /// Some of its rows.
    fn rows(&mut self, rows: Range<usize>) -> Result<Part<'_, E, O>, Error> {
        let residual = self.residual.map(|residual| residual.narrow(Axis::H, rows.clone())).transpose()?;
        let origin = Shape { h: self.origin.h + rows.start, ..self.origin };
        Ok(Part {
            input: self.input,
            residual,
            output: self.output.reborrow().narrow(Axis::H, rows)?,
            origin,
            scratch: &mut *self.scratch,
            per_task: self.per_task,
        })
    }
}

/// Runs `leaf` over the parts of `whole`.
pub(crate) fn run<E: Copy + Send + Sync, O: Copy + Send + Sync>(
    shares: &Shares,
    mut whole: Part<'_, E, O>,
    parallelism: Parallelism<'_>,
    leaf: &(impl Fn(Part<'_, E, O>) -> Result<(), Error> + Sync),
) -> Result<(), Error> {
    #[cfg(feature = "std")]
    if let Parallelism::Executor(executor) = parallelism
        && shares.tasks() > 1
    {
        return executor::run(executor, shares, whole, leaf);
    }
    shares.splits().try_for_each(|(first, split)| {
        let rows = whole.rows(first..first + split.rows())?;
        split.run(rows, parallelism, leaf)
    })
}

/// The part of an output that a range says, or all of it, where it starts, counting images from its first, and its images.
pub(crate) fn asked(whole: Shape, range: Option<OutputRange>) -> Result<(Shape, Shape, Range<usize>), Error> {
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
    Ok((part, origin, images))
}

/// Fails unless tensors have no gaps along the axis that a layout's kernels load vectors from.
pub(crate) fn check_contiguous(
    layout: Layout,
    tensors: impl IntoIterator<Item = (&'static str, Shape, Strides)>,
) -> Result<(), Error> {
    let axis = layout.vector_axis();
    for (what, shape, strides) in tensors {
        if shape[axis] > 1 && strides[axis] != 1 && !shape.is_empty() {
            return Err(Error::NotContiguous { what, layout, axis, stride: strides[axis] });
        }
    }
    Ok(())
}

impl<'a, E: Copy + Send + Sync, O: Copy + Send + Sync> Piece for Part<'a, E, O> {
    fn is_empty(&self) -> bool {
        self.output.shape().is_empty()
    }

    fn split(self, axis: Axis, index: usize, tasks: usize) -> Result<(Self, Self), Error> {
        let extent = self.output.shape()[axis];
        let cut = |view: Option<TensorView<'a, O>>, range: Range<usize>| {
            view.map(|view| view.narrow(axis, range)).transpose()
        };
        let (first, second) = self.output.split_at(axis, index)?;
        let (scratch, rest) = self.scratch.split_at_mut(tasks * self.per_task);
        let images = |range| if axis == Axis::N { self.input.narrow(axis, range) } else { Ok(self.input) };
        let mut origin = self.origin;
        if axis != Axis::N {
            origin[axis] += index;
        }
        Ok((
            Part {
                input: images(0..index)?,
                residual: cut(self.residual, 0..index)?,
                output: first,
                origin: self.origin,
                scratch,
                per_task: self.per_task,
            },
            Part {
                input: images(index..extent)?,
                residual: cut(self.residual, index..extent)?,
                output: second,
                origin,
                scratch: rest,
                per_task: self.per_task,
            },
        ))
    }
}
