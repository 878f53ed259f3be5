//! The vector operations of 8 bits.

use super::finish::Ends;
use crate::types::Isa;

/// One instruction set, as a zero-sized token that proves the CPU has it, and what it does with integers. As with
/// [`Simd`](crate::simd::Simd), every method is inlined into a function that is compiled with its features.
///
/// Vectors run across outputs. Sums wrap.
pub(crate) trait SimdInt: Copy {
    /// A vector of sums.
    type V: Copy;
    /// Two of them, rounded, as 16 bits that saturate.
    type Packed: Copy;
    /// Weights of a vector of outputs, [`GROUP`](Self::GROUP) of each.
    type Weights: Copy;
    /// [`GROUP`](Self::GROUP) inputs, for all lanes or for each.
    type Factor: Copy;
    /// Vectors of half the length for panels of half the channels, which lie where the first halves of a panel's vectors do; or else
    /// the same.
    type Half: SimdInt;
    /// The public name of this instruction set.
    const ISA: Isa;
    /// Sums per vector.
    const LANES: usize;
    /// Vectors of a panel, two or four.
    const GROUPS: usize;
    /// Outputs of a panel.
    const CHANNELS: usize = Self::LANES * Self::GROUPS;
    /// Places of tables from one of a panel's vectors to the next.
    const STEP: usize = Self::LANES;
    /// Inputs that are multiplied at a time.
    const GROUP: usize;
    /// Whether inputs and weights are of 16 bits: inputs are then widened before, and weights may be any difference of two numbers of
    /// 8 bits. Else weights are `i8`.
    const WIDE: bool;

    /// The vectors of half the length.
    fn half(self) -> Self::Half;
    /// The channel of a panel that a lane of one of its vectors holds.
    fn channel(group: usize, lane: usize) -> usize {
        group * Self::LANES + lane
    }
    /// Which of a vector's weights is that of a lane for one of a group of inputs.
    fn weight(lane: usize, input: usize) -> usize;

    /// The vector of sums at `p`.
    ///
    /// # Safety
    /// 1. It can be read.
    unsafe fn load(self, p: *const i32) -> Self::V;
    /// The weights at `p`.
    ///
    /// # Safety
    /// 1. They can be read: [`LANES`](Self::LANES) · [`GROUP`](Self::GROUP).
    unsafe fn weights(self, p: *const u8) -> Self::Weights;
    /// The group of inputs at `p`: `u8`, to be flipped by `flip`, or `i16` if [`WIDE`](Self::WIDE).
    ///
    /// # Safety
    /// 1. They can be read.
    unsafe fn factor(self, p: *const u8, flip: u32) -> Self::Factor;
    /// The same of an incomplete group of `n` inputs. What stands for the others may be anything, as their weights are 0.
    ///
    /// # Safety
    /// 1. `n` inputs can be read. `n` is at least 1 and less than [`GROUP`](Self::GROUP).
    unsafe fn factor_of(self, p: *const u8, n: usize, flip: u32) -> Self::Factor;
    /// The sums, and the products of inputs and weights.
    fn add_products(self, sums: Self::V, factor: Self::Factor, weights: Self::Weights) -> Self::V;

    /// Sums times factors, to the nearest even number; those beyond 16 bits to any that are beyond, too.
    ///
    /// # Safety
    /// 1. A vector of factors can be read.
    unsafe fn nearest_even(self, sums: Self::V, factors: *const f32) -> Self::V;
    /// Sums by [`Rule::Tflite`](super::finish::Rule::Tflite).
    ///
    /// # Safety
    /// 1. Vectors of all three can be read, with shifts of 0 to 31.
    unsafe fn tflite(self, sums: Self::V, q: *const i32, left: *const i32, right: *const i32) -> Self::V;
    /// Two vectors as 16 bits.
    fn pack(self, a: Self::V, b: Self::V) -> Self::Packed;
    /// Stores the first `n` of a panel's outputs. Where a panel is two vectors, the second pair of them counts for nothing.
    ///
    /// # Safety
    /// 1. `n` bytes can be written. `n` is at most [`CHANNELS`](Self::CHANNELS).
    unsafe fn store(self, packed: [Self::Packed; 2], ends: &Ends, to: *mut u8, n: usize);
    /// Stores the first `n` of a panel's sums.
    ///
    /// # Safety
    /// 1. `n` sums can be written. `n` is at most [`CHANNELS`](Self::CHANNELS).
    unsafe fn store_sums(self, sums: &[Self::V; 4], to: *mut i32, n: usize);
}

