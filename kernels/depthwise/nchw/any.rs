//! Depthwise convolution, channels first: any taps, stride, dilation and multiplier.

use super::{Plane, in_row};
use crate::depthwise::{DepthwiseArgs, Lattice, info};
use crate::info::{Form, KernelInfo};
use crate::simd::{Lanes, Masked, Simd, Whole};
use crate::table::Algorithm;
use crate::types::{Layout, undilated_stride};

/// `OH` rows by one vector.
pub(crate) struct Any<const OH: usize>;

impl<S: Simd, const OH: usize> Algorithm<S> for Any<OH> {
    type Args = DepthwiseArgs;
    const INFO: KernelInfo = info::<S, f32>(Layout::Nchw, Form::Any, None, [OH, S::LANES]);

    #[inline(always)]
    unsafe fn run(s: S, a: &DepthwiseArgs) {
        // SAFETY: the caller's.
        unsafe { any::<S, OH>(s, a) }
    }
}

/// # Safety
/// 1. As [`Algorithm::run`].
#[inline(always)]
unsafe fn any<S: Simd, const OH: usize>(s: S, a: &DepthwiseArgs) {
    let (width, grids) = (a.output_shape.w, Lattice::all_again(a, 0));
    let sw = a.stride[1];
    let reach = (S::LANES - 1) * sw + (a.kernel_size[1] - 1) * a.dilation[1];
    for n in 0..a.output_shape.n {
        for c in 0..a.output_shape.c {
            for rows in grids.clone() {
                let plane = Plane::new(a, n, c, rows);
                for y in (0..rows.outputs).step_by(OH) {
                    for x in (0..width).step_by(S::LANES) {
                        let start = ((a.origin.w + x) * sw) as isize - a.pad[1] as isize;
                        let inside = start >= 0 && start as usize + reach < a.input_shape.w;
                        // SAFETY: `inside` says that every load lies in its row; `taps` guards the others.
                        unsafe {
                            let acc = match (sw, inside) {
                                (1, true) => taps::<S, OH, 1, Whole>(s, a, &plane, y, start),
                                (1, false) => taps::<S, OH, 1, Masked>(s, a, &plane, y, start),
                                (2, _) => taps::<S, OH, 2, Masked>(s, a, &plane, y, start),
                                _ => taps::<S, OH, 0, Masked>(s, a, &plane, y, start),
                            };
                            let mask = s.mask(0, S::LANES.min(width - x));
                            for oy in 0..OH {
                                if y + oy < rows.outputs {
                                    plane.finish::<S, Masked>(s, a, [y + oy, x], mask, acc[oy]);
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The sums of `OH` rows at a column stride of `SW`, 0 for any.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. If `L` is [`Whole`], all that these loads read lies in the rows.
#[inline(always)]
unsafe fn taps<S: Simd, const OH: usize, const SW: usize, L: Lanes>(
    s: S,
    a: &DepthwiseArgs,
    plane: &Plane,
    y: usize,
    start: isize,
) -> [S::V; OH] {
    let [kh, kw] = a.kernel_size;
    let sh = undilated_stride(a.stride[0], a.dilation[0]);
    let mut weights = plane.weights;
    // SAFETY: the plane gives only rows that lie in the input; of these, loads are inside, or masked to
    // the columns that are.
    unsafe {
        let mut acc = [s.splat(*weights); OH];
        for ky in 0..kh {
            let mut rows = [None; OH];
            for oy in 0..OH {
                // Outputs past the end are computed from zeros and not stored.
                if y + oy < plane.rows.outputs {
                    rows[oy] = plane.row((y + oy) * sh + ky);
                }
            }
            for kx in 0..kw {
                weights = weights.wrapping_add(1);
                let k = s.splat(*weights);
                let first = start + (kx * a.dilation[1]) as isize;
                let step = if SW == 0 { a.stride[1] } else { 1 };
                let mask = in_row(s, first, step, a.input_shape.w, S::LANES);
                let more = in_row(s, first + S::LANES as isize, 1, a.input_shape.w, S::LANES);
                for oy in 0..OH {
                    let v = match rows[oy].map(|row| row.wrapping_offset(first)) {
                        Some(p) if SW == 1 => L::load(s, p, mask),
                        Some(p) if SW == 2 => {
                            s.unzip(s.load_masked(p, mask), s.load_masked(p.wrapping_add(S::LANES), more)).0
                        }
                        Some(p) => s.load_strided(p, step, mask),
                        None => s.splat(0.0),
                    };
                    acc[oy] = s.mul_add(v, k, acc[oy]);
                }
            }
        }
        acc
    }
}
