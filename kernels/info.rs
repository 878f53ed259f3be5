//! What is known of a kernel: a row of the table, without its code.

use crate::types::{Isa, Layout};

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
    /// A tile of outputs at a time. Depthwise, channels first: on some CPUs all rows of its columns, which it rolls down.
    Tile,
    /// Depthwise, channels last: strips of columns, down which it rolls, one vector of channels after the other.
    Rolling,
    /// Depthwise, channels last: strips of columns, at each row of which several vectors of channels take turns.
    InTurns,
    /// Depthwise: any window, a part of a row at a time.
    Any,
}

/// A kernel of this target's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KernelInfo {
    /// Its name, unique in the table, of parts with `_` between them, such as `dw_f32_nhwc_3x3s1_1x7r_avx512`:
    ///
    /// * operation: `dw` is depthwise, `pw` pointwise;
    /// * type of the elements: `f32`;
    /// * layout: `nhwc` or `nchw`;
    /// * window and stride of a depthwise kernel: `3x3s1` is 3×3 at stride 1, `any` is any window at any stride;
    /// * tile, the outputs that it computes at a time: rows `x` columns of a depthwise kernel, pixels `x` channels of a
    ///   pointwise one in NHWC, channels `x` pixels in NCHW. What runs along the vector may be counted in vectors of
    ///   [`lanes`](Self::lanes) elements: `2v` is two of them, and `2.5v` two and a half, of which the half one holds the
    ///   last channels, computed for two pixels at a time. An `r` says that the tile rolls down the rows and keeps the sums
    ///   of rows to come, a `t` that vectors of channels take turns at each row;
    /// * instruction set: [`Isa::name`].
    pub name: &'static str,
    /// The instruction set it needs.
    pub isa: Isa,
    /// What it computes.
    pub operation: Operation,
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
    /// `f32` per vector.
    pub lanes: usize,
}

impl KernelInfo {
    /// Whether weights that are packed for the one kernel are packed for the other.
    #[doc(hidden)]
    pub fn packs_as(&self, other: &KernelInfo) -> bool {
        let packing = |info: &KernelInfo| match (info.operation, info.layout) {
            (Operation::Depthwise, Layout::Nhwc) => [info.lanes, 0],
            (Operation::Depthwise, Layout::Nchw) => [1, 0],
            (Operation::Pointwise, Layout::Nhwc) => [info.lanes, info.tile[1]],
            (Operation::Pointwise, Layout::Nchw) => [1, info.tile[1]],
        };
        (self.operation, self.layout, packing(self)) == (other.operation, other.layout, packing(other))
    }

    /// Whether it is a pointwise kernel, channels last, that computes the last half vector of channels for two pixels at a time.
    #[doc(hidden)]
    pub fn joins(&self) -> bool {
        self.operation == Operation::Pointwise && self.layout == Layout::Nhwc && self.tile[1] > 2 * self.lanes
    }
}
