//! Depthwise convolution, channels first, from a copy: any taps, stride, dilation and multiplier.
//!
//! A band of a plane is copied to the stack with its padding, its columns by [phases](crate::depthwise). Tiles then take whole
//! vectors, wherever they start: without masks, and at any stride and dilation.
//!
//! ```text
//! acc[OH][NV] = bias
//! for each tap:  for each output row, for each vector:  acc[oy][v] += load * weight
//! ```
//!
//! Narrow planes are copied [side by side](super::beside) instead.
//!
//! Rows of taps that lie on padding for a whole tile are not multiplied, which changes no bit: see [`on_padding`](crate::depthwise::on_padding).

use core::mem::MaybeUninit;

use super::Plane;
use super::beside::Beside;
use crate::depthwise::{DepthwiseArgs, Lattice, info, on_padding};
use crate::info::{Form, KernelInfo};
use crate::simd::{Masked, Simd, Whole};
use crate::table::Algorithm;
use crate::types::{Layout, Taps, undilated_stride};

/// Tiles of `OH` rows by two vectors, of `TALL` rows by one, of one row by up to four.
pub(crate) struct Copied<const OH: usize, const TALL: usize>;

impl<S: Simd, const OH: usize, const TALL: usize> Algorithm<S> for Copied<OH, TALL> {
    type Args = DepthwiseArgs;
    const INFO: KernelInfo = info::<S, f32>(Layout::Nchw, Form::Copied, None, [OH, 2 * S::LANES]);

    #[inline(always)]
    unsafe fn run(s: S, a: &DepthwiseArgs) {
        const { assert!(OH <= TALL) };
        if let Some(planes) = Beside::of::<S>(a) {
            // SAFETY: the caller's.
            unsafe { planes.run::<S, TALL>(s, a) }
            return;
        }
        let mut room = MaybeUninit::<Room>::uninit();
        let room = room.as_mut_ptr().cast::<f32>();
        let grids = Lattice::all_again(a, 0);
        let [width, rows] = [a.output_shape.w, grids.clone().map(|rows| rows.outputs).max().unwrap_or(0)];
        let most = Copy::of(a).most_columns::<S, OH>(rows);
        let blocks = width.div_ceil(most);
        let step = width.div_ceil(blocks).next_multiple_of(2 * S::LANES).min(most);
        for x in (0..width).step_by(step) {
            let copy = Copy::of(a).block::<S, OH>(a, x, step.min(width - x));
            // Places on padding stay as they are; rows of padding are written anew.
            let filled = ((copy.most.min(rows.max(OH)) - 1) * copy.sh + copy.kh) * copy.row;
            for place in (0..filled).step_by(S::LANES) {
                // SAFETY: the room has as many rows, of whole vectors.
                unsafe { s.store(room.wrapping_add(place), s.splat(0.0)) };
            }
            let mut zeros = [-0.0; SKIPPED];
            for n in 0..a.output_shape.n {
                for c in 0..a.output_shape.c {
                    for rows in grids.clone() {
                        let plane = Plane::new(a, n, c, rows);
                        // SAFETY: 1. The caller's. 2. The part has these columns. 3. The stage asked `fits`.
                        unsafe { bands::<S, OH, TALL>(s, a, &plane, &copy, room, &mut zeros) }
                    }
                }
            }
        }
    }
}

