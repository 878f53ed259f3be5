//! A part of an output.

use core::fmt;
use core::ops::{Index, IndexMut, Range};

use super::{Axis, Shape};

/// A part of an output: some of its images, channels, rows and columns.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OutputRange {
    /// Images.
    pub n: Range<usize>,
    /// Channels.
    pub c: Range<usize>,
    /// Rows.
    pub h: Range<usize>,
    /// Columns.
    pub w: Range<usize>,
}

impl OutputRange {
    /// With height and width exchanged.
    #[doc(hidden)]
    pub fn turned(self) -> Self {
        Self { h: self.w, w: self.h, ..self }
    }

    /// All of an output.
    pub fn all(output: Shape) -> Self {
        Self { n: 0..output.n, c: 0..output.c, h: 0..output.h, w: 0..output.w }
    }

    /// Whether there is no element in it.
    pub fn is_empty(&self) -> bool {
        self.n.is_empty() || self.c.is_empty() || self.h.is_empty() || self.w.is_empty()
    }

    /// Whether an element is in both.
    pub fn meets(&self, other: &Self) -> bool {
        let meet = |a: &Range<usize>, b: &Range<usize>| a.start.max(b.start) < a.end.min(b.end);
        meet(&self.n, &other.n) && meet(&self.c, &other.c) && meet(&self.h, &other.h) && meet(&self.w, &other.w)
    }
}

impl Index<Axis> for OutputRange {
    type Output = Range<usize>;

    fn index(&self, axis: Axis) -> &Range<usize> {
        match axis {
            Axis::N => &self.n,
            Axis::C => &self.c,
            Axis::H => &self.h,
            Axis::W => &self.w,
        }
    }
}

impl IndexMut<Axis> for OutputRange {
    fn index_mut(&mut self, axis: Axis) -> &mut Range<usize> {
        match axis {
            Axis::N => &mut self.n,
            Axis::C => &mut self.c,
            Axis::H => &mut self.h,
            Axis::W => &mut self.w,
        }
    }
}

impl fmt::Display for OutputRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n={:?} c={:?} h={:?} w={:?}", self.n, self.c, self.h, self.w)
    }
}
