//! Copies between layouts, for kernels that take one.

use crate::memory::{TensorView, TensorViewMut};
use crate::types::{Shape, Strides};

/// Copies a tensor to another, of other strides, in which each channel occurs `times` times, one after the other.
///
/// # Panics
/// If the shapes disagree.
pub fn copy<T: Copy>(from: TensorView<'_, T>, mut to: TensorViewMut<'_, T>, times: usize) {
    let (shape, from_strides, to_strides) = (to.shape(), from.strides(), to.strides());
    assert!(times > 0 && from.shape().c.checked_mul(times) == Some(shape.c), "each channel {times} times");
    assert_eq!(from.shape(), Shape { c: from.shape().c, ..shape });
    if shape.is_empty() {
        return;
    }
    let (source, target) = (from.as_ptr(), to.as_mut_ptr());
    if from_strides.c == 1 && to_strides.c == 1 {
        for n in 0..shape.n {
            for h in 0..shape.h {
                for w in 0..shape.w {
                    // SAFETY: the indices lie within the shapes, whose elements the views hold, a pixel's channels one after the other.
                    unsafe {
                        let pixel = source.add(from_strides.offset(n, 0, h, w));
                        let copied = target.add(to_strides.offset(n, 0, h, w));
                        match times {
                            // So that the compiler copies vectors.
                            1 => repeat(pixel, copied, 1, shape.c),
                            2 => repeat(pixel, copied, 2, shape.c / 2),
                            4 => repeat(pixel, copied, 4, shape.c / 4),
                            _ => repeat(pixel, copied, times, shape.c / times),
                        }
                    }
                }
            }
        }
        return;
    }
    // Blocks whose cache lines stay, whichever way they lie.
    const BLOCK: usize = 32;
    for n in 0..shape.n {
        for h in 0..shape.h {
            for first_w in (0..shape.w).step_by(BLOCK) {
                for first_c in (0..shape.c).step_by(BLOCK) {
                    let [ws, cs] = [(shape.w - first_w).min(BLOCK), (shape.c - first_c).min(BLOCK)];
                    if times == 1 && size_of::<T>() == 1 {
                        let steps = |strides: Strides| [strides.c, strides.w];
                        // SAFETY: as below; elements are bytes.
                        unsafe {
                            let from = source.add(from_strides.offset(n, first_c, h, first_w)).cast();
                            let to = target.add(to_strides.offset(n, first_c, h, first_w)).cast();
                            match (steps(from_strides), steps(to_strides)) {
                                ([step, 1], [1, to_step]) => transpose(from, step, to, to_step, [cs, ws]),
                                ([1, step], [to_step, 1]) => transpose(from, step, to, to_step, [ws, cs]),
                                _ => bytes(from, steps(from_strides), to, steps(to_strides), [cs, ws]),
                            }
                        }
                        continue;
                    }
                    for c in first_c..(first_c + BLOCK).min(shape.c) {
                        for w in first_w..(first_w + BLOCK).min(shape.w) {
                            // SAFETY: the indices lie within the shapes, whose elements the views hold.
                            unsafe {
                                let value = *source.add(from_strides.offset(n, c / times, h, w));
                                *target.add(to_strides.offset(n, c, h, w)) = value;
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Copies each of `n` elements `times` times, one after the other.
///
/// # Safety
/// 1. They can be read, and as many times as many be written.
#[inline(always)]
unsafe fn repeat<T: Copy>(from: *const T, to: *mut T, times: usize, n: usize) {
    for i in 0..n {
        for j in 0..times {
            // SAFETY: the caller's.
            unsafe { to.add(i * times + j).write(*from.add(i)) }
        }
    }
}

/// Copies bytes, rows and columns of which lie so far apart.
///
/// # Safety
/// 1. So many rows of so many bytes can be read and written.
unsafe fn bytes(
    from: *const u8,
    from_steps: [usize; 2],
    to: *mut u8,
    to_steps: [usize; 2],
    [rows, columns]: [usize; 2],
) {
    for r in 0..rows {
        for c in 0..columns {
            // SAFETY: the caller's.
            unsafe { *to.add(r * to_steps[0] + c * to_steps[1]) = *from.add(r * from_steps[0] + c * from_steps[1]) }
        }
    }
}

/// Copies rows of bytes, `step` apart, to columns.
///
/// # Safety
/// 1. So many rows of so many bytes can be read, and as many columns be written.
unsafe fn transpose(from: *const u8, step: usize, to: *mut u8, to_step: usize, [rows, columns]: [usize; 2]) {
    // Eight by eight in words: halves, quarters and bytes of pairs of words change places.
    let (whole_rows, whole_columns) = (rows / 8 * 8, columns / 8 * 8);
    for r in (0..whole_rows).step_by(8) {
        for c in (0..whole_columns).step_by(8) {
            let mut words = [0; 8];
            for (i, word) in words.iter_mut().enumerate() {
                // SAFETY: the caller's: eight bytes of eight rows.
                *word = u64::from_le(unsafe { from.add((r + i) * step + c).cast::<u64>().read_unaligned() });
            }
            for (apart, mask) in [(4, 0xffff_ffff), (2, 0x0000_ffff_0000_ffff), (1, 0x00ff_00ff_00ff_00ff)] {
                for i in (0..8).filter(|i| i & apart == 0) {
                    let moved = (words[i] >> (8 * apart) ^ words[i + apart]) & mask;
                    words[i + apart] ^= moved;
                    words[i] ^= moved << (8 * apart);
                }
            }
            for (i, word) in words.into_iter().enumerate() {
                // SAFETY: the caller's: eight bytes of eight rows, which are columns of the other.
                unsafe { to.add((c + i) * to_step + r).cast::<u64>().write_unaligned(word.to_le()) }
            }
        }
    }
    // SAFETY: the caller's: what is left of the columns, then of the rows.
    unsafe {
        let left = columns - whole_columns;
        let (from_left, to_left) = (from.wrapping_add(whole_columns), to.wrapping_add(whole_columns * to_step));
        bytes(from_left, [step, 1], to_left, [1, to_step], [whole_rows, left]);
        let (from, to) = (from.wrapping_add(whole_rows * step), to.wrapping_add(whole_rows));
        bytes(from, [step, 1], to, [1, to_step], [rows - whole_rows, columns]);
    }
}
