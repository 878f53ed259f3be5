//! Views over a tensor's slice, checked once when built: the only way into a kernel.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::ops::Range;

use crate::types::{Axis, Element, Error, Layout, OutputRange, Shape, Strides};

/// A borrowed tensor to read: a slice, a [`Shape`] and [`Strides`].
///
/// Building one fails if any element would lie outside of the slice.
#[derive(Clone, Copy)]
pub struct TensorView<'a, T = f32> {
    ptr: *const T,
    shape: Shape,
    strides: Strides,
    slice: PhantomData<&'a [T]>,
}

/// A borrowed tensor to write: a slice, a [`Shape`] and [`Strides`].
///
/// Building one fails if any element would lie outside of the slice or share its place with another.
pub struct TensorViewMut<'a, T = f32> {
    ptr: *mut T,
    shape: Shape,
    strides: Strides,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: a view is a shared slice with a shape: it can go where `&[T]` can.
unsafe impl<T: Sync> Send for TensorView<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for TensorView<'_, T> {}
// SAFETY: a view is a unique slice with a shape: it can go where `&mut [T]` can.
unsafe impl<T: Send> Send for TensorViewMut<'_, T> {}
// SAFETY: as above; a shared reference to a view gives no access to its elements.
unsafe impl<T: Sync> Sync for TensorViewMut<'_, T> {}

/// Fails unless every element of `shape` lies within `len` elements.
fn check_extent(len: usize, shape: Shape, strides: Strides) -> Result<(), Error> {
    let overflow = Error::Overflow { what: "the extent of a tensor" };
    if shape.is_empty() {
        return Ok(());
    }
    let mut last = 0usize;
    for axis in Axis::ALL {
        let reach = (shape[axis] - 1).checked_mul(strides[axis]).ok_or_else(|| overflow.clone())?;
        last = last.checked_add(reach).ok_or_else(|| overflow.clone())?;
    }
    // Offsets in bytes must fit an isize, which the slice's own length guarantees.
    if last >= len {
        return Err(Error::SliceTooShort { needed: last.saturating_add(1), len, shape, strides });
    }
    Ok(())
}

/// The strides of a contiguous tensor that is all of a slice of `len` elements. Fails if the slice is longer: what follows would be
/// left out in silence. `check_extent` sees to one that is shorter.
fn contiguous(len: usize, shape: Shape, layout: Layout) -> Result<Strides, Error> {
    let strides = layout.strides(shape)?;
    match shape.len() {
        Some(needed) if len > needed => Err(Error::SliceTooLong { needed, len, shape }),
        _ => Ok(strides),
    }
}

/// Fails unless each stride steps over all that the smaller strides reach, so that no two elements meet.
fn check_disjoint(shape: Shape, strides: Strides) -> Result<(), Error> {
    if shape.is_empty() {
        return Ok(());
    }
    let mut axes = Axis::ALL;
    axes.sort_unstable_by_key(|&axis| strides[axis]);
    let mut reach = 0usize;
    for axis in axes.into_iter().filter(|&axis| shape[axis] > 1) {
        if strides[axis] <= reach {
            return Err(Error::OverlappingStrides { shape, strides });
        }
        reach = reach.saturating_add((shape[axis] - 1).saturating_mul(strides[axis]));
    }
    Ok(())
}

fn check_range(axis: Axis, range: &Range<usize>, extent: usize) -> Result<(), Error> {
    if range.start > range.end || range.end > extent {
        return Err(Error::Range { axis, start: range.start, end: range.end, extent });
    }
    Ok(())
}

impl<'a, T> TensorView<'a, T> {
    /// The same elements with height and width exchanged.
    #[doc(hidden)]
    #[inline]
    pub fn turned(self) -> Self {
        Self { shape: self.shape.turned(), strides: self.strides.turned(), ..self }
    }

