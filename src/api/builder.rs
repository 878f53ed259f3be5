//! Builders of plans: everything is checked, and weights are packed, once.

use alloc::format;
use alloc::sync::Arc;

use crate::api::plan::{AnyConv2d, Conv2d, DepthwiseConv2d, PointwiseConv2d, SeparableConv2d};
use crate::api::weights::{BatchNorm, Folded, Names, Parameters, WeightOrder};
use crate::choose::descriptor::{Descriptor, Fusion, Schedule, Stages};
use crate::choose::kernel::{self as choose, Alike};
use crate::geometry::{AskedWindow, Padding, Window};
use crate::machine::Machine;
use crate::run::engine::Engine;
use crate::run::twin::Label;
use depthwise_kernels::{
    Activation, Available, DepthwiseStage, Element, ElementType, Error, Isa, KernelInfo, Layout, Operation,
    PointwiseStage, Taps, fits,
};

/// What all builders hold.
#[derive(Clone, Debug)]
struct Common<'a> {
    window: AskedWindow,
    layout: Layout,
    isa: Option<Isa>,
    machine: Option<&'static Machine>,
    /// Those asked for, at the index of their operation.
    kernels: [Option<&'a str>; 2],
}

impl<'a> Common<'a> {
    /// A 3×3 window, until told otherwise.
    fn new() -> Self {
        let taps = Taps { kernel_size: [3, 3], stride: [1, 1], dilation: [1, 1] };
        let window = AskedWindow { taps, padding: None };
        Self { window, layout: Layout::default(), isa: None, machine: None, kernels: [None; 2] }
    }

    /// The instruction set asked for, by the builder or by the environment, or else the best.
    fn isa(&self) -> Result<Isa, Error> {
        Ok(asked_isa(self.isa)?.map_or_else(Isa::detect, Isa::of_floats))
    }

    /// Fails if a kernel was asked for that a plan of these operations does not have.
    fn check_kernels(&self, operations: &[Operation]) -> Result<(), Error> {
        for name in self.kernels.into_iter().flatten() {
            let listed = depthwise_kernels::table().find(|info| info.name == name);
            let info = listed.ok_or_else(|| Error::UnknownKernel { name: name.into() })?;
            if info.element == ElementType::I8 {
                let why = "its elements are of 8 bits, for plans of the module `int8`, and this plan computes with f32"
                    .into();
                return Err(Error::KernelDoesNotFit { name: info.name, why });
            }
            if !operations.contains(&info.operation) {
                let why = format!("the plan has no {:?} stage", info.operation);
                return Err(Error::KernelDoesNotFit { name: info.name, why });
            }
            if info.layout != self.layout {
                let why = format!("the plan is for {}", self.layout);
                return Err(Error::KernelDoesNotFit { name: info.name, why });
            }
        }
        Ok(())
    }

    fn machine(&self) -> Result<&'static Machine, Error> {
        asked_machine(self.machine)
    }

    /// The kernel of that operation asked for by name.
    fn asked(&self, isa: Isa, operation: Operation) -> Result<Option<&'static KernelInfo>, Error> {
        let Some(name) = self.kernels[operation as usize] else { return Ok(None) };
        let listed = depthwise_kernels::table().find(|info| info.name == name);
        let info = listed.ok_or_else(|| Error::UnknownKernel { name: name.into() })?;
        if !isa.includes(info.isa) {
            let why = format!("the plan is for {isa}: give the builder that kernel's instruction set");
            return Err(Error::KernelDoesNotFit { name: info.name, why });
        }
        Ok(Some(info))
    }

    fn depthwise_kernel(
        &self,
        machine: &Machine,
        isa: Isa,
        channels: usize,
        multiplier: usize,
    ) -> Result<&'static KernelInfo, Error> {
        let taps = self.window.taps;
        if let Some(info) = self.asked(isa, Operation::Depthwise)? {
            if fits(info, taps, multiplier) {
                return Ok(info);
            }
            let [[kh, kw], [sh, sw], [dh, dw]] = [taps.kernel_size, taps.stride, taps.dilation];
            let why = format!(
                "it does not compute {kh}x{kw} taps at stride {sh}x{sw}, dilation {dh}x{dw} and multiplier {multiplier}"
            );
            return Err(Error::KernelDoesNotFit { name: info.name, why });
        }
        let chosen = choose::depthwise(machine, isa, self.layout, taps, channels, multiplier);
        chosen.ok_or(Error::UnavailableIsa { isa, from_environment: false })
    }

    fn pointwise_kernel(&self, machine: &Machine, isa: Isa, out_channels: usize) -> Result<&'static KernelInfo, Error> {
        if let Some(info) = self.asked(isa, Operation::Pointwise)? {
            return Ok(info);
        }
        choose::pointwise(machine, isa, self.layout, out_channels)
            .ok_or(Error::UnavailableIsa { isa, from_environment: false })
    }

    /// The one for maps of few pixels beside that, unless one was asked for.
    fn of_few_pixels(&self, packed: &KernelInfo) -> Option<&'static KernelInfo> {
        let asked = self.kernels[Operation::Pointwise as usize].is_some();
        if asked { None } else { choose::of_few_pixels(packed) }
    }
}

