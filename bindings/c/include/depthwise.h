/* Depthwise separable convolution on CPUs: the C interface of the Rust crate depthwise. MIT OR Apache-2.0.
 *
 * Fill in a descriptor, make a plan of it once, run it often. README.md has an example.
 *
 * Every function that can fail returns a status, DW_STATUS_OK or why not; dw_last_error_message() is the sentence to it. None of them
 * throws. NULL, misaligned pointers, wrong numbers, lengths that do not match, and an output that overlaps an input are found. What a
 * caller must see to:
 *
 * 1. A pointer to a struct, a number or a handle is NULL, or points to memory that holds one, which nobody writes during the call. If
 *    it is not const, the memory may be written, and nobody else reads it, a workspace aside.
 * 2. A plan, a workspace or a choice is one that this library returned, and was not freed. To free it, no other call may use it.
 * 3. A buffer is NULL, or has as many elements as its length says, of its type. Those to be read are initialised, gaps included,
 *    and nobody writes them during the call. Those to be written may be written, and nobody else reads or writes them during the call. Of a tensor, the
 *    buffer ends with its last element for this purpose.
 * 4. A text to be read ends with a NUL. A place for a text has the bytes that its capacity says.
 * 5. `execute` does what dw_execute says, on any thread; `context` is what it wants.
 * 6. While a plan is made, or first run by DW_PARALLELISM_KIND_RAYON, no other thread changes the environment: DEPTHWISE_ISA,
 *    DEPTHWISE_MACHINE and RAYON_NUM_THREADS are read.
 */

/* Made by cbindgen: edit src/, and run `cargo run -p depthwise-c-header -- write`. */

#ifndef DEPTHWISE_H
#define DEPTHWISE_H

#include <stddef.h>
#include <stdint.h>

// The version of the header; `dw_version` says that of the library.
#define DW_VERSION_MAJOR 0

// See `DW_VERSION_MAJOR`.
#define DW_VERSION_MINOR 1

// See `DW_VERSION_MAJOR`.
#define DW_VERSION_PATCH 0

// An instruction set. All but the portable one give the same bits; in plans of 8 bits, that one does, too.
enum dw_isa
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // That of the environment variable DEPTHWISE_ISA, or else the best that the CPU has.
  DW_ISA_AUTO = 0,
  // Any CPU.
  DW_ISA_PORTABLE = 1,
  // x86-64 with AVX2 and FMA.
  DW_ISA_AVX2 = 2,
  // x86-64 with AVX-512F.
  DW_ISA_AVX512 = 3,
  // AArch64 with Advanced SIMD.
  DW_ISA_NEON = 4,
  // x86-64 with AVX-512F, BW, VL and VNNI: for plans of 8 bits. Other plans are then for AVX-512.
  DW_ISA_AVX512_VNNI = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dw_isa dw_isa;
#else
typedef int32_t dw_isa;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What became of a call.
enum dw_status
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // It did what it should.
  DW_STATUS_OK = 0,
  // A pointer is NULL that must not be.
  DW_STATUS_NULL_POINTER = 1,
  // An argument is wrong, or two do not agree. `dw_last_error_message` names the numbers.
  DW_STATUS_INVALID_ARGUMENT = 2,
  // This library, target or CPU cannot do what was asked for.
  DW_STATUS_UNSUPPORTED = 3,
  // There is no memory for it.
  DW_STATUS_OUT_OF_MEMORY = 4,
  // The workspace is at work in another call.
  DW_STATUS_BUSY = 5,
  // A bug of the library. What the call should have written is undefined; plans and workspaces stay usable.
  DW_STATUS_INTERNAL = 6,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dw_status dw_status;
#else
typedef int32_t dw_status;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// What a plan computes.
enum dw_operation
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // A filter for each channel; `channel_multiplier` of them, if that is more than 1.
  DW_OPERATION_DEPTHWISE = 0,
  // 1x1 over all channels, stride 1, no padding.
  DW_OPERATION_POINTWISE = 1,
  // A depthwise and then a pointwise convolution, in one pass where that pays.
  DW_OPERATION_SEPARABLE = 2,
  // A filter over all channels for each output channel.
  DW_OPERATION_STANDARD = 3,
  // Whichever of the others `groups`, window and channels ask for, but for separable.
  DW_OPERATION_ANY = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dw_operation dw_operation;
