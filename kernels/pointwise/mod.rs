//! Pointwise (1×1) convolution: a GEMM over packed weights that reads activations where they are. What both layouts share, which
//! is how a part is laid out, and the end of a tile.
//!
//! One kind of micro-kernel serves both. A tile of `MR`×`NV` vectors stays in registers while the
//! input channels pass: `MR` values are broadcast, `NV` vectors loaded.
//!
//! * channels last: pixels are broadcast (rows of the tile), output channels are the vector, from a
//!   packed panel;
//! * channels first: pixels are the vector, weights are broadcast from a packed panel; of maps of few pixels, channels are the
//!   vector, and pixels are broadcast.
//!
//! Accumulators start at the bias and never leave their registers: every output is one chain of
//! multiply-adds over ascending channels.

pub(crate) mod nchw;
pub(crate) mod nchw_channels;
pub(crate) mod nhwc;

use crate::epilogue::{self, clamp};
use crate::info::{Form, KernelInfo, Operation};
use crate::simd::{Masked, Simd, Whole, opaque};
use crate::types::{ElementType, Layout, Shape, Strides};

/// What a pointwise kernel computes: a part of the output, all pointers and extents checked by
/// [`PointwiseStage::run`](crate::stage::PointwiseStage::run).
pub(crate) struct PointwiseArgs {
    /// The part's first pixel, channel 0.
    pub(crate) input: *const f32,
    pub(crate) input_strides: Strides,
    /// Input channels.
    pub(crate) depth: usize,
    /// The part's first element.
    pub(crate) output: *mut f32,
    /// The part's extents.
    pub(crate) shape: Shape,
    pub(crate) output_strides: Strides,
    /// Shaped as the part.
    pub(crate) residual: Option<*const f32>,
    pub(crate) residual_strides: Strides,
    /// The part's first output channel.
    pub(crate) channel: usize,
    /// All output channels.
    pub(crate) channels: usize,
    /// Of all output channels, as [`PointwiseStage::new`](crate::stage::PointwiseStage::new) packed them.
    pub(crate) weights: *const f32,
    /// Channels last, what is read after this: to be brought nearer meanwhile, where that pays. Any address.
    pub(crate) next: *const f32,
    pub(crate) next_len: usize,
    /// Channels last: a tile's outputs are to be brought nearer meanwhile. It changes no bit of the result.
    pub(crate) prefetches_outputs: bool,
    /// The least output, and the greatest.
    pub(crate) bounds: [f32; 2],
}

/// A row of the table.
const fn info<S: Simd>(layout: Layout, form: Form, tile: [usize; 2]) -> KernelInfo {
    KernelInfo {
        name: "",
        isa: S::ISA,
        operation: Operation::Pointwise,
        element: ElementType::F32,
        form,
        layout,
        kernel_size: None,
        stride: None,
        tile,
        lanes: S::LANES,
        spills: 0,
    }
}

/// The pixels of `part` as runs along which one stride leads from each to the next.
pub(crate) struct Runs {
    /// Pixels in a run.
    pub(crate) len: usize,
    /// Runs in an image.
    pub(crate) runs: usize,
    /// Images, or one for all of them.
    pub(crate) images: usize,
}

impl Runs {
    /// Whole images where all three tensors step from a row's end to the next row as between pixels, which are contiguous if `dense`.
    /// All images, unless `dense`, where they step from one to the next like that, too.
    #[inline(always)]
    pub(crate) fn of(a: &PointwiseArgs, dense: bool) -> Self {
        let Shape { n, h, w, .. } = a.shape;
        let all = |flat: &dyn Fn(Strides) -> bool| {
            flat(a.input_strides) && flat(a.output_strides) && (a.residual.is_none() || flat(a.residual_strides))
        };
        if !all(&|s| h <= 1 || s.h == if dense { w } else { w * s.w }) {
            Self { len: w, runs: h, images: n }
        } else if n > 1 && !dense && all(&|s| s.n == h * w * s.w) {
            Self { len: n * h * w, runs: 1, images: 1 }
        } else {
            Self { len: h * w, runs: 1, images: n }
        }
    }
}

/// The `i`-th of the tiles that cut `len` as evenly as tiles of at most `most` can: its start.
#[inline(always)]
pub(crate) fn balanced(len: usize, tiles: usize, i: usize) -> usize {
    // Without a product that could overflow: the first `len % tiles` tiles are one longer.
    i * (len / tiles) + i.min(len % tiles)
}

/// Where a tile's epilogue finds its other operand and puts its results.
#[derive(Clone, Copy)]
pub(crate) struct Results {
    pub(crate) output: *mut f32,
    pub(crate) output_row: usize,
    pub(crate) residual: Option<*const f32>,
    pub(crate) residual_row: usize,
    /// Of the `NV` vectors' lanes, those to write.
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// Whether nothing but a clamp is between the accumulators and whole vectors of output.
    pub(crate) plain: bool,
    /// Whether the clamp changes anything.
    pub(crate) clamps: bool,
}

impl Results {
    /// Those of so many rows further.
    #[inline(always)]
    pub(crate) fn below(self, rows: usize) -> Self {
        let output = self.output.wrapping_add(rows.wrapping_mul(self.output_row));
        let residual = self.residual.map(|p| p.wrapping_add(rows.wrapping_mul(self.residual_row)));
        Self { output, residual, ..self }
    }
}

/// Written out for each row: in a loop, LLVM would index the accumulators, and so keep all of them in memory.
macro_rules! each_row {
    ($rows:expr, $i:ident => $body:expr) => {
        each_row!($rows, $i => $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13);
        const { assert!($rows <= 14) };
    };
    ($rows:expr, $i:ident => $body:expr, $($row:literal)*) => {$(
        if $row < $rows {
            let $i = $row % $rows;
            $body
        }
    )*};
}

