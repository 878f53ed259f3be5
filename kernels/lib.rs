//! The micro-kernels of [`depthwise`](https://docs.rs/depthwise): all of its `unsafe` code. Depend on `depthwise`, not on this package, whose
//! interface changes with it.
//!
//! * `types`: the words that the rest is written in; `memory`: checked tensors and aligned buffers;
//! * `simd`: the vector operations; `arch`: one instruction set each, its tiles, and its rows of the table;
//! * `depthwise`, `pointwise`: the algorithms, written once, a folder for each operation and layout; `epilogue`: activations;
//! * `convert`: other types of elements as `f32`, and back;
//! * `stage`: packed weights with the kernel that they were packed for, the one place where a kernel is called;
//! * `probe`: the rates that no kernel exceeds.
//!
//! A kernel runs only through a stage, a stage is built only from an [`Available`] kernel, and that
//! exists only where the CPU was found to have the instruction set.

#![cfg_attr(not(feature = "std"), no_std)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(missing_docs, clippy::undocumented_unsafe_blocks, unsafe_op_in_unsafe_fn)]
// Kernels name their loop variables after the axes, and index several arrays with one of them.
#![allow(clippy::needless_range_loop)]

extern crate alloc;

mod arch;
mod convert;
mod depthwise;
mod epilogue;
mod info;
mod memory;
mod pointwise;
mod probe;
mod simd;
mod stage;
mod types;

#[cfg(isa = "avx2")]
use self::arch::avx2;
#[cfg(isa = "avx512")]
use self::arch::avx512;
#[cfg(isa = "neon")]
use self::arch::neon;
use self::arch::portable;
use self::depthwise::DepthwiseArgs;
use self::epilogue::Curve;
use self::pointwise::PointwiseArgs;
use self::pointwise::nhwc::RunColumn;

pub use self::convert::Converter;
pub use self::depthwise::{DepthwiseTuning, MOST_STRIP_ROWS};
pub use self::info::{Form, KernelInfo, Operation};
pub use self::memory::{AlignedBuf, TensorView, TensorViewMut};
pub use self::stage::{DepthwiseStage, PointwiseStage, fits};
pub use self::types::*;
#[cfg(feature = "half")]
pub use half::{bf16, f16};

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
    /// Its conversions of elements; of AVX2, those that this CPU has.
    #[cfg(feature = "half")]
    conversions: fn() -> convert::Conversions,
    /// Does that many rounds of independent multiply-adds; returns how many in a round, and a result.
    #[cfg_attr(not(feature = "std"), expect(dead_code, reason = "without std there is no clock"))]
    peak: unsafe fn(usize) -> (usize, f32),
    /// Reads a slice that many times; returns the sum.
    #[cfg_attr(not(feature = "std"), expect(dead_code, reason = "without std there is no clock"))]
    read: unsafe fn(&[f32], usize) -> f32,
}

/// A kernel that this CPU runs.
#[derive(Clone, Copy)]
pub struct Available {
    kernel: &'static Kernel,
    family: &'static Family,
}

impl Available {
    /// What is known of it.
    pub fn info(&self) -> &'static KernelInfo {
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
pub fn table() -> impl Iterator<Item = &'static KernelInfo> {
    FAMILIES.iter().flat_map(|family| family.kernels).map(|kernel| &kernel.info)
}

/// Where the machine code of each kernel's inner loops is.
pub fn inner_loops() -> impl Iterator<Item = (KernelInfo, *const ())> {
    let code = |family: &Family, kernel: &Kernel| match (kernel.entry, kernel.info.layout) {
        (Entry::Depthwise(entry), _) => entry as *const (),
        (Entry::Pointwise(_), Layout::Nhwc) => family.columns[kernel.info.tile[0] - 1] as *const (),
        (Entry::Pointwise(entry), Layout::Nchw) => entry as *const (),
    };
    FAMILIES.iter().flat_map(move |family| family.kernels.iter().map(move |kernel| (kernel.info, code(family, kernel))))
}

/// A kernel of the table, if this CPU has its instruction set.
pub fn available(info: &KernelInfo) -> Option<Available> {
    let family = FAMILIES.iter().find(|family| family.isa == info.isa && info.isa.is_available())?;
    let kernel = family.kernels.iter().find(|kernel| kernel.info == *info)?;
    Some(Available { kernel, family })
}

impl Activation {
    /// Applies it to each element, as a convolution does to its outputs: for what an engine computes beside them.
    ///
    /// ```
    /// let mut data = [-1.0, 0.5, 9.0];
    /// depthwise::Activation::Relu6.apply(&mut data);
    /// assert_eq!(data, [0.0, 0.5, 6.0]);
    /// ```
    pub fn apply(self, data: &mut [f32]) {
        let epilogue::Epilogue { min, max, curve } = epilogue::Epilogue::of(self);
        if epilogue::clamps(min, max) {
            for x in &mut *data {
                // NaN stays, and so does −0 at a bound of +0.
                let y = if min > *x { min } else { *x };
                *x = if max < y { max } else { y };
            }
        }
        if let Some(curve) = curve {
            let isa = Isa::detect();
            let family = FAMILIES.iter().find(|family| family.isa == isa).unwrap_or(&FAMILIES[0]);
            // SAFETY: the slice can be read and written; the CPU has the instruction set, or it is the portable one, the first.
            unsafe { (family.activate)(curve, data.as_mut_ptr(), data.len()) }
        }
    }
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
        const _: () = assert!(<$token as $crate::simd::Simd>::LANES == $lanes);

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

