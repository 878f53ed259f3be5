//! Conversions of slices: loops of integers, of which LLVM makes vectors, and loops of an instruction set's own conversions.

use core::mem::MaybeUninit;

use crate::types::Element;

/// A type of the crate `half`.
pub(crate) trait Narrow: Element {
    fn from_bits(bits: u16) -> Self;
    fn to_bits(self) -> u16;
}

impl Narrow for half::f16 {
    #[inline(always)]
    fn from_bits(bits: u16) -> Self {
        half::f16::from_bits(bits)
    }
    #[inline(always)]
    fn to_bits(self) -> u16 {
        half::f16::to_bits(self)
    }
}

impl Narrow for half::bf16 {
    #[inline(always)]
    fn from_bits(bits: u16) -> Self {
        half::bf16::from_bits(bits)
    }
    #[inline(always)]
    fn to_bits(self) -> u16 {
        half::bf16::to_bits(self)
    }
}

/// Element by element.
pub(crate) mod integer {
    use super::{MaybeUninit, Narrow};

    #[inline(always)]
    pub(crate) fn widen<E: Narrow>(from: &[u16], to: &mut [MaybeUninit<f32>]) {
        for (from, to) in from.iter().zip(to) {
            to.write(E::from_bits(*from).to_f32());
        }
    }

    #[inline(always)]
    pub(crate) fn narrow<E: Narrow>(from: &[f32], to: &mut [MaybeUninit<u16>]) {
        for (from, to) in from.iter().zip(to) {
            to.write(E::from_f32(*from).to_bits());
        }
    }

    #[inline(always)]
    pub(crate) fn round<E: Narrow>(data: &mut [f32]) {
        for x in data {
            *x = E::from_f32(*x).to_f32();
        }
    }
}

/// An instruction set that converts `N` elements of `f16` at a time: a token that proves that the CPU has it.
///
/// As the methods of `Simd`, these are inlined into functions that are compiled with its target features.
pub(crate) trait Vectors<const N: usize>: Copy {
    fn widen(self, from: &[u16; N], to: &mut [MaybeUninit<f32>; N]);
    fn narrow(self, from: &[f32; N], to: &mut [MaybeUninit<u16>; N]);
    fn round(self, data: &mut [f32; N]);
}

/// Vector by vector. The last one ends where the slices end, so that some elements are converted twice. Fewer elements than a
/// vector has are copied to where there is room for it.
pub(crate) mod vectors {
    use super::{MaybeUninit, Vectors};

    #[inline(always)]
    pub(crate) fn widen<const N: usize>(v: impl Vectors<N>, from: &[u16], to: &mut [MaybeUninit<f32>]) {
        each(from, to, |from, to| v.widen(from, to));
    }

    #[inline(always)]
    pub(crate) fn narrow<const N: usize>(v: impl Vectors<N>, from: &[f32], to: &mut [MaybeUninit<u16>]) {
        each(from, to, |from, to| v.narrow(from, to));
    }

    #[inline(always)]
    fn each<const N: usize, A: Copy + Default, B: Copy + Default>(
        from: &[A],
        to: &mut [MaybeUninit<B>],
        convert: impl Fn(&[A; N], &mut [MaybeUninit<B>; N]),
    ) {
        for (from, to) in from.as_chunks().0.iter().zip(to.as_chunks_mut().0) {
            convert(from, to);
        }
        let n = from.len();
        if n.is_multiple_of(N) {
            return;
        }
        match (from.last_chunk(), to.last_chunk_mut()) {
            (Some(from), Some(to)) => convert(from, to),
            _ => {
                let (mut few, mut converted) = ([A::default(); N], [MaybeUninit::new(B::default()); N]);
                few[..n].copy_from_slice(from);
                convert(&few, &mut converted);
                to.copy_from_slice(&converted[..n]);
            }
        }
    }

    /// What is rounded twice is the same as what is rounded once.
    #[inline(always)]
    pub(crate) fn round<const N: usize>(v: impl Vectors<N>, data: &mut [f32]) {
        let n = data.len();
        for chunk in data.as_chunks_mut().0 {
            v.round(chunk);
        }
        if n.is_multiple_of(N) {
            return;
        }
        match data.last_chunk_mut() {
            Some(last) => v.round(last),
            None => {
                let mut few = [0.0; N];
                few[..n].copy_from_slice(data);
                v.round(&mut few);
                data.copy_from_slice(&few[..n]);
            }
        }
    }
}

/// The conversions of a narrow type, compiled with an instruction set's target features: `integer` ones, or a token's `vectors`.
macro_rules! functions {
    ($features:meta, integer, $element:ty) => {
        $crate::convert::functions!(@ $features, widen: |from, to| $crate::convert::integer::widen::<$element>(from, to),
            narrow: |from, to| $crate::convert::integer::narrow::<$element>(from, to),
            round: |data| $crate::convert::integer::round::<$element>(data))
    };
    ($features:meta, vectors, $token:ident) => {
        $crate::convert::functions!(@ $features, widen: |from, to| $crate::convert::vectors::widen($token::assume(), from, to),
            narrow: |from, to| $crate::convert::vectors::narrow($token::assume(), from, to),
            round: |data| $crate::convert::vectors::round($token::assume(), data))
    };
    (@ $features:meta, widen: |$from:ident, $to:ident| $widen:expr, narrow: |$a:ident, $b:ident| $narrow:expr, round: |$data:ident| $round:expr) => {{
        // The lists of preconditions are those of [`Functions`](crate::convert::Functions).
        #[$features]
        unsafe fn widen($from: &[u16], $to: &mut [core::mem::MaybeUninit<f32>]) {
            $widen
        }
        #[$features]
        unsafe fn narrow($a: &[f32], $b: &mut [core::mem::MaybeUninit<u16>]) {
            $narrow
        }
        #[$features]
        unsafe fn round($data: &mut [f32]) {
            $round
        }
        const { &$crate::convert::Functions { widen, narrow, round } }
    }};
}
pub(crate) use functions;