    /// A contiguous tensor, which is all of `data`. For a part of a longer slice, or one with gaps, see
    /// [`strided`](Self::strided).
    ///
    /// # Errors
    /// If `data` has not exactly the shape's number of elements.
    pub fn new(data: &'a [T], shape: Shape, layout: Layout) -> Result<Self, Error> {
        Self::strided(data, shape, contiguous(data.len(), shape, layout)?)
    }

    /// A tensor with any strides, in elements. The slice may be longer than the tensor.
    ///
    /// # Errors
    /// If an element would lie outside of `data`.
    pub fn strided(data: &'a [T], shape: Shape, strides: Strides) -> Result<Self, Error> {
        check_extent(data.len(), shape, strides)?;
        Ok(Self { ptr: data.as_ptr(), shape, strides, slice: PhantomData })
    }

    /// # Safety
    /// 1. The elements of that shape and strides can be read for `'a`.
    #[cfg(feature = "ndarray")]
    pub(crate) unsafe fn from_raw(ptr: *const T, shape: Shape, strides: Strides, slice: PhantomData<&'a [T]>) -> Self {
        Self { ptr, shape, strides, slice }
    }

    /// The part with `range` of the positions along `axis`.
    ///
    /// # Errors
    /// If the range does not lie within the axis.
    #[inline]
    pub fn narrow(mut self, axis: Axis, range: Range<usize>) -> Result<Self, Error> {
        check_range(axis, &range, self.shape[axis])?;
        self.ptr = self.ptr.wrapping_add(range.start.wrapping_mul(self.strides[axis]));
        self.shape[axis] = range.len();
        Ok(self)
    }

    /// What belongs to a part of an output: of a residual.
    ///
    /// # Errors
    /// If the part does not lie within the tensor.
    pub fn part(self, part: &OutputRange) -> Result<Self, Error> {
        Axis::ALL.into_iter().try_fold(self, |view, axis| view.narrow(axis, part[axis].clone()))
    }

    /// The extents.
    #[inline]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The strides, in elements.
    #[inline]
    pub fn strides(&self) -> Strides {
        self.strides
    }

    /// The element at an index, or `None` outside of the shape.
    #[inline]
    pub fn get(&self, n: usize, c: usize, h: usize, w: usize) -> Option<T>
    where
        T: Copy,
    {
        let Shape { n: n_len, c: c_len, h: h_len, w: w_len } = self.shape;
        if n >= n_len || c >= c_len || h >= h_len || w >= w_len {
            return None;
        }
        // SAFETY: the index lies within the shape, whose every element `check_extent` found in the slice.
        Some(unsafe { *self.ptr.add(self.strides.offset(n, c, h, w)) })
    }

    /// The elements of row `h` of image `n` and, if `c` is given, of that channel alone: `w` or `w * c`
    /// neighbours. `None` outside of the shape, or where they are not neighbours.
    #[doc(hidden)]
    #[inline]
    pub fn row(&self, n: usize, c: Option<usize>, h: usize) -> Option<&'a [T]> {
        let (shape, strides) = (self.shape, self.strides);
        if n >= shape.n || c.unwrap_or(0) >= shape.c || h >= shape.h || shape.w == 0 {
            return None;
        }
        let channels = if c.is_some() { 1 } else { shape.c };
        if (shape.w > 1 && strides.w != channels) || (channels > 1 && strides.c != 1) {
            return None;
        }
        let offset = strides.offset(n, c.unwrap_or(0), h, 0);
        // SAFETY: first and last of these elements lie within the shape, whose every element
        // `check_extent` found in the slice, and those between are their neighbours.
        Some(unsafe { core::slice::from_raw_parts(self.ptr.add(offset), shape.w * channels) })
    }

    /// The channels of a pixel, if they are neighbours.
    #[doc(hidden)]
    #[inline]
    pub fn pixel(&self, n: usize, h: usize, w: usize) -> Option<&'a [T]> {
        let (shape, strides) = (self.shape, self.strides);
        if n >= shape.n || shape.c == 0 || h >= shape.h || w >= shape.w || (shape.c > 1 && strides.c != 1) {
            return None;
        }
        // SAFETY: as in `row`.
        Some(unsafe { core::slice::from_raw_parts(self.ptr.add(strides.offset(n, 0, h, w)), shape.c) })
    }

    /// Each image as a single pixel, whose channels are all its elements, if channels last they are neighbours.
    #[doc(hidden)]
    pub fn pixels(self) -> Option<Self> {
        let (Shape { n, c, h, w }, strides) = (self.shape, self.strides);
        let all = c * h * w;
        let dense = (c <= 1 || strides.c == 1) && (w <= 1 || strides.w == c) && (h <= 1 || strides.h == w * c);
        let strides = Strides { n: strides.n, c: 1, h: all, w: all };
        dense.then_some(Self { shape: Shape::new(n, all, 1, 1), strides, ..self })
    }

    /// Where its first element is.
    #[doc(hidden)]
    pub fn address(&self) -> usize {
        self.as_ptr().addr()
    }

    pub(crate) fn as_ptr(&self) -> *const T {
        self.ptr
    }
}