        impl $crate::pointwise::nhwc::Columns for $token {
            const COLUMNS: &'static [$crate::pointwise::nhwc::RunColumn] = &[$({
                mod code {
                    use super::$token;
                    use $crate::pointwise::PointwiseArgs;
                    use $crate::pointwise::nhwc::{Column, column};

                    #[$features]
                    pub(crate) unsafe fn run(c: &Column, args: &PointwiseArgs) {
                        $crate::memory::align_frame();
                        // SAFETY: the caller's.
                        unsafe { column::<$token, $height>($token::assume(), c, args) }
                    }
                }
                code::run
            },)*];
        }

        pub(crate) static FAMILY: $crate::Family = {
            use $crate::{Entry, Family, Form, Kernel, KernelInfo, Operation, epilogue, probe};
            use $crate::simd::Simd;
            use $crate::types::Layout;

            #[$features]
            unsafe fn activate(curve: epilogue::Curve, p: *mut f32, n: usize) {
                // SAFETY: the caller's.
                unsafe { epilogue::sweep::sweep($token::assume(), curve, p, n) }
            }
            #[$features]
            unsafe fn multiply_adds(rounds: usize) -> (usize, f32) {
                probe::multiply_adds::<$token, $chains>($token::assume(), rounds)
            }

            #[$features]
            unsafe fn read(data: &[f32], times: usize) -> f32 {
                probe::read::<$token, $chains>($token::assume(), data, times)
            }

            Family {
                isa: <$token as Simd>::ISA,
                half_lanes: <<$token as Simd>::Half as Simd>::LANES,
                columns: <$token as $crate::pointwise::nhwc::Columns>::COLUMNS,
                activate,
                #[cfg(feature = "half")]
                conversions: $token::conversions,
                peak: multiply_adds,
                read,
                kernels: &[
                    $($crate::kernel! {
                        $token, $features, Depthwise($crate::depthwise::DepthwiseArgs),
                        $crate::depthwise::nhwc::tile::fixed::<
                            $token, $kh, $kw, $sh, $sw, $oh, $ow,
                            { ($ow - 1) * $sw + $kw },
                        >,
                        concat!("dw_f32_nhwc_", $kh, "x", $kw, "s", $sh, "_", $oh, "x", $ow, "_", $suffix),
                        Nhwc, Tile, Some([$kh, $kw]), Some([$sh, $sw]), [$oh, $ow]
                    },)*
                    $($crate::kernel! {
                        $token, $features, Depthwise($crate::depthwise::DepthwiseArgs),
                        $crate::depthwise::nhwc::rolling::rolling::<$token, $down, $across, $step, $step_w, $held, $wide>,
                        concat!("dw_f32_nhwc_", $down, "x", $across, "s", $step, "_1x", $wide, "r_", $suffix),
                        Nhwc, Rolling, Some([$down, $across]), Some([$step, $step_w]), [1, $wide]
                    },)*
                    $($crate::kernel! {
                        $token, $features, Depthwise($crate::depthwise::DepthwiseArgs),
                        $crate::depthwise::nhwc::turns::in_turns::<$token, $tall, $broad, $pace, $pace_w, $waiting, $side>,
                        concat!("dw_f32_nhwc_", $tall, "x", $broad, "s", $pace, "_1x", $side, "t_", $suffix),
                        Nhwc, InTurns, Some([$tall, $broad]), Some([$pace, $pace_w]), [1, $side]
                    },)*
                    $crate::kernel! {
                        $token, $features, Depthwise($crate::depthwise::DepthwiseArgs),
                        $crate::depthwise::nhwc::tile::any::<$token, $any_columns>,
                        concat!("dw_f32_nhwc_any_1x", $any_columns, "_", $suffix),
                        Nhwc, Any, None, None, [1, $any_columns]
                    },
                    $($crate::kernel! {
                        $token, $features, Depthwise($crate::depthwise::DepthwiseArgs),
                        $crate::depthwise::nchw::fixed::<$token, $k, $rsh, $rsw, $rows>,
                        concat!("dw_f32_nchw_", $k, "x", $k, "s", $rsh, "_", $rows, "x2v_", $suffix),
                        Nchw, Tile, Some([$k, $k]), Some([$rsh, $rsw]), [$rows, 2 * $lanes]
                    },)*
                    $crate::kernel! {
                        $token, $features, Depthwise($crate::depthwise::DepthwiseArgs),
                        $crate::depthwise::nchw::any::<$token, $any_rows>,
                        concat!("dw_f32_nchw_any_", $any_rows, "x1v_", $suffix),
                        Nchw, Any, None, None, [$any_rows, $lanes]
                    },
                    $($crate::kernel! {
                        $token, $features, Pointwise($crate::pointwise::PointwiseArgs),
                        $crate::pointwise::nhwc::part::<$token, $pixels, 0>,
                        concat!("pw_f32_nhwc_", $pixels, "x2v_", $suffix),
                        Nhwc, Tile, None, None, [$pixels, 2 * $lanes]
                    },)*
                    $($crate::kernel! {
                        $token, $features, Pointwise($crate::pointwise::PointwiseArgs),
                        $crate::pointwise::nhwc::part::<$token, $most, $joined>,
                        concat!("pw_f32_nhwc_", $joined, "x2.5v_", $suffix),
                        Nhwc, Tile, None, None, [$joined, 2 * $lanes + $lanes / 2]
                    },)*
                    $($crate::kernel! {
                        $token, $features, Pointwise($crate::pointwise::PointwiseArgs),
                        $crate::pointwise::nchw::part::<$token, $channels>,
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
            pub(crate) unsafe fn entry(args: &$args) {
                $crate::memory::align_frame();
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