/// The instruction set asked for, by a builder or by the environment, which this CPU has.
pub(crate) fn asked_isa(by_builder: Option<Isa>) -> Result<Option<Isa>, Error> {
    let asked = match by_builder {
        Some(isa) => Some(isa),
        #[cfg(feature = "std")]
        None => match std::env::var_os("DEPTHWISE_ISA") {
            Some(name) if !name.is_empty() => Some(name.to_string_lossy().parse().map_err(|error| match error {
                Error::UnknownIsa { name, .. } => Error::UnknownIsa { name, from_environment: true },
                other => other,
            })?),
            _ => None,
        },
        #[cfg(not(feature = "std"))]
        None => None,
    };
    match asked {
        Some(isa) if !isa.is_available() => Err(Error::UnavailableIsa { isa, from_environment: by_builder.is_none() }),
        asked => Ok(asked),
    }
}

/// The machine asked for, by a builder or by the environment, or else the one that this CPU is.
pub(crate) fn asked_machine(by_builder: Option<&'static Machine>) -> Result<&'static Machine, Error> {
    if let Some(machine) = by_builder {
        return Ok(machine);
    }
    #[cfg(feature = "std")]
    if let Some(name) = std::env::var_os("DEPTHWISE_MACHINE").filter(|name| !name.is_empty()) {
        return Machine::named(&name.to_string_lossy()).map_err(|error| match error {
            Error::UnknownMachine { name, known, .. } => Error::UnknownMachine { name, known, from_environment: true },
            other => other,
        });
    }
    Ok(Machine::detect())
}

/// The kernel, if this CPU has its instruction set.
pub(crate) fn available(info: &KernelInfo) -> Result<Available, Error> {
    depthwise_kernels::available(info).ok_or(Error::UnavailableIsa { isa: info.isa, from_environment: false })
}

const DEPTHWISE: Names = Names {
    weights: "the depthwise weights",
    weights_hint: "use `weights`, or `depthwise_weights` of a separable convolution",
    bias: "the depthwise bias",
};
const POINTWISE: Names = Names {
    weights: "the pointwise weights",
    weights_hint: "use `weights`, or `pointwise_weights` of a separable convolution",
    bias: "the pointwise bias",
};
const STANDARD: Names = Names { weights: "the weights", weights_hint: "use `weights`", bias: "the bias" };

fn check_activation(activation: Activation) -> Result<(), Error> {
    match activation {
        // Of bounds that are both the same infinity every output would be that.
        Activation::Clamp { min, max } if !(min <= max && min < f32::INFINITY && max > f32::NEG_INFINITY) => {
            Err(Error::Clamp { min, max })
        }
        Activation::LeakyRelu { slope } if !slope.is_finite() => {
            Err(Error::NotFinite { what: "the slope of the leaky ReLU", value: slope })
        }
        _ => Ok(()),
    }
}

pub(crate) fn check_channels(channels: usize, what: &'static str) -> Result<(), Error> {
    if channels == 0 { Err(Error::Zero { what }) } else { Ok(()) }
}

/// The channels between the stages.
pub(crate) fn multiplied(channels: usize, multiplier: usize) -> Result<usize, Error> {
    check_channels(channels, "the number of channels")?;
    check_channels(multiplier, "the channel multiplier")?;
    channels.checked_mul(multiplier).ok_or(Error::Overflow { what: "channels times multiplier" })
}

fn depthwise_stage(
    descriptor: &Descriptor,
    kernel: &KernelInfo,
    multiplier: usize,
    folded: &Folded,
    activation: Activation,
) -> Result<DepthwiseStage, Error> {
    let (taps, channels) = (descriptor.window.taps, descriptor.in_channels);
    let parameters = [&folded.weights[..], &folded.bias];
    DepthwiseStage::new(available(kernel)?, taps, channels, multiplier, parameters, activation)
}

fn depthwise_engine(
    descriptor: Descriptor,
    multiplier: usize,
    folded: &Folded,
    activation: Activation,
) -> Result<Engine, Error> {
    let build = |descriptor: Descriptor| {
        let Stages::Depthwise(kernel) = descriptor.kernels else {
            unreachable!("it describes a depthwise convolution")
        };
        let stage = depthwise_stage(&descriptor, kernel, multiplier, folded, activation)?;
        let descriptor = descriptor.with_own_kernels(kernel, stage.sweeps())?;
        Ok(Engine::new(descriptor, Stages::Depthwise(Arc::new(stage))))
    };
    let turned = |descriptor: Descriptor| {
        let twin = descriptor.turned().map(build).transpose()?;
        Ok(build(descriptor)?.with_twin(Label::Turned, twin))
    };
    match descriptor.plane() {
        Some(plane) => Ok(build(descriptor)?.with_twin(Label::Plane, Some(turned(plane)?))),
        None => turned(descriptor),
    }
}

fn pointwise_engine(descriptor: Descriptor, folded: &Folded, activation: Activation) -> Result<Engine, Error> {
    let (kernel, stages): (_, fn(_) -> _) = match descriptor.kernels {
        Stages::Pointwise(kernel) => (kernel, Stages::Pointwise),
        Stages::Gathered(kernel) => (kernel, Stages::Gathered),
        Stages::Depthwise(_) | Stages::Separable(..) => unreachable!("it describes a matrix product"),
    };
    let stage = Arc::new(pointwise_stage(&descriptor, kernel, folded, activation)?);
    let twin = descriptor.turned().map(|turned| Engine::new(turned, stages(Arc::clone(&stage))));
    Ok(Engine::new(descriptor, stages(stage)).with_twin(Label::Turned, twin))
}

fn pointwise_stage(
    descriptor: &Descriptor,
    kernel: &KernelInfo,
    folded: &Folded,
    activation: Activation,
) -> Result<PointwiseStage, Error> {
    let (inputs, outputs) = (descriptor.mid_channels, descriptor.out_channels);
    let prefetches = descriptor.machine.prefetches_outputs(kernel);
    let parameters = [&folded.weights[..], &folded.bias];
    PointwiseStage::new(available(kernel)?, inputs, outputs, parameters, activation, prefetches)
}

/// So many outputs of a gathered tap are worth the gathering (094).
const MANY_OUTPUTS: usize = 32;

fn biases(parameters: &Parameters<'_>, channels: usize) -> usize {
    if parameters.bias.is_some() || parameters.batch_norm.is_some() { channels } else { 0 }
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

        /// As [`padding`](Self::padding), where there is one.
        pub fn maybe_padding(self, padding: Option<Padding>) -> Self {
            match padding {
                Some(padding) => self.padding(padding),
                None => self,
            }
        }
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
#[cfg(feature = "int8")]
pub(crate) use geometry;

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

        /// As [`isa`](Self::isa), where there is one.
        pub fn maybe_isa(self, isa: Option<Isa>) -> Self {
            match isa {
                Some(isa) => self.isa(isa),
                None => self,
            }
        }

        /// The machine that kernels are chosen and runs are split for. Default: that of the environment variable
        /// `DEPTHWISE_MACHINE`, or else the one that this CPU is. No bit of any result depends on it.
        pub fn machine(mut self, machine: &'static Machine) -> Self {
            self.common.machine = Some(machine);
            self
        }

        /// As [`machine`](Self::machine), where there is one.
        pub fn maybe_machine(self, machine: Option<&'static Machine>) -> Self {
            match machine {
                Some(machine) => self.machine(machine),
                None => self,
            }
        }

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

        /// As [`kernel`](Self::kernel), where there is one.
        pub fn maybe_kernel(self, name: Option<&'a str>) -> Self {
            match name {
                Some(name) => self.kernel(name),
                None => self,
            }
        }
    };
    (build_as $plan:ident) => {
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
            Ok($plan::of(self.engine(E::TYPE)?))
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

        /// As [`bias`](Self::bias), where there is one.
        pub fn maybe_bias(self, bias: Option<&'a [f32]>) -> Self {
            match bias {
                Some(bias) => self.bias(bias),
                None => self,
            }
        }

        /// A batch normalisation after the convolution, folded into its weights and bias. Default: none. [`BatchNorm`] has an
        /// example.
        pub fn batch_norm(mut self, batch_norm: BatchNorm<'a>) -> Self {
            self.parameters.batch_norm = Some(batch_norm);
            self
        }

        /// As [`batch_norm`](Self::batch_norm), where there is one.
        pub fn maybe_batch_norm(self, batch_norm: Option<BatchNorm<'a>>) -> Self {
            match batch_norm {
                Some(batch_norm) => self.batch_norm(batch_norm),
                None => self,
            }
        }

        /// The function applied to each output. Default: none.
        pub fn activation(mut self, activation: Activation) -> Self {
            self.activation = activation;
            self
        }
    };
}

