//! Splitting an output over threads.

use crate::error::Error;
use crate::tensor::{Axis, Shape, TensorView, TensorViewMut};

/// Who does the work of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Parallelism {
    /// The calling thread.
    #[default]
    Serial,
    /// The current `rayon` pool. A call from outside of any pool waits on the global one; to run without
    /// any allocation, call from inside (`ThreadPool::install`). Small work is not split.
    #[cfg(feature = "rayon")]
    Rayon,
}

impl Parallelism {
    /// The threads that may work.
    pub(crate) fn threads(self) -> usize {
        match self {
            Parallelism::Serial => 1,
            #[cfg(feature = "rayon")]
            Parallelism::Rayon => rayon::current_num_threads(),
        }
    }
}

/// A part of a run: what one thread computes without asking anybody.
pub(crate) struct Part<'a> {
    /// The images of the part, whole.
    pub(crate) input: TensorView<'a>,
    /// Shaped as the output.
    pub(crate) residual: Option<TensorView<'a>>,
    pub(crate) output: TensorViewMut<'a>,
    /// Where the output starts in the whole, counting images from the input's first.
    pub(crate) origin: Shape,
}

impl<'a> Part<'a> {
    fn split(self, axis: Axis, index: usize) -> Result<(Self, Self), Error> {
        let extent = self.output.shape()[axis];
        let cut = |view: Option<TensorView<'a>>, range: core::ops::Range<usize>| {
            view.map(|view| view.narrow(axis, range)).transpose()
        };
        let (first, second) = self.output.split_at(axis, index)?;
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
            },
            Part {
                input: images(index..extent)?,
                residual: cut(self.residual, index..extent)?,
                output: second,
                origin,
            },
        ))
    }
}

/// How an output may be cut: never finer than that many rows or channels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grain {
    pub(crate) rows: usize,
    /// `None`: a part must have all channels, since each would repeat the work before them.
    pub(crate) channels: Option<usize>,
}

/// Multiply-adds below which a part is not worth a thread of its own: some ten microseconds.
const LEAST_WORK: usize = 1 << 19;

/// How many parts to cut an output of that shape into, for that many threads.
pub(crate) fn tasks(threads: usize, shape: Shape, multiply_adds: u64, grain: Grain) -> usize {
    let worth = usize::try_from(multiply_adds).unwrap_or(usize::MAX) / LEAST_WORK;
    let rows = shape.h.div_ceil(grain.rows.max(1));
    let channels = grain.channels.map_or(1, |grain| shape.c.div_ceil(grain.max(1)));
    let pieces = shape.n.saturating_mul(rows).saturating_mul(channels);
    threads.min(worth).min(pieces).max(1)
}

/// The largest share of `extent` in `tasks` parts of whole grains, over the mean share.
pub(crate) fn imbalance(extent: usize, grain: usize, tasks: usize) -> f64 {
    let largest = extent.div_ceil(grain).div_ceil(tasks) * grain;
    largest.min(extent) as f64 * tasks as f64 / extent as f64
}

/// Runs `leaf` over `part` in that many parts, each time along the axis that balances best.
/// Each part has `scratch.len() / tasks` of the scratch to itself.
pub(crate) fn run<'a>(
    part: Part<'a>,
    grain: Grain,
    tasks: usize,
    scratch: &mut [f32],
    leaf: &(impl Fn(Part<'_>, &mut [f32]) -> Result<(), Error> + Sync),
) -> Result<(), Error> {
    let shape = part.output.shape();
    let Some((axis, grain_along)) = axis_to_split(shape, grain, tasks) else {
        return leaf(part, scratch);
    };
    let first = tasks / 2;
    let grains = shape[axis].div_ceil(grain_along);
    let index = ((grains * first + tasks / 2) / tasks).clamp(1, grains - 1) * grain_along;
    let (a, b) = part.split(axis, index)?;
    let (scratch_a, scratch_b) = scratch.split_at_mut(scratch.len() / tasks * first);
    join(|| run(a, grain, first, scratch_a, leaf), || run(b, grain, tasks - first, scratch_b, leaf))
}

/// The best balanced axis of those that can be cut, and its grain.
pub(crate) fn axis_to_split(shape: Shape, grain: Grain, tasks: usize) -> Option<(Axis, usize)> {
    let axes = [(Axis::N, Some(1)), (Axis::H, Some(grain.rows)), (Axis::C, grain.channels)];
    axes.into_iter()
        .filter_map(|(axis, grain)| Some((axis, grain?)))
        .filter(|&(axis, grain)| tasks > 1 && shape[axis] > grain)
        .min_by(|a, b| imbalance(shape[a.0], a.1, tasks).total_cmp(&imbalance(shape[b.0], b.1, tasks)))
}

#[cfg(feature = "rayon")]
fn join(
    a: impl FnOnce() -> Result<(), Error> + Send,
    b: impl FnOnce() -> Result<(), Error> + Send,
) -> Result<(), Error> {
    let (a, b) = rayon::join(a, b);
    a.and(b)
}

#[cfg(not(feature = "rayon"))]
fn join(a: impl FnOnce() -> Result<(), Error>, b: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
    a().and_then(|()| b())
}
