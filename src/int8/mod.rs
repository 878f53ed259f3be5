//! Convolutions of tensors of 8 bits: exact, with the same results on every CPU.
//!
//! A number q of type `u8` or `i8` stands for scale · (q − zero point): [`Quantized`]. Plans sum in 32 bits without error, and round each
//! sum once more to 8 bits by a rule that the builder says: [`Rounding`]. Results are those of the formulas in `docs/numerics.md`, bit for
//! bit, on every instruction set. Kernels that are best for a CPU are chosen by its instruction set, of which
//! [`Isa::Avx512Vnni`](crate::Isa::Avx512Vnni) is for these plans alone.
//!
//! ```
//! use depthwise::int8::{Quantized, Rounding, SeparableConv2d, Weights};
//! use depthwise::{Layout, Run, Shape, TensorView, TensorViewMut, Workspace};
//!
//! // From 4 to 2 channels, 3×3. Scales and zero points come with the network.
//! let plan = SeparableConv2d::builder(4, 2)
//!     .layout(Layout::Nhwc)
//!     .rounding(Rounding::Tflite)
//!     .input(Quantized::i8(0.5, -1))
//!     .depthwise_weights(Weights::i8(&[1; 4 * 9], &[0.25]))
//!     .between(Quantized::i8(0.5, -128))
//!     .pointwise_weights(Weights::i8(&[8, 8, 8, 8, 0, 16, 0, 16], &[0.125, 0.0625]))
//!     .bias(&[0, 10])
//!     .output(Quantized::i8(1.0, 0))
//!     .build()?;
//!
//! let shape = Shape::new(1, 4, 3, 3);
//! let (x, mut y) = ([3i8; 36], [0i8; 18]);
//! plan.run(Run::new(
//!     TensorView::new(&x, shape, Layout::Nhwc)?,
//!     TensorViewMut::new(&mut y, plan.output_shape(shape)?, Layout::Nhwc)?,
//!     &mut Workspace::new(),
//! ))?;
//! // In the middle nine taps see 0.5 · (3 + 1): 0.25 · 9 · 2 = 4.5; 4.5 · 4 · 8 · 0.125 = 18; 4.5 · 2 · 16 · 0.0625 + 10 · 0.5 · 0.0625.
//! assert_eq!(y[8..10], [18, 9]);
//! # Ok::<(), depthwise::Error>(())
//! ```
//!
//! Between convolutions: [`quantize`], [`dequantize`] and [`add`]; a [`Table`] is an activation of any kind. Outputs may be of `f32`, of
//! inputs that stand for something else at each run: [`Quantized::dynamic`].
//!
//! What plans for `f32` have and these lack is an error that says so: a residual in the same run, and a
//! [`Choice`](crate::Choice). Kernels are for channels last. Channels first, and where a channel has several depthwise outputs, inputs are
//! copied, block by block. Separable convolutions always run in one pass.

mod builder;
mod elements;
mod engine;
mod plan;
mod quantized;
mod table;

pub use builder::{Conv2dBuilder, DepthwiseConv2dBuilder, PointwiseConv2dBuilder, SeparableConv2dBuilder};
#[doc(inline)]
pub use depthwise_kernels::{Integer, Output};
#[doc(hidden)]
pub use elements::On;
pub use elements::{add, dequantize, quantize};
pub use plan::{Conv2d, DepthwiseConv2d, PointwiseConv2d, SeparableConv2d};
pub use quantized::{Quantized, Rounding, Weights};
pub use table::Table;
