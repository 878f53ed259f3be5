//! The types of the header.

#![allow(non_camel_case_types, reason = "the names that C has for them")]

use core::ffi::c_void;

use depthwise_core::{Choice, Workspace};
use std::sync::Mutex;

use crate::failure::Failure;
use crate::plan::Plan;
use crate::value;

/// The version of the header; `dw_version` says that of the library.
pub const DW_VERSION_MAJOR: i32 = 0;
/// See `DW_VERSION_MAJOR`.
pub const DW_VERSION_MINOR: i32 = 1;
/// See `DW_VERSION_MAJOR`.
pub const DW_VERSION_PATCH: i32 = 0;

const _: () = {
    const fn is(number: &str, declared: i32) -> bool {
        matches!(i32::from_str_radix(number, 10), Ok(number) if number == declared)
    }
    assert!(is(env!("CARGO_PKG_VERSION_MAJOR"), DW_VERSION_MAJOR));
    assert!(is(env!("CARGO_PKG_VERSION_MINOR"), DW_VERSION_MINOR));
    assert!(is(env!("CARGO_PKG_VERSION_PATCH"), DW_VERSION_PATCH), "the header's version is not the package's");
};

/// What the numbers that C gives for an enumeration mean.
macro_rules! numbered {
    ($name:ident { $($variant:ident),* $(,)? }) => {
        impl TryFrom<i32> for $name {
            type Error = Failure;

            fn try_from(number: i32) -> Result<Self, Failure> {
                let all = [$($name::$variant),*];
                let found = all.into_iter().find(|&variant| variant as i32 == number);
                found.ok_or_else(|| {
                    Failure::invalid(format!("{number} is no {}: they are 0 to {}", stringify!($name), all.len() - 1))
                })
            }
        }
    };
}

mod int8;
pub use int8::{dw_clamp, dw_int8_descriptor, dw_int8_weights, dw_integers, dw_quantized, dw_rounding};

/// What became of a call.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dw_status {
    /// It did what it should.
    Ok = 0,
    /// A pointer is NULL that must not be.
    NullPointer = 1,
    /// An argument is wrong, or two do not agree. `dw_last_error_message` names the numbers.
    InvalidArgument = 2,
    /// This library, target or CPU cannot do what was asked for.
    Unsupported = 3,
    /// There is no memory for it.
    OutOfMemory = 4,
    /// The workspace is at work in another call.
    Busy = 5,
    /// A bug of the library. What the call should have written is undefined; plans and workspaces stay usable.
    Internal = 6,
}

/// What a plan computes.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dw_operation {
    /// A filter for each channel; `channel_multiplier` of them, if that is more than 1.
    Depthwise = 0,
    /// 1x1 over all channels, stride 1, no padding.
    Pointwise = 1,
    /// A depthwise and then a pointwise convolution, in one pass where that pays.
    Separable = 2,
    /// A filter over all channels for each output channel.
    Standard = 3,
    /// Whichever of the others `groups`, window and channels ask for, but for separable.
    Any = 4,
}

/// The type of the elements of tensors. Weights are `float`, and so are all sums, but of plans of 8 bits: see `dw_int8_descriptor`.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dw_element {
    /// `float`.
    F32 = 0,
    /// IEEE 754's format of 16 bits, such as `_Float16`.
    F16 = 1,
    /// The upper 16 bits of a `float`, rounded.
    Bf16 = 2,
    /// `uint8_t`, of plans of 8 bits.
    U8 = 3,
    /// `int8_t`, of plans of 8 bits.
    I8 = 4,
    /// `int32_t`: sums, which plans of 8 bits may write.
    I32 = 5,
}

/// The order of a tensor's axes in memory.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dw_layout {
    /// Images, channels, rows, columns: PyTorch, ONNX.
    Nchw = 0,
    /// Images, rows, columns, channels: TensorFlow.
    Nhwc = 1,
}

/// The order of the weights' axes, for C input and M output channels, a channel multiplier of m, windows of Kh x Kw.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dw_weight_order {
    /// PyTorch, ONNX. Depthwise [C*m, 1, Kh, Kw], pointwise [M, C], standard [M, C, Kh, Kw].
    Pytorch = 0,
    /// TensorFlow. Depthwise [1, Kh, Kw, C*m], pointwise [C, M], standard [Kh, Kw, C, M].
    Tflite = 1,
}

