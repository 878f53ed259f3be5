//! Copies between layouts, for kernels that take one.

use crate::memory::{TensorView, TensorViewMut};
use crate::types::Shape;

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
    // Blocks whose cache lines stay, whichever way they lie.
    const BLOCK: usize = 32;
    for n in 0..shape.n {
        for h in 0..shape.h {
            for first_w in (0..shape.w).step_by(BLOCK) {
                for first_c in (0..shape.c).step_by(BLOCK) {
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