#else
typedef int32_t dw_operation;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The type of the elements of tensors. Weights are `float`, and so are all sums, but of plans of 8 bits: see `dw_int8_descriptor`.
enum dw_element
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // `float`.
  DW_ELEMENT_F32 = 0,
  // IEEE 754's format of 16 bits, such as `_Float16`.
  DW_ELEMENT_F16 = 1,
  // The upper 16 bits of a `float`, rounded.
  DW_ELEMENT_BF16 = 2,
  // `uint8_t`, of plans of 8 bits.
  DW_ELEMENT_U8 = 3,
  // `int8_t`, of plans of 8 bits.
  DW_ELEMENT_I8 = 4,
  // `int32_t`: sums, which plans of 8 bits may write.
  DW_ELEMENT_I32 = 5,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dw_element dw_element;
#else
typedef int32_t dw_element;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The order of a tensor's axes in memory.
enum dw_layout
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // Images, channels, rows, columns: PyTorch, ONNX.
  DW_LAYOUT_NCHW = 0,
  // Images, rows, columns, channels: TensorFlow.
  DW_LAYOUT_NHWC = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dw_layout dw_layout;
#else
typedef int32_t dw_layout;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// The order of the weights' axes, for C input and M output channels, a channel multiplier of m, windows of Kh x Kw.
enum dw_weight_order
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // PyTorch, ONNX. Depthwise [C*m, 1, Kh, Kw], pointwise [M, C], standard [M, C, Kh, Kw].
  DW_WEIGHT_ORDER_PYTORCH = 0,
  // TensorFlow. Depthwise [1, Kh, Kw, C*m], pointwise [C, M], standard [Kh, Kw, C, M].
  DW_WEIGHT_ORDER_TFLITE = 1,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dw_weight_order dw_weight_order;
#else
typedef int32_t dw_weight_order;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How the stages of a separable convolution follow each other. No bit of the result depends on it.
enum dw_fusion
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // As is expected to be faster.
  DW_FUSION_AUTO = 0,
  // In one pass, block by block.
  DW_FUSION_FUSED = 1,
  // All of the first, then all of the second.
  DW_FUSION_TWO_PASS = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dw_fusion dw_fusion;
#else
typedef int32_t dw_fusion;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How zeros around the input are given.
enum dw_padding_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // (K - 1) * d / 2 on each side, for windows of K with dilation d: at stride 1 this keeps the size. (K - 1) * d must be even.
  DW_PADDING_KIND_HALF = 0,
  // `top`, `left`, `bottom`, `right`.
  DW_PADDING_KIND_EXPLICIT = 1,
  // As much as makes ceil(input / stride) outputs; an odd row goes below, an odd column to the right.
  DW_PADDING_KIND_SAME_UPPER = 2,
  // The same, but an odd row goes above, an odd column to the left.
  DW_PADDING_KIND_SAME_LOWER = 3,
  // None.
  DW_PADDING_KIND_VALID = 4,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dw_padding_kind dw_padding_kind;
#else
typedef int32_t dw_padding_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// A function applied to each output. NaN in, NaN out.
enum dw_activation_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // x.
  DW_ACTIVATION_KIND_NONE = 0,
  // max(x, 0).
  DW_ACTIVATION_KIND_RELU = 1,
  // min(max(x, 0), 6).
  DW_ACTIVATION_KIND_RELU6 = 2,
  // min(max(x, alpha), beta).
  DW_ACTIVATION_KIND_CLAMP = 3,
  // x where x >= 0, else alpha * x.
  DW_ACTIVATION_KIND_LEAKY_RELU = 4,
  // x * min(max(x + 3, 0), 6) / 6.
  DW_ACTIVATION_KIND_HARD_SWISH = 5,
  // min(max(x + 3, 0), 6) / 6.
  DW_ACTIVATION_KIND_HARD_SIGMOID = 6,
  // 1 / (1 + exp(-x)).
  DW_ACTIVATION_KIND_SIGMOID = 7,
  // x * sigmoid(x), also called swish.
  DW_ACTIVATION_KIND_SILU = 8,
  // x / 2 * (1 + erf(x / sqrt(2))).
  DW_ACTIVATION_KIND_GELU = 9,
  // x * tanh(log(1 + exp(x))).
  DW_ACTIVATION_KIND_MISH = 10,
  // tanh(x).
  DW_ACTIVATION_KIND_TANH = 11,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dw_activation_kind dw_activation_kind;