/// Builds a [`DepthwiseConv2d`].
#[derive(Clone, Debug)]
pub struct DepthwiseConv2dBuilder<'a> {
    common: Common<'a>,
    channels: usize,
    multiplier: usize,
    parameters: Parameters<'a>,
    activation: Activation,
}

impl<'a> DepthwiseConv2dBuilder<'a> {
    pub(crate) fn new(channels: usize) -> Self {
        Self {
            common: Common::new(),
            channels,
            multiplier: 1,
            parameters: Parameters::default(),
            activation: Activation::default(),
        }
    }

    setters!(common);
    geometry!(window);
    geometry!(multiplier);
    setters!(parameters "`[channels * multiplier, 1, kernel height, kernel width]`");

    /// Checks everything and packs the weights, which need not be kept.
    ///
    /// # Errors
    /// If a parameter is zero, too large, missing or of the wrong length, if a batch norm or an activation has no meaning or a
    /// batch norm folds to what no `f32` holds, or if the instruction set or kernel asked for is not available.
    pub fn build(&self) -> Result<DepthwiseConv2d, Error> {
        self.build_as()
    }

    setters!(build_as DepthwiseConv2d);

    fn engine(&self, element: ElementType) -> Result<Engine, Error> {
        let descriptor = self.descriptor(self.common.isa()?, self.common.machine()?)?;
        let descriptor = Descriptor { element, ..descriptor };
        let taps = descriptor.window.taps;
        let folded = self.parameters.fold(DEPTHWISE, descriptor.out_channels, 1, taps.kernel_size)?;
        depthwise_engine(descriptor, self.multiplier, &folded, self.activation)
    }