/// An instruction set. All but the portable one give the same bits; in plans of 8 bits, that one does, too.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dw_isa {
    /// That of the environment variable DEPTHWISE_ISA, or else the best that the CPU has.
    Auto = 0,
    /// Any CPU.
    Portable = 1,
    /// x86-64 with AVX2 and FMA.
    Avx2 = 2,
    /// x86-64 with AVX-512F.
    Avx512 = 3,
    /// AArch64 with Advanced SIMD.
    Neon = 4,
    /// x86-64 with AVX-512F, BW, VL and VNNI: for plans of 8 bits. Other plans are then for AVX-512.
    Avx512Vnni = 5,
}

/// How the stages of a separable convolution follow each other. No bit of the result depends on it.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dw_fusion {
    /// As is expected to be faster.
    Auto = 0,
    /// In one pass, block by block.
    Fused = 1,
    /// All of the first, then all of the second.
    TwoPass = 2,
}

/// How zeros around the input are given.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dw_padding_kind {
    /// (K - 1) * d / 2 on each side, for windows of K with dilation d: at stride 1 this keeps the size. (K - 1) * d must be even.
    Half = 0,
    /// `top`, `left`, `bottom`, `right`.
    Explicit = 1,
    /// As much as makes ceil(input / stride) outputs; an odd row goes below, an odd column to the right.
    SameUpper = 2,
    /// The same, but an odd row goes above, an odd column to the left.
    SameLower = 3,
    /// None.
    Valid = 4,
}

/// A function applied to each output. NaN in, NaN out.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dw_activation_kind {
    /// x.
    None = 0,
    /// max(x, 0).
    Relu = 1,
    /// min(max(x, 0), 6).
    Relu6 = 2,
    /// min(max(x, alpha), beta).
    Clamp = 3,
    /// x where x >= 0, else alpha * x.
    LeakyRelu = 4,
    /// x * min(max(x + 3, 0), 6) / 6.
    HardSwish = 5,
    /// min(max(x + 3, 0), 6) / 6.
    HardSigmoid = 6,
    /// 1 / (1 + exp(-x)).
    Sigmoid = 7,
    /// x * sigmoid(x), also called swish.
    Silu = 8,
    /// x / 2 * (1 + erf(x / sqrt(2))).
    Gelu = 9,
    /// x * tanh(log(1 + exp(x))).
    Mish = 10,
    /// tanh(x).
    Tanh = 11,
}

/// Who does the work of a run.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dw_parallelism_kind {
    /// The calling thread.
    Serial = 0,
    /// The library's threads: one pool for the process, started by the first such call, with a thread for each CPU, or as many as the
    /// environment variable RAYON_NUM_THREADS says.
    Rayon = 1,
    /// The program's threads, by `execute`.
    Executor = 2,
}

numbered!(dw_operation { Depthwise, Pointwise, Separable, Standard, Any });
numbered!(dw_element { F32, F16, Bf16, U8, I8, I32 });
numbered!(dw_layout { Nchw, Nhwc });
numbered!(dw_weight_order { Pytorch, Tflite });
numbered!(dw_isa { Auto, Portable, Avx2, Avx512, Neon, Avx512Vnni });
numbered!(dw_fusion { Auto, Fused, TwoPass });
numbered!(dw_padding_kind { Half, Explicit, SameUpper, SameLower, Valid });
numbered!(dw_activation_kind {
    None,
    Relu,
    Relu6,
    Clamp,
    LeakyRelu,
    HardSwish,
    HardSigmoid,
    Sigmoid,
    Silu,
    Gelu,
    Mish,
    Tanh,
});
numbered!(dw_parallelism_kind { Serial, Rayon, Executor });

/// A convolution with its weights, ready to run: `dw_plan_new` or `dw_int8_plan_new` makes it. It takes inputs of any batch, height and width.
///
/// No function but `dw_plan_free` changes a plan, so any threads may use one at the same time.
pub struct dw_plan {
    pub(crate) plan: Plan,
}

/// Scratch memory of runs, for one call at a time. Any workspace serves any plan.
pub struct dw_workspace {
    pub(crate) workspace: Mutex<Workspace>,
}

/// How a plan runs inputs of one shape: kernels, passes, blocks, tasks. It changes no bit of a result. Any threads may use one at the
/// same time.
pub struct dw_choice {
    pub(crate) choice: Choice,
}

/// The extents of a tensor, whatever its layout.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct dw_shape {
    /// Images.
    pub n: usize,
    /// Channels.
    pub c: usize,
    /// Rows.
    pub h: usize,
    /// Columns.
    pub w: usize,
}