/// Instruction sets of 16 bits: inputs are widened before, and taps are multiplied in pairs.
pub(crate) trait SimdWide: SimdInt {
    /// Which of a panel's 2 · [`CHANNELS`](SimdInt::CHANNELS) weights of two taps is that of a channel for one of them.
    fn tap_weight(channel: usize, tap: usize) -> usize;
    /// Widens `n` inputs, flipped.
    ///
    /// # Safety
    /// 1. They can be read, and as many `i16` be written.
    unsafe fn widen(self, from: *const u8, to: *mut i16, n: usize, flip: u8);
    /// A panel's sums, and the products of two taps' inputs, of which there are `n` each, and weights.
    ///
    /// # Safety
    /// 1. `n` inputs can be read at both, and the weights of a panel. `n` is at most [`CHANNELS`](SimdInt::CHANNELS).
    unsafe fn add_taps(
        self,
        sums: [Self::V; 4],
        taps: [*const u8; 2],
        n: usize,
        flip: u8,
        weights: *const u8,
    ) -> [Self::V; 4];
}

/// The first `n` bytes at `p`, from the lowest of the first word on, and zeros. A copy of so many bytes would be a call.
///
/// # Safety
/// 1. They can be read.
/// 2. `n` is from 1 to 15.
#[cfg(any(isa = "avx2", isa = "neon"))]
#[inline(always)]
pub(crate) unsafe fn few(p: *const u8, n: usize) -> [u64; 2] {
    // Two words that overlap hold them.
    // SAFETY: the caller's.
    unsafe {
        if n >= 8 {
            let (first, last) = (p.cast::<u64>().read_unaligned(), p.add(n - 8).cast::<u64>().read_unaligned());
            [u64::from_le(first), u64::from_le(last).unbounded_shr(8 * (16 - n as u32))]
        } else if n >= 4 {
            let (first, last) = (p.cast::<u32>().read_unaligned(), p.add(n - 4).cast::<u32>().read_unaligned());
            [u64::from(u32::from_le(first)) | u64::from(u32::from_le(last)) << (8 * (n - 4)), 0]
        } else {
            let mut word = 0;
            for i in 0..n {
                word |= u64::from(*p.add(i)) << (8 * i);
            }
            [word, 0]
        }
    }
}

/// Instruction sets that multiply inputs of [`GROUP`](SimdInt::GROUP) rows, a bundle, which lie side by side.
pub(crate) trait SimdRows: SimdInt {
    /// The bytes of a vector of a bundle's inputs, or of their weights.
    const BYTES: usize = Self::STEP * Self::GROUP * if Self::WIDE { 2 } else { 1 };

    /// Writes a panel's inputs of a bundle's rows, `n` channels, side by side. Of the rows, the first [`GROUP`](SimdInt::GROUP) count.
    ///
    /// # Safety
    /// 1. `n` inputs can be read in each row, and [`GROUPS`](SimdInt::GROUPS) · [`BYTES`](Self::BYTES) be written, at a multiple of
    ///    [`BYTES`](Self::BYTES).
    unsafe fn interleave(self, rows: [*const u8; 4], n: usize, flip: u8, to: *mut u8);
    /// Writes one number as all of a panel's inputs of a bundle.
    ///
    /// # Safety
    /// 1. As [`interleave`](Self::interleave).
    unsafe fn fill(self, number: u8, to: *mut u8);
    /// The inputs of a vector at `p`.
    ///
    /// # Safety
    /// 1. They can be read, at a multiple of [`BYTES`](Self::BYTES).
    unsafe fn inputs(self, p: *const u8) -> Self::Factor;
    /// As [`nearest_even`](SimdInt::nearest_even), of scaled sums that fit in 32 bits.
    ///
    /// # Safety
    /// 1. A vector of factors can be read.
    unsafe fn nearest_even_fitting(self, sums: Self::V, factors: *const f32) -> Self::V;
}