    fn descriptor(&self, isa: Isa, machine: &'static Machine) -> Result<Descriptor, Error> {
        let window = self.common.window.resolve()?;
        self.common.check_kernels(&[Operation::Depthwise])?;
        check_activation(self.activation)?;
        let outputs = multiplied(self.channels, self.multiplier)?;
        let kernel = self.common.depthwise_kernel(machine, isa, self.channels, self.multiplier)?;
        Ok(Descriptor {
            isa,
            machine,
            element: ElementType::F32,
            layout: self.common.layout,
            in_channels: self.channels,
            mid_channels: outputs,
            out_channels: outputs,
            window,
            fusion: Fusion::default(),
            biases: [0, biases(&self.parameters, outputs)],
            forced: self.common.kernels[Operation::Depthwise as usize].is_some(),
            kernels: Stages::Depthwise(kernel),
            few_pixels: None,
            alike: choose::alike(kernel, ElementType::F32, window.taps, self.multiplier),
            own: Alike::default(),
        })
    }
}

/// Builds a [`PointwiseConv2d`].
#[derive(Clone, Debug)]
pub struct PointwiseConv2dBuilder<'a> {
    common: Common<'a>,
    in_channels: usize,
    out_channels: usize,
    parameters: Parameters<'a>,
    activation: Activation,
}

