//! Splitting an output over threads.

use alloc::vec::Vec;
use core::ops::Range;

use depthwise_kernels::{Axis, Error, OutputRange, Shape, TensorView, TensorViewMut};

/// Who does the work of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Parallelism {
    /// The calling thread. This is the default.
    ///
    /// The run uses the floating-point environment of that thread. Results are as promised under the default environment, which
    /// rounds to nearest and flushes no denormals.
    #[default]
    Serial,
    /// The current `rayon` pool. Call from inside the pool (`ThreadPool::install`): a call from outside may allocate. Runs that take
    /// less than some 8 µs stay on one thread.
    ///
    /// A call from outside of any pool uses the global pool. It takes some 5 µs longer (Zen 4), so then runs of less than some
    /// 24 µs stay on the calling thread.
    ///
    /// Hold no lock, and no borrow of a thread-local, across such a run. A thread of the pool that waits for others runs other tasks
    /// of the pool meanwhile. If such a task takes the same lock, the thread waits for itself. If it borrows the same thread-local,
    /// it panics.
    ///
    /// The pool's threads have a floating-point environment of their own. A rounding mode or the flushing of denormals that the
    /// caller has set for itself is not theirs.
    #[cfg(feature = "rayon")]
    Rayon,
}

impl Parallelism {
    /// Who may do work of that price. Asks for threads only where it is worth several; where there are none, the calling thread does
    /// the work.
    #[cfg_attr(not(feature = "rayon"), expect(unused_variables, reason = "then there are no threads"))]
    pub(crate) fn workers(self, price: impl Fn() -> f64) -> Workers {
        match self {
            Parallelism::Serial => Workers::called_within(1),
            #[cfg(feature = "rayon")]
            Parallelism::Rayon => {
                let outside = rayon::current_thread_index().is_none();
                let least = if outside { LEAST_OUTSIDE } else { 2.0 * LEAST };
                if price() < least || (outside && !global_pool_runs()) {
                    return Workers::called_within(1);
                }
                Workers { outside, ..Workers::called_within(rayon::current_num_threads()) }
            }
        }
    }

    fn join(
        self,
        a: impl FnOnce() -> Result<(), Error> + Send,
        b: impl FnOnce() -> Result<(), Error> + Send,
    ) -> Result<(), Error> {
        match self {
            Parallelism::Serial => a().and_then(|()| b()),
            #[cfg(feature = "rayon")]
            Parallelism::Rayon => {
                let (a, b) = rayon::join(a, b);
                a.and(b)
            }
        }
    }
}

/// Whether `rayon`'s global pool runs, which the first call starts. Where its threads cannot be started, `rayon` would panic.
#[cfg(feature = "rayon")]
fn global_pool_runs() -> bool {
    static RUNS: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *RUNS.get_or_init(|| match rayon::ThreadPoolBuilder::new().build_global() {
        Ok(()) => true,
        // It was tried before, by somebody else. Whether it failed then, only a panic tells.
        Err(error) if std::error::Error::source(&error).is_none() => {
            std::panic::catch_unwind(rayon::current_num_threads).is_ok()
        }
        Err(_) => false,
    })
}

/// The threads that may work on a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Workers {
    pub(crate) threads: usize,
    /// The one that calls is not among them.
    outside: bool,
}

/// The price of a part of an output, which a split balances. The unit is half a cycle: the time of a multiply-add of vectors,
/// of which a core does two in a cycle, or of half of one where a vector takes two slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Price {
    /// Of a pixel, however few of its channels the part has.
    pub(crate) pixel: f64,
    /// Of one channel of a pixel.
    pub(crate) value: f64,
    /// Of a channel of an image, however few of its pixels the part has.
    pub(crate) channel: f64,
    /// Of a cut between channels.
    pub(crate) seam: f64,
    /// Of a column's channel, if the part has not all of these rows: the rows above and below it, which its neighbours read too.
    pub(crate) overlap: f64,
    pub(crate) rows: usize,
    /// What all of the work costs one thread, as a share of the price: less, where its own cache holds what several threads read from
    /// each other's.
    pub(crate) alone: f64,
    /// Rows that a kernel computes at a time; those left over cost more.
    pub(crate) tile: usize,
    /// Channels that a kernel computes at a time: never cut.
    pub(crate) channels: usize,
    /// Up to so many more it computes with the last of these.
    pub(crate) joined: usize,
    /// Pixels that a kernel computes at a time; those of an image's part are one run.
    pub(crate) pixels: usize,
}

