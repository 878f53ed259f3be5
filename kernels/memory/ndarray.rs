//! Conversions from `ndarray` views, whose axes are in the order of a layout.

use core::marker::PhantomData;

use ::ndarray::{ArrayView4, ArrayViewMut4};

use crate::memory::view::{TensorView, TensorViewMut};
use crate::types::Error;
use crate::types::{Layout, Shape, Strides};

/// Shape and strides of an array whose axes are in `layout`'s order.
fn logical(
    layout: Layout,
    (n, a, b, c): (usize, usize, usize, usize),
    strides: &[isize],
) -> Result<(Shape, Strides), Error> {
    let mut steps = [0; 4];
    for ((step, &stride), extent) in steps.iter_mut().zip(strides).zip([n, a, b, c]) {
        // The stride of an axis of at most one element is never used, and may be anything.
        if extent > 1 {
            *step = usize::try_from(stride).map_err(|_| Error::NegativeStride { stride })?;
        }
    }
    let [sn, sa, sb, sc] = steps;
    Ok(match layout {
        Layout::Nchw => (Shape::new(n, a, b, c), Strides { n: sn, c: sa, h: sb, w: sc }),
        Layout::Nhwc => (Shape::new(n, c, a, b), Strides { n: sn, c: sc, h: sa, w: sb }),
    })
}

impl<'a, T> TensorView<'a, T> {
    /// An `ndarray` view whose axes are in the order of `layout`, whatever its strides.
    ///
    /// # Errors
    /// If an axis runs backwards.
    ///
    /// ```
    /// use depthwise::{Layout, PointwiseConv2d, Run, TensorView, TensorViewMut, Workspace};
    /// use ndarray::Array4;
    ///
    /// let plan = PointwiseConv2d::builder(2, 1).layout(Layout::Nhwc).weights(&[1.0, 10.0]).build()?;
    /// let input = Array4::from_shape_fn((1, 3, 3, 2), |(_, row, _, channel)| (row + channel) as f32);
    /// let mut output = Array4::zeros((1, 3, 3, 1));
    /// plan.run(Run::new(
    ///     TensorView::from_ndarray(input.view(), Layout::Nhwc)?,
    ///     TensorViewMut::from_ndarray(output.view_mut(), Layout::Nhwc)?,
    ///     &mut Workspace::new(),
    /// ))?;
    /// assert_eq!(output[[0, 2, 0, 0]], 2.0 + 10.0 * 3.0);
    /// # Ok::<(), depthwise::Error>(())
    /// ```
    pub fn from_ndarray(array: ArrayView4<'a, T>, layout: Layout) -> Result<Self, Error> {
        let (shape, strides) = logical(layout, array.dim(), array.strides())?;
        // SAFETY: the array's elements are borrowed for `'a`, and are those of this shape and strides.
        Ok(unsafe { Self::from_raw(array.as_ptr(), shape, strides, PhantomData) })
    }
}

impl<'a, T> TensorViewMut<'a, T> {
    /// An `ndarray` view whose axes are in the order of `layout`, whatever its strides.
    ///
    /// # Errors
    /// If an axis runs backwards, or strides interleave as [`strided`](Self::strided) rejects.
    pub fn from_ndarray(mut array: ArrayViewMut4<'a, T>, layout: Layout) -> Result<Self, Error> {
        let (shape, strides) = logical(layout, array.dim(), array.strides())?;
        // SAFETY: the array's elements are borrowed uniquely for `'a`, and are those of this shape and strides.
        unsafe { Self::from_raw(array.as_mut_ptr(), shape, strides, PhantomData) }
    }
}