#else
typedef int32_t dw_activation_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// Who does the work of a run.
enum dw_parallelism_kind
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // The calling thread.
  DW_PARALLELISM_KIND_SERIAL = 0,
  // The library's threads: one pool for the process, started by the first such call, with a thread for each CPU, or as many as the
  // environment variable RAYON_NUM_THREADS says.
  DW_PARALLELISM_KIND_RAYON = 1,
  // The program's threads, by `execute`.
  DW_PARALLELISM_KIND_EXECUTOR = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dw_parallelism_kind dw_parallelism_kind;
#else
typedef int32_t dw_parallelism_kind;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How a sum becomes a number of 8 bits: sum * m, rounded, where m is the product of the scales of input and weights over the output's.
// docs/numerics.md of the crate has the formulas.
enum dw_rounding
#if defined(__cplusplus) || __STDC_VERSION__ >= 202311L
  : int32_t
#endif // defined(__cplusplus) || __STDC_VERSION__ >= 202311L
 {
  // By m in `float`, and to the nearest even number: ONNX's QLinearConv.
  DW_ROUNDING_NEAREST_EVEN = 0,
  // By m as a fixed-point number, with two roundings: the reference kernels of TensorFlow Lite for INT8.
  DW_ROUNDING_TFLITE = 1,
  // The same, where the product of the scales of input and weights is formed in `float`: TensorFlow Lite's older networks of UINT8,
  // and fully connected layers with one scale.
  DW_ROUNDING_TFLITE_LEGACY = 2,
};
#ifndef __cplusplus
#if __STDC_VERSION__ >= 202311L
typedef enum dw_rounding dw_rounding;
#else
typedef int32_t dw_rounding;
#endif // __STDC_VERSION__ >= 202311L
#endif // __cplusplus

// How a plan runs inputs of one shape: kernels, passes, blocks, tasks. It changes no bit of a result. Any threads may use one at the
// same time.
typedef struct dw_choice dw_choice;

// A convolution with its weights, ready to run: `dw_plan_new` or `dw_int8_plan_new` makes it. It takes inputs of any batch, height and width.
//
// No function but `dw_plan_free` changes a plan, so any threads may use one at the same time.
typedef struct dw_plan dw_plan;

// Scratch memory of runs, for one call at a time. Any workspace serves any plan.
typedef struct dw_workspace dw_workspace;

// Zeros around an input. All zeros is the default.
typedef struct dw_padding {
  // How they are given.
  dw_padding_kind kind;
  // Rows above, if explicit.
  size_t top;
  // Columns to the left, if explicit.
  size_t left;
  // Rows below, if explicit.
  size_t bottom;
  // Columns to the right, if explicit.
  size_t right;
} dw_padding;

// Numbers to read, such as weights. `{NULL, 0}` is none.
typedef struct dw_array {
  // The first.
  const float *data;
  // How many.
  size_t len;
} dw_array;

// A batch normalisation after a convolution, which is folded into its weights and bias: a number for each output channel.
typedef struct dw_batch_norm {
  // The scale.
  struct dw_array gamma;
  // The shift.
  struct dw_array beta;
  // The running mean.
  struct dw_array mean;
  // The running variance.
  struct dw_array variance;
  // What is added to the variance.
  float epsilon;
} dw_batch_norm;

// A function with its parameters. All zeros is the default: none.
typedef struct dw_activation {
  // Which.
  dw_activation_kind kind;
  // The least output of a clamp, the slope of a leaky ReLU.
  float alpha;
  // The greatest output of a clamp.
  float beta;
} dw_activation;

