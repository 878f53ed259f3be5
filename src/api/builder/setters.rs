//! What several builders have in common of their methods, as macros: setters, and `build`.

/// A setter of what there may be.
macro_rules! maybe {
    ($maybe:ident, $setter:ident: $type:ty) => {
        #[doc = concat!("As [`", stringify!($setter), "`](Self::", stringify!($setter), "), where there is one.")]
        pub fn $maybe(self, $setter: Option<$type>) -> Self {
            match $setter {
                Some($setter) => self.$setter($setter),
                None => self,
            }
        }
    };
}

/// The setters of a window, as methods of any builder.
macro_rules! geometry {
    (window) => {
        /// The extents of the kernel, `[height, width]`. Default: `[3, 3]`.
        pub fn kernel_size(mut self, kernel_size: [usize; 2]) -> Self {
            self.common.window.taps.kernel_size = kernel_size;
            self
        }

        /// The step from an output to the next, in inputs, `[vertical, horizontal]`. Default: `[1, 1]`.
        pub fn stride(mut self, stride: [usize; 2]) -> Self {
            self.common.window.taps.stride = stride;
            self
        }

        /// The step from a tap to the next, in inputs, `[vertical, horizontal]`; 1 is undilated.
        /// Default: `[1, 1]`.
        pub fn dilation(mut self, dilation: [usize; 2]) -> Self {
            self.common.window.taps.dilation = dilation;
            self
        }

        /// The zeros around the input, in rows and columns. Default: (K − 1)·d / 2 on each side, for K taps with dilation d
        /// along an axis, which at stride 1 keeps the size. If (K − 1)·d is odd, as with an even kernel, there is no default, and
        /// building without a padding fails.
        pub fn padding(mut self, padding: Padding) -> Self {
            self.common.window.padding = Some(padding);
            self
        }
        $crate::api::builder::maybe!(maybe_padding, padding: Padding);
    };
    (multiplier) => {
        /// Output channels of the depthwise stage per input channel: its output o reads input o / m.
        /// Default: 1.
        pub fn channel_multiplier(mut self, multiplier: usize) -> Self {
            self.multiplier = multiplier;
            self
        }
    };
}

