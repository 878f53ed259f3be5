//! A part of an output.

use core::fmt;
use core::ops::Range;

use super::Shape;

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

    /// Whether there is no element in it.
    pub fn is_empty(&self) -> bool {
        self.n.is_empty() || self.c.is_empty() || self.h.is_empty()
    }

    /// Whether an element is in both.
    pub fn meets(&self, other: &Self) -> bool {
        let meet = |a: &Range<usize>, b: &Range<usize>| a.start.max(b.start) < a.end.min(b.end);
        meet(&self.n, &other.n) && meet(&self.c, &other.c) && meet(&self.h, &other.h)
    }
}

impl fmt::Display for OutputRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n={:?} c={:?} h={:?}", self.n, self.c, self.h)
    }
}