// A convolution, to make a plan of. `dw_descriptor_init` fills it in; then set what differs. A field that the operation does not have
// must stay as it was filled in. Fields may be added at the end: see "ABI" in the README.
typedef struct dw_descriptor {
  // The bytes of this struct.
  size_t size;
  // What is computed.
  dw_operation operation;
  // The type of the elements of tensors. Default: `float`.
  dw_element element;
  // The layout of tensors. Default: NCHW.
  dw_layout layout;
  // The order of all weights' axes. Default: PyTorch's.
  dw_weight_order weight_order;
  // The instruction set. Default: the best that there is.
  dw_isa isa;
  // Separable: one pass or two. Default: as is expected to be faster.
  dw_fusion fusion;
  // The channels of inputs.
  size_t in_channels;
  // The channels of outputs. Depthwise: `in_channels * channel_multiplier`.
  size_t out_channels;
  // Any: the groups that channels are divided into. Default: 1.
  size_t groups;
  // Depthwise, separable: outputs of the depthwise stage for each input channel. Default: 1.
  size_t channel_multiplier;
  // The window, rows and columns. Default: 3 x 3; pointwise: 1 x 1.
  size_t kernel_size[2];
  // The step from an output to the next, in inputs. Default: 1, 1.
  size_t stride[2];
  // The step from a tap to the next, in inputs. Default: 1, 1.
  size_t dilation[2];
  // Zeros around the input. Default: as many as keep the size at stride 1.
  struct dw_padding padding;
  // Separable: the weights of the first stage.
  struct dw_array depthwise_weights;
  // Separable: the bias of the first stage. Default: none.
  struct dw_array depthwise_bias;
  // Separable: a batch normalisation between the stages. Default: NULL, none.
  const struct dw_batch_norm *depthwise_batch_norm;
  // Separable: the function applied between the stages. Default: none.
  struct dw_activation depthwise_activation;
  // The function applied to each output, after the residual was added. Default: none.
  struct dw_activation activation;
  // The weights. Separable: those of the second stage.
  struct dw_array weights;
  // A number for each output channel, where sums start. Default: none.
  struct dw_array bias;
  // A batch normalisation after the convolution. Default: NULL, none.
  const struct dw_batch_norm *batch_norm;
} dw_descriptor;

// The extents of a tensor, whatever its layout.
typedef struct dw_shape {
  // Images.
  size_t n;
  // Channels.
  size_t c;
  // Rows.
  size_t h;
  // Columns.
  size_t w;
} dw_shape;

// A task of a run: to be called with what `execute` was given.
typedef void (*dw_task)(void *argument, size_t index);

// Calls `task(argument, i)` once for each i from 0 to before `tasks`, on any threads, and returns when all calls have returned. It
// must not be left in another way: by an exception or `longjmp`. It may be called from any thread that runs a plan, also at the same
// time.
typedef void (*dw_execute)(void *context, size_t tasks, dw_task task, void *argument);

// Who does the work of a run. All zeros is the default: the calling thread.
typedef struct dw_parallelism {
  // Who.
  dw_parallelism_kind kind;
  // Executor: how many threads may work at once.
  size_t threads;
  // Executor: hands tasks to threads.
  dw_execute execute;
  // Executor: what `execute` is given.
  void *context;
} dw_parallelism;

// What the numbers of a tensor of 8 bits stand for: scale * (number - zero_point).
typedef struct dw_quantized {
  // Their type: DW_ELEMENT_U8 or DW_ELEMENT_I8.
  dw_element element;
  // The step from a number to the next, finite and above 0.
  float scale;
  // The number that stands for 0, in the range of the type.
  int32_t zero_point;
} dw_quantized;

// Weights of 8 bits: w stands for scale * (w - zero_point).
typedef struct dw_int8_weights {
  // The first, in the order that `weight_order` says. NULL: none.
  const void *data;
  // How many.
  size_t len;
  // Their type: DW_ELEMENT_I8 or DW_ELEMENT_U8. Default: the first.
  dw_element element;
  // The number that stands for 0. Default: 0.
  int32_t zero_point;
  // One scale, or one for each output channel.
  struct dw_array scales;
} dw_int8_weights;