/// Where a band is copied to.
#[repr(align(64))]
struct Room(#[expect(dead_code, reason = "reached by its address")] [f32; ROOM]);

/// Elements of it: of bands of tall strides more than half of a first-level cache.
const ROOM: usize = 8192;
/// As many as bands take if tiles have room there.
const NEAR: usize = 4096;

/// Whether there is room for what tiles of so many rows read. At strides no longer than that, no position of a column overflows.
pub(crate) fn fits(taps: Taps, rows: usize, lanes: usize) -> bool {
    let sh = undilated_stride(taps.stride[0], taps.dilation[0]).min(taps.kernel_size[0]);
    let copy = Copy::new(taps.kernel_size, sh, taps.stride[1], taps.dilation[1]);
    let points = (rows - 1).saturating_mul(sh).saturating_add(taps.kernel_size[0]);
    let len = copy.phases.saturating_mul(copy.places(2 * lanes, lanes)).saturating_mul(points);
    len <= ROOM && taps.stride[1] <= ROOM
}

/// How bands lie in the room.
#[derive(Clone, Copy)]
struct Copy {
    /// Taps down a column.
    kh: usize,
    /// Rows of points from one output to the next; those in between that no tap reads are left out.
    sh: usize,
    /// The phases of columns that taps read.
    phases: usize,
    /// Places from the first tap of a row to the last.
    reach: usize,
    /// Elements from one phase to the next, and from one row of points to the next.
    phase: usize,
    row: usize,
    /// The first output column of the block, in the part, and how many there are.
    x: usize,
    columns: usize,
    /// The input column under the first tap, negative in the padding.
    start: isize,
    /// Rows of outputs for which there is room.
    most: usize,
    /// The places of which any phase lies in the input: from here to there …
    some: [usize; 2],
    /// … and those of which all do, with what is read beside them.
    all: [usize; 2],
}

impl Copy {
    fn new([kh, kw]: [usize; 2], sh: usize, sw: usize, dw: usize) -> Self {
        let phases = if dw == 1 { kw.min(sw) } else { sw };
        let reach = (kw - 1).saturating_mul(dw) / sw;
        Self { kh, sh, phases, reach, phase: 0, row: 0, x: 0, columns: 0, start: 0, most: 0, some: [0; 2], all: [0; 2] }
    }

    #[inline(always)]
    fn of(a: &DepthwiseArgs) -> Self {
        let sh = undilated_stride(a.stride[0], a.dilation[0]).min(a.kernel_size[0]);
        Self::new(a.kernel_size, sh, a.stride[1], a.dilation[1])
    }

    /// Places of a phase under so many columns of outputs, whole vectors.
    #[inline(always)]
    fn places(&self, columns: usize, lanes: usize) -> usize {
        columns.max(lanes).saturating_add(self.reach).saturating_add(lanes - 1) / lanes * lanes
    }

    /// Columns of a block at the most: so few that several tiles fit below each other, if there are as many rows.
    #[inline(always)]
    fn most_columns<S: Simd, const OH: usize>(&self, rows: usize) -> usize {
        let columns = |room: usize, tiles: usize| {
            let points = (rows.min(tiles * OH) - 1) * self.sh + self.kh;
            let places = room / points / self.phases / S::LANES * S::LANES;
            places.saturating_sub(self.reach) / (2 * S::LANES) * (2 * S::LANES)
        };
        let fits = [(NEAR, 4), (NEAR, 1)].into_iter().map(|(room, tiles)| columns(room, tiles)).find(|&most| most > 0);
        fits.unwrap_or_else(|| columns(ROOM, 1))
    }

    #[inline(always)]
    fn block<S: Simd, const OH: usize>(mut self, a: &DepthwiseArgs, x: usize, columns: usize) -> Self {
        let (sw, width) = (a.stride[1], a.input_shape.w as isize);
        self.phase = self.places(columns, S::LANES);
        self.row = self.phases * self.phase;
        let rows = |room: usize| (room / self.row).checked_sub(self.kh).map_or(0, |points| points / self.sh + 1);
        self.most = rows(NEAR).max(rows(ROOM).min(OH));
        (self.x, self.columns) = (x, columns);
        self.start = ((a.origin.w + x) * sw) as isize - a.pad[1] as isize;
        // The first place of which column `c` or a later one is column 0 of the phases, and so on.
        let place = |c: isize| ((c - self.start).max(0).unsigned_abs()).div_ceil(sw).min(self.phase);
        // Beyond stride 2, four columns are dealt at a time.
        let read = if sw <= 2 { sw } else { self.phases.next_multiple_of(4) } as isize;
        self.some = [place(1 - self.phases as isize), place(width)];
        let from = place(0);
        let to = place(width - read + 1).max(from);
        // What is shorter than a vector is copied one by one.
        self.all = if to - from < S::LANES { [self.some[1].max(self.some[0]); 2] } else { [from, to] };
        self
    }

    /// The point of the plane that row `r` of a band from output row `y` on has.
    #[inline(always)]
    fn point(&self, a: &DepthwiseArgs, y: usize, r: usize) -> usize {
        let sh = undilated_stride(a.stride[0], a.dilation[0]);
        y * sh + if self.sh == sh { r } else { r / self.sh * sh + r % self.sh }
    }

    /// Copies the rows under so many rows of outputs.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`].
    /// 2. The room has as many rows.
    #[inline(always)]
    unsafe fn fill<S: Simd>(&self, s: S, a: &DepthwiseArgs, plane: &Plane, y: usize, rows: usize, room: *mut f32) {
        let points = (rows - 1) * self.sh + self.kh;
        let (sw, width, [from, to]) = (a.stride[1], a.input_shape.w, self.all);
        // SAFETY: rows of the plane lie in the input, and so does what is read of the places in `all`; of others each column is
        // asked for. The room has these rows.
        unsafe {
            for r in 0..points {
                let to_row = room.wrapping_add(r * self.row);
                let Some(row) = plane.row(self.point(a, y, r)) else {
                    for place in (0..self.row).step_by(S::LANES) {
                        s.store(to_row.wrapping_add(place), s.splat(0.0));
                    }
                    continue;
                };
                for place in (from..to).step_by(S::LANES) {
                    // The last vector is moved to the left rather than cut.
                    let place = place.min(to - S::LANES);
                    let input = row.wrapping_offset(self.start + (place * sw) as isize);
                    let output = to_row.wrapping_add(place);
                    if sw == 1 {
                        s.store(output, s.load(input));
                    } else if sw == 2 {
                        let (even, odd) = s.unzip(s.load(input), s.load(input.wrapping_add(S::LANES)));
                        s.store(output, even);
                        if self.phases == 2 {
                            s.store(output.wrapping_add(self.phase), odd);
                        }
                    } else {
                        for four in (0..self.phases).step_by(4) {
                            let dealt = s.deal(input.wrapping_add(four), sw);
                            for p in 0..4 {
                                if four + p < self.phases {
                                    s.store(output.wrapping_add((four + p) * self.phase), dealt[p]);
                                }
                            }
                        }
                    }
                }
                for places in [self.some[0]..from, to..self.some[1]] {
                    for place in places {
                        for p in 0..self.phases {
                            let column = self.start + (place * sw + p) as isize;
                            if column >= 0 && column < width as isize {
                                *to_row.wrapping_add(p * self.phase + place) = *row.wrapping_offset(column);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A plane, band by band.
///
/// # Safety
/// 1. As [`Algorithm::run`].
/// 2. The part has these columns.
/// 3. There is room for what `OH` rows of them read.
#[inline(always)]
unsafe fn bands<S: Simd, const OH: usize, const TALL: usize>(
    s: S,
    a: &DepthwiseArgs,
    plane: &Plane,
    copy: &Copy,
    room: *mut f32,
    zeros: &mut [f32; SKIPPED],
) {
    let outputs = plane.rows.outputs;
    let padding = Padding::new(a, plane, zeros);
    let most = copy.most;
    let whole_rows = if copy.columns == a.output_shape.w { plane.whole_rows::<S>(a) } else { 0 };
    let step =
        if outputs <= most { outputs } else { outputs.div_ceil(outputs.div_ceil(most)).next_multiple_of(OH).min(most) };
    for y in (0..outputs).step_by(step) {
        // The last band has a tile's rows at least, if there are as many.
        let rows = step.min(outputs - y).max(OH.min(outputs));
        let y = y.min(outputs - rows);
        // SAFETY: 1. The caller's. 2. There is room for `most` rows; tiles are of those, and of the block's columns.
        unsafe {
            copy.fill(s, a, plane, y, rows, room);
            let band = Band { plane, copy, padding: &padding, room, y, whole_rows };
            let lanes = S::LANES;
            let mut x = 0;
            while x < copy.columns {
                let rest = copy.columns - x;
                // What is left of a row is moved to the left rather than cut: some outputs are computed twice.
                if rows >= OH && copy.columns >= 2 * lanes && rest > lanes {
                    band.strip::<S, OH, 2>(s, a, x.min(copy.columns - 2 * lanes), rows);
                    x += 2 * lanes;
                } else if rows < OH && rest >= 4 * lanes {
                    band.strip::<S, 1, 4>(s, a, x, rows);
                    x += 4 * lanes;
                } else {
                    let moved = x.min(copy.columns.saturating_sub(lanes));
                    match rows {
                        rows if rows >= TALL => band.strip::<S, TALL, 1>(s, a, moved, rows),
                        rows if rows >= OH => band.strip::<S, OH, 1>(s, a, moved, rows),
                        rows => band.strip::<S, 1, 1>(s, a, moved, rows),
                    }
                    x += lanes;
                }
            }
        }
    }
}

/// What tiles of a band share.
struct Band<'a> {
    plane: &'a Plane,
    copy: &'a Copy,
    padding: &'a Padding<'a>,
    room: *const f32,
    /// The band's first row of outputs.
    y: usize,
    /// Rows of outputs whose vectors are stored whole.
    whole_rows: usize,
}

impl Band<'_> {
    /// `NV` vectors of columns, down all `rows` of the band.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`].
    /// 2. The band has `OH` rows and these vectors: of one vector a part is enough.
    #[inline(always)]
    unsafe fn strip<S: Simd, const OH: usize, const NV: usize>(&self, s: S, a: &DepthwiseArgs, x: usize, rows: usize) {
        for y in (0..rows).step_by(OH) {
            // Moved up rather than cut, too.
            // SAFETY: the caller's.
            unsafe { self.tile::<S, OH, NV>(s, a, [y.min(rows - OH), x]) }
        }
    }

    /// `OH` rows by `NV` vectors.
    ///
    /// # Safety
    /// 1. As [`Algorithm::run`].
    /// 2. The band has these rows and vectors: of one vector a part is enough.
    #[inline(always)]
    unsafe fn tile<S: Simd, const OH: usize, const NV: usize>(&self, s: S, a: &DepthwiseArgs, [y, x]: [usize; 2]) {
        let (plane, copy) = (self.plane, self.copy);
        let (kw, sw) = (a.kernel_size[1], a.stride[1]);
        // From one tap to the next: places, and phases, where the last is followed by the first of the next place.
        let (places, phases) = (a.dilation[1] / sw, a.dilation[1] % sw);
        let further = places + phases * copy.phase;
        let back = (sw * copy.phase).wrapping_sub(1);
        let below = copy.sh * copy.row;
        let taps = self.padding.taps::<OH>(a, plane, self.y + y);
        // SAFETY: the band was filled with all that its outputs' taps read.
        unsafe {
            let mut acc = [[s.splat(*plane.weights); NV]; OH];
            self.padding.skip(s, 0..taps.start, &mut acc);
            for ky in taps.clone() {
                let mut weights = plane.weights.wrapping_add(1 + ky * kw);
                let end = weights.wrapping_add(kw);
                let mut input = self.room.wrapping_add((y * copy.sh + ky) * copy.row + x);
                let mut phase = 0;
                while weights != end {
                    let k = s.splat(*weights);
                    for oy in 0..OH {
                        for v in 0..NV {
                            let inputs = s.load(input.wrapping_add(oy * below + v * S::LANES));
                            acc[oy][v] = s.mul_add(inputs, k, acc[oy][v]);
                        }
                    }
                    weights = weights.wrapping_add(1);
                    input = input.wrapping_add(further);
                    phase += phases;
                    if phase >= sw {
                        phase -= sw;
                        input = input.wrapping_sub(back);
                    }
                }
            }
            self.padding.skip(s, taps.end..a.kernel_size[0], &mut acc);
            for oy in 0..OH {
                for v in 0..NV {
                    let at = [self.y + y + oy, copy.x + x + v * S::LANES];
                    if NV == 1 && copy.columns < S::LANES && at[0] >= self.whole_rows {
                        plane.finish::<S, Masked>(s, a, at, s.mask(0, copy.columns), acc[oy][v]);
                    } else {
                        plane.finish::<S, Whole>(s, a, at, s.mask(0, 0), acc[oy][v]);
                    }
                }
            }
        }
    }
}

/// Rows of taps at the most of which some are skipped.
const SKIPPED: usize = 64;

/// The rows of taps that lie on padding, of tiles at the top and at the bottom of a plane.
struct Padding<'a> {
    /// Whether there may be any.
    skips: bool,
    /// Of each row of taps, what it adds there: see [`on_padding`].
    zeros: &'a [f32; SKIPPED],
}

impl<'a> Padding<'a> {
    #[inline(always)]
    fn new(a: &DepthwiseArgs, plane: &Plane, zeros: &'a mut [f32; SKIPPED]) -> Self {
        let [kh, kw] = a.kernel_size;
        let last = (plane.rows.outputs - 1) * undilated_stride(a.stride[0], a.dilation[0]) + kh;
        let skips = kh <= SKIPPED && (plane.rows.valid_from > 0 || last > plane.rows.valid_to);
        if skips {
            for ky in 0..kh {
                zeros[ky] = on_padding((0..kw).map(|kx| {
                    // SAFETY: a plane has its bias and its taps.
                    unsafe { *plane.weights.wrapping_add(1 + ky * kw + kx) }
                }));
            }
        }
        Self { skips, zeros }
    }

    /// The rows of taps that a tile of `OH` rows from output row `y` on multiplies.
    #[inline(always)]
    fn taps<const OH: usize>(&self, a: &DepthwiseArgs, plane: &Plane, y: usize) -> core::ops::Range<usize> {
        let (kh, sh) = (a.kernel_size[0], undilated_stride(a.stride[0], a.dilation[0]));
        if !self.skips {
            return 0..kh;
        }
        let from = plane.rows.valid_from.saturating_sub((y + OH - 1) * sh).min(kh);
        from..plane.rows.valid_to.saturating_sub(y * sh).clamp(from, kh)
    }

    /// Adds what these rows of taps add.
    #[inline(always)]
    fn skip<S: Simd, const OH: usize, const NV: usize>(
        &self,
        s: S,
        rows: core::ops::Range<usize>,
        acc: &mut [[S::V; NV]; OH],
    ) {
        if rows.is_empty() {
            return;
        }
        let zero = s.splat(self.zeros[rows].iter().fold(-0.0, |sum, zero| sum + zero));
        for row in acc {
            for sum in row {
                *sum = s.add(*sum, zero);
            }
        }
    }
}