/// What rows that fill no tile cost beyond their number: they share their inputs with fewer.
const ODD_ROWS: f64 = 0.4;
/// The least price of a part that is worth a thread of its own: 4 µs at 4 GHz. Of a `rayon::join` on two cores, the halves
/// wait for each other 0.7 µs if both threads are awake, but some 20 µs and more if one was asleep. Layers follow each other
/// faster than threads fall asleep, so this asks for less than that. (Zen 4, depthwise layers of 9 to 16 µs: 6 to 11 µs.)
const LEAST: f64 = (1 << 15) as f64;
/// The least price of work that is worth handing to a pool from outside, 24 µs: the call then waits some 5 µs longer. (Zen 4, two
/// threads, depthwise, alone and handed over: 14×14×512 at stride 2 9.8 µs and 12 to 16 µs, at stride 1 17 and 19 µs, 28×28×256
/// at stride 2 15 and 22 to 25 µs.)
const LEAST_OUTSIDE: f64 = 6.0 * LEAST;
/// What it costs to hand out the tasks and to wait for the last: 1 µs.
pub(crate) const FORK: f64 = (1 << 13) as f64;
/// The same for so many tasks, which are handed out by a tree of joins.
fn fork(tasks: usize) -> f64 {
    const JOIN: f64 = 0.7 * FORK;
    FORK.max(JOIN * f64::from(tasks.next_power_of_two().ilog2()))
}
/// The most parts: beyond, choosing them takes too long.
const MOST_TASKS: usize = 1024;

impl Workers {
    /// That many threads, one of which calls.
    pub(crate) fn called_within(threads: usize) -> Self {
        Self { threads, outside: false }
    }

    /// How many of them work of that price is worth.
    pub(crate) fn worthwhile(self, price: f64) -> usize {
        if self.outside && price < LEAST_OUTSIDE {
            return 1;
        }
        self.threads.min((price / LEAST) as usize).clamp(1, MOST_TASKS)
    }
}

impl Price {
    pub(crate) fn of(&self, part: Shape) -> f64 {
        if part.is_empty() {
            return 0.0;
        }
        let rows = part.h as f64 + if part.h.is_multiple_of(self.tile) { 0.0 } else { ODD_ROWS };
        let pixels = part.n as f64 * part.w as f64 * rows;
        let run = part.h * part.w;
        let filled = run.next_multiple_of(self.pixels) as f64 / run as f64;
        let channels = part.c.next_multiple_of(if self.joined > 0 { self.joined } else { self.channels }) as f64;
        let overlap = if part.h < self.rows { self.overlap * part.w as f64 } else { 0.0 };
        let per_channel = self.channel + overlap;
        pixels * (self.pixel + filled * channels * self.value) + part.n as f64 * channels * per_channel
    }

    /// What of `shape` along an axis is never cut.
    fn grain(&self, axis: Axis) -> usize {
        if axis == Axis::C { self.channels } else { 1 }
    }

    /// By how much the last of these may be longer.
    fn longer(&self, axis: Axis) -> usize {
        if axis == Axis::C { self.joined } else { 0 }
    }

    fn grains(&self, shape: Shape, axis: Axis) -> usize {
        shape[axis].saturating_sub(self.longer(axis)).div_ceil(self.grain(axis)).max(shape[axis].min(1))
    }
}

/// How an output is cut: along the outer axis into groups, and each group along the inner axis into its share of the
/// tasks, about one for every thread.
#[derive(Clone, Copy, Debug)]
struct Split {
    tasks: usize,
    shape: Shape,
    price: Price,
    outer: Axis,
    inner: Axis,
    groups: usize,
}

/// The grains in so many shares out of `of`, to the nearest; no step of it overflows.
fn share(grains: usize, shares: usize, of: usize) -> usize {
    grains / of * shares + (grains % of * shares + of / 2) / of
}

impl Split {
    /// The split of an output of that shape that has the lowest price of its dearest part.
    fn new(shape: Shape, price: Price, tasks: usize) -> Self {
        let one = Split { tasks: 1, shape, price, outer: Axis::N, inner: Axis::H, groups: 1 };
        if tasks == 1 {
            return one;
        }
        let mut best = (one.total(), one);
        for outer in [Axis::N, Axis::H, Axis::C] {
            for inner in [Axis::H, Axis::C, Axis::N] {
                if inner == outer || price.grains(shape, inner) == 1 {
                    continue;
                }
                for groups in 1..=tasks.min(price.grains(shape, outer)) {
                    let split = Split { tasks, outer, inner, groups, ..one };
                    let total = split.total();
                    if total < best.0 {
                        best = (total, split);
                    }
                }
            }
        }
        best.1
    }