impl<'a> PointwiseConv2dBuilder<'a> {
    pub(crate) fn new(in_channels: usize, out_channels: usize) -> Self {
        Self {
            common: Common { window: AskedWindow::POINT, ..Common::new() },
            in_channels,
            out_channels,
            parameters: Parameters::default(),
            activation: Activation::default(),
        }
    }

    setters!(common);
    setters!(parameters "`[out_channels, in_channels]`");

    /// Checks everything and packs the weights, which need not be kept.
    ///
    /// # Errors
    /// If a parameter is zero, too large, missing or of the wrong length, if a batch norm or an activation has no meaning or a
    /// batch norm folds to what no `f32` holds, or if the instruction set or kernel asked for is not available.
    pub fn build(&self) -> Result<PointwiseConv2d, Error> {
        self.build_as()
    }

    setters!(build_as PointwiseConv2d);

    fn engine(&self, element: ElementType) -> Result<Engine, Error> {
        let descriptor = self.descriptor(self.common.isa()?, self.common.machine()?)?;
        let descriptor = Descriptor { element, ..descriptor };
        let folded = self.parameters.fold(POINTWISE, self.out_channels, self.in_channels, [1, 1])?;
        pointwise_engine(descriptor, &folded, self.activation)
    }

    fn descriptor(&self, isa: Isa, machine: &'static Machine) -> Result<Descriptor, Error> {
        check_channels(self.in_channels, "the number of input channels")?;
        check_channels(self.out_channels, "the number of output channels")?;
        check_activation(self.activation)?;
        self.common.check_kernels(&[Operation::Pointwise])?;
        let kernel = self.common.pointwise_kernel(machine, isa, self.out_channels)?;
        Ok(Descriptor {
            isa,
            machine,
            element: ElementType::F32,
            layout: self.common.layout,
            in_channels: self.in_channels,
            mid_channels: self.in_channels,
            out_channels: self.out_channels,
            window: Window::POINT,
            fusion: Fusion::default(),
            alike: Alike::default(),
            own: Alike::default(),
            biases: [0, biases(&self.parameters, self.out_channels)],
            forced: self.common.kernels[Operation::Depthwise as usize].is_some(),
            kernels: Stages::Pointwise(kernel),
            few_pixels: self.common.of_few_pixels(kernel),
        })
    }
}

/// Builds a [`Conv2d`].
#[derive(Clone, Debug)]
pub struct Conv2dBuilder<'a> {
    common: Common<'a>,
    in_channels: usize,
    out_channels: usize,
    parameters: Parameters<'a>,
    activation: Activation,
}

impl<'a> Conv2dBuilder<'a> {
    pub(crate) fn new(in_channels: usize, out_channels: usize) -> Self {
        Self {
            common: Common::new(),
            in_channels,
            out_channels,
            parameters: Parameters::default(),
            activation: Activation::default(),
        }
    }

    setters!(common);
    geometry!(window);
    setters!(parameters "`[out_channels, in_channels, kernel height, kernel width]`");

    /// Checks everything and packs the weights, which need not be kept.
    ///
    /// # Errors
    /// If a parameter is zero, too large, missing or of the wrong length, if a batch norm or an activation has no meaning or a
    /// batch norm folds to what no `f32` holds, or if the instruction set or kernel asked for is not available.
    pub fn build(&self) -> Result<Conv2d, Error> {
        self.build_as()
    }

    setters!(build_as Conv2d);

    fn engine(&self, element: ElementType) -> Result<Engine, Error> {
        let descriptor = self.descriptor(self.common.isa()?, self.common.machine()?)?;
        let descriptor = Descriptor { element, ..descriptor };
        let taps = descriptor.window.taps;
        let folded = self.parameters.fold(STANDARD, self.out_channels, self.in_channels, taps.kernel_size)?;
        match descriptor.kernels {
            Stages::Depthwise(_) => depthwise_engine(descriptor, self.out_channels, &folded, self.activation),
            _ => pointwise_engine(descriptor, &folded, self.activation),
        }
    }

