//! The micro-kernels: all the `unsafe` of the crate.
//!
//! * `isa`: the instruction sets and their detection; `simd`: the vector operations;
//! * `depthwise_nhwc`, `depthwise_rolling`, `depthwise_turns`, `depthwise_nchw`, `pointwise_nhwc`, `pointwise_nchw`, `activation`:
//!   the algorithms, written once; `depthwise`, `pointwise`: what layouts share;
//! * `portable`, `avx2`, `avx512`, `neon`: one instruction set each, its tiles, and its rows of the table;
//! * `sweep`: activations over memory; `peak`: the rates that no kernel exceeds;
//! * `view`, `memory`: checked tensors and aligned memory; `stage`: packed weights with the kernel
//!   that they were packed for. These three, `isa` and the table are all that `src/` sees.
//!
//! A kernel runs only through a stage, a stage is built only from an [`Available`] kernel, and that
//! exists only where the CPU was found to have the instruction set.

// Kernels name their loop variables after the axes, and index several arrays with one of them.
#![allow(clippy::needless_range_loop)]

pub(crate) mod activation;
mod depthwise;
mod depthwise_nchw;
mod depthwise_nhwc;
#[cfg(isa = "avx2")]
mod depthwise_rolling;
#[cfg(isa = "avx2")]
mod depthwise_turns;
pub(crate) mod isa;
pub(crate) mod memory;
#[cfg(feature = "ndarray")]
mod ndarray;
mod peak;
mod pointwise;
mod pointwise_nchw;
mod pointwise_nhwc;
mod simd;
pub(crate) mod stage;
mod sweep;
pub(crate) mod view;

#[cfg(isa = "avx2")]
mod avx2;
#[cfg(isa = "avx512")]
mod avx512;
#[cfg(isa = "neon")]
mod neon;
mod portable;

use self::activation::Curve;
use self::depthwise::DepthwiseArgs;
use self::isa::Isa;
use self::pointwise::PointwiseArgs;
use self::pointwise_nhwc::RunColumn;
use crate::tensor::Layout;

pub(crate) use self::depthwise::{DepthwiseTuning, sub_grids, undilated_stride};

/// The largest stride of a depthwise convolution: the lanes of a gather are numbered in 32 bits. With sixteen strides beyond
/// [`MAX_POSITION`](stage::MAX_POSITION), an index fits 32 bits, too.
pub(crate) const MAX_STRIDE: usize = i32::MAX as usize / 16;

const _: () = assert!((16 * MAX_STRIDE as u64) + (stage::MAX_POSITION as u64) < usize::MAX as u64);

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
    /// Whether it is a pointwise kernel, channels last, that computes the last half vector of channels for two pixels at a time.
    #[doc(hidden)]
    pub fn joins(&self) -> bool {
        self.operation == Operation::Pointwise && self.layout == Layout::Nhwc && self.tile[1] > 2 * self.lanes
    }
}

/// A row of the table: what is known of a kernel, and its code.
pub(crate) struct Kernel {
    pub(crate) info: KernelInfo,
    entry: Entry,
}

/// The code of a kernel, compiled for its instruction set: to be called only where the CPU has it.
#[derive(Clone, Copy)]
enum Entry {
    Depthwise(unsafe fn(&DepthwiseArgs)),
    Pointwise(unsafe fn(&PointwiseArgs)),
}

/// One instruction set's rows of the table, and what all of its kernels share.
struct Family {
    isa: Isa,
    kernels: &'static [Kernel],
    /// Lanes of its narrowest vectors.
    half_lanes: usize,
    /// The inner loops of its pointwise kernels, channels last.
    columns: &'static [RunColumn],
    /// Applies a curve to a run of elements.
    activate: unsafe fn(Curve, *mut f32, usize),
    /// Does that many rounds of independent multiply-adds; returns how many in a round, and a result.
    #[cfg_attr(not(feature = "std"), expect(dead_code, reason = "without std there is no clock"))]
    peak: unsafe fn(usize) -> (usize, f32),
    /// Reads a slice that many times; returns the sum.
    #[cfg_attr(not(feature = "std"), expect(dead_code, reason = "without std there is no clock"))]
    read: unsafe fn(&[f32], usize) -> f32,
}

