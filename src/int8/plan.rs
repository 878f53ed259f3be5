//! The four operations as plans of 8 bits.

use alloc::vec::Vec;
use core::fmt;

use super::builder::{Conv2dBuilder, DepthwiseConv2dBuilder, PointwiseConv2dBuilder, SeparableConv2dBuilder};
use super::engine::Engine;
use crate::run::arguments::Run;
use crate::run::threads::Parallelism;
use depthwise_kernels::{ElementType, Error, Integer, Isa, Layout, Output, OutputRange, Shape};

/// A plan: the type, its builder's entry, and what every plan does.
macro_rules! plan {
    ($(#[$doc:meta])* $plan:ident, $builder:ident, ($($arg:ident),*)) => {
        $(#[$doc])*
        ///
        /// A plan is independent of batch, height and width, owns its packed weights, and can be shared between threads. A clone shares
        /// the packed weights.
        #[derive(Clone)]
        pub struct $plan {
            engine: Engine,
        }

        impl fmt::Debug for $plan {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.engine, f)
            }
        }

        impl $plan {
            /// Starts a plan, of which [the module](crate::int8) has an example.
            pub fn builder<'a>($($arg: usize),*) -> $builder<'a> {
                $builder::new($($arg),*)
            }

            pub(crate) fn of(engine: Engine) -> Self {
                Self { engine }
            }

            /// The shape of the output for an input of that shape.
            ///
            /// # Errors
            /// If the channels are not the plan's, the height or width is 0 or smaller than the window, or sizes overflow.
            pub fn output_shape(&self, input: Shape) -> Result<Shape, Error> {
                Ok(self.engine.outputs(input)?.1)
            }

            /// The length of the [`Workspace`](crate::Workspace), in `f32`, that a run on all of an input of that shape uses.
            ///
            /// # Errors
            /// As [`output_shape`](Self::output_shape).
            pub fn workspace_len(&self, input: Shape, parallelism: Parallelism<'_>) -> Result<usize, Error> {
                self.engine.workspace_len(input, parallelism)
            }

            /// Computes the output, or a part of it. It allocates nothing if the workspace is large enough.
            ///
            /// # Errors
            /// If elements are of another type than the plan's, if a shape is not the plan's, or a tensor is not contiguous along its
            /// layout's last axis, if the range does not lie within the output, if a residual or a choice was given, or if what the
            /// run says of the input is out of range or not asked for; nothing is written then. If an executor does not run all tasks.
            pub fn run<I: Integer<Stored = u8>, O: Output>(&self, run: Run<'_, I, O>) -> Result<(), Error> {
                self.engine.run(run)
            }

            /// A balanced split of the output for that many threads, each part to be run with a [range](Run::range). Small work is one
            /// part.
            ///
            /// # Errors
            /// As [`output_shape`](Self::output_shape).
            pub fn parts(&self, input: Shape, threads: usize) -> Result<Vec<OutputRange>, Error> {
                self.engine.parts(input, threads)
            }

            /// The instruction set.
            pub fn isa(&self) -> Isa {
                self.engine.isa
            }

            /// The layout of input and output.
            pub fn layout(&self) -> Layout {
                self.engine.layout
            }

            /// The type of the input's elements.
            pub fn input_element(&self) -> ElementType {
                self.engine.input.element()
            }

            /// The type of the output's elements.
            pub fn output_element(&self) -> ElementType {
                self.engine.output_element()
            }
        }
    };
}

plan!(
    /// Depthwise convolution: K×K, each channel by itself.
    ///
    /// `y[n, o, i, j] = rounded(bias[o] + Σᵤ Σᵥ (x[n, o / m, i·s + u·d − p, j·s + v·d − p] − zx) · (w[o, u, v] − zw))`
    DepthwiseConv2d, DepthwiseConv2dBuilder, (channels)
);

plan!(
    /// Pointwise convolution: 1×1, over all channels.
    ///
    /// `y[n, k, i, j] = rounded(bias[k] + Σ꜀ (x[n, c, i, j] − zx) · (w[k, c] − zw))`
    PointwiseConv2d, PointwiseConv2dBuilder, (in_channels, out_channels)
);

plan!(
    /// Depthwise separable convolution: a [`DepthwiseConv2d`], then a [`PointwiseConv2d`] on its output, in one pass. What lies between is
    /// of 8 bits, so the results are those of the two plans one after the other.
    SeparableConv2d, SeparableConv2dBuilder, (in_channels, out_channels)
);

plan!(
    /// Standard convolution: K×K over all channels.
    ///
    /// `y[n, k, i, j] = rounded(bias[k] + Σᵤ Σᵥ Σ꜀ (x[n, c, i·s + u·d − p, j·s + v·d − p] − zx) · (w[k, c, u, v] − zw))`
    Conv2d, Conv2dBuilder, (in_channels, out_channels)
);