    /// What it takes in all: the dearest part, and to hand out the parts.
    fn total(&self) -> f64 {
        self.dearest() + if self.tasks > 1 { fork(self.tasks) } else { 0.0 }
    }

    /// The price of the dearest part, or a little more.
    fn dearest(&self) -> f64 {
        if self.tasks == 1 {
            return self.price.alone * self.price.of(self.shape);
        }
        // A group has one of two numbers of tasks. Positions are rounded: an extent is at most rounded up.
        let [few, many] = [self.tasks / self.groups, self.tasks.div_ceil(self.groups)];
        let of = |tasks: usize| {
            let mut part = self.shape;
            let [outer, inner] = [self.outer, self.inner].map(|axis| self.price.grains(part, axis));
            let group = outer / self.tasks * tasks + (outer % self.tasks * tasks).div_ceil(self.tasks);
            for (axis, grains) in [(self.outer, group), (self.inner, inner.div_ceil(tasks))] {
                part[axis] = part[axis].min(grains * self.price.grain(axis) + self.price.longer(axis));
            }
            self.price.of(part)
        };
        let cuts_channels = match Axis::C {
            axis if axis == self.outer => self.groups > 1,
            axis if axis == self.inner => many > 1,
            _ => false,
        };
        let dearest = if few == many { of(few) } else { of(few).max(of(many)) };
        if cuts_channels { dearest + self.price.seam } else { dearest }
    }

    /// What each part would cost if all were equal.
    fn even(&self) -> f64 {
        self.price.of(self.shape) / self.tasks as f64
    }

    /// The tasks of the groups before that one.
    fn tasks_before(&self, group: usize) -> usize {
        group * self.tasks / self.groups
    }

    /// Where so many shares out of `of` end along an axis.
    fn position(&self, axis: Axis, shares: usize, of: usize) -> usize {
        let all = self.price.grains(self.shape, axis);
        match share(all, shares, of) {
            grains if grains == all => self.shape[axis],
            grains => grains * self.price.grain(axis),
        }
    }

    /// Runs `leaf` over the parts of `whole`, which has the split's shape.
    fn run<P: Piece>(
        &self,
        whole: P,
        parallelism: Parallelism,
        leaf: &(impl Fn(P) -> Result<(), Error> + Sync),
    ) -> Result<(), Error> {
        let group = |group: usize| {
            let before = self.tasks_before(group);
            (before, self.position(self.outer, before, self.tasks))
        };
        divide(whole, self.outer, 0..self.groups, parallelism, &group, &|i, piece| {
            let tasks = self.tasks_before(i + 1) - self.tasks_before(i);
            let task = |task: usize| (task, self.position(self.inner, task, tasks));
            divide(piece, self.inner, 0..tasks, parallelism, &task, &|_, piece| leaf(piece))
        })
    }

    /// The parts of an output of the split's shape.
    fn parts(&self) -> Result<Vec<OutputRange>, Error> {
        let mut parts = alloc::vec![None; self.tasks];
        let whole = Slots { range: OutputRange::all(self.shape), slots: &mut parts };
        self.run(whole, Parallelism::Serial, &|part: Slots<'_>| {
            part.slots[0] = Some(part.range);
            Ok(())
        })?;
        Ok(parts.into_iter().flatten().collect())
    }
}

/// How the work of a pass is shared: one split, and where rows are left over of an even one, another of these, after it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    most: Split,
    rest: Option<Split>,
}

impl Shares {
    /// Of an output of that shape, the shares that finish soonest.
    pub(crate) fn new(shape: Shape, price: Price, tasks: usize) -> Self {
        let of_rows = |h: usize| Split::new(Shape { h, ..shape }, price, tasks);
        let one = Shares { most: of_rows(shape.h), rest: None };
        let left = shape.h % tasks;
        if left == 0 || left == shape.h {
            return one;
        }
        let two = Shares { most: of_rows(shape.h - left), rest: Some(of_rows(left)) };
        if two.total() < one.total() { two } else { one }
    }

    /// The splits, each with its first row.
    fn splits(&self) -> impl Iterator<Item = (usize, &Split)> {
        core::iter::once((0, &self.most)).chain(self.rest.iter().map(|rest| (self.most.shape.h, rest)))
    }