// Whole numbers to read, such as biases. `{NULL, 0}` is none.
typedef struct dw_integers {
  // The first.
  const int32_t *data;
  // How many.
  size_t len;
} dw_integers;

// Bounds of the outputs, as numbers of their type. Those of the type, or wider ones, bound nothing.
typedef struct dw_clamp {
  // The least.
  int32_t low;
  // The greatest.
  int32_t high;
} dw_clamp;

// A convolution of tensors of 8 bits, to make a plan of. `dw_int8_descriptor_init` fills it in; then set what differs. A field that the
// operation does not have must stay as it was filled in. Fields may be added at the end: see "ABI" in the README.
//
// Results are exact, and the same on every CPU: sums are of 32 bits, and a plan in which one might not fit is refused.
typedef struct dw_int8_descriptor {
  // The bytes of this struct.
  size_t size;
  // What is computed. There is no DW_OPERATION_ANY of 8 bits.
  dw_operation operation;
  // The layout of tensors. Default: NCHW; NHWC is the faster.
  dw_layout layout;
  // The order of all weights' axes. Default: PyTorch's.
  dw_weight_order weight_order;
  // The instruction set. Default: the best that there is.
  dw_isa isa;
  // How sums become numbers of 8 bits. Default: to the nearest even number.
  dw_rounding rounding;
  // The channels of inputs.
  size_t in_channels;
  // The channels of outputs. Depthwise: `in_channels * channel_multiplier`.
  size_t out_channels;
  // Depthwise, separable: outputs of the depthwise stage for each input channel. Default: 1.
  size_t channel_multiplier;
  // The window, rows and columns. Default: 3 x 3; pointwise: 1 x 1.
  size_t kernel_size[2];
  // The step from an output to the next, in inputs. Default: 1, 1.
  size_t stride[2];
  // The step from a tap to the next, in inputs. Default: 1, 1.
  size_t dilation[2];
  // Zeros around the input: its zero point. Default: as many as keep the size at stride 1.
  struct dw_padding padding;
  // What the numbers of the input stand for. It must be set.
  struct dw_quantized input;
  // What the numbers of the output stand for. It must be set. With DW_ELEMENT_I32, the output has the sums, bias + sum of
  // (input - zero point) * (weight - zero point); scale and zero point stay 0 then.
  struct dw_quantized output;
  // Separable: what the numbers between the stages stand for. It must be set.
  struct dw_quantized between;
  // Separable: the weights of the first stage.
  struct dw_int8_weights depthwise_weights;
  // Separable: the bias of the first stage. Default: none.
  struct dw_integers depthwise_bias;
  // The weights. Separable: those of the second stage.
  struct dw_int8_weights weights;
  // A number for each output channel, where sums start, at the scale of input times weights. Default: none.
  struct dw_integers bias;
  // Separable: bounds of the numbers between the stages. Default: INT32_MIN, INT32_MAX.
  struct dw_clamp depthwise_clamp;
  // Bounds of the outputs, such as an activation has: ReLU starts at the zero point. Default: INT32_MIN, INT32_MAX.
  struct dw_clamp clamp;
} dw_int8_descriptor;

// From an element to its neighbour along each axis, in elements.
typedef struct dw_strides {
  // To the next image.
  size_t n;
  // To the next channel.
  size_t c;
  // To the next row.
  size_t h;
  // To the next column.
  size_t w;
} dw_strides;

// A tensor to read: a buffer, and how the tensor lies in it. Along the last axis of the plan's layout the stride must be 1.
typedef struct dw_tensor {
  // The first element, aligned as its type is.
  const void *data;
  // How many elements may be read, from the first on. The tensor must lie within.
  size_t len;
  // Their type.
  dw_element element;
  // The extents.
  struct dw_shape shape;
  // The strides.
  struct dw_strides strides;
} dw_tensor;

// A tensor to write; see `dw_tensor`. What lies between its elements stays as it is. It may be uninitialised.
typedef struct dw_tensor_mut {
  // The first element, aligned as its type is.
  void *data;
  // How many elements may be written, from the first on. The tensor must lie within.
  size_t len;
  // Their type.
  dw_element element;
  // The extents.
  struct dw_shape shape;
  // The strides, such that no two elements meet.
  struct dw_strides strides;
} dw_tensor_mut;

