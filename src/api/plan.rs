//! The four operations as plans that run.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;

use crate::api::builder::{
    AnyConv2dBuilder, Conv2dBuilder, DepthwiseConv2dBuilder, PointwiseConv2dBuilder, SeparableConv2dBuilder,
};
use crate::choose::choice::Choice;
use crate::cost::Cost;
use crate::run::arguments::Run;
use crate::run::engine::Engine;
use crate::run::threads::Parallelism;
use crate::run::workspace::Workspace;
use depthwise_kernels::{Element, Error, Isa, Layout, OutputRange, Shape, TensorView, TensorViewMut};

/// A plan: the type, its builder's entry, and what every plan does.
macro_rules! plan {
    ($(#[$doc:meta])* $plan:ident, $builder:ident, ($($arg:ident),*),
     builder: $(#[$builder_doc:meta])*) => {
        $(#[$doc])*
        ///
        /// A plan is independent of batch, height and width, owns its packed weights, and can be shared
        /// between threads. A clone shares the packed weights.
        ///
        /// `E` is the type of the elements of input, residual and output: `f32`, or what `build_as` was asked for.
        #[derive(Clone)]
        pub struct $plan<E = f32> {
            engine: Engine,
            element: PhantomData<fn() -> E>,
        }

        impl<E> fmt::Debug for $plan<E> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.engine.descriptor, f)
            }
        }

        impl $plan {
            $(#[$builder_doc])*
            pub fn builder<'a>($($arg: usize),*) -> $builder<'a> {
                $builder::new($($arg),*)
            }
        }

        impl<E: Element> $plan<E> {
            pub(crate) fn of(engine: Engine) -> Self {
                Self { engine, element: PhantomData }
            }

            /// The shape of the output for an input of that shape.
            ///
            /// # Errors
            /// If the channels are not the plan's, the height or width is 0 or smaller than the window, or
            /// sizes overflow.
            pub fn output_shape(&self, input: Shape) -> Result<Shape, Error> {
                self.engine.descriptor.output_shape(input)
            }

            /// The length of the [`Workspace`], in `f32`, that a run on an input of that shape uses.
            ///
            /// With `Parallelism::Rayon` the length depends on the number of threads of the current pool, and on whether the call
            /// comes from inside the pool. So ask on the thread that will call [`run`](Self::run). With `Parallelism::Executor` it
            /// depends on the executor's number of threads.
            ///
            /// # Errors
            /// As [`output_shape`](Self::output_shape).
            pub fn workspace_len(&self, input: Shape, parallelism: Parallelism<'_>) -> Result<usize, Error> {
                Ok(self.prepare(input, parallelism)?.workspace_len())
            }

            /// Computes the output, or a part of it. It allocates nothing if the workspace has
            /// [`workspace_len`](Self::workspace_len).
            ///
            /// Each output is one sum in one order, whatever the split: its error grows as the square root of the number of terms,
            /// if they are random.
            ///
            /// # Errors
            /// If the input's, output's or residual's shape is not the plan's, or one is not contiguous along its
            /// layout's last axis, if the range does not lie within the output, or if the choice was made for another plan,
            /// another type of elements, another shape or another number of threads; nothing is written then. If an executor does
            /// not run all tasks; some of the output is written then.
            pub fn run(&self, run: Run<'_, E>) -> Result<(), Error> {
                self.engine.run(run)
            }

            /// As [`run`](Self::run), with or without a residual, into a vector of its own.
            ///
            /// # Errors
            /// As [`run`](Self::run), and if there is no memory for the output.
            pub fn run_to_vec(
                &self,
                input: TensorView<'_, E>,
                residual: Option<TensorView<'_, E>>,
                workspace: &mut Workspace,
                parallelism: Parallelism<'_>,
            ) -> Result<Vec<E>, Error> {
                let (shape, layout) = (self.output_shape(input.shape())?, self.layout());
                let elements = shape.len().ok_or(Error::Overflow { what: "the number of elements of a tensor" })?;
                let mut data = Vec::new();
                data.try_reserve_exact(elements).map_err(|_| Error::OutOfMemory { elements })?;
                data.resize(elements, E::ZERO);
                let output = TensorViewMut::new(&mut data, shape, layout)?;
                self.run(Run::new(input, output, workspace).maybe_residual(residual).parallelism(parallelism))?;
                Ok(data)
            }

            /// A balanced split of the output for that many threads: a list of parts for each pass over the tensors. Each element
            /// is in exactly one part of a list. Small work is not split: it is one part.
            ///
            /// `DepthwiseConv2d`, `PointwiseConv2d`, `Conv2d` and `AnyConv2d` have one pass, and so one list. `SeparableConv2d` has one list
            /// if it runs fused, as it always does with [`Fusion::Fused`](crate::Fusion::Fused). It has two if it runs in two
            /// passes: first the parts of the values between the stages, then the parts of the output.
            ///
            /// A list has about one part for each thread. If the rows cannot be divided evenly, the list also has smaller parts
            /// at its end, at most one for each thread. Let each thread take the next part of the list when it is free, and call
            /// [`run`](Self::run) for this [range](Run::range) with a workspace of its own. No part needs more workspace than a serial run:
            /// [`workspace_len`](Self::workspace_len) with [`Parallelism::Serial`].
            ///
            /// Of two lists, all parts of the first must be done before any of the second starts. A run on a range computes both stages,
            /// so take the plan of each stage if you want this. Runs over the second list alone give the right result
            /// too, but they repeat work: parts with different channels of a row each compute the first stage of this row.
            ///
            /// # Errors
            /// As [`output_shape`](Self::output_shape).
            ///
            /// ```
            /// use depthwise::{DepthwiseConv2d, Run, Shape, TensorView, TensorViewMut, Workspace};
            ///
            /// let plan = DepthwiseConv2d::builder(32).weights(&[1.0; 32 * 9]).build()?;
            /// let (shape, layout) = (Shape::new(1, 32, 56, 56), plan.layout());
            /// let (x, mut y) = (vec![1.0; 32 * 56 * 56], vec![0.0; 32 * 56 * 56]);
            /// let mut workspace = Workspace::new();
            /// let parts = plan.parts(shape, 4)?.concat();
            /// let views = TensorViewMut::new(&mut y, plan.output_shape(shape)?, layout)?.split(&parts)?;
            /// for (view, part) in views.into_iter().zip(parts) {
            ///     // An engine does this on its threads.
            ///     plan.run(Run::new(TensorView::new(&x, shape, layout)?, view, &mut workspace).range(part))?;
            /// }
            /// assert!(y.iter().all(|&y| y >= 4.0)); // each output was computed: 4, 6 or 9 taps see the image
            /// # Ok::<(), depthwise::Error>(())
            /// ```
            pub fn parts(&self, input: Shape, threads: usize) -> Result<Vec<Vec<OutputRange>>, Error> {
                Ok(self.engine.steps(input, threads)?.iter().map(|steps| steps.concat()).collect())
            }

            /// What runs on inputs of that shape do: their kernels, passes, blocks, and tasks for threads.
            ///
            /// On one thread this takes less than a microsecond. With many threads it takes some microseconds, since it compares ways
            /// to share the work; then a run without a [`Choice`] takes that much longer. With `Parallelism::Rayon` a choice depends on
            /// the number of threads of the current pool, and on whether the call comes from inside the pool. So call it on
            /// the thread that will call [`run`](Self::run).
            ///
            /// # Errors
            /// As [`output_shape`](Self::output_shape), and if the workspace would be more than can be addressed.
            pub fn prepare(&self, input: Shape, parallelism: Parallelism<'_>) -> Result<Choice, Error> {
                self.engine.prepare(input, parallelism)
            }

            /// As [`prepare`](Self::prepare), by measurement: the fastest choice on this machine, whose bits are the same.
            ///
            /// Every kernel for the plan's packed weights, fused and in two passes where [`Fusion::Auto`](crate::Fusion::Auto) leaves
            /// that open, on one thread and on several, runs in turns on tensors of `tune`'s own, until the time of `budget` is
            /// over. It may last one round of runs longer. Where what runs depends on where tensors lie, each case has its share of
            /// that time. Give a layer a few hundred times as long as it takes, and nothing else
            /// to the CPU meanwhile. Keep the choice by [`Choice::to_text`]. A kernel asked for by name stays the only one.
            ///
            /// # Errors
            /// As [`prepare`](Self::prepare), and if there is no memory for the tensors.
            #[cfg(feature = "std")]
            pub fn tune(
                &self,
                input: Shape,
                parallelism: Parallelism<'_>,
                budget: std::time::Duration,
            ) -> Result<Choice, Error> {
                self.engine.tune(input, parallelism, budget)
            }

            /// The choice that [`Choice::to_text`] wrote.
            ///
            /// # Errors
            /// If the text is of another version of the crate, another instruction set, machine or plan, or is no such text: the
            /// error says what differs.
            ///
            /// ```
            /// use depthwise::{DepthwiseConv2d, Parallelism, Shape};
            ///
            /// let plan = DepthwiseConv2d::builder(2).weights(&[1.0; 18]).build()?;
            /// let text = plan.prepare(Shape::new(1, 2, 6, 4), Parallelism::Serial)?.to_text();
            /// assert_eq!(plan.choice_from_text(&text)?.to_text(), text);
            /// # Ok::<(), depthwise::Error>(())
            /// ```
            pub fn choice_from_text(&self, text: &str) -> Result<Choice, Error> {
                self.engine.choice_from_text(text)
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

        impl<E: Element> sealed::Sealed for $plan<E> {}

        impl<E: Element> Convolution<E> for $plan<E> {
            fn output_shape(&self, input: Shape) -> Result<Shape, Error> {
                self.output_shape(input)
            }

            fn workspace_len(&self, input: Shape, parallelism: Parallelism<'_>) -> Result<usize, Error> {
                self.workspace_len(input, parallelism)
            }

            fn run(&self, run: Run<'_, E>) -> Result<(), Error> {
                self.run(run)
            }

            fn run_to_vec(
                &self,
                input: TensorView<'_, E>,
                residual: Option<TensorView<'_, E>>,
                workspace: &mut Workspace,
                parallelism: Parallelism<'_>,
            ) -> Result<Vec<E>, Error> {
                self.run_to_vec(input, residual, workspace, parallelism)
            }

            fn parts(&self, input: Shape, threads: usize) -> Result<Vec<Vec<OutputRange>>, Error> {
                self.parts(input, threads)
            }

            fn prepare(&self, input: Shape, parallelism: Parallelism<'_>) -> Result<Choice, Error> {
                self.prepare(input, parallelism)
            }

            #[cfg(feature = "std")]
            fn tune(
                &self,
                input: Shape,
                parallelism: Parallelism<'_>,
                budget: std::time::Duration,
            ) -> Result<Choice, Error> {
                self.tune(input, parallelism, budget)
            }

            fn choice_from_text(&self, text: &str) -> Result<Choice, Error> {
                self.choice_from_text(text)
            }

            fn isa(&self) -> Isa {
                self.isa()
            }

            fn layout(&self) -> Layout {
                self.layout()
            }

            fn cost(&self, input: Shape) -> Result<Cost, Error> {
                self.cost(input)
            }
        }
    };
}

mod sealed {
    pub trait Sealed {}
}

/// What all plans have in common, for engines that hold plans of any: `Box<dyn Convolution>`.
///
/// Each method is that of the plans, where it is described.
pub trait Convolution<E = f32>: sealed::Sealed + fmt::Debug + Send + Sync {
    /// The shape of the output for an input of that shape.
    ///
    /// # Errors
    /// If the plan does not take such an input.
    fn output_shape(&self, input: Shape) -> Result<Shape, Error>;

    /// The length of the workspace, in `f32`, of a run on an input of that shape.
    ///
    /// # Errors
    /// If the plan does not take such an input.
    fn workspace_len(&self, input: Shape, parallelism: Parallelism<'_>) -> Result<usize, Error>;

    /// Computes the output, or a part of it.
    ///
    /// # Errors
    /// If a shape, a range or a choice does not fit the plan, or a tensor is not contiguous along its layout's last axis; nothing is
    /// written then. If an executor does not run all tasks.
    fn run(&self, run: Run<'_, E>) -> Result<(), Error>;

    /// As `run`, with or without a residual, into a vector of its own.
    ///
    /// # Errors
    /// As `run`, and if there is no memory for the output.
    fn run_to_vec(
        &self,
        input: TensorView<'_, E>,
        residual: Option<TensorView<'_, E>>,
        workspace: &mut Workspace,
        parallelism: Parallelism<'_>,
    ) -> Result<Vec<E>, Error>;

    /// A balanced split of the output for that many threads: a list of parts for each pass.
    ///
    /// # Errors
    /// If the plan does not take such an input.
    fn parts(&self, input: Shape, threads: usize) -> Result<Vec<Vec<OutputRange>>, Error>;

    /// What runs on inputs of that shape do.
    ///
    /// # Errors
    /// If the plan does not take such an input.
    fn prepare(&self, input: Shape, parallelism: Parallelism<'_>) -> Result<Choice, Error>;

    /// As `prepare`, by measurement: the fastest choice on this machine, whose bits are the same.
    ///
    /// # Errors
    /// If the plan does not take such an input, or there is no memory for the tensors.
    #[cfg(feature = "std")]
    fn tune(&self, input: Shape, parallelism: Parallelism<'_>, budget: std::time::Duration) -> Result<Choice, Error>;

    /// The choice that [`Choice::to_text`] wrote.
    ///
    /// # Errors
    /// If the text is of another version of the crate, another instruction set, machine or plan, or is no such text.
    fn choice_from_text(&self, text: &str) -> Result<Choice, Error>;

    /// The instruction set.
    fn isa(&self) -> Isa;

    /// The layout.
    fn layout(&self) -> Layout;

    /// Parameters, multiply-adds and bytes for an input of that shape.
    ///
    /// # Errors
    /// If the plan does not take such an input.
    fn cost(&self, input: Shape) -> Result<Cost, Error>;
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
    ///
    /// With a 1×1 window it runs as a [`PointwiseConv2d`], with one input channel it may run as a [`DepthwiseConv2d`]: its `Debug` and
    /// its choices say so.
    Conv2d, Conv2dBuilder, (in_channels, out_channels),
    builder:
    /// Starts a plan from and to that many channels: 3×3, stride 1, padding that keeps the size, no bias, until told otherwise.
);

plan!(
    /// Any convolution over height and width, as layers of networks describe it: with channels in groups. It is computed as a
    /// [`DepthwiseConv2d`], a [`PointwiseConv2d`] or a [`Conv2d`], whichever it is, and has that plan's bits.
    ///
    /// `y[n, o, i, j] = activation(b[o] + Σᵤ Σᵥ Σ꜀ x[n, g·C + c, i·s + u·d − p, j·s + v·d − p] · w[o, c, u, v])`, for C inputs and M
    /// outputs of each group, where g = ⌊o / M⌋; taps in row order, then channels ascending.
    ///
    /// ```
    /// use depthwise::{AnyConv2d, Error, Layout, Parallelism, Shape, TensorView, Workspace};
    ///
    /// // Layers of a network: [out, in / groups, kernel height, kernel width], and groups.
    /// let layers = [([8, 3, 3, 3], 1), ([8, 1, 3, 3], 8), ([16, 8, 1, 1], 1)];
    /// let mut x = vec![1.0; 3 * 32 * 32];
    /// let mut shape = Shape::new(1, 3, 32, 32);
    /// for ([outputs, inputs, kh, kw], groups) in layers {
    ///     let plan = AnyConv2d::builder(inputs * groups, outputs, groups)
    ///         .layout(Layout::Nhwc)
    ///         .kernel_size([kh, kw])
    ///         .weights(&vec![0.5; outputs * inputs * kh * kw])
    ///         .build()?;
    ///     let input = TensorView::new(&x, shape, plan.layout())?;
    ///     let y = plan.run_to_vec(input, None, &mut Workspace::new(), Parallelism::Serial)?;
    ///     (shape, x) = (plan.output_shape(shape)?, y);
    /// }
    /// assert_eq!(shape, Shape::new(1, 16, 32, 32));
    ///
    /// let error = AnyConv2d::builder(8, 8, 4).weights(&[0.5; 8 * 2 * 9]).build().unwrap_err();
    /// assert_eq!(error, Error::Groups { groups: 4, inputs: 8, outputs: 8 });
    /// # Ok::<(), Error>(())
    /// ```
    AnyConv2d, AnyConv2dBuilder, (in_channels, out_channels, groups),
    builder:
    /// Starts a plan from and to that many channels in so many groups: 3×3, stride 1, padding that keeps the size, no bias, until
    /// told otherwise. Building it fails unless there is 1 group, or one for each input channel.
);

impl<E: Element> SeparableConv2d<E> {
    /// Its first stage, as a plan of its own that shares the packed weights: for engines that run two passes on threads of their own.
    pub fn depthwise(&self) -> DepthwiseConv2d<E> {
        DepthwiseConv2d::of(self.engine.first_stage())
    }

    /// Its second stage, likewise.
    pub fn pointwise(&self) -> PointwiseConv2d<E> {
        PointwiseConv2d::of(self.engine.second_stage())
    }
}