/// The setters of groups of parameters, as methods of a builder.
macro_rules! setters {
    (common) => {
        /// The layout of input, residual and output. Default: [`Layout::Nchw`].
        pub fn layout(mut self, layout: Layout) -> Self {
            self.common.layout = layout;
            self
        }

        /// The instruction set. It takes precedence over the environment variable `DEPTHWISE_ISA`. Default: that of the variable, or
        /// else the best that this CPU has.
        ///
        /// A plan for AVX-512 may take a depthwise kernel of AVX2, if the number of channels fills the shorter vectors better.
        pub fn isa(mut self, isa: Isa) -> Self {
            self.common.isa = Some(isa);
            self
        }
        $crate::api::builder::maybe!(maybe_isa, isa: Isa);

        /// The machine that kernels are chosen and runs are split for. Default: that of the environment variable
        /// `DEPTHWISE_MACHINE`, or else the one that this CPU is. No bit of any result depends on it.
        pub fn machine(mut self, machine: &'static Machine) -> Self {
            self.common.machine = Some(machine);
            self
        }
        $crate::api::builder::maybe!(maybe_machine, machine: &'static Machine);

        /// How runs are laid out on a machine by an instruction set, whether or not this CPU has it. Needs no weights.
        #[doc(hidden)]
        pub fn schedule(&self, isa: Isa, machine: &'static Machine) -> Result<Schedule, Error> {
            Ok(Schedule { descriptor: self.descriptor(isa, machine)? })
        }

        /// One kernel of [`kernels`](crate::kernels()), by name, instead of the one that would be chosen: to
        /// test or to measure it. Its instruction set must be the plan's, or one that it includes.
        pub fn kernel(mut self, name: &'a str) -> Self {
            let operation = if name.starts_with("pw_") { Operation::Pointwise } else { Operation::Depthwise };
            self.common.kernels[operation as usize] = Some(name);
            self
        }
        $crate::api::builder::maybe!(maybe_kernel, kernel: &'a str);
    };
    (build $plan:ident $(, $first:literal)?) => {
        /// Checks everything and packs the weights, which need not be kept.
        ///
        /// # Errors
        $(#[doc = $first])?
        /// If a parameter is zero, too large, missing or of the wrong length, if a batch norm or an activation has no meaning or a
        /// batch norm folds to what no `f32` holds, or if the instruction set or kernel asked for is not available.
        pub fn build(&self) -> Result<$plan, Error> {
            self.build_as()
        }

        /// As [`build`](Self::build), for tensors whose elements are `E`. The [types](crate#the-types) say which there are.
        ///
        /// Such a plan computes with `f32`, in the same order. It widens what it reads, and rounds what it writes, once, after the
        /// activation. What lies between two stages is rounded too, in one pass as in two. Weights stay `f32`.
        #[cfg_attr(
            feature = "half",
            doc = "
```
use depthwise::{PointwiseConv2d, Run, Shape, TensorView, TensorViewMut, Workspace, bf16};

let plan = PointwiseConv2d::builder(1, 1).weights(&[0.3]).build_as::<bf16>()?;
let (shape, layout) = (Shape::new(1, 1, 1, 2), plan.layout());
let (x, mut y) = ([bf16::from_f32(1.0), bf16::from_f32(2.0)], [bf16::ZERO; 2]);
let (input, output) = (TensorView::new(&x, shape, layout)?, TensorViewMut::new(&mut y, shape, layout)?);
plan.run(Run::new(input, output, &mut Workspace::new()))?;
assert_eq!(y.map(f32::from), [0.30078125, 0.6015625]); // of bf16, the nearest to 0.3 and 0.6
# Ok::<(), depthwise::Error>(())
```
"
        )]
        ///
        /// # Errors
        /// As [`build`](Self::build).
        pub fn build_as<E: Element>(&self) -> Result<$plan<E>, Error> {
            let descriptor = self.descriptor(self.common.isa()?, self.common.machine()?)?;
            Ok($plan::of(self.engine(Descriptor { element: E::TYPE, ..descriptor })?))
        }
    };
    (parameters $shape:literal) => {
        #[doc = concat!("The weights, of shape ", $shape, " in PyTorch's order.")]
        pub fn weights(mut self, weights: &'a [f32]) -> Self {
            self.parameters.weights = Some(weights);
            self
        }

        /// The order of the weights' axes. Default: PyTorch's.
        ///
        /// ```
        /// use depthwise::{PointwiseConv2d, WeightOrder};
        ///
        /// // From 2 to 3 channels. PyTorch's order has a row for each output, TensorFlow's a row for each input.
        /// let plan = PointwiseConv2d::builder(2, 3).weights(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).build()?;
        /// let same = PointwiseConv2d::builder(2, 3)
        ///     .weights(&[1.0, 3.0, 5.0, 2.0, 4.0, 6.0])
        ///     .weight_order(WeightOrder::Tflite)
        ///     .build()?;
        /// # use depthwise::{Run, Shape, TensorView, TensorViewMut, Workspace};
        /// # let mut outputs = [[0.0; 3]; 2];
        /// # for (plan, output) in [plan, same].iter().zip(&mut outputs) {
        /// #     let input = TensorView::new(&[1.0, 10.0], Shape::new(1, 2, 1, 1), plan.layout())?;
        /// #     let output = TensorViewMut::new(output, Shape::new(1, 3, 1, 1), plan.layout())?;
        /// #     plan.run(Run::new(input, output, &mut Workspace::new()))?;
        /// # }
        /// # assert_eq!(outputs, [[21.0, 43.0, 65.0]; 2]);
        /// # Ok::<(), depthwise::Error>(())
        /// ```
        pub fn weight_order(mut self, order: WeightOrder) -> Self {
            self.parameters.order = order;
            self
        }

        /// A bias per output channel, where the sums start. Default: none.
        pub fn bias(mut self, bias: &'a [f32]) -> Self {
            self.parameters.bias = Some(bias);
            self
        }
        $crate::api::builder::maybe!(maybe_bias, bias: &'a [f32]);

        /// A batch normalisation after the convolution, folded into its weights and bias. Default: none. [`BatchNorm`] has an
        /// example.
        pub fn batch_norm(mut self, batch_norm: BatchNorm<'a>) -> Self {
            self.parameters.batch_norm = Some(batch_norm);
            self
        }
        $crate::api::builder::maybe!(maybe_batch_norm, batch_norm: BatchNorm<'a>);

        /// The function applied to each output. Default: none.
        pub fn activation(mut self, activation: Activation) -> Self {
            self.activation = activation;
            self
        }
    };
}

pub(crate) use {geometry, maybe, setters};