impl<'a, T> TensorViewMut<'a, T> {
    /// The same elements with height and width exchanged.
    #[doc(hidden)]
    #[inline]
    pub fn turned(self) -> Self {
        Self { shape: self.shape.turned(), strides: self.strides.turned(), ..self }
    }

    /// A contiguous tensor, which is all of `data`. For a part of a longer slice, or one with gaps, see
    /// [`strided`](Self::strided).
    ///
    /// # Errors
    /// If `data` has not exactly the shape's number of elements.
    pub fn new(data: &'a mut [T], shape: Shape, layout: Layout) -> Result<Self, Error> {
        Self::strided(data, shape, contiguous(data.len(), shape, layout)?)
    }

    /// A tensor with any strides, in elements. The slice may be longer than the tensor.
    ///
    /// # Errors
    /// If an element would lie outside of `data`, or two of them at the same place.
    pub fn strided(data: &'a mut [T], shape: Shape, strides: Strides) -> Result<Self, Error> {
        Self::checked(data.as_mut_ptr(), data.len(), shape, strides)
    }

    /// A contiguous tensor in memory that is not initialised yet.
    ///
    /// After a run that returned `Ok`, every element of the shape is.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    ///
    /// ```
    /// use depthwise::{PointwiseConv2d, Run, Shape, TensorView, TensorViewMut, Workspace};
    ///
    /// let plan = PointwiseConv2d::builder(1, 1).weights(&[2.0]).build()?;
    /// let (shape, layout) = (Shape::new(1, 1, 2, 2), plan.layout());
    /// let mut y: Vec<f32> = Vec::with_capacity(4);
    /// let output = TensorViewMut::uninit(&mut y.spare_capacity_mut()[..4], shape, layout)?;
    /// plan.run(Run::new(TensorView::new(&[1.0; 4], shape, layout)?, output, &mut Workspace::new()))?;
    /// // SAFETY: the run returned `Ok`, so all four elements are initialised.
    /// unsafe { y.set_len(4) };
    /// assert_eq!(y, [2.0; 4]);
    /// # Ok::<(), depthwise::Error>(())
    /// ```
    pub fn uninit(data: &'a mut [MaybeUninit<T>], shape: Shape, layout: Layout) -> Result<Self, Error> {
        Self::uninit_strided(data, shape, contiguous(data.len(), shape, layout)?)
    }

    /// As [`uninit`](Self::uninit), with any strides. What lies between the elements stays as it was.
    ///
    /// # Errors
    /// As [`strided`](Self::strided).
    pub fn uninit_strided(data: &'a mut [MaybeUninit<T>], shape: Shape, strides: Strides) -> Result<Self, Error> {
        // A view gives no way to read an element, so what it points at need not be initialised.
        Self::checked(data.as_mut_ptr().cast(), data.len(), shape, strides)
    }

