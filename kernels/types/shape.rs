//! Shapes, strides and layouts of 4-D tensors.

use core::fmt;
use core::ops::{Index, IndexMut};
use core::str::FromStr;

use super::Error;

/// The extents of a tensor: batch, channels, height, width, whatever its layout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Images in the batch.
    pub n: usize,
    /// Channels.
    pub c: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

/// The distance between neighbours along each axis, in elements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Strides {
    /// From an image to the next.
    pub n: usize,
    /// From a channel to the next.
    pub c: usize,
    /// From a row to the next.
    pub h: usize,
    /// From a column to the next.
    pub w: usize,
}

/// An axis of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Axis {
    /// Images.
    N,
    /// Channels.
    C,
    /// Rows.
    H,
    /// Columns.
    W,
}

/// The order of the axes in memory. The last one must be contiguous.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Layout {
    /// Images, channels, rows, columns, as in PyTorch and ONNX; also called channels-first. The default.
    #[default]
    Nchw,
    /// Images, rows, columns, channels, as in TensorFlow; also called channels-last.
    Nhwc,
}

impl Axis {
    /// All four.
    pub const ALL: [Axis; 4] = [Axis::N, Axis::C, Axis::H, Axis::W];
}

impl Shape {
    /// With height and width exchanged.
    #[doc(hidden)]
    pub fn turned(self) -> Self {
        Self { h: self.w, w: self.h, ..self }
    }

    /// A shape of `n` images of `c` channels of `h` rows and `w` columns.
    pub const fn new(n: usize, c: usize, h: usize, w: usize) -> Self {
        Self { n, c, h, w }
    }

    /// The number of elements, or `None` if it overflows.
    pub fn len(self) -> Option<usize> {
        if self.is_empty() {
            return Some(0);
        }
        self.n.checked_mul(self.c)?.checked_mul(self.h)?.checked_mul(self.w)
    }

    /// Whether there are no elements.
    pub fn is_empty(self) -> bool {
        self.n == 0 || self.c == 0 || self.h == 0 || self.w == 0
    }
}

impl Strides {
    /// Those of the same elements with height and width exchanged.
    #[doc(hidden)]
    pub fn turned(self) -> Self {
        Self { h: self.w, w: self.h, ..self }
    }

    /// The element at an index, counted from the first.
    pub fn offset(self, n: usize, c: usize, h: usize, w: usize) -> usize {
        n * self.n + c * self.c + h * self.h + w * self.w
    }
}

impl Layout {
    /// The strides of a contiguous tensor.
    ///
    /// # Errors
    /// If the number of elements overflows.
    pub fn strides(self, shape: Shape) -> Result<Strides, Error> {
        let order = match self {
            Layout::Nchw => [Axis::W, Axis::H, Axis::C, Axis::N],
            Layout::Nhwc => [Axis::C, Axis::W, Axis::H, Axis::N],
        };
        let mut strides = Strides::default();
        let mut next = 1usize;
        for axis in order {
            strides[axis] = next;
            next = match next.checked_mul(shape[axis].max(1)) {
                Some(next) => next,
                // No stride of an empty tensor is ever used.
                None if shape.is_empty() => usize::MAX,
                None => return Err(Error::Overflow { what: "the number of elements of a tensor" }),
            };
        }
        Ok(strides)
    }

    /// The axis along which kernels load vectors, whose stride must be 1.
    pub fn vector_axis(self) -> Axis {
        match self {
            Layout::Nchw => Axis::W,
            Layout::Nhwc => Axis::C,
        }
    }

    /// `"nchw"` or `"nhwc"`.
    pub const fn name(self) -> &'static str {
        match self {
            Layout::Nchw => "nchw",
            Layout::Nhwc => "nhwc",
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n={} c={} h={} w={}", self.n, self.c, self.h, self.w)
    }
}

impl fmt::Display for Strides {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n={} c={} h={} w={}", self.n, self.c, self.h, self.w)
    }
}

impl fmt::Display for Axis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Axis::N => "batch",
            Axis::C => "channels",
            Axis::H => "height",
            Axis::W => "width",
        })
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Layout {
    type Err = Error;

    /// Takes a name in upper or lower case.
    fn from_str(name: &str) -> Result<Self, Error> {
        [Layout::Nchw, Layout::Nhwc]
            .into_iter()
            .find(|layout| layout.name().eq_ignore_ascii_case(name))
            .ok_or_else(|| Error::UnknownLayout { name: name.into() })
    }
}

macro_rules! indexed_by_axis {
    ($($type:ty),*) => {$(
        impl Index<Axis> for $type {
            type Output = usize;

            fn index(&self, axis: Axis) -> &usize {
                match axis {
                    Axis::N => &self.n,
                    Axis::C => &self.c,
                    Axis::H => &self.h,
                    Axis::W => &self.w,
                }
            }
        }

        impl IndexMut<Axis> for $type {
            fn index_mut(&mut self, axis: Axis) -> &mut usize {
                match axis {
                    Axis::N => &mut self.n,
                    Axis::C => &mut self.c,
                    Axis::H => &mut self.h,
                    Axis::W => &mut self.w,
                }
            }
        }
    )*};
}
indexed_by_axis!(Shape, Strides);