    fn descriptor(&self, isa: Isa, machine: &'static Machine) -> Result<Descriptor, Error> {
        let window = self.common.window.resolve()?;
        check_channels(self.in_channels, "the number of input channels")?;
        check_channels(self.out_channels, "the number of output channels")?;
        check_activation(self.activation)?;
        let Self { common, in_channels, out_channels, parameters, activation } = self.clone();
        // One input is a depthwise convolution, too. To gather its taps pays where many outputs lie side by side, or where windows do not
        // overlap.
        let lie_side_by_side = common.layout == Layout::Nhwc && out_channels >= MANY_OUTPUTS;
        let pays_to_gather = lie_side_by_side || out_channels > 1 && !window.overlaps();
        if window.is_point() {
            let common = Common { window: AskedWindow::POINT, ..common };
            let same = PointwiseConv2dBuilder { common, in_channels, out_channels, parameters, activation };
            return same.descriptor(isa, machine);
        }
        if in_channels == 1 && !pays_to_gather && common.kernels[Operation::Pointwise as usize].is_none() {
            let same = DepthwiseConv2dBuilder { common, channels: 1, multiplier: out_channels, parameters, activation };
            return same.descriptor(isa, machine);
        }
        self.common.check_kernels(&[Operation::Pointwise])?;
        let [kh, kw] = window.taps.kernel_size;
        let gathered = kh.checked_mul(kw).and_then(|taps| taps.checked_mul(self.in_channels));
        let kernel = self.common.pointwise_kernel(machine, isa, self.out_channels)?;
        Ok(Descriptor {
            isa,
            machine,
            element: ElementType::F32,
            layout: self.common.layout,
            in_channels: self.in_channels,
            mid_channels: gathered.ok_or(Error::Overflow { what: "the number of weights" })?,
            out_channels: self.out_channels,
            window,
            fusion: Fusion::default(),
            alike: Alike::default(),
            own: Alike::default(),
            biases: [0, biases(&self.parameters, self.out_channels)],
            forced: self.common.kernels[Operation::Depthwise as usize].is_some(),
            kernels: Stages::Gathered(kernel),
            few_pixels: self.common.of_few_pixels(kernel),
        })
    }
}

/// Builds an [`AnyConv2d`].
#[derive(Clone, Debug)]
pub struct AnyConv2dBuilder<'a> {
    common: Common<'a>,
    in_channels: usize,
    out_channels: usize,
    groups: usize,
    parameters: Parameters<'a>,
    activation: Activation,
}

/// The builder of the operation that a convolution is.
enum Picked<'a> {
    Depthwise(DepthwiseConv2dBuilder<'a>),
    Standard(Conv2dBuilder<'a>),
}

impl<'a> AnyConv2dBuilder<'a> {
    pub(crate) fn new(in_channels: usize, out_channels: usize, groups: usize) -> Self {
        Self {
            common: Common::new(),
            in_channels,
            out_channels,
            groups,
            parameters: Parameters::default(),
            activation: Activation::default(),
        }
    }

    setters!(common);
    geometry!(window);
    setters!(parameters "`[out_channels, in_channels / groups, kernel height, kernel width]`");

    /// Checks everything and packs the weights, which need not be kept.
    ///
    /// # Errors
    /// If there is neither 1 group nor one for each input channel. If a parameter is zero, too large, missing or of the wrong length,
    /// if a batch norm or an activation has no meaning or a batch norm folds to what no `f32` holds, or if the instruction set or
    /// kernel asked for is not available.
    pub fn build(&self) -> Result<AnyConv2d, Error> {
        self.build_as()
    }

    setters!(build_as AnyConv2d);

    fn picked(&self) -> Result<Picked<'a>, Error> {
        let Self { common, in_channels, out_channels, groups, parameters, activation } = self.clone();
        check_channels(in_channels, "the number of input channels")?;
        check_channels(out_channels, "the number of output channels")?;
        check_channels(groups, "the number of groups")?;
        match groups {
            1 => Ok(Picked::Standard(Conv2dBuilder { common, in_channels, out_channels, parameters, activation })),
            _ if groups == in_channels && out_channels % groups == 0 => {
                let (channels, multiplier) = (in_channels, out_channels / groups);
                Ok(Picked::Depthwise(DepthwiseConv2dBuilder { common, channels, multiplier, parameters, activation }))
            }
            _ => {
                let (inputs, outputs) = (in_channels, out_channels);
                Err(if inputs.is_multiple_of(groups) && outputs.is_multiple_of(groups) {
                    Error::Groups { groups, inputs, outputs }
                } else {
                    Error::UnevenGroups { groups, inputs, outputs }
                })
            }
        }
    }

    fn engine(&self, element: ElementType) -> Result<Engine, Error> {
        match self.picked()? {
            Picked::Depthwise(builder) => builder.engine(element),
            Picked::Standard(builder) => builder.engine(element),
        }
    }

    fn descriptor(&self, isa: Isa, machine: &'static Machine) -> Result<Descriptor, Error> {
        match self.picked()? {
            Picked::Depthwise(builder) => builder.descriptor(isa, machine),
            Picked::Standard(builder) => builder.descriptor(isa, machine),
        }
    }
}

