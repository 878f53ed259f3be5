//! What is known of a kernel: a row of the table, without its code.

use crate::types::{ElementType, Isa, Layout};

/// What a kernel computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// A filter per channel.
    Depthwise,
    /// A mix of channels at each pixel.
    Pointwise,
}

/// How a kernel walks over its output. All forms give the same bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Form {
    /// A tile of outputs at a time.
    Tile,
    /// Depthwise: strips of columns, down which it rolls. Channels last, one vector of channels after the other.
    Rolling,
    /// Depthwise, channels last: as [`Rolling`](Form::Rolling), but outputs wait in a buffer while the next vector of channels is
    /// read.
    RollingBehind,
    /// Depthwise, channels last: strips of columns, at each row of which several vectors of channels take turns.
    InTurns,
    /// Depthwise, channels first: two short rows share a vector.
    Pairs,
    /// Depthwise, channels first: any window, in tiles, from a copy of the inputs with padding, without gaps.
    Copied,
    /// Depthwise: any window, a part of a row at a time.
    Any,
    /// Depthwise, channels last: any window, from a buffer that holds input rows as the taps meet them.
    Buffered,
    /// Pointwise, channels last: a tile whose last half vector of channels is computed for two pixels at a time.
    Joined,
    /// Pointwise, channels first: output channels are the vector, for maps of few pixels.
    Channels,
    /// Depthwise, channels last, of 8 bits: tiles read bundles of rows from a buffer in which they lie side by side.
    Interleaved,
}

impl Form {
    /// What stands behind the tile in the name of a kernel.
    const fn letters(self) -> &'static str {
        match self {
            Form::Tile | Form::Any | Form::Joined => "",
            Form::Rolling => "r",
            Form::RollingBehind => "rb",
            Form::InTurns => "t",
            Form::Pairs => "p",
            Form::Copied => "c",
            Form::Buffered => "b",
            Form::Channels => "k",
            Form::Interleaved => "i",
        }
    }
}

/// A kernel of this target's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelInfo {
    /// Its name, unique in the table, of parts with `_` between them, such as `dw_f32_nhwc_3x3s1_1x7r_avx512`. It follows from the
    /// other fields:
    ///
    /// * operation: `dw` is depthwise, `pw` pointwise;
    /// * type of the elements: [`ElementType::name`];
    /// * layout: `nhwc` or `nchw`;
    /// * window and stride of a depthwise kernel: `3x3s1` is 3×3 at stride 1, `any` is any window at any stride;
    /// * tile, the outputs that it computes at a time: rows `x` columns of a depthwise kernel, pixels `x` channels of a
    ///   pointwise one in NHWC, channels `x` pixels in NCHW. What runs along the vector may be counted in vectors of
    ///   [`lanes`](Self::lanes) elements: `2v` is two of them, and `2.5v` two and a half, of which the half one holds the
    ///   last channels, computed for two pixels at a time. Then the [form](Self::form): an `r` says that the tile rolls down the
    ///   rows and keeps the sums of rows to come, `rb` that its outputs are written a vector behind besides, `t` that vectors of
    ///   channels take turns at each row, `p` that pairs of rows share a vector, `b` that input rows go through a buffer, `c` that
    ///   inputs are copied first, `k` that channels run along the vector, `i` that rows of inputs lie side by side;
    /// * instruction set: [`Isa::name`].
    pub name: &'static str,
    /// The instruction set it needs.
    pub isa: Isa,
    /// What it computes.
    pub operation: Operation,
    /// The type of the elements of its input and output; `i8` stands for both types of 8 bits.
    pub element: ElementType,
    /// How it walks over its output.
    pub form: Form,
    /// The layout of its input and output.
    pub layout: Layout,
    /// The only kernel size, `[height, width]`, that it computes, or `None` for any.
    pub kernel_size: Option<[usize; 2]>,
    /// The only stride, divided by its common factors with the dilation, that it computes, or `None` for any.
    pub stride: Option<[usize; 2]>,
    /// Outputs that are complete at a time: `[rows, columns]` of a depthwise kernel, `[pixels, channels]` of a
    /// pointwise one. What runs along the vector counts in elements.
    pub tile: [usize; 2],
    /// `f32`, or sums, per vector.
    pub lanes: usize,
    /// Its machine code may touch the stack, so often in a hundred multiply-adds of an inner loop: for the check of it.
    #[doc(hidden)]
    pub spills: u8,
}

