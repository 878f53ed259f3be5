//! What parts of a run cost, predicted from machine, kernel and shape.

use depthwise_kernels::{Axis, Form, KernelInfo, Layout, Shape, packed_channels};

use super::descriptor::{Descriptor, Stages};
use crate::machine::Sharing;

/// The price of a part of an output, which a split balances. The unit is half a cycle: the time of a multiply-add of vectors,
/// of which a core does two in a cycle, or of half of one where a vector takes two slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Price {
    /// Of a pixel, however few of its channels the part has.
    pub(crate) pixel: f64,
    /// Of one channel of a pixel.
    pub(crate) value: f64,
    /// Of a channel of an image, however few of its pixels the part has.
    pub(crate) channel: f64,
    /// Of a cut between channels.
    pub(crate) seam: f64,
    /// Of a column's channel, if the part has not all of these rows: the rows above and below it, which its neighbours read too.
    pub(crate) overlap: f64,
    pub(crate) rows: usize,
    /// What all of the work costs one thread, as a share of the price: less, where its own cache holds what several threads read from
    /// each other's.
    pub(crate) alone: f64,
    /// Rows that a kernel computes at a time; those left over cost more.
    pub(crate) tile: usize,
    /// Channels that a kernel computes at a time: never cut.
    pub(crate) channels: usize,
    /// Up to so many more it computes with the last of these.
    pub(crate) joined: usize,
    /// Pixels that a kernel computes at a time; those of an image's part are one run.
    pub(crate) pixels: usize,
    /// Columns that are never cut: a kernel's tile, or a cache line of them.
    pub(crate) columns: usize,
    pub(crate) sharing: &'static Sharing,
}

/// What rows that fill no tile cost beyond their number: they share their inputs with fewer.
const ODD_ROWS: f64 = 0.4;
/// The elements of a cache line.
const LINE: usize = 16;
/// What lies in a thread's own cache is shared only if that gains so much: the prices are no better.
const CERTAIN: f64 = 0.92;

impl Price {
    pub(crate) fn of(&self, part: Shape) -> f64 {
        if part.is_empty() {
            return 0.0;
        }
        let rows = part.h as f64 + if part.h.is_multiple_of(self.tile) { 0.0 } else { ODD_ROWS };
        let pixels = part.n as f64 * part.w as f64 * rows;
        let run = part.h * part.w;
        let filled = run.next_multiple_of(self.pixels) as f64 / run as f64;
        let channels = part.c.next_multiple_of(if self.joined > 0 { self.joined } else { self.channels }) as f64;
        let overlap = if part.h < self.rows { self.overlap * part.w as f64 } else { 0.0 };
        let per_channel = self.channel + overlap;
        pixels * (self.pixel + filled * channels * self.value) + part.n as f64 * channels * per_channel
    }

    /// What of `shape` along an axis is never cut.
    pub(crate) fn grain(&self, axis: Axis) -> usize {
        match axis {
            Axis::C => self.channels,
            Axis::W => self.columns,
            Axis::N | Axis::H => 1,
        }
    }

    /// By how much the last of these may be longer.
    pub(crate) fn longer(&self, axis: Axis) -> usize {
        if axis == Axis::C { self.joined } else { 0 }
    }

    pub(crate) fn grains(&self, shape: Shape, axis: Axis) -> usize {
        shape[axis].saturating_sub(self.longer(axis)).div_ceil(self.grain(axis)).max(shape[axis].min(1))
    }
}

