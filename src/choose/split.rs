//! How an output is cut into parts that finish at the same time.

use alloc::vec::Vec;
use core::ops::Range;

use depthwise_kernels::{Axis, Error, OutputRange, Shape};

use super::price::Price;

/// Does two pieces of work, one after the other or at the same time.
pub(crate) trait Both: Copy + Sync {
    fn both(
        self,
        a: impl FnOnce() -> Result<(), Error> + Send,
        b: impl FnOnce() -> Result<(), Error> + Send,
    ) -> Result<(), Error>;
}

/// How an output is cut: along the outer axis into groups, and each group along the inner axis into its share of the
/// tasks, about one for every thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Split {
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
    /// The split of an output of that shape, along `long`, channels and images, that has the lowest price of its dearest part.
    fn new(shape: Shape, long: Axis, price: Price, tasks: usize) -> Self {
        let one = Split { tasks: 1, shape, price, outer: Axis::N, inner: Axis::H, groups: 1 };
        if tasks == 1 {
            return one;
        }
        let mut best = (one.total(), one);
        for outer in [Axis::N, long, Axis::C] {
            for inner in [long, Axis::C, Axis::N] {
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
        self.dearest() + if self.tasks > 1 { self.price.sharing.fork(self.tasks) } else { 0.0 }
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

    /// The rows that it cuts.
    pub(crate) fn rows(&self) -> usize {
        self.shape.h
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

    /// The tasks before a group, and where it starts along the outer axis.
    fn group(&self, group: usize) -> (usize, usize) {
        let before = self.tasks_before(group);
        (before, self.position(self.outer, before, self.tasks))
    }

    /// The tasks of a group.
    fn tasks_of(&self, group: usize) -> usize {
        self.tasks_before(group + 1) - self.tasks_before(group)
    }

    /// Runs `leaf` over the parts of `whole`, which has the split's shape.
    pub(crate) fn run<P: Piece>(
        &self,
        whole: P,
        both: impl Both,
        leaf: &(impl Fn(P) -> Result<(), Error> + Sync),
    ) -> Result<(), Error> {
        divide(whole, self.outer, 0..self.groups, both, &|group| self.group(group), &|i, piece| {
            let tasks = self.tasks_of(i);
            let task = |task: usize| (task, self.position(self.inner, task, tasks));
            divide(piece, self.inner, 0..tasks, both, &task, &|_, piece| leaf(piece))
        })
    }

    /// The parts of `whole`, which has the split's shape, to be cut off one by one.
    pub(crate) fn cuts<P>(&self, whole: P) -> Cuts<P> {
        Cuts { split: *self, groups: 0..self.groups, whole: Some(whole), tasks: 0..0, group: None }
    }
}

/// The parts of a split's whole that are not cut off yet, in order.
pub(crate) struct Cuts<P> {
    split: Split,
    /// The groups that are left, and what they share.
    groups: Range<usize>,
    whole: Option<P>,
    /// The tasks that are left of the group before them, and what they share.
    tasks: Range<usize>,
    group: Option<P>,
}

impl<P: Piece> Iterator for Cuts<P> {
    type Item = Result<P, Error>;

    /// The next part that is not empty.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let part = if !self.tasks.is_empty() {
                let (split, tasks) = (self.split, self.tasks.end);
                let task = |task: usize| (task, split.position(split.inner, task, tasks));
                cut(&mut self.group, split.inner, &mut self.tasks, &task)
            } else if !self.groups.is_empty() {
                let (split, group) = (self.split, self.groups.start);
                match cut(&mut self.whole, split.outer, &mut self.groups, &|group| split.group(group)) {
                    Ok(piece) => (self.group, self.tasks) = (piece, 0..split.tasks_of(group)),
                    Err(error) => return Some(Err(error)),
                }
                continue;
            } else {
                return None;
            };
            match part {
                Ok(Some(part)) if !part.is_empty() => return Some(Ok(part)),
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Cuts the first of the shares off `rest`, all of it if it is the last.
fn cut<P: Piece>(
    rest: &mut Option<P>,
    axis: Axis,
    shares: &mut Range<usize>,
    start: &impl Fn(usize) -> (usize, usize),
) -> Result<Option<P>, Error> {
    let (Some(share), Some(piece)) = (shares.next(), rest.take()) else { return Ok(None) };
    if Range::is_empty(shares) {
        return Ok(Some(piece));
    }
    let (from, to) = (start(share), start(share + 1));
    let (first, others) = piece.split(axis, to.1 - from.1, to.0 - from.0)?;
    *rest = Some(others);
    Ok(Some(first))
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
        // Where there is not a row for each task, columns are cut.
        let long = if shape.h < tasks && shape.h < shape.w { Axis::W } else { Axis::H };
        let of_rows = |h: usize| Split::new(Shape { h, ..shape }, long, price, tasks);
        let one = Shares { most: of_rows(shape.h), rest: None };
        let left = shape.h % tasks;
        if left == 0 || left == shape.h {
            return one;
        }
        let two = Shares { most: of_rows(shape.h - left), rest: Some(of_rows(left)) };
        if two.total() < one.total() { two } else { one }
    }

    /// The splits, each with its first row.
    pub(crate) fn splits(&self) -> impl Iterator<Item = (usize, &Split)> {
        core::iter::once((0, &self.most)).chain(self.rest.iter().map(|rest| (self.most.shape.h, rest)))
    }

    /// The parts of `whole`, which has the shape of the output, to be cut off one by one: those of the one split, then the others.
    #[cfg(feature = "std")]
    pub(crate) fn cuts<P: Piece>(
        &self,
        whole: P,
    ) -> Result<impl Iterator<Item = Result<P, Error>> + Send + use<P>, Error> {
        let (upper, lower) = match self.rest {
            None => (whole, None),
            Some(rest) => {
                let (upper, lower) = whole.split(Axis::H, self.most.rows(), 0)?;
                (upper, Some(rest.cuts(lower)))
            }
        };
        Ok(self.most.cuts(upper).chain(lower.into_iter().flatten()))
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

    /// The parts of an output, in one step or two.
    pub(crate) fn steps(&self) -> Result<Vec<Vec<OutputRange>>, Error> {
        let step = |(first, split): (usize, &Split)| {
            let lower = |part: OutputRange| OutputRange { h: part.h.start + first..part.h.end + first, ..part };
            split.cuts(OutputRange::all(split.shape)).map(|part| part.map(lower)).collect()
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
    both: impl Both,
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
    both.both(
        || divide(a, axis, shares.start..middle, both, start, leaf),
        || divide(b, axis, middle..shares.end, both, start, leaf),
    )
}

/// What can be cut into parts.
pub(crate) trait Piece: Sized + Send {
    fn is_empty(&self) -> bool;

    /// Cuts at an index along an axis; that many tasks are in the first of the two.
    fn split(self, axis: Axis, index: usize, tasks: usize) -> Result<(Self, Self), Error>;
}

/// A part that is asked for, not run.
impl Piece for OutputRange {
    fn is_empty(&self) -> bool {
        OutputRange::is_empty(self)
    }

    fn split(self, axis: Axis, index: usize, _: usize) -> Result<(Self, Self), Error> {
        let (mut first, mut second) = (self.clone(), self);
        let (a, b) = (&mut first[axis], &mut second[axis]);
        (a.end, b.start) = (a.start + index, a.start + index);
        Ok((first, second))
    }
}