/// From an element to its neighbour along each axis, in elements.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct dw_strides {
    /// To the next image.
    pub n: usize,
    /// To the next channel.
    pub c: usize,
    /// To the next row.
    pub h: usize,
    /// To the next column.
    pub w: usize,
}

/// A part of an output: the positions from `start` to before `end` along each axis.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct dw_range {
    /// The first position.
    pub start: dw_shape,
    /// The position after the last.
    pub end: dw_shape,
}

/// Numbers to read, such as weights. `{NULL, 0}` is none.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dw_array {
    /// The first.
    pub data: *const f32,
    /// How many.
    pub len: usize,
}

/// A tensor to read: a buffer, and how the tensor lies in it. Along the last axis of the plan's layout the stride must be 1.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dw_tensor {
    /// The first element, aligned as its type is.
    pub data: *const c_void,
    /// How many elements may be read, from the first on. The tensor must lie within.
    pub len: usize,
    /// Their type.
    pub element: value::dw_element,
    /// The extents.
    pub shape: dw_shape,
    /// The strides.
    pub strides: dw_strides,
}

/// A tensor to write; see `dw_tensor`. What lies between its elements stays as it is. It may be uninitialised.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dw_tensor_mut {
    /// The first element, aligned as its type is.
    pub data: *mut c_void,
    /// How many elements may be written, from the first on. The tensor must lie within.
    pub len: usize,
    /// Their type.
    pub element: value::dw_element,
    /// The extents.
    pub shape: dw_shape,
    /// The strides, such that no two elements meet.
    pub strides: dw_strides,
}

/// Zeros around an input. All zeros is the default.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct dw_padding {
    /// How they are given.
    pub kind: value::dw_padding_kind,
    /// Rows above, if explicit.
    pub top: usize,
    /// Columns to the left, if explicit.
    pub left: usize,
    /// Rows below, if explicit.
    pub bottom: usize,
    /// Columns to the right, if explicit.
    pub right: usize,
}

/// A function with its parameters. All zeros is the default: none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct dw_activation {
    /// Which.
    pub kind: value::dw_activation_kind,
    /// The least output of a clamp, the slope of a leaky ReLU.
    pub alpha: f32,
    /// The greatest output of a clamp.
    pub beta: f32,
}

/// A batch normalisation after a convolution, which is folded into its weights and bias: a number for each output channel.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dw_batch_norm {
    /// The scale.
    pub gamma: dw_array,
    /// The shift.
    pub beta: dw_array,
    /// The running mean.
    pub mean: dw_array,
    /// The running variance.
    pub variance: dw_array,
    /// What is added to the variance.
    pub epsilon: f32,
}

/// A convolution, to make a plan of. `dw_descriptor_init` fills it in; then set what differs. A field that the operation does not have
/// must stay as it was filled in. Fields may be added at the end: see "ABI" in the README.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dw_descriptor {
    /// The bytes of this struct.
    pub size: usize,
    /// What is computed.
    pub operation: value::dw_operation,
    /// The type of the elements of tensors. Default: `float`.
    pub element: value::dw_element,
    /// The layout of tensors. Default: NCHW.
    pub layout: value::dw_layout,
    /// The order of all weights' axes. Default: PyTorch's.
    pub weight_order: value::dw_weight_order,
    /// The instruction set. Default: the best that there is.
    pub isa: value::dw_isa,
    /// Separable: one pass or two. Default: as is expected to be faster.
    pub fusion: value::dw_fusion,
    /// The channels of inputs.
    pub in_channels: usize,
    /// The channels of outputs. Depthwise: `in_channels * channel_multiplier`.
    pub out_channels: usize,
    /// Any: the groups that channels are divided into. Default: 1.
    pub groups: usize,
    /// Depthwise, separable: outputs of the depthwise stage for each input channel. Default: 1.
    pub channel_multiplier: usize,
    /// The window, rows and columns. Default: 3 x 3; pointwise: 1 x 1.
    pub kernel_size: [usize; 2],
    /// The step from an output to the next, in inputs. Default: 1, 1.
    pub stride: [usize; 2],
    /// The step from a tap to the next, in inputs. Default: 1, 1.
    pub dilation: [usize; 2],
    /// Zeros around the input. Default: as many as keep the size at stride 1.
    pub padding: dw_padding,
    /// Separable: the weights of the first stage.
    pub depthwise_weights: dw_array,
    /// Separable: the bias of the first stage. Default: none.
    pub depthwise_bias: dw_array,
    /// Separable: a batch normalisation between the stages. Default: NULL, none.
    pub depthwise_batch_norm: *const dw_batch_norm,
    /// Separable: the function applied between the stages. Default: none.
    pub depthwise_activation: dw_activation,
    /// The function applied to each output, after the residual was added. Default: none.
    pub activation: dw_activation,
    /// The weights. Separable: those of the second stage.
    pub weights: dw_array,
    /// A number for each output channel, where sums start. Default: none.
    pub bias: dw_array,
    /// A batch normalisation after the convolution. Default: NULL, none.
    pub batch_norm: *const dw_batch_norm,
}

