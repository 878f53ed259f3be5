//! The one table of kernels: a row is one algorithm, compiled for one instruction set.

use crate::depthwise::DepthwiseArgs;
use crate::epilogue::Curve;
use crate::info::{KernelInfo, Name};
use crate::pointwise::PointwiseArgs;
use crate::pointwise::nhwc::RunSeries;
use crate::rows;
use crate::types::{Isa, Layout};

/// One way to compute an operation, written for any instruction set that has what it needs: a type, whose parameters are those of
/// the row.
pub(crate) trait Algorithm<S> {
    /// What it computes, once for each call.
    type Args;
    /// Its row, but for the name, which follows from the other fields.
    const INFO: KernelInfo;

    /// Computes it.
    ///
    /// # Safety
    /// 1. `args` comes from a stage of [`stage`](crate::stage), whose kernels include this one: what they point to can be read, and
    ///    the output written, and the weights are packed for this kernel.
    unsafe fn run(s: S, args: &Self::Args);
}

/// An algorithm whose machine code may touch the stack: up to so many times in a hundred multiply-adds.
pub(crate) struct Spills<const PERCENT: u8, A>(core::marker::PhantomData<A>);

impl<S, const PERCENT: u8, A: Algorithm<S>> Algorithm<S> for Spills<PERCENT, A> {
    type Args = A::Args;
    const INFO: KernelInfo = KernelInfo { spills: PERCENT, ..A::INFO };

    #[inline(always)]
    unsafe fn run(s: S, args: &A::Args) {
        // SAFETY: the caller's.
        unsafe { A::run(s, args) }
    }
}

/// An algorithm's row with its name.
pub(crate) struct Named<S, A>(core::marker::PhantomData<(S, A)>);

impl<S, A: Algorithm<S>> Named<S, A> {
    const NAME: Name = Name::of(&A::INFO);
    pub(crate) const INFO: KernelInfo = KernelInfo { name: Self::NAME.as_str(), ..A::INFO };
}

/// A row of the table: what is known of a kernel, and its code, compiled for its instruction set.
pub(crate) struct Kernel<Args: 'static> {
    pub(crate) info: KernelInfo,
    /// # Safety
    /// 1. The CPU has the instruction set.
    /// 2. As [`Algorithm::run`].
    pub(crate) entry: unsafe fn(&Args),
}

/// One instruction set's rows of the table for tensors of 8 bits.
#[cfg(feature = "int8")]
pub(crate) struct Int8 {
    pub(crate) depthwise: &'static [Kernel<crate::int8::depthwise::Args>],
    pub(crate) pointwise: &'static [Kernel<crate::int8::pointwise::Args>],
    /// What they pack weights as.
    pub(crate) packing: crate::int8::stage::Packing,
    /// Does that many rounds of independent products; returns the operations in a round, and a sum.
    ///
    /// # Safety
    /// 1. The CPU has the instruction set.
    #[cfg_attr(not(feature = "std"), expect(dead_code, reason = "without std there is no clock"))]
    pub(crate) peak: unsafe fn(usize) -> (usize, i32),
}

/// One instruction set's rows of the table, and what all of its kernels share.
pub(crate) struct Family {
    pub(crate) isa: Isa,
    pub(crate) depthwise: &'static [Kernel<DepthwiseArgs>],
    pub(crate) pointwise: &'static [Kernel<PointwiseArgs>],
    #[cfg(feature = "int8")]
    pub(crate) int8: Int8,
    /// What goes element by element of 8 bits.
    #[cfg(feature = "int8")]
    pub(crate) elementwise: &'static crate::int8::elementwise::Functions,
    /// The inner loops of its pointwise kernels, channels last.
    pub(crate) series: &'static [RunSeries],
    /// Lanes of its narrowest vectors.
    pub(crate) half_lanes: usize,
    /// Applies a curve to a run of elements.
    ///
    /// # Safety
    /// 1. The CPU has the instruction set.
    /// 2. So many elements can be read and written.
    pub(crate) activate: unsafe fn(Curve, *mut f32, usize),
    /// Its conversions of elements; of AVX2, those that this CPU has.
    #[cfg(feature = "half")]
    pub(crate) conversions: fn() -> crate::convert::Conversions,
    /// Does that many rounds of independent multiply-adds; returns how many in a round, and a result.
    ///
    /// # Safety
    /// 1. The CPU has the instruction set.
    #[cfg_attr(not(feature = "std"), expect(dead_code, reason = "without std there is no clock"))]
    pub(crate) peak: unsafe fn(usize) -> (usize, f32),
    /// Reads a slice that many times; returns the sum.
    ///
    /// # Safety
    /// 1. The CPU has the instruction set.
    #[cfg_attr(not(feature = "std"), expect(dead_code, reason = "without std there is no clock"))]
    pub(crate) read: unsafe fn(&[f32], usize) -> f32,
}