/// A kernel that this CPU runs.
#[derive(Clone, Copy)]
pub(crate) struct Available {
    kernel: &'static Kernel,
    family: &'static Family,
}

impl Available {
    pub(crate) fn info(&self) -> &'static KernelInfo {
        &self.kernel.info
    }
}

static FAMILIES: &[&Family] = &[
    &portable::FAMILY,
    #[cfg(isa = "avx2")]
    &avx2::FAMILY,
    #[cfg(isa = "avx512")]
    &avx512::FAMILY,
    #[cfg(isa = "neon")]
    &neon::FAMILY,
];

/// Every kernel of this target, whether or not this CPU has its instruction set.
pub(crate) fn table() -> impl Iterator<Item = &'static Kernel> {
    FAMILIES.iter().flat_map(|family| family.kernels)
}

/// Where the machine code of each kernel's inner loops is.
pub(crate) fn inner_loops() -> impl Iterator<Item = (KernelInfo, *const ())> {
    let code = |family: &Family, kernel: &Kernel| match (kernel.entry, kernel.info.layout) {
        (Entry::Depthwise(entry), _) => entry as *const (),
        (Entry::Pointwise(_), Layout::Nhwc) => family.columns[kernel.info.tile[0] - 1] as *const (),
        (Entry::Pointwise(entry), Layout::Nchw) => entry as *const (),
    };
    FAMILIES.iter().flat_map(move |family| family.kernels.iter().map(move |kernel| (kernel.info, code(family, kernel))))
}

/// A kernel of the table, if this CPU has its instruction set.
pub(crate) fn available(info: &KernelInfo) -> Option<Available> {
    let family = FAMILIES.iter().find(|family| family.isa == info.isa && info.isa.is_available())?;
    let kernel = family.kernels.iter().find(|kernel| kernel.info == *info)?;
    Some(Available { kernel, family })
}

/// Does `rounds` rounds of independent multiply-adds with an available instruction set's vectors.
/// Returns the floating-point operations done, and a result that must not be optimised away.
#[cfg(feature = "std")]
pub(crate) fn multiply_adds(isa: Isa, rounds: usize) -> Option<(usize, f32)> {
    let family = FAMILIES.iter().find(|family| family.isa == isa && isa.is_available())?;
    // SAFETY: the CPU has the instruction set.
    let (operations, result) = unsafe { (family.peak)(rounds) };
    Some((operations * rounds, result))
}

/// Reads `data` that many times with an available instruction set's vectors; returns the sum.
#[cfg(feature = "std")]
pub(crate) fn read(isa: Isa, data: &[f32], times: usize) -> Option<f32> {
    let family = FAMILIES.iter().find(|family| family.isa == isa && isa.is_available())?;
    // SAFETY: the CPU has the instruction set.
    Some(unsafe { (family.read)(data, times) })
}