    /// The most tasks at a time.
    pub(crate) fn tasks(&self) -> usize {
        self.splits().map(|(_, split)| split.tasks).fold(1, usize::max)
    }

    /// The price of what is done one after the other at the most.
    pub(crate) fn dearest(&self) -> f64 {
        self.splits().map(|(_, split)| split.dearest()).sum()
    }

    /// What it takes in all.
    pub(crate) fn total(&self) -> f64 {
        self.splits().map(|(_, split)| split.total()).sum()
    }

    /// What each task would cost if all were equal.
    pub(crate) fn even(&self) -> f64 {
        self.splits().map(|(_, split)| split.even()).sum()
    }

    /// Runs `leaf` over the parts of `whole`.
    pub(crate) fn run(
        &self,
        mut whole: Part<'_>,
        parallelism: Parallelism,
        leaf: &(impl Fn(Part<'_>) -> Result<(), Error> + Sync),
    ) -> Result<(), Error> {
        self.splits().try_for_each(|(first, split)| {
            let rows = whole.rows(first..first + split.shape.h)?;
            split.run(rows, parallelism, leaf)
        })
    }

    /// The parts of an output, in one step or two.
    pub(crate) fn steps(&self) -> Result<Vec<Vec<OutputRange>>, Error> {
        let step = |(first, split): (usize, &Split)| {
            let lower = |part: OutputRange| OutputRange { h: part.h.start + first..part.h.end + first, ..part };
            Ok(split.parts()?.into_iter().map(lower).collect())
        };
        self.splits().map(step).collect()
    }
}

/// Cuts `piece` along `axis` into those shares, and runs `leaf` over each that is not empty. `start`: the tasks before a
/// share, and its position along the axis.
fn divide<P: Piece>(
    piece: P,
    axis: Axis,
    shares: Range<usize>,
    parallelism: Parallelism,
    start: &(impl Fn(usize) -> (usize, usize) + Sync),
    leaf: &(impl Fn(usize, P) -> Result<(), Error> + Sync),
) -> Result<(), Error> {
    if piece.is_empty() {
        return Ok(());
    }
    if shares.len() == 1 {
        return leaf(shares.start, piece);
    }
    let middle = shares.start + shares.len() / 2;
    let (from, to) = (start(shares.start), start(middle));
    let (a, b) = piece.split(axis, to.1 - from.1, to.0 - from.0)?;
    parallelism.join(
        || divide(a, axis, shares.start..middle, parallelism, start, leaf),
        || divide(b, axis, middle..shares.end, parallelism, start, leaf),
    )
}

/// What can be cut into parts.
pub(crate) trait Piece: Sized + Send {
    fn is_empty(&self) -> bool;

    /// Cuts at an index along an axis; that many tasks are in the first of the two.
    fn split(self, axis: Axis, index: usize, tasks: usize) -> Result<(Self, Self), Error>;
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
    /// Scratch of its own, `per_task` of it for each of its tasks.
    pub(crate) scratch: &'a mut [f32],
    pub(crate) per_task: usize,
}

impl Part<'_> {
    /// Some of its rows.
    fn rows(&mut self, rows: Range<usize>) -> Result<Part<'_>, Error> {
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

impl<'a> Piece for Part<'a> {
    fn is_empty(&self) -> bool {
        self.output.shape().is_empty()
    }

    fn split(self, axis: Axis, index: usize, tasks: usize) -> Result<(Self, Self), Error> {
        let extent = self.output.shape()[axis];
        let cut =
            |view: Option<TensorView<'a>>, range: Range<usize>| view.map(|view| view.narrow(axis, range)).transpose();
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

/// A part that is asked for, not run, and a slot for each of its tasks.
struct Slots<'a> {
    range: OutputRange,
    slots: &'a mut [Option<OutputRange>],
}

impl Piece for Slots<'_> {
    fn is_empty(&self) -> bool {
        self.range.n.is_empty() || self.range.c.is_empty() || self.range.h.is_empty()
    }

    fn split(self, axis: Axis, index: usize, tasks: usize) -> Result<(Self, Self), Error> {
        let (mut first, mut second) = (self.range.clone(), self.range);
        let [a, b] = [&mut first, &mut second].map(|range| match axis {
            Axis::N => &mut range.n,
            Axis::C => &mut range.c,
            Axis::H | Axis::W => &mut range.h,
        });
        (a.end, b.start) = (a.start + index, a.start + index);
        let (slots, rest) = self.slots.split_at_mut(tasks);
        Ok((Slots { range: first, slots }, Slots { range: second, slots: rest }))
    }
}
