//! The four operations as plans that run.

use alloc::vec::Vec;
use core::fmt;

use crate::builder::{Conv2dBuilder, DepthwiseConv2dBuilder, PointwiseConv2dBuilder, SeparableConv2dBuilder};
use crate::cost::Cost;
use crate::descriptor::Description;
use crate::engine::Engine;
use crate::schedule::{OutputRange, Parallelism};
use crate::workspace::Workspace;
use depthwise_kernels::{Error, Isa, Layout, Shape, TensorView, TensorViewMut};

/// A plan: the type, its builder's entry, and what every plan does.
macro_rules! plan {
    ($(#[$doc:meta])* $plan:ident, $builder:ident, ($($arg:ident),*),
     builder: $(#[$builder_doc:meta])*) => {
        $(#[$doc])*
        ///
        /// A plan is independent of batch, height and width, owns its packed weights, and can be shared
        /// between threads.
        pub struct $plan {
            pub(crate) engine: Engine,
        }

        impl fmt::Debug for $plan {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.engine.descriptor.debug(stringify!($plan), f)
            }
        }

        impl $plan {
            $(#[$builder_doc])*
            pub fn builder<'a>($($arg: usize),*) -> $builder<'a> {
                $builder::new($($arg),*)
            }

            /// The shape of the output for an input of that shape.
            ///
            /// # Errors
            /// If the channels are not the plan's, the height or width is 0 or smaller than the window, or
            /// sizes overflow.
            pub fn output_shape(&self, input: Shape) -> Result<Shape, Error> {
                self.engine.descriptor.output_shape(input)
            }

            /// The `f32` of [`Workspace`] that a run on an input of that shape uses, with that parallelism at
            /// this place (the current pool has a number of threads, and a call from outside of it splits less).
            ///
            /// # Errors
            /// As [`output_shape`](Self::output_shape).
            pub fn workspace_len(&self, input: Shape, parallelism: Parallelism) -> Result<usize, Error> {
                self.engine.workspace_len(input, parallelism)
            }

            /// Computes the output. It allocates nothing if the workspace has
            /// [`workspace_len`](Self::workspace_len).
            ///
            /// Each output is one sum in one order, whatever the split: its error grows as the square root of the number of terms,
            /// if they are random.
            ///
            /// # Errors
            /// If the input's or output's shape is not the plan's, or it is not contiguous along its
            /// layout's last axis; nothing is written then.
            pub fn run(
                &self,
                input: TensorView<'_>,
                output: TensorViewMut<'_>,
                workspace: &mut Workspace,
                parallelism: Parallelism,
            ) -> Result<(), Error> {
                self.engine.run(input, None, output, None, workspace, parallelism)
            }

            /// As [`run`](Self::run), with a residual of the output's shape added before the activation:
            /// activation(convolution + residual).
            ///
            /// # Errors
            /// As [`run`](Self::run).
            pub fn run_with_residual(
                &self,
                input: TensorView<'_>,
                residual: TensorView<'_>,
                output: TensorViewMut<'_>,
                workspace: &mut Workspace,
                parallelism: Parallelism,
            ) -> Result<(), Error> {
                self.engine.run(input, Some(residual), output, None, workspace, parallelism)
            }

            /// Computes a part of the output, to which `output` and `residual` are shaped; `input` is whole. For
            /// engines that split the work over threads of their own: the bits are those of a whole run.
            ///
            /// # Errors
            /// As [`run`](Self::run), and if the range does not lie within the output.
            pub fn run_range(
                &self,
                input: TensorView<'_>,
                residual: Option<TensorView<'_>>,
                output: TensorViewMut<'_>,
                range: OutputRange,
                workspace: &mut Workspace,
            ) -> Result<(), Error> {
                self.engine.run(input, residual, output, Some(&range), workspace, Parallelism::Serial)
            }

            /// How a run with that many threads is split: a list of parts, about one for each thread. Where rows are left over
            /// of an even split, smaller ones of these follow, at most one for each thread. Each element of the output is in
            /// exactly one part. Small work is not split: one part.
            ///
            /// For engines with threads of their own: that many threads, each of which takes the next part of the list when it
            /// is free, and runs [`run_range`](Self::run_range) over it with a workspace of its own, do what
            /// [`run`](Self::run) does with `rayon`. The workspaces need no more than the
            /// [`workspace_len`](Self::workspace_len) of a serial run.
            ///
            /// A separable convolution that is better run in two passes with that many threads (see [`Fusion`](crate::Fusion))
            /// has two lists: the parts of the values between the stages, then those of the output. All of the first list
            /// comes before any of the second: give each stage a plan of its own. `run_range` over the second list alone is right
            /// too, but computes the first stage of a row once for each part that has channels of it.
            ///
            /// # Errors
            /// As [`output_shape`](Self::output_shape).
            pub fn parts(&self, input: Shape, threads: usize) -> Result<Vec<Vec<OutputRange>>, Error> {
                Ok(self.engine.descriptor.steps(input, threads)?.iter().map(|steps| steps.concat()).collect())
            }

            /// The instruction set and kernels that were chosen.
            pub fn describe(&self) -> Description {
                self.engine.descriptor.describe()
            }

            /// The instruction set.
            pub fn isa(&self) -> Isa {
                self.engine.descriptor.isa
            }

            /// The layout.
            pub fn layout(&self) -> Layout {
                self.engine.descriptor.layout
            }

            /// Parameters, multiply-adds and bytes for an input of that shape.
            ///
            /// # Errors
            /// As [`output_shape`](Self::output_shape).
            pub fn cost(&self, input: Shape) -> Result<Cost, Error> {
                self.engine.descriptor.cost(input)
            }
        }
    };
}

plan!(
    /// Depthwise convolution: a filter for each channel.
    ///
    /// `y[n, o, i, j] = activation(b[o] + Σᵤ Σᵥ x[n, o / m, i·s + u·d − p, j·s + v·d − p] · w[o, u, v])`, taps in row
    /// order.
    DepthwiseConv2d, DepthwiseConv2dBuilder, (channels),
    builder:
    /// Starts a plan for that many input channels: 3×3, stride 1, padding that keeps the size, no bias, until told otherwise.
);

plan!(
    /// Pointwise (1×1) convolution: a mix of channels at each pixel.
    ///
    /// `y[n, k, i, j] = activation(b[k] + Σ꜀ x[n, c, i, j] · w[k, c])`, channels ascending.
    PointwiseConv2d, PointwiseConv2dBuilder, (in_channels, out_channels),
    builder:
    /// Starts a plan from and to that many channels, without bias until told otherwise.
);

plan!(
    /// Depthwise separable convolution: a [`DepthwiseConv2d`], then a [`PointwiseConv2d`] on its output, in one
    /// pass where that pays. Both ways give the same bits, those of the two plans one after the other.
    SeparableConv2d, SeparableConv2dBuilder, (in_channels, out_channels),
    builder:
    /// Starts a plan from and to that many channels: 3×3, stride 1, padding that keeps the size, no bias after either stage, until
    /// told otherwise.
);

plan!(
    /// Standard convolution: K×K over all channels.
    ///
    /// `y[n, k, i, j] = activation(b[k] + Σᵤ Σᵥ Σ꜀ x[n, c, i·s + u·d − p, j·s + v·d − p] · w[k, c, u, v])`, taps in row
    /// order, then channels ascending.
    Conv2d, Conv2dBuilder, (in_channels, out_channels),
    builder:
    /// Starts a plan from and to that many channels: 3×3, stride 1, padding that keeps the size, no bias, until told otherwise.
);