impl KernelInfo {
    /// Whether weights that are packed for the one kernel are packed for the other.
    #[doc(hidden)]
    pub fn packs_as(&self, other: &KernelInfo) -> bool {
        let packing = |info: &KernelInfo| match (info.operation, info.layout) {
            (Operation::Depthwise, Layout::Nhwc) => [info.lanes, matches!(info.form, Form::Buffered) as usize],
            (Operation::Depthwise, Layout::Nchw) => [1, 0],
            (Operation::Pointwise, Layout::Nhwc) => [info.lanes, usize::from(info.joins())],
            (Operation::Pointwise, Layout::Nchw) => [1, info.tile[1]],
        };
        let of_8_bits = |info: &KernelInfo| matches!(info.element, ElementType::I8);
        (self.operation, self.layout, of_8_bits(self), packing(self))
            == (other.operation, other.layout, of_8_bits(other), packing(other))
    }

    /// Whether it is a pointwise kernel, channels last, that computes the last half vector of channels for two pixels at a time.
    #[doc(hidden)]
    pub fn joins(&self) -> bool {
        matches!(self.form, Form::Joined)
    }
}

/// A kernel's name, spelled from its fields.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    letters: [u8; 48],
    len: usize,
}

impl Name {
    pub(crate) const fn of(info: &KernelInfo) -> Self {
        let name = Name { letters: [0; 48], len: 0 };
        let name = match info.operation {
            Operation::Depthwise => name.text("dw_"),
            Operation::Pointwise => name.text("pw_"),
        };
        let name = name.text(info.element.name()).text("_");
        let name = match info.layout {
            Layout::Nhwc => name.text("nhwc_"),
            Layout::Nchw => name.text("nchw_"),
        };
        let name = match (info.operation, info.kernel_size, info.stride) {
            (Operation::Depthwise, Some([kh, kw]), Some([sh, _])) => {
                name.number(kh).text("x").number(kw).text("s").number(sh).text("_")
            }
            (Operation::Depthwise, ..) => name.text("any_"),
            (Operation::Pointwise, ..) => name,
        };
        let [rows, columns] = info.tile;
        let name = match (info.operation, info.layout) {
            (Operation::Depthwise, Layout::Nhwc) => name.number(rows).text("x").number(columns),
            // Two rows share a vector.
            (Operation::Depthwise, Layout::Nchw) if matches!(info.form, Form::Pairs) => {
                name.number(rows).text("x").number(columns)
            }
            (Operation::Depthwise, Layout::Nchw) | (Operation::Pointwise, Layout::Nhwc) => {
                name.number(rows).text("x").vectors(columns, info.lanes)
            }
            (Operation::Pointwise, Layout::Nchw) if matches!(info.form, Form::Channels) => {
                name.number(columns).text("x").number(rows)
            }
            (Operation::Pointwise, Layout::Nchw) => name.number(columns).text("x").vectors(rows, info.lanes),
        };
        name.text(info.form.letters()).text("_").text(info.isa.name())
    }

    pub(crate) const fn as_str(&self) -> &str {
        match core::str::from_utf8(self.letters.split_at(self.len).0) {
            Ok(name) => name,
            Err(_) => unreachable!(),
        }
    }

    const fn text(mut self, text: &str) -> Self {
        let mut i = 0;
        while i < text.len() {
            self.letters[self.len] = text.as_bytes()[i];
            self.len += 1;
            i += 1;
        }
        self
    }

    const fn number(self, n: usize) -> Self {
        let name = if n >= 10 { self.number(n / 10) } else { self };
        let digit = [b'0' + (n % 10) as u8];
        match core::str::from_utf8(&digit) {
            Ok(digit) => name.text(digit),
            Err(_) => unreachable!(),
        }
    }

    /// Elements as vectors, of which the last may be half of one.
    const fn vectors(self, elements: usize, lanes: usize) -> Self {
        let name = self.number(elements / lanes);
        if elements.is_multiple_of(lanes) { name.text("v") } else { name.text(".5v") }
    }
}