pub(crate) use each_row;

/// The accumulators of a tile's rows → residual → clamp → output.
///
/// # Safety
/// 1. Lanes `from..to` of the results of these rows can be written, and of the residual, if there is one, read.
#[inline(always)]
pub(crate) unsafe fn finish<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    a: &PointwiseArgs,
    acc: &[[S::V; NV]; MR],
    rows: core::ops::Range<usize>,
    r: &Results,
) {
    let mut sums = *acc;
    let bounded = S::TIGHT_PIPES && epilogue::bound(s, a.bounds, r.residual.is_some(), &mut sums);
    each_row!(MR, i => if rows.start <= i && i < rows.end {
        // SAFETY: the caller vouches for rows and lanes.
        unsafe { finish_row::<S, NV>(s, a, sums[i], i, r, bounded) }
    });
}

/// Each row's last two multiply-adds, clamp, and store to whole vectors, before those of the next row. All rows' stores
/// after all rows' multiply-adds would keep those of the next tile waiting (experiments 053 and 074).
///
/// Registers are just enough if nothing is loaded before it is needed.
///
/// # Safety
/// 1. The results are plain: their lanes, all of them, can be written.
/// 2. The last two factors of each row, and the last two rows of vectors, can be read.
#[inline(always)]
pub(crate) unsafe fn finish_row_by_row<S: Simd, const MR: usize, const NV: usize>(
    s: S,
    a: &PointwiseArgs,
    acc: &[[S::V; NV]; MR],
    last: &LastTwo,
    r: &Results,
) {
    // SAFETY: the caller's.
    unsafe {
        if r.clamps {
            row_by_row::<S, MR, NV, CLAMPED>(s, a, acc, last, r);
        } else {
            row_by_row::<S, MR, NV, AS_SUMMED>(s, a, acc, last, r);
        }
    }
}

/// The operands of a tile's last two multiply-adds.
pub(crate) struct LastTwo {
    /// The factor of the first row: that of the next row is `row` further, and the last one `next` further.
    pub(crate) factor: *const f32,
    pub(crate) row: usize,
    pub(crate) next: usize,
    /// The vectors, which all rows share: the last ones are `next_vectors` further.
    pub(crate) vectors: *const f32,
    pub(crate) next_vectors: usize,
}

/// The clamp changes sums.
const CLAMPED: bool = true;
/// It does not.
const AS_SUMMED: bool = false;

/// # Safety
/// 1. 2. As [`finish_row_by_row`].
#[inline(always)]
unsafe fn row_by_row<S: Simd, const MR: usize, const NV: usize, const CLAMPS: bool>(
    s: S,
    a: &PointwiseArgs,
    acc: &[[S::V; NV]; MR],
    last: &LastTwo,
    r: &Results,
) {
    let (mut x, mut row, next) = (last.factor, last.row, last.next);
    let mut y = r.output;
    let mut w = [[s.splat(0.0); NV]; 2];
    let mut bounds = [s.splat(0.0); 2];
    each_row!(MR, i => {
        if i > 0 {
            x = x.wrapping_add(row);
            y = y.wrapping_add(r.output_row);
        }
        for v in 0..NV {
            // Else LLVM would keep the factor for the other vector, in a register that is not there.
            (x, row) = opaque(x, row);
            let mut sum = acc[i][v];
            // SAFETY: the caller vouches for the factors, the vectors and the outputs.
            unsafe {
                for l in 0..2 {
                    if i == 0 {
                        w[l][v] = s.load(last.vectors.wrapping_add(l * last.next_vectors + v * S::LANES));
                    }
                    sum = s.mul_add(s.splat(*x.wrapping_add(l * next)), w[l][v], sum);
                }
                if CLAMPS {
                    if i == 0 && v == 0 {
                        // Opaque, and of this tile: else LLVM would load them before the loop over the channels.
                        bounds = [&a.bounds[0], &a.bounds[1]].map(|bound| s.splat(*opaque(bound, x.addr()).0));
                    }
                    sum = clamp(s, sum, bounds[0], bounds[1]);
                }
                s.store(y.wrapping_add(v * S::LANES), sum);
            }
        }
    });
}

/// Row `i` of a tile, of `NV` vectors → residual → clamp → output. If they are `bounded`, → output.
///
/// # Safety
/// 1. As [`finish`], of that row.
#[inline(always)]
pub(crate) unsafe fn finish_row<S: Simd, const NV: usize>(
    s: S,
    a: &PointwiseArgs,
    acc: [S::V; NV],
    i: usize,
    r: &Results,
    bounded: bool,
) {
    let whole = r.from == 0 && r.to == NV * S::LANES;
    // Row 0 may lie before the part, and a stride along an axis of one element be anything: addresses may
    // wrap on the way to an element that exists.
    // SAFETY: the caller vouches for the row and the lanes.
    unsafe {
        each_row!(NV, v => {
            let at = v * S::LANES;
            let p = r.output.wrapping_add(i.wrapping_mul(r.output_row)).wrapping_add(at);
            let residual = (r.residual, i.wrapping_mul(r.residual_row).wrapping_add(at));
            if S::TIGHT_PIPES && whole && bounded {
                s.store(p, acc[v]);
            } else if whole {
                epilogue::finish::<S, Whole, _>(s, a.bounds, acc[v], s.mask(0, 0), p, residual);
            } else {
                let mask = s.mask(r.from.saturating_sub(at), r.to.saturating_sub(at).min(S::LANES));
                // Bounds once more change nothing.
                epilogue::finish::<S, Masked, _>(s, a.bounds, acc[v], mask, p, residual);
            }
        }, 0 1 2);
        const { assert!(NV <= 3) };
    }
}
