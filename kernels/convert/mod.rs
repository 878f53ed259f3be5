//! Elements of any type as `f32`, and back: what lies around the kernels, which compute with `f32`.

#[cfg(feature = "half")]
mod loops;

use core::marker::PhantomData;
use core::mem::MaybeUninit;

use crate::memory::{TensorView, TensorViewMut};
use crate::table::Family;
use crate::types::{Axis, Element, ElementType, Isa, Layout, Shape, Strides};

#[cfg(feature = "half")]
pub(crate) use self::loops::{Vectors, functions, integer, vectors};

/// The conversions of one narrow type with one instruction set's vectors.
///
/// # Safety
/// Of each of them:
/// 1. The CPU has the instruction set.
/// 2. Both slices have the same length.
pub(crate) struct Functions {
    /// Writes all of the second slice.
    pub(crate) widen: unsafe fn(&[u16], &mut [MaybeUninit<f32>]),
    /// Writes all of the second slice.
    pub(crate) narrow: unsafe fn(&[f32], &mut [MaybeUninit<u16>]),
    /// To what [`narrow`](Self::narrow) and [`widen`](Self::widen) would give.
    pub(crate) round: unsafe fn(&mut [f32]),
}

/// The conversions of an instruction set: those that this CPU has, the fastest first.
#[cfg(feature = "half")]
pub(crate) struct Conversions {
    pub(crate) f16: &'static [&'static Functions],
    pub(crate) bf16: &'static [&'static Functions],
}

/// Converts elements with an instruction set's vectors. All of them give the same bits: those of [`Element`].
///
/// There is one only for an instruction set that this CPU has.
///
/// ```
/// use depthwise_kernels::{Converter, Isa};
///
/// let converter = Converter::<f32>::new(Isa::Portable).expect("any CPU has it");
/// let mut copy = [0.0; 3];
/// converter.widen(&[1.0, 2.0, 3.0], &mut copy);
/// assert_eq!(copy, [1.0, 2.0, 3.0]);
/// ```
#[derive(Clone, Copy)]
pub struct Converter<E> {
    /// None where the element is `f32` itself, which is copied.
    functions: Option<&'static Functions>,
    element: PhantomData<E>,
}

impl<E: Element> Converter<E> {
    /// That of an instruction set, if this CPU has it.
    pub fn new(isa: Isa) -> Option<Self> {
        Self::each(isa).next()
    }

    /// All that this CPU has of an instruction set, the fastest first: they differ in nothing else.
    #[doc(hidden)]
    pub fn each(isa: Isa) -> impl Iterator<Item = Self> {
        let family = Family::available(isa);
        let copies: &[_] = &[None];
        let (copies, converts): (&[_], &[&Functions]) = match (family, E::TYPE) {
            (None, _) => (&[], &[]),
            (_, ElementType::F32) => (copies, &[]),
            #[cfg(feature = "half")]
            (Some(family), ElementType::F16) => (&[], (family.conversions)().f16),
            #[cfg(feature = "half")]
            (Some(family), ElementType::Bf16) => (&[], (family.conversions)().bf16),
            _ => unreachable!("no element is of this type"),
        };
        let functions = copies.iter().copied().chain(converts.iter().copied().map(Some));
        functions.map(|functions| Self { functions, element: PhantomData })
    }

    /// Writes the elements of `from`, in `f32`, to `to`.
    ///
    /// # Panics
    /// If the slices have different lengths.
    #[inline]
    pub fn widen(self, from: &[E], to: &mut [f32]) {
        assert_same_length(from.len(), to.len());
        // SAFETY: 1, 2 and 3. The slices have this length, and one of them is borrowed alone.
        unsafe { self.widen_run(from.as_ptr(), to.as_mut_ptr(), from.len()) }
    }

    /// Writes the numbers of `from`, rounded, to `to`.
    ///
    /// # Panics
    /// If the slices have different lengths.
    #[inline]
    pub fn narrow(self, from: &[f32], to: &mut [E]) {
        assert_same_length(from.len(), to.len());
        // SAFETY: 1, 2 and 3. The slices have this length, and one of them is borrowed alone.
        unsafe { self.narrow_run(from.as_ptr(), to.as_mut_ptr(), from.len()) }
    }

    /// Rounds each number to one that an element holds.
    #[inline]
    pub fn round(self, data: &mut [f32]) {
        if let Some(functions) = self.functions {
            // SAFETY: 1. `new` found that the CPU has the instruction set. 2. There is one slice.
            unsafe { (functions.round)(data) }
        }
    }

    /// Writes the elements of `from`, in `f32`, to `to`.
    ///
    /// # Panics
    /// If the shapes differ, or there are gaps along the axis that the layout's vectors run along.
    pub fn widen_view(self, layout: Layout, from: TensorView<'_, E>, mut to: TensorViewMut<'_, f32>) {
        let runs = Runs::new(layout, [("what is widened", from.shape(), from.strides()), to_fill(&to)]);
        let (from, to) = (from.as_ptr(), to.as_mut_ptr());
        // SAFETY: 1. and 2. The views hold these runs of elements. 3. One of them is borrowed alone.
        runs.each(|[a, b]| unsafe { self.widen_run(from.wrapping_add(a), to.wrapping_add(b), runs.len) });
    }

