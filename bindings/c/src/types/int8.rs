//! The types of plans of 8 bits.

use core::ffi::c_void;

use super::{dw_array, dw_padding};
use crate::failure::Failure;
use crate::value;

/// How a sum becomes a number of 8 bits: sum * m, rounded, where m is the product of the scales of input and weights over the output's.
/// docs/numerics.md of the crate has the formulas.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum dw_rounding {
    /// By m in `float`, and to the nearest even number: ONNX's QLinearConv.
    NearestEven = 0,
    /// By m as a fixed-point number, with two roundings: the reference kernels of TensorFlow Lite for INT8.
    Tflite = 1,
    /// The same, where the product of the scales of input and weights is formed in `float`: TensorFlow Lite's older networks of UINT8,
    /// and fully connected layers with one scale.
    TfliteLegacy = 2,
}

numbered!(dw_rounding { NearestEven, Tflite, TfliteLegacy });

/// What the numbers of a tensor of 8 bits stand for: scale * (number - zero_point).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dw_quantized {
    /// Their type: DW_ELEMENT_U8 or DW_ELEMENT_I8.
    pub element: value::dw_element,
    /// The step from a number to the next, finite and above 0.
    pub scale: f32,
    /// The number that stands for 0, in the range of the type.
    pub zero_point: i32,
}

/// Weights of 8 bits: w stands for scale * (w - zero_point).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dw_int8_weights {
    /// The first, in the order that `weight_order` says. NULL: none.
    pub data: *const c_void,
    /// How many.
    pub len: usize,
    /// Their type: DW_ELEMENT_I8 or DW_ELEMENT_U8. Default: the first.
    pub element: value::dw_element,
    /// The number that stands for 0. Default: 0.
    pub zero_point: i32,
    /// One scale, or one for each output channel.
    pub scales: dw_array,
}

/// Whole numbers to read, such as biases. `{NULL, 0}` is none.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dw_integers {
    /// The first.
    pub data: *const i32,
    /// How many.
    pub len: usize,
}

/// Bounds of the outputs, as numbers of their type. Those of the type, or wider ones, bound nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct dw_clamp {
    /// The least.
    pub low: i32,
    /// The greatest.
    pub high: i32,
}

/// A convolution of tensors of 8 bits, to make a plan of. `dw_int8_descriptor_init` fills it in; then set what differs. A field that the
/// operation does not have must stay as it was filled in. Fields may be added at the end: see "ABI" in the README.
///
/// Results are exact, and the same on every CPU: sums are of 32 bits, and a plan in which one might not fit is refused.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct dw_int8_descriptor {
    /// The bytes of this struct.
    pub size: usize,
    /// What is computed. There is no DW_OPERATION_ANY of 8 bits.
    pub operation: value::dw_operation,
    /// The layout of tensors. Default: NCHW; NHWC is the faster.
    pub layout: value::dw_layout,
    /// The order of all weights' axes. Default: PyTorch's.
    pub weight_order: value::dw_weight_order,
    /// The instruction set. Default: the best that there is.
    pub isa: value::dw_isa,
    /// How sums become numbers of 8 bits. Default: to the nearest even number.
    pub rounding: value::dw_rounding,
    /// The channels of inputs.
    pub in_channels: usize,
    /// The channels of outputs. Depthwise: `in_channels * channel_multiplier`.
    pub out_channels: usize,
    /// Depthwise, separable: outputs of the depthwise stage for each input channel. Default: 1.
    pub channel_multiplier: usize,
    /// The window, rows and columns. Default: 3 x 3; pointwise: 1 x 1.
    pub kernel_size: [usize; 2],
    /// The step from an output to the next, in inputs. Default: 1, 1.
    pub stride: [usize; 2],
    /// The step from a tap to the next, in inputs. Default: 1, 1.
    pub dilation: [usize; 2],
    /// Zeros around the input: its zero point. Default: as many as keep the size at stride 1.
    pub padding: dw_padding,
    /// What the numbers of the input stand for. It must be set.
    pub input: dw_quantized,
    /// What the numbers of the output stand for. It must be set. With DW_ELEMENT_I32, the output has the sums, bias + sum of
    /// (input - zero point) * (weight - zero point); scale and zero point stay 0 then.
    pub output: dw_quantized,
    /// Separable: what the numbers between the stages stand for. It must be set.
    pub between: dw_quantized,
    /// Separable: the weights of the first stage.
    pub depthwise_weights: dw_int8_weights,
    /// Separable: the bias of the first stage. Default: none.
    pub depthwise_bias: dw_integers,
    /// The weights. Separable: those of the second stage.
    pub weights: dw_int8_weights,
    /// A number for each output channel, where sums start, at the scale of input times weights. Default: none.
    pub bias: dw_integers,
    /// Separable: bounds of the numbers between the stages. Default: INT32_MIN, INT32_MAX.
    pub depthwise_clamp: dw_clamp,
    /// Bounds of the outputs, such as an activation has: ReLU starts at the zero point. Default: INT32_MIN, INT32_MAX.
    pub clamp: dw_clamp,
}

// A field that is added begins where the struct ends now: no padding may take it in.
const _: () = {
    let end = core::mem::offset_of!(dw_int8_descriptor, clamp) + size_of::<dw_clamp>();
    assert!(end == size_of::<dw_int8_descriptor>());
};

impl dw_quantized {
    /// Not set.
    pub(crate) const NONE: dw_quantized = dw_quantized { element: -1, scale: 0.0, zero_point: 0 };
}

impl dw_int8_weights {
    /// No weights.
    pub(crate) const NONE: dw_int8_weights = dw_int8_weights {
        data: core::ptr::null(),
        len: 0,
        element: super::dw_element::I8 as i32,
        zero_point: 0,
        scales: dw_array::NONE,
    };
}

impl dw_integers {
    /// No numbers.
    pub(crate) const NONE: dw_integers = dw_integers { data: core::ptr::null(), len: 0 };
}

impl dw_clamp {
    /// Of all numbers.
    pub(crate) const NONE: dw_clamp = dw_clamp { low: i32::MIN, high: i32::MAX };
}