/// Builds a [`SeparableConv2d`].
#[derive(Clone, Debug)]
pub struct SeparableConv2dBuilder<'a> {
    common: Common<'a>,
    in_channels: usize,
    out_channels: usize,
    multiplier: usize,
    depthwise: Parameters<'a>,
    pointwise: Parameters<'a>,
    activations: [Activation; 2],
    fusion: Fusion,
}

impl<'a> SeparableConv2dBuilder<'a> {
    pub(crate) fn new(in_channels: usize, out_channels: usize) -> Self {
        Self {
            common: Common::new(),
            in_channels,
            out_channels,
            multiplier: 1,
            depthwise: Parameters::default(),
            pointwise: Parameters::default(),
            activations: [Activation::default(); 2],
            fusion: Fusion::default(),
        }
    }

    setters!(common);
    geometry!(window);
    geometry!(multiplier);

    /// The weights of the first stage, of shape `[in_channels * multiplier, 1, kernel height, kernel width]` in
    /// PyTorch's order.
    pub fn depthwise_weights(mut self, weights: &'a [f32]) -> Self {
        self.depthwise.weights = Some(weights);
        self
    }

    /// The weights of the second stage, of shape `[out_channels, in_channels * multiplier]` in PyTorch's order.
    pub fn pointwise_weights(mut self, weights: &'a [f32]) -> Self {
        self.pointwise.weights = Some(weights);
        self
    }

    /// The order of both stages' weights' axes. Default: PyTorch's.
    pub fn weight_order(mut self, order: WeightOrder) -> Self {
        self.depthwise.order = order;
        self.pointwise.order = order;
        self
    }

    /// A bias per channel between the stages. Default: none.
    pub fn depthwise_bias(mut self, bias: &'a [f32]) -> Self {
        self.depthwise.bias = Some(bias);
        self
    }

    /// As [`depthwise_bias`](Self::depthwise_bias), where there is one.
    pub fn maybe_depthwise_bias(self, bias: Option<&'a [f32]>) -> Self {
        match bias {
            Some(bias) => self.depthwise_bias(bias),
            None => self,
        }
    }

    /// A bias per output channel, where the sums of the second stage start. Default: none.
    pub fn bias(mut self, bias: &'a [f32]) -> Self {
        self.pointwise.bias = Some(bias);
        self
    }

    /// As [`bias`](Self::bias), where there is one.
    pub fn maybe_bias(self, bias: Option<&'a [f32]>) -> Self {
        match bias {
            Some(bias) => self.bias(bias),
            None => self,
        }
    }

    /// A batch normalisation between the stages, folded into the first. Default: none.
    pub fn depthwise_batch_norm(mut self, batch_norm: BatchNorm<'a>) -> Self {
        self.depthwise.batch_norm = Some(batch_norm);
        self
    }

    /// As [`depthwise_batch_norm`](Self::depthwise_batch_norm), where there is one.
    pub fn maybe_depthwise_batch_norm(self, batch_norm: Option<BatchNorm<'a>>) -> Self {
        match batch_norm {
            Some(batch_norm) => self.depthwise_batch_norm(batch_norm),
            None => self,
        }
    }