// A part of an output: the positions from `start` to before `end` along each axis.
typedef struct dw_range {
  // The first position.
  struct dw_shape start;
  // The position after the last.
  struct dw_shape end;
} dw_range;

// What else a run may be told. `dw_run_options_init` fills it in; then set what differs. Fields may be added at the end: see "ABI" in
// the README.
typedef struct dw_run_options {
  // The bytes of this struct.
  size_t size;
  // A tensor of the output's shape that is added before the activation. Default: NULL, none.
  const struct dw_tensor *residual;
  // The part of the whole output that is computed. Output and residual have its shape then, the input is whole. Default: NULL, all.
  const struct dw_range *range;
  // Scratch memory, which grows to what the run needs. Default: NULL, one that the calling thread keeps.
  struct dw_workspace *workspace;
  // Who does the work. Default: NULL, the calling thread.
  const struct dw_parallelism *parallelism;
  // How, as `dw_plan_prepare` or `dw_plan_tune` chose it for the input's shape and this parallelism. Default: NULL, the run chooses.
  const struct dw_choice *choice;
} dw_run_options;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

// The version of the library, such as "0.1.0".
const char *dw_version(void);

// What the last call of this thread that failed says: a sentence with the numbers that are wrong, in UTF-8; "" if none failed. Valid
// until the next call of this thread that fails, or until the thread ends. Never NULL.
const char *dw_last_error_message(void);

// 1 if this library has kernels for the instruction set and this CPU runs them, else 0.
int32_t dw_isa_is_available(dw_isa isa);

// Fills in a descriptor of that operation from and to that many channels: 3x3 (pointwise: 1x1), stride 1, dilation 1, padding that
// keeps the size, no weights yet, no bias, no batch normalisation, no activation, NCHW, `float`, the best instruction set. `size` is
// `sizeof *descriptor`.
dw_status dw_descriptor_init(struct dw_descriptor *descriptor,
                             size_t size,
                             dw_operation operation,
                             size_t in_channels,
                             size_t out_channels);

// Makes a plan: checks everything, and packs the weights, which need not be kept. `*plan` is NULL if it fails.
dw_status dw_plan_new(const struct dw_descriptor *descriptor, struct dw_plan **plan);

// Another handle to the same plan, to be freed by itself. It shares the packed weights. `*clone` is NULL if it fails.
dw_status dw_plan_clone(const struct dw_plan *plan, struct dw_plan **clone);

// Frees a plan, or does nothing if it is NULL.
void dw_plan_free(struct dw_plan *plan);

// The shape of the output for an input of that shape.
dw_status dw_plan_output_shape(const struct dw_plan *plan, struct dw_shape input, struct dw_shape *output);

// The length of the workspace, in `float`, that a run on an input of that shape uses. `parallelism` may be NULL: the calling thread.
dw_status dw_plan_workspace_len(const struct dw_plan *plan,
                                struct dw_shape input,
                                const struct dw_parallelism *parallelism,
                                size_t *len);

// The instruction set of a plan.
dw_status dw_plan_isa(const struct dw_plan *plan, dw_isa *isa);

// What a plan computes, in words. The text is cut where `capacity` ends, and ends with a NUL. `*len` is its whole length without the
// NUL; `len` may be NULL, and `text` too if `capacity` is 0. The words may be others in another version.
dw_status dw_plan_describe(const struct dw_plan *plan,
                           char *text,
                           size_t capacity,
                           size_t *len);

// Fills in a descriptor of that operation from and to that many channels, for tensors of 8 bits: 3x3 (pointwise: 1x1), stride 1,
// dilation 1, padding that keeps the size, no weights yet, no bias, no clamp, NCHW, rounding to the nearest even number, the best
// instruction set. `size` is `sizeof *descriptor`.
dw_status dw_int8_descriptor_init(struct dw_int8_descriptor *descriptor,
                                  size_t size,
                                  dw_operation operation,
                                  size_t in_channels,
                                  size_t out_channels);