impl Descriptor {
    /// What a part of the first stage of two passes, or of a depthwise convolution, costs.
    pub(crate) fn depthwise_price(&self, info: &'static KernelInfo, whole: Shape) -> Price {
        let (taps, width) = (self.window.taps, whole.w);
        let ([kh, kw], [sh, sw]) = (taps.kernel_size, taps.stride);
        let (channels, filled) = match self.layout {
            // Where a vector runs over pixels, no channel is cut off.
            Layout::Nhwc if packed_channels(info, taps, self.mid_channels) > self.mid_channels => {
                (self.mid_channels, 1.0)
            }
            Layout::Nhwc => (info.lanes, 1.0),
            // To copy there and back takes about as long again. A part of fewer channels than lanes takes longer, which is left out here.
            Layout::Nchw if self.copies_beside(core::iter::once(info), width) => (1, 2.0),
            // Vectors along the row: the last one is seldom whole, and a row costs about one more.
            Layout::Nchw => (1, width.next_multiple_of(info.lanes).saturating_add(info.lanes) as f64 / width as f64),
        };
        let inputs = (sh.min(kh) * sw.min(kw)) as f64;
        let multiply_adds = self.slots(info) * (kh * kw) as f64 / info.lanes as f64;
        let (read, write) = (self.machine.read_shared, self.machine.write_shared);
        let value = filled * (multiply_adds + inputs * read + write);
        // Rows that two parts read, where rows are cut.
        let overlap = filled * (kh.saturating_sub(sh) * sw.min(kw)) as f64 * read;
        let sharing = &self.machine.sharing;
        let (channel, seam) = if self.layout == Layout::Nhwc { (0.0, sharing.seam) } else { (sharing.plane, 0.0) };
        // What one thread uses run after run stays in its own cache, if that holds it.
        let outputs = Shape { c: self.mid_channels, ..whole }.len();
        let bytes = (1.0 + inputs) * 4.0 * outputs.map_or(f64::INFINITY, |len| len as f64);
        let read_own = self.machine.read_own;
        let alone = if read_own < read && bytes <= self.machine.own_cache as f64 {
            let own = multiply_adds + inputs * read_own + write.min(read_own);
            CERTAIN * own / (multiply_adds + inputs * read + write)
        } else {
            1.0
        };
        Price {
            pixel: 0.0,
            value,
            channel,
            seam,
            overlap,
            rows: whole.h,
            alone,
            tile: info.tile[0],
            channels,
            joined: 0,
            pixels: 1,
            columns: if self.layout == Layout::Nhwc { info.tile[1] } else { LINE },
            sharing,
        }
    }

    /// What a part of a pointwise stage costs if each of its inputs costs that.
    pub(crate) fn pointwise_price(&self, info: &KernelInfo, input: f64) -> Price {
        let mid = self.mid_channels as f64;
        let (channels, pixels) = match self.layout {
            Layout::Nhwc => (2 * info.lanes, 1),
            Layout::Nchw if info.form == Form::Channels => (info.tile[1], 1),
            Layout::Nchw => (info.tile[1], info.lanes),
        };
        let filled = if info.form == Form::Channels { info.tile[1].min(info.lanes) } else { info.lanes };
        let value = self.slots(info) * mid / filled as f64 + self.machine.write_shared;
        let joined = if info.joins() { info.tile[1] - channels } else { 0 };
        Price {
            pixel: mid * input,
            value,
            channel: mid * self.machine.pointwise_read(),
            seam: 0.0,
            overlap: 0.0,
            rows: 0,
            alone: 1.0,
            tile: 1,
            channels,
            joined,
            pixels,
            columns: if self.layout == Layout::Nhwc { 1 } else { LINE },
            sharing: &self.machine.sharing,
        }
    }

    /// The slots of a multiply unit that a vector of a kernel takes.
    pub(crate) fn slots(&self, info: &KernelInfo) -> f64 {
        f64::from(self.machine.slots(info.isa))
    }

    /// What `output`, a part of `whole`, costs at the most.
    pub(crate) fn price(&self, whole: Shape, output: Shape) -> f64 {
        match self.rows(whole) {
            Stages::Depthwise(d) => self.depthwise_price(d, whole).of(output),
            Stages::Pointwise(p) | Stages::Gathered(p) => {
                self.pointwise_price(p, self.machine.pointwise_read()).of(output)
            }
            Stages::Separable(d, p) => {
                let first = self.depthwise_price(d, whole);
                let between = Shape { c: self.mid_channels, ..output };
                let two_pass = first.of(between) + self.second_price(p).of(output);
                two_pass.max(self.pointwise_price(p, first.value).of(output))
            }
        }
    }

    /// What a part of the second of two passes costs.
    pub(crate) fn second_price(&self, info: &KernelInfo) -> Price {
        let nhwc = self.layout == Layout::Nhwc;
        self.pointwise_price(info, if nhwc { self.machine.pointwise_read() } else { self.machine.sharing.read_others })
    }
}