static FAMILIES: &[&Family] = &[
    &rows::portable::FAMILY,
    #[cfg(isa = "avx2")]
    &rows::avx2::FAMILY,
    #[cfg(isa = "avx512")]
    &rows::avx512::FAMILY,
    #[cfg(all(feature = "int8", isa = "avx512"))]
    &rows::avx512vnni::FAMILY,
    #[cfg(isa = "neon")]
    &rows::neon::FAMILY,
];

impl Family {
    /// Of an instruction set, if this CPU has it.
    pub(crate) fn available(isa: Isa) -> Option<&'static Family> {
        FAMILIES.iter().find(|family| family.isa == isa && isa.is_available()).copied()
    }

    fn infos(&self) -> impl Iterator<Item = &'static KernelInfo> + use<> {
        self.rows().map(|(info, _)| info)
    }

    fn rows(&self) -> impl Iterator<Item = (&'static KernelInfo, Entry)> + use<> {
        let depthwise = self.depthwise.iter().map(|row| (&row.info, Entry::Depthwise(row.entry)));
        let pointwise = self.pointwise.iter().map(|row| (&row.info, Entry::Pointwise(row.entry)));
        let rows = depthwise.chain(pointwise);
        #[cfg(feature = "int8")]
        let rows = {
            let depthwise = self.int8.depthwise.iter().map(|row| (&row.info, Entry::Int8Depthwise(row.entry)));
            let pointwise = self.int8.pointwise.iter().map(|row| (&row.info, Entry::Int8Pointwise(row.entry)));
            rows.chain(depthwise).chain(pointwise)
        };
        rows
    }
}

/// Every kernel of this target, whether or not this CPU has its instruction set.
pub fn table() -> impl Iterator<Item = &'static KernelInfo> {
    FAMILIES.iter().flat_map(|family| family.infos())
}

/// Where the machine code of each kernel's inner loops is.
pub fn inner_loops() -> impl Iterator<Item = (KernelInfo, *const ())> {
    FAMILIES.iter().flat_map(|family| {
        let depthwise = family.depthwise.iter().map(|row| (row.info, row.entry as *const ()));
        let pointwise = family.pointwise.iter().map(|row| match row.info.layout {
            Layout::Nhwc => (row.info, family.series[row.info.tile[0] - 1] as *const ()),
            Layout::Nchw => (row.info, row.entry as *const ()),
        });
        let rows = depthwise.chain(pointwise);
        #[cfg(feature = "int8")]
        let rows = {
            let depthwise = family.int8.depthwise.iter().map(|row| (row.info, row.entry as *const ()));
            rows.chain(depthwise).chain(family.int8.pointwise.iter().map(|row| (row.info, row.entry as *const ())))
        };
        rows
    })
}

/// The code of a kernel.
#[derive(Clone, Copy)]
pub(crate) enum Entry {
    Depthwise(unsafe fn(&DepthwiseArgs)),
    Pointwise(unsafe fn(&PointwiseArgs)),
    #[cfg(feature = "int8")]
    Int8Depthwise(unsafe fn(&crate::int8::depthwise::Args)),
    #[cfg(feature = "int8")]
    Int8Pointwise(unsafe fn(&crate::int8::pointwise::Args)),
}

/// A kernel that this CPU runs.
#[derive(Clone, Copy)]
pub struct Available {
    info: &'static KernelInfo,
    pub(crate) entry: Entry,
    pub(crate) family: &'static Family,
}

impl Available {
    /// What is known of it.
    pub fn info(&self) -> &'static KernelInfo {
        self.info
    }
}

/// A kernel of the table, if this CPU has its instruction set.
pub fn available(info: &KernelInfo) -> Option<Available> {
    let family = Family::available(info.isa)?;
    let (info, entry) = family.rows().find(|(row, _)| *row == info)?;
    Some(Available { info, entry, family })
}
