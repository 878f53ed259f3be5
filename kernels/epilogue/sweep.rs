//! Activations that are more than a clamp, applied to memory that a kernel has just written.

use super::Curve;
use crate::simd::Simd;

/// Applies `curve` to the `n` elements at `p`.
///
/// # Safety
/// 1. They can be read and written, and hold values.
#[inline(always)]
pub(crate) unsafe fn sweep<S: Simd>(s: S, curve: Curve, p: *mut f32, n: usize) {
    let mut i = 0;
    // SAFETY: lanes `i..n` are the caller's.
    unsafe {
        while i + S::LANES <= n {
            let at = p.add(i);
            s.store(at, curve.apply(s, s.load(at)));
            i += S::LANES;
        }
        if i < n {
            let (at, mask) = (p.add(i), s.mask(0, n - i));
            s.store_masked(at, mask, curve.apply(s, s.load_masked(at, mask)));
        }
    }
}