    /// Writes the numbers of `from`, rounded, to `to`, which need not be initialised.
    ///
    /// # Panics
    /// If the shapes differ, or there are gaps along the axis that the layout's vectors run along.
    pub fn narrow_view(self, layout: Layout, from: TensorView<'_, f32>, mut to: TensorViewMut<'_, E>) {
        let runs = Runs::new(layout, [("what is narrowed", from.shape(), from.strides()), to_fill(&to)]);
        let (from, to) = (from.as_ptr(), to.as_mut_ptr());
        // SAFETY: 1. and 2. The views hold these runs of elements. 3. One of them is borrowed alone.
        runs.each(|[a, b]| unsafe { self.narrow_run(from.wrapping_add(a), to.wrapping_add(b), runs.len) });
    }

    /// # Safety
    /// 1. The `n` elements at `from` can be read. 2. Those at `to` can be written. 3. They do not overlap.
    #[inline]
    unsafe fn widen_run(self, from: *const E, to: *mut f32, n: usize) {
        // SAFETY: the elements are the caller's, and `MaybeUninit` takes any. 1. `new` found that the CPU has the instruction
        // set. 2. Both have `n` elements. A narrow element is 16 bits, transparently, and where there are no functions it is `f32`.
        unsafe {
            match self.functions {
                None => core::ptr::copy_nonoverlapping(from.cast::<f32>(), to, n),
                Some(functions) => (functions.widen)(
                    core::slice::from_raw_parts(from.cast::<u16>(), n),
                    core::slice::from_raw_parts_mut(to.cast::<MaybeUninit<f32>>(), n),
                ),
            }
        }
    }

    /// # Safety
    /// 1. The `n` elements at `from` can be read. 2. Those at `to` can be written. 3. They do not overlap.
    #[inline]
    unsafe fn narrow_run(self, from: *const f32, to: *mut E, n: usize) {
        // SAFETY: as in `widen_run`.
        unsafe {
            match self.functions {
                None => core::ptr::copy_nonoverlapping(from, to.cast::<f32>(), n),
                Some(functions) => (functions.narrow)(
                    core::slice::from_raw_parts(from, n),
                    core::slice::from_raw_parts_mut(to.cast::<MaybeUninit<u16>>(), n),
                ),
            }
        }
    }
}

fn assert_same_length(from: usize, to: usize) {
    assert!(from == to, "{from} elements are to be converted to {to}: the slices must have the same length");
}

/// Memory of `f32` as elements of another type, whatever they hold.
#[doc(hidden)]
pub fn elements_of<E: Element>(data: &mut [f32]) -> &mut [E] {
    const { assert!(size_of::<f32>().is_multiple_of(size_of::<E>()) && align_of::<E>() <= align_of::<f32>()) };
    let len = data.len() * (size_of::<f32>() / size_of::<E>());
    // SAFETY: these are the slice's bytes, borrowed alone, and aligned. Any bits are an `f32`, and a narrow element, which is 16 bits,
    // transparently. `Element` is sealed: there are no other types.
    unsafe { core::slice::from_raw_parts_mut(data.as_mut_ptr().cast(), len) }
}

/// What is known of a view, for [`Runs::new`].
type Known = (&'static str, Shape, Strides);

fn to_fill<T>(view: &TensorViewMut<'_, T>) -> Known {
    ("what is filled", view.shape(), view.strides())
}

/// Neighbours in both of two tensors of the same shape.
struct Runs {
    /// Elements of each run.
    len: usize,
    /// How many there are along three axes, and the steps from one to the next in either tensor.
    axes: [(usize, [usize; 2]); 3],
}

impl Runs {
    /// As few as there are.
    fn new(layout: Layout, views: [Known; 2]) -> Self {
        let [(_, shape, _), (_, other, _)] = views;
        assert!(
            shape == other,
            "a tensor of {shape:?} is to be converted to one of {other:?}: the shapes must be the same"
        );
        let along = layout.vector_axis();
        for (what, _, strides) in views {
            let is_contiguous = shape[along] <= 1 || strides[along] == 1;
            assert!(is_contiguous, "{what} has gaps along the {along}, where elements of {layout} must be neighbours");
        }
        let others = match layout {
            Layout::Nchw => [Axis::H, Axis::C, Axis::N],
            Layout::Nhwc => [Axis::W, Axis::H, Axis::N],
        };
        let mut runs =
            Self { len: shape[along], axes: others.map(|axis| (shape[axis], views.map(|view| view.2[axis]))) };
        // Runs that follow each other without a gap are one.
        for (count, steps) in &mut runs.axes {
            if *count > 1 && *steps != [runs.len; 2] {
                break;
            }
            runs.len *= core::mem::replace(count, 1);
        }
        runs
    }

    /// Calls `run` with where each starts in either tensor.
    fn each(&self, run: impl Fn([usize; 2])) {
        let [inner, middle, outer] = self.axes;
        if self.len == 0 {
            return;
        }
        for k in 0..outer.0 {
            for j in 0..middle.0 {
                for i in 0..inner.0 {
                    run([0, 1].map(|t| i * inner.1[t] + j * middle.1[t] + k * outer.1[t]));
                }
            }
        }
    }
}