    /// A batch normalisation after the second stage, folded into it. Default: none.
    pub fn batch_norm(mut self, batch_norm: BatchNorm<'a>) -> Self {
        self.pointwise.batch_norm = Some(batch_norm);
        self
    }

    /// As [`batch_norm`](Self::batch_norm), where there is one.
    pub fn maybe_batch_norm(self, batch_norm: Option<BatchNorm<'a>>) -> Self {
        match batch_norm {
            Some(batch_norm) => self.batch_norm(batch_norm),
            None => self,
        }
    }

    /// The function applied between the stages. Default: none.
    pub fn depthwise_activation(mut self, activation: Activation) -> Self {
        self.activations[0] = activation;
        self
    }

    /// The function applied to each output. Default: none.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activations[1] = activation;
        self
    }

    /// Whether the stages run in one pass, block by block, or in two. Default: [`Fusion::Auto`], which chooses for each run.
    pub fn fusion(mut self, fusion: Fusion) -> Self {
        self.fusion = fusion;
        self
    }

    /// Checks everything and packs the weights, which need not be kept.
    ///
    /// # Errors
    /// If a parameter is zero, too large, missing or of the wrong length, if a batch norm or an activation has no meaning or a
    /// batch norm folds to what no `f32` holds, or if the instruction set or kernel asked for is not available.
    pub fn build(&self) -> Result<SeparableConv2d, Error> {
        self.build_as()
    }

    setters!(build_as SeparableConv2d);

    fn engine(&self, element: ElementType) -> Result<Engine, Error> {
        let descriptor = self.descriptor(self.common.isa()?, self.common.machine()?)?;
        let descriptor = Descriptor { element, ..descriptor };
        let Stages::Separable(_, pointwise) = descriptor.kernels else { unreachable!("it describes two stages") };
        let (taps, between) = (descriptor.window.taps, descriptor.mid_channels);
        let first = self.depthwise.fold(DEPTHWISE, between, 1, taps.kernel_size)?;
        let second = self.pointwise.fold(POINTWISE, self.out_channels, between, [1, 1])?;
        let second = Arc::new(pointwise_stage(&descriptor, pointwise, &second, self.activations[1])?);
        let build = |descriptor: Descriptor| {
            let Stages::Separable(kernel, _) = descriptor.kernels else { unreachable!("it describes two stages") };
            let first = depthwise_stage(&descriptor, kernel, self.multiplier, &first, self.activations[0])?;
            let descriptor = descriptor.with_own_kernels(kernel, first.sweeps())?;
            Ok(Engine::new(descriptor, Stages::Separable(Arc::new(first), Arc::clone(&second))))
        };
        let turned = descriptor.turned().map(build).transpose()?;
        Ok(build(descriptor)?.with_twin(Label::Turned, turned))
    }

    fn descriptor(&self, isa: Isa, machine: &'static Machine) -> Result<Descriptor, Error> {
        let window = self.common.window.resolve()?;
        check_channels(self.out_channels, "the number of output channels")?;
        self.activations.into_iter().try_for_each(check_activation)?;
        self.common.check_kernels(&[Operation::Depthwise, Operation::Pointwise])?;
        let (inputs, outputs) = (self.in_channels, self.out_channels);
        let between = multiplied(inputs, self.multiplier)?;
        let kernel = self.common.depthwise_kernel(machine, isa, inputs, self.multiplier)?;
        let pointwise = self.common.pointwise_kernel(machine, isa, outputs)?;
        Ok(Descriptor {
            isa,
            machine,
            element: ElementType::F32,
            layout: self.common.layout,
            in_channels: inputs,
            mid_channels: between,
            out_channels: outputs,
            window,
            fusion: self.fusion,
            biases: [biases(&self.depthwise, between), biases(&self.pointwise, outputs)],
            forced: self.common.kernels[Operation::Depthwise as usize].is_some(),
            kernels: Stages::Separable(kernel, pointwise),
            few_pixels: self.common.of_few_pixels(pointwise),
            alike: choose::alike(kernel, ElementType::F32, window.taps, self.multiplier),
            own: Alike::default(),
        })
    }
}