/// Declares one instruction set: its entry points, compiled with its target features, which prove the
/// token, and its rows of the table. The features are named here alone.
macro_rules! family {
    (
        token: $token:ident, compiled: $features:meta, suffix: $suffix:literal, lanes: $lanes:literal,
        peak_chains: $chains:literal,
        nhwc: [$($kh:literal x $kw:literal stride $sh:literal x $sw:literal
                 tile $oh:literal x $ow:literal,)*],
        nhwc_rolling: [$($down:literal x $across:literal stride $step:literal x $step_w:literal
                         hold $held:literal x $wide:literal,)*],
        nhwc_in_turns: [$($tall:literal x $broad:literal stride $pace:literal x $pace_w:literal
                          hold $waiting:literal x $side:literal,)*],
        nhwc_any: $any_columns:literal,
        nchw: [$($k:literal stride $rsh:literal x $rsw:literal rows $rows:literal,)*],
        nchw_any: $any_rows:literal,
        pointwise_nhwc: [$($pixels:literal x 2,)*],
        pointwise_nhwc_joined: [$($most:literal and $joined:literal x 2.5,)*],
        pointwise_columns: [$($height:literal)*],
        pointwise_nchw: [$($channels:literal x 2,)*],
    ) => {
        const _: () = assert!(<$token as $crate::kernels::simd::Simd>::LANES == $lanes);

        impl $token {
            /// Only code that is compiled with the features can call this without `unsafe`.
            #[$features]
            fn assume() -> Self {
                $token(())
            }
        }

        const _: () = {
            let heights: &[usize] = &[$($height),*];
            let mut i = 0;
            while i < heights.len() {
                assert!(heights[i] == i + 1);
                i += 1;
            }
        };

        impl $crate::kernels::pointwise_nhwc::Columns for $token {
            const COLUMNS: &'static [$crate::kernels::pointwise_nhwc::RunColumn] = &[$({
                mod code {
                    use super::$token;
                    use $crate::kernels::pointwise::PointwiseArgs;
                    use $crate::kernels::pointwise_nhwc::{Column, column};

                    #[$features]
                    pub(super) unsafe fn run(c: &Column, args: &PointwiseArgs) {
                        $crate::kernels::memory::align_frame();
                        // SAFETY: the caller's.
                        unsafe { column::<$token, $height>($token::assume(), c, args) }
                    }
                }
                code::run
            },)*];
        }

        pub(super) static FAMILY: $crate::kernels::Family = {
            use $crate::kernels::{Entry, Family, Form, Kernel, KernelInfo, Operation, activation, peak, sweep};
            use $crate::kernels::simd::Simd;
            use $crate::tensor::Layout;

            #[$features]
            unsafe fn activate(curve: activation::Curve, p: *mut f32, n: usize) {
                // SAFETY: the caller's.
                unsafe { sweep::sweep($token::assume(), curve, p, n) }
            }
            #[$features]
            unsafe fn multiply_adds(rounds: usize) -> (usize, f32) {
                peak::multiply_adds::<$token, $chains>($token::assume(), rounds)
            }

            #[$features]
            unsafe fn read(data: &[f32], times: usize) -> f32 {
                peak::read::<$token, $chains>($token::assume(), data, times)
            }

            Family {
                isa: <$token as Simd>::ISA,
                half_lanes: <<$token as Simd>::Half as Simd>::LANES,
                columns: <$token as $crate::kernels::pointwise_nhwc::Columns>::COLUMNS,
                activate,
                peak: multiply_adds,
                read,
                kernels: &[
                    $($crate::kernels::kernel! {
                        $token, $features, Depthwise($crate::kernels::depthwise::DepthwiseArgs),
                        $crate::kernels::depthwise_nhwc::fixed::<
                            $token, $kh, $kw, $sh, $sw, $oh, $ow,
                            { ($ow - 1) * $sw + $kw },
                        >,
                        concat!("dw_f32_nhwc_", $kh, "x", $kw, "s", $sh, "_", $oh, "x", $ow, "_", $suffix),
                        Nhwc, Tile, Some([$kh, $kw]), Some([$sh, $sw]), [$oh, $ow]
                    },)*
                    $($crate::kernels::kernel! {
                        $token, $features, Depthwise($crate::kernels::depthwise::DepthwiseArgs),
                        $crate::kernels::depthwise_rolling::rolling::<$token, $down, $across, $step, $step_w, $held, $wide>,
                        concat!("dw_f32_nhwc_", $down, "x", $across, "s", $step, "_1x", $wide, "r_", $suffix),
                        Nhwc, Rolling, Some([$down, $across]), Some([$step, $step_w]), [1, $wide]
                    },)*
                    $($crate::kernels::kernel! {
                        $token, $features, Depthwise($crate::kernels::depthwise::DepthwiseArgs),
                        $crate::kernels::depthwise_turns::in_turns::<$token, $tall, $broad, $pace, $pace_w, $waiting, $side>,
                        concat!("dw_f32_nhwc_", $tall, "x", $broad, "s", $pace, "_1x", $side, "t_", $suffix),
                        Nhwc, InTurns, Some([$tall, $broad]), Some([$pace, $pace_w]), [1, $side]
                    },)*
                    $crate::kernels::kernel! {
                        $token, $features, Depthwise($crate::kernels::depthwise::DepthwiseArgs),
                        $crate::kernels::depthwise_nhwc::any::<$token, $any_columns>,
                        concat!("dw_f32_nhwc_any_1x", $any_columns, "_", $suffix),
                        Nhwc, Any, None, None, [1, $any_columns]
                    },
                    $($crate::kernels::kernel! {
                        $token, $features, Depthwise($crate::kernels::depthwise::DepthwiseArgs),
                        $crate::kernels::depthwise_nchw::fixed::<$token, $k, $rsh, $rsw, $rows>,
                        concat!("dw_f32_nchw_", $k, "x", $k, "s", $rsh, "_", $rows, "x2v_", $suffix),
                        Nchw, Tile, Some([$k, $k]), Some([$rsh, $rsw]), [$rows, 2 * $lanes]
                    },)*
                    $crate::kernels::kernel! {
                        $token, $features, Depthwise($crate::kernels::depthwise::DepthwiseArgs),
                        $crate::kernels::depthwise_nchw::any::<$token, $any_rows>,
                        concat!("dw_f32_nchw_any_", $any_rows, "x1v_", $suffix),
                        Nchw, Any, None, None, [$any_rows, $lanes]
                    },
                    $($crate::kernels::kernel! {
                        $token, $features, Pointwise($crate::kernels::pointwise::PointwiseArgs),
                        $crate::kernels::pointwise_nhwc::part::<$token, $pixels, 0>,
                        concat!("pw_f32_nhwc_", $pixels, "x2v_", $suffix),
                        Nhwc, Tile, None, None, [$pixels, 2 * $lanes]
                    },)*
                    $($crate::kernels::kernel! {
                        $token, $features, Pointwise($crate::kernels::pointwise::PointwiseArgs),
                        $crate::kernels::pointwise_nhwc::part::<$token, $most, $joined>,
                        concat!("pw_f32_nhwc_", $joined, "x2.5v_", $suffix),
                        Nhwc, Tile, None, None, [$joined, 2 * $lanes + $lanes / 2]
                    },)*
                    $($crate::kernels::kernel! {
                        $token, $features, Pointwise($crate::kernels::pointwise::PointwiseArgs),
                        $crate::kernels::pointwise_nchw::part::<$token, $channels>,
                        concat!("pw_f32_nchw_", $channels, "x2v_", $suffix),
                        Nchw, Tile, None, None, [2 * $lanes, $channels]
                    },)*
                ],
            }
        };
    };
}
use family;

/// One row of the table, and the entry point it holds.
macro_rules! kernel {
    (
        $token:ident, $features:meta, $operation:ident($args:ty), $algorithm:expr, $name:expr,
        $layout:ident, $form:ident, $kernel_size:expr, $stride:expr, $tile:expr
    ) => {{
        // A module of its own, lest the compiler take all kernels of a family for one unit, and so one thread to generate them.
        mod code {
            use super::$token;

            #[$features]
            pub(super) unsafe fn entry(args: &$args) {
                $crate::kernels::memory::align_frame();
                // SAFETY: the caller's.
                unsafe { $algorithm($token::assume(), args) }
            }
        }
        Kernel {
            info: KernelInfo {
                name: $name,
                isa: <$token as Simd>::ISA,
                operation: Operation::$operation,
                layout: Layout::$layout,
                form: Form::$form,
                kernel_size: $kernel_size,
                stride: $stride,
                tile: $tile,
                lanes: <$token as Simd>::LANES,
            },
            entry: Entry::$operation(code::entry),
        }
    }};
}
use kernel;
