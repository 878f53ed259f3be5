//! The window of a convolution, and how far it may reach.

/// Taps, strides and dilations of a depthwise convolution, each `[height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taps {
    /// The extents of the kernel.
    pub kernel_size: [usize; 2],
    /// The step from an output to the next, in inputs.
    pub stride: [usize; 2],
    /// The step from a tap to the next, in inputs.
    pub dilation: [usize; 2],
}

impl Taps {
    /// With height and width exchanged.
    #[doc(hidden)]
    pub fn turned(self) -> Self {
        let [kernel_size, stride, dilation] =
            [self.kernel_size, self.stride, self.dilation].map(|[height, width]| [width, height]);
        Self { kernel_size, stride, dilation }
    }
}

/// The largest row or column that a window may touch, padding included: far enough from overflow that
/// kernels need not look out for it.
pub const MAX_POSITION: usize = isize::MAX as usize / 64;

/// The largest stride of a depthwise convolution: the lanes of a gather are numbered in 32 bits. With sixteen strides beyond
/// [`MAX_POSITION`], an index fits 32 bits, too.
pub const MAX_STRIDE: usize = i32::MAX as usize / 16;

const _: () = assert!((16 * MAX_STRIDE as u64) + (MAX_POSITION as u64) < usize::MAX as u64);

/// The stride of a convolution along one axis once its dilation is split off.
pub fn undilated_stride(stride: usize, dilation: usize) -> usize {
    stride / gcd(stride, dilation)
}

/// Into how many sub-grids a dilation splits a convolution along one axis: its outputs that share inputs are so far apart.
pub fn sub_grids(stride: usize, dilation: usize) -> usize {
    dilation / gcd(stride, dilation)
}

pub(crate) fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}