// Makes a plan of 8 bits: checks everything, and packs the weights, which need not be kept. `*plan` is NULL if it fails.
//
// It runs by `dw_plan_run`, without a residual and without a choice, on tensors of the elements that the descriptor says.
dw_status dw_int8_plan_new(const struct dw_int8_descriptor *descriptor,
                           struct dw_plan **plan);

// Fills in a tensor without gaps, which is all of a buffer of `len` elements.
dw_status dw_tensor_init(struct dw_tensor *tensor,
                         const void *data,
                         size_t len,
                         dw_element element,
                         struct dw_shape shape,
                         dw_layout layout);

// Fills in a tensor without gaps, which is all of a buffer of `len` elements.
dw_status dw_tensor_mut_init(struct dw_tensor_mut *tensor,
                             void *data,
                             size_t len,
                             dw_element element,
                             struct dw_shape shape,
                             dw_layout layout);

// Converts `len` elements of that type to `float`. `to` may not overlap `from`.
dw_status dw_widen(const void *from, dw_element element, float *to, size_t len);

// Converts `len` `float` to elements of that type, each rounded to the nearest. `to` may not overlap `from`.
dw_status dw_narrow(const float *from, void *to, dw_element element, size_t len);

// Fills in the options of a run that are the default. `size` is `sizeof *options`.
dw_status dw_run_options_init(struct dw_run_options *options, size_t size);

// Computes the output. `options` may be NULL: the whole output, no residual, on the calling thread, in scratch memory that the thread
// keeps.
//
// It allocates nothing if the workspace has `dw_plan_workspace_len`, and starts no thread, but for the first call with
// DW_PARALLELISM_KIND_RAYON. The output may overlap neither the input nor the residual. Nothing is written if it fails with
// DW_STATUS_NULL_POINTER, _UNSUPPORTED, _BUSY or, unless an executor left tasks undone, _INVALID_ARGUMENT.
dw_status dw_plan_run(const struct dw_plan *plan,
                      const struct dw_tensor *input,
                      const struct dw_tensor_mut *output,
                      const struct dw_run_options *options);

// Makes a workspace of `len` `float`. `dw_plan_workspace_len` says how much a run needs; a run enlarges one that is too small.
// `*workspace` is NULL if it fails.
dw_status dw_workspace_new(size_t len,
                           struct dw_workspace **workspace);

// Frees a workspace, or does nothing if it is NULL.
void dw_workspace_free(struct dw_workspace *workspace);

// Chooses how runs on inputs of that shape go, for their options: each of them then saves that time. `parallelism` may be NULL.
// `*choice` is NULL if it fails.
dw_status dw_plan_prepare(const struct dw_plan *plan,
                          struct dw_shape input,
                          const struct dw_parallelism *parallelism,
                          struct dw_choice **choice);

// As `dw_plan_prepare`, by measurement: runs every kernel that fits, on tensors of its own, until so many seconds are over. It may
// last one round of runs longer. Give a layer a few hundred times as long as it takes, and nothing else to the CPU meanwhile.
dw_status dw_plan_tune(const struct dw_plan *plan,
                       struct dw_shape input,
                       const struct dw_parallelism *parallelism,
                       double seconds,
                       struct dw_choice **choice);

// The choice that `dw_choice_to_text` wrote. It fails if the text is of another version of the library, instruction set, machine or
// plan. `*choice` is NULL if it fails.
dw_status dw_plan_choice_from_text(const struct dw_plan *plan,
                                   const char *text,
                                   struct dw_choice **choice);

// A choice as text, a line for each fact, to be kept. See `dw_plan_describe` for `text`, `capacity` and `len`.
dw_status dw_choice_to_text(const struct dw_choice *choice, char *text, size_t capacity, size_t *len);

// A choice in one line: kernels, passes, tasks. See `dw_plan_describe` for `text`, `capacity` and `len`.
dw_status dw_choice_describe(const struct dw_choice *choice, char *text, size_t capacity, size_t *len);

// The length of the workspace, in `float`, that a run with that choice uses.
dw_status dw_choice_workspace_len(const struct dw_choice *choice, size_t *len);

// Frees a choice, or does nothing if it is NULL.
void dw_choice_free(struct dw_choice *choice);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* DEPTHWISE_H */