// A field that is added begins where these structs end now: no padding may take it in.
const _: () = {
    use core::mem::offset_of;
    assert!(offset_of!(dw_descriptor, batch_norm) + size_of::<*const dw_batch_norm>() == size_of::<dw_descriptor>());
    assert!(offset_of!(dw_run_options, choice) + size_of::<*const dw_choice>() == size_of::<dw_run_options>());
};

// Any thread may use and free them.
const _: () = {
    const fn shareable<T: Send + Sync>() {}
    shareable::<dw_plan>();
    shareable::<dw_choice>();
    shareable::<dw_workspace>();
};

/// A task of a run: to be called with what `execute` was given.
pub type dw_task = unsafe extern "C" fn(argument: *mut c_void, index: usize);

/// Calls `task(argument, i)` once for each i from 0 to before `tasks`, on any threads, and returns when all calls have returned. It
/// must not be left in another way: by an exception or `longjmp`. It may be called from any thread that runs a plan, also at the same
/// time.
pub type dw_execute =
    Option<unsafe extern "C" fn(context: *mut c_void, tasks: usize, task: dw_task, argument: *mut c_void)>;

/// Who does the work of a run. All zeros is the default: the calling thread.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dw_parallelism {
    /// Who.
    pub kind: value::dw_parallelism_kind,
    /// Executor: how many threads may work at once.
    pub threads: usize,
    /// Executor: hands tasks to threads.
    pub execute: dw_execute,
    /// Executor: what `execute` is given.
    pub context: *mut c_void,
}

/// What else a run may be told. `dw_run_options_init` fills it in; then set what differs. Fields may be added at the end: see "ABI" in
/// the README.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dw_run_options {
    /// The bytes of this struct.
    pub size: usize,
    /// A tensor of the output's shape that is added before the activation. Default: NULL, none.
    pub residual: *const dw_tensor,
    /// The part of the whole output that is computed. Output and residual have its shape then, the input is whole. Default: NULL, all.
    pub range: *const dw_range,
    /// Scratch memory, which grows to what the run needs. Default: NULL, one that the calling thread keeps.
    pub workspace: *mut dw_workspace,
    /// Who does the work. Default: NULL, the calling thread.
    pub parallelism: *const dw_parallelism,
    /// How, as `dw_plan_prepare` or `dw_plan_tune` chose it for the input's shape and this parallelism. Default: NULL, the run chooses.
    pub choice: *const dw_choice,
}

impl dw_array {
    /// No numbers.
    pub(crate) const NONE: dw_array = dw_array { data: core::ptr::null(), len: 0 };
}

impl dw_run_options {
    /// As `dw_run_options_init` fills them in.
    pub(crate) const DEFAULT: dw_run_options = dw_run_options {
        size: size_of::<dw_run_options>(),
        residual: core::ptr::null(),
        range: core::ptr::null(),
        workspace: core::ptr::null_mut(),
        parallelism: core::ptr::null(),
        choice: core::ptr::null(),
    };
}

impl From<dw_shape> for depthwise_core::Shape {
    fn from(dw_shape { n, c, h, w }: dw_shape) -> Self {
        Self { n, c, h, w }
    }
}

impl From<depthwise_core::Shape> for dw_shape {
    fn from(depthwise_core::Shape { n, c, h, w }: depthwise_core::Shape) -> Self {
        Self { n, c, h, w }
    }
}

impl From<dw_strides> for depthwise_core::Strides {
    fn from(dw_strides { n, c, h, w }: dw_strides) -> Self {
        Self { n, c, h, w }
    }
}

impl From<depthwise_core::Strides> for dw_strides {
    fn from(depthwise_core::Strides { n, c, h, w }: depthwise_core::Strides) -> Self {
        Self { n, c, h, w }
    }
}

impl From<dw_range> for depthwise_core::OutputRange {
    fn from(dw_range { start, end }: dw_range) -> Self {
        Self { n: start.n..end.n, c: start.c..end.c, h: start.h..end.h, w: start.w..end.w }
    }
}