    /// # Safety
    /// 1. The elements of that shape and strides can be written for `'a`.
    #[cfg(feature = "ndarray")]
    pub(crate) unsafe fn from_raw(
        ptr: *mut T,
        shape: Shape,
        strides: Strides,
        slice: PhantomData<&'a mut [T]>,
    ) -> Result<Self, Error> {
        check_disjoint(shape, strides)?;
        Ok(Self { ptr, shape, strides, slice })
    }

    fn checked(ptr: *mut T, len: usize, shape: Shape, strides: Strides) -> Result<Self, Error> {
        check_extent(len, shape, strides)?;
        check_disjoint(shape, strides)?;
        Ok(Self { ptr, shape, strides, slice: PhantomData })
    }

    /// The part with `range` of the positions along `axis`.
    ///
    /// # Errors
    /// If the range does not lie within the axis.
    ///
    /// Concatenation without a copy: each run writes channels of its own.
    ///
    /// ```
    /// use depthwise::{Axis, PointwiseConv2d, Run, Shape, TensorView, TensorViewMut, Workspace};
    ///
    /// let plan = PointwiseConv2d::builder(1, 1).weights(&[2.0]).build()?;
    /// let (shape, layout) = (Shape::new(1, 1, 1, 2), plan.layout());
    /// let mut joined = [0.0; 4];
    /// for (channel, x) in [[1.0, 2.0], [3.0, 4.0]].iter().enumerate() {
    ///     let all = TensorViewMut::new(&mut joined, Shape { c: 2, ..shape }, layout)?;
    ///     let output = all.narrow(Axis::C, channel..channel + 1)?;
    ///     plan.run(Run::new(TensorView::new(x, shape, layout)?, output, &mut Workspace::new()))?;
    /// }
    /// assert_eq!(joined, [2.0, 4.0, 6.0, 8.0]);
    /// # Ok::<(), depthwise::Error>(())
    /// ```
    #[inline]
    pub fn narrow(mut self, axis: Axis, range: Range<usize>) -> Result<Self, Error> {
        check_range(axis, &range, self.shape[axis])?;
        self.ptr = self.ptr.wrapping_add(range.start.wrapping_mul(self.strides[axis]));
        self.shape[axis] = range.len();
        Ok(self)
    }

    /// The positions before `index` along `axis`, and those from it on: two views that share no element.
    ///
    /// # Errors
    /// If `index` is greater than the axis is long.
    #[inline]
    pub fn split_at(self, axis: Axis, index: usize) -> Result<(Self, Self), Error> {
        let extent = self.shape[axis];
        // The index-to-address map is injective (`check_disjoint`), so disjoint index sets stay disjoint.
        let twin = Self { ptr: self.ptr, shape: self.shape, strides: self.strides, slice: PhantomData };
        Ok((self.narrow(axis, 0..index)?, twin.narrow(axis, index..extent)?))
    }

    /// Cuts an output into parts, such as a plan's `parts`, each for a thread: views that share no element, in the order of the parts.
    ///
    /// # Errors
    /// If a part does not lie within the tensor, or two of them share an element.
    ///
    /// ```
    /// use depthwise::{DepthwiseConv2d, Run, Shape, TensorView, TensorViewMut, Workspace};
    ///
    /// let plan = DepthwiseConv2d::builder(32).weights(&[1.0; 32 * 9]).build()?;
    /// let (shape, layout) = (Shape::new(1, 32, 56, 56), plan.layout());
    /// let (x, mut y) = (vec![1.0; 32 * 56 * 56], vec![0.0; 32 * 56 * 56]);
    /// let input = TensorView::new(&x, shape, layout)?;
    /// let parts = plan.parts(shape, 4)?.concat();
    /// let views = TensorViewMut::new(&mut y, shape, layout)?.split(&parts)?;
    /// std::thread::scope(|scope| {
    ///     for (view, part) in views.into_iter().zip(parts) {
    ///         let plan = &plan;
    ///         scope.spawn(move || plan.run(Run::new(input, view, &mut Workspace::new()).range(part)));
    ///     }
    /// });
    /// assert!(y.iter().all(|&y| y >= 4.0));
    /// # Ok::<(), depthwise::Error>(())
    /// ```
    pub fn split(self, parts: &[OutputRange]) -> Result<Vec<Self>, Error> {
        for (i, part) in parts.iter().enumerate() {
            for axis in Axis::ALL {
                check_range(axis, &part[axis], self.shape[axis])?;
            }
            if let Some(other) = parts[..i].iter().find(|other| other.meets(part)) {
                return Err(Error::PartsMeet { parts: Box::new([other.clone(), part.clone()]) });
            }
        }
        // The index-to-address map is injective (`check_disjoint`), and no index is in two parts.
        let view = |part: &OutputRange| {
            let whole = Self { ptr: self.ptr, shape: self.shape, strides: self.strides, slice: PhantomData };
            Axis::ALL.into_iter().try_fold(whole, |view, axis| view.narrow(axis, part[axis].clone()))
        };
        parts.iter().map(view).collect()
    }

    /// The same view, borrowed for a shorter time.
    #[inline]
    pub fn reborrow(&mut self) -> TensorViewMut<'_, T> {
        TensorViewMut { ptr: self.ptr, shape: self.shape, strides: self.strides, slice: PhantomData }
    }

    /// The extents.
    #[inline]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The strides, in elements.
    #[inline]
    pub fn strides(&self) -> Strides {
        self.strides
    }

    /// Where its first element is.
    #[doc(hidden)]
    pub fn address(&self) -> usize {
        self.ptr.addr()
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr
    }
}

#[cfg(feature = "int8")]
impl<'a, T> TensorView<'a, T> {
    /// The same elements as another type of their size, of which any bits are one.
    pub(crate) fn cast<U>(self) -> TensorView<'a, U> {
        const { assert!(size_of::<T>() == size_of::<U>() && align_of::<T>() == align_of::<U>()) };
        TensorView { ptr: self.ptr.cast(), shape: self.shape, strides: self.strides, slice: PhantomData }
    }
}

#[cfg(feature = "int8")]
impl<'a, T> TensorViewMut<'a, T> {
    /// Likewise.
    pub(crate) fn cast<U>(self) -> TensorViewMut<'a, U> {
        const { assert!(size_of::<T>() == size_of::<U>() && align_of::<T>() == align_of::<U>()) };
        TensorViewMut { ptr: self.ptr.cast(), shape: self.shape, strides: self.strides, slice: PhantomData }
    }
}

impl<'a, T: Element> TensorView<'a, T> {
    /// The same view, if `U` is the type of its elements.
    #[doc(hidden)]
    #[inline]
    pub fn of_type<U: Element>(self) -> Option<TensorView<'a, U>> {
        let Self { ptr, shape, strides, .. } = self;
        // Each type has an `ElementType` of its own: the trait is sealed.
        (T::TYPE == U::TYPE).then(|| TensorView { ptr: ptr.cast(), shape, strides, slice: PhantomData })
    }
}

impl<'a, T: Element> TensorViewMut<'a, T> {
    /// The same view, if `U` is the type of its elements.
    #[doc(hidden)]
    #[inline]
    pub fn of_type<U: Element>(self) -> Option<TensorViewMut<'a, U>> {
        let Self { ptr, shape, strides, .. } = self;
        (T::TYPE == U::TYPE).then(|| TensorViewMut { ptr: ptr.cast(), shape, strides, slice: PhantomData })
    }
}

impl<T> fmt::Debug for TensorView<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorView").field("shape", &self.shape).field("strides", &self.strides).finish()
    }
}

impl<T> fmt::Debug for TensorViewMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TensorViewMut").field("shape", &self.shape).field("strides", &self.strides).finish()
    }
}
