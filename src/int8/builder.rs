//! Builders of plans of 8 bits.

use alloc::sync::Arc;

use super::engine::{Engine, depthwise_price};
use super::plan::{Conv2d, DepthwiseConv2d, PointwiseConv2d, SeparableConv2d};
use super::quantized::{AskedStage, Goal, Names, Quantized, Rounding, Stage, Target, Weights};
use super::table::Table;
use crate::api::builder::{asked_isa, asked_machine, available, check_channels, geometry, multiplied};
use crate::api::weights::WeightOrder;
use crate::choose::descriptor::Stages;
use crate::geometry::{AskedWindow, Padding, Window};
use crate::machine::Machine;
use depthwise_kernels::{
    ElementType, Error, Form, Int8DepthwiseStage, Int8PointwiseStage, Isa, KernelInfo, Layout, Operation, Parameters,
    Taps, fits_int8, multiplies_wide,
};

/// What all builders hold.
#[derive(Clone, Debug)]
struct Common<'a> {
    window: AskedWindow,
    layout: Layout,
    isa: Option<Isa>,
    machine: Option<&'static Machine>,
    input: Option<Quantized>,
    target: Option<Target>,
    rounding: Rounding,
    /// Of outputs of `f32`.
    bias: Option<&'a [f32]>,
    order: WeightOrder,
    /// Those asked for, at the index of their operation.
    kernels: [Option<&'a str>; 2],
}

impl Common<'_> {
    /// A 3×3 window, until told otherwise.
    fn new() -> Self {
        let taps = Taps { kernel_size: [3, 3], stride: [1, 1], dilation: [1, 1] };
        Self {
            window: AskedWindow { taps, padding: None },
            layout: Layout::default(),
            isa: None,
            machine: None,
            input: None,
            target: None,
            rounding: Rounding::default(),
            bias: None,
            order: WeightOrder::default(),
            kernels: [None; 2],
        }
    }

    fn isa(&self) -> Result<Isa, Error> {
        Ok(asked_isa(self.isa)?.unwrap_or_else(Isa::detect_int8))
    }

    fn input(&self) -> Result<Quantized, Error> {
        let input = self
            .input
            .ok_or(Error::Missing { what: "what the numbers of the input stand for", hint: "use `input`" })?;
        input.check("the input")?;
        Ok(input)
    }

    fn target(&self) -> Result<&Target, Error> {
        let target = self.target.as_ref().ok_or(Error::Missing {
            what: "what the numbers of the output stand for",
            hint: "use `output`, `output_table`, `output_f32` or `output_sums`",
        })?;
        target.check("the output")?;
        if self.bias.is_some() && !matches!(target, Target::Real) {
            return Err(Error::NotOf8Bits { what: "a bias of f32 without outputs of f32", hint: "use `output_f32`" });
        }
        Ok(target)
    }

    fn goal(&self) -> Result<Goal<'_>, Error> {
        Ok(Goal { target: self.target()?, rounding: self.rounding, bias: self.bias })
    }

    /// The kernel asked for by name, or else the cheapest that fits, of the instruction set or else of one that it includes.
    fn kernel(
        &self,
        isa: Isa,
        operation: Operation,
        fits: impl Fn(&KernelInfo) -> bool,
        price: impl Fn(&KernelInfo) -> f64,
    ) -> Result<&'static KernelInfo, Error> {
        let rows = || {
            depthwise_kernels::table().filter(move |info| {
                (info.operation, info.element) == (operation, ElementType::I8) && isa.includes(info.isa)
            })
        };
        if let Some(name) = self.kernels[operation as usize] {
            let listed = rows().find(|info| info.name == name);
            let info = listed.ok_or_else(|| Error::UnknownKernel { name: name.into() })?;
            if !fits(info) {
                let why = "it does not compute this window, or not with such weights".into();
                return Err(Error::KernelDoesNotFit { name: info.name, why });
            }
            return Ok(info);
        }
        let rank = |info: &KernelInfo| (info.form == Form::Any, info.isa != isa);
        let best = rows()
            .filter(|info| fits(info))
            .min_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| price(a).total_cmp(&price(b))));
        best.ok_or(Error::UnavailableIsa { isa, from_environment: false })
    }

    fn depthwise_stage(
        &self,
        isa: Isa,
        taps: Taps,
        input: Quantized,
        stage: &Stage,
    ) -> Result<Int8DepthwiseStage, Error> {
        let parameters = parameters(input, stage);
        let bytes = parameters.weights_are_bytes();
        // An image whose rows are columns, and its window, are as good.
        let kernel = |taps| {
            let price = |info: &KernelInfo| depthwise_price(info, taps);
            let kernel = self.kernel(isa, Operation::Depthwise, |info| fits_int8(info, taps, bytes), price)?;
            Ok::<_, Error>((kernel, price(kernel)))
        };
        let (kernel, turned) = match (kernel(taps), kernel(taps.turned())) {
            (Ok((_, price)), Ok((kernel, of_turned))) if of_turned < price => (kernel, true),
            (Err(_), Ok((kernel, _))) => (kernel, true),
            (straight, _) => (straight?.0, false),
        };
        Int8DepthwiseStage::new(available(kernel)?, taps, turned, &parameters)
    }

    fn pointwise_stage(
        &self,
        isa: Isa,
        depth: usize,
        input: Quantized,
        stage: &Stage,
    ) -> Result<Int8PointwiseStage, Error> {
        let parameters = parameters(input, stage);
        let bytes = parameters.weights_are_bytes();
        let kernel = self.kernel(isa, Operation::Pointwise, |info| bytes || multiplies_wide(info), |_| 0.0)?;
        Int8PointwiseStage::new(available(kernel)?, depth, &parameters)
    }

    fn engine(
        &self,
        isa: Isa,
        window: Window,
        [in_channels, mid_channels, out_channels]: [usize; 3],
        stages: Stages<Arc<Int8DepthwiseStage>, Arc<Int8PointwiseStage>>,
    ) -> Result<Engine, Error> {
        Ok(Engine {
            stages,
            window,
            layout: self.layout,
            isa,
            machine: asked_machine(self.machine)?,
            in_channels,
            mid_channels,
            out_channels,
            input: self.input()?,
            target: self.target()?.clone(),
        })
    }
}

fn parameters(input: Quantized, stage: &Stage) -> Parameters<'_> {
    Parameters {
        weights: &stage.weights,
        bias: &stage.bias,
        input: input.as_input(),
        signed: input.is_signed(),
        scaling: &stage.scaling,
        ends: stage.ends,
        table: stage.table.as_deref().map(Table::entries),
    }
}

const DEPTHWISE: Names = Names {
    weights: "the depthwise weights",
    weights_hint: "use `weights`, or `depthwise_weights` of a separable convolution",
    scales: "the scales of the depthwise weights",
    bias: "the depthwise bias",
};
const POINTWISE: Names = Names {
    weights: "the pointwise weights",
    weights_hint: "use `weights`, or `pointwise_weights` of a separable convolution",
    scales: "the scales of the pointwise weights",
    bias: "the pointwise bias",
};
const STANDARD: Names = Names {
    weights: "the weights",
    weights_hint: "use `weights`",
    scales: "the scales of the weights",
    bias: "the bias",
};

/// The setters of groups of parameters, as methods of a builder.
macro_rules! setters {
    (common) => {
        /// What the numbers of the input stand for.
        pub fn input(mut self, input: Quantized) -> Self {
            self.common.input = Some(input);
            self
        }

        /// What the numbers of the output stand for.
        pub fn output(mut self, output: Quantized) -> Self {
            self.common.target = Some(Target::Numbers(output));
            self
        }

        /// What the numbers of the output stand for, by a table: sums are rounded and clamped to what its input stands for, and become
        /// what the table has for them. Instead of [`output`](Self::output).
        pub fn output_table(mut self, table: Table) -> Self {
            self.common.target = Some(Target::Table(Arc::new(table)));
            self
        }

        /// Instead of numbers of 8 bits, outputs are what the sums stand for, in `f32`: sum · (sa · sw) + bias, as of ONNX's ConvInteger
        /// and what follows it. Such plans of one stage take what the input stands for from each run: [`Run::quantized`](crate::Run::quantized).
        pub fn output_f32(mut self) -> Self {
            self.common.target = Some(Target::Real);
            self
        }

        /// A bias for each channel of outputs of `f32`. Default: none.
        pub fn bias_f32(mut self, bias: &'a [f32]) -> Self {
            self.common.bias = Some(bias);
            self
        }

        /// Instead of numbers of 8 bits, outputs are the sums, of type `i32`: bias + Σ (a − za) · (w − zw).
        pub fn output_sums(mut self) -> Self {
            self.common.target = Some(Target::Sums);
            self
        }

        /// How sums become numbers of 8 bits. Default: [`Rounding::NearestEven`].
        pub fn rounding(mut self, rounding: Rounding) -> Self {
            self.common.rounding = rounding;
            self
        }

        /// The layout of input and output. Default: [`Layout::Nchw`]; [`Layout::Nhwc`] is the faster.
        pub fn layout(mut self, layout: Layout) -> Self {
            self.common.layout = layout;
            self
        }

        /// The instruction set. It takes precedence over the environment variable `DEPTHWISE_ISA`. Default: that of the variable, or
        /// else the best that this CPU has for tensors of 8 bits. A plan may take kernels of one that it includes.
        pub fn isa(mut self, isa: Isa) -> Self {
            self.common.isa = Some(isa);
            self
        }

        /// As [`isa`](Self::isa), where there is one.
        pub fn maybe_isa(mut self, isa: Option<Isa>) -> Self {
            self.common.isa = isa.or(self.common.isa);
            self
        }

        /// The machine that runs are split for. Default: that of the environment variable `DEPTHWISE_MACHINE`, or else the one that
        /// this CPU is.
        pub fn machine(mut self, machine: &'static Machine) -> Self {
            self.common.machine = Some(machine);
            self
        }

        /// One kernel of [`kernels`](crate::kernels()), by name, instead of the one that would be chosen: to test or to measure it. Its
        /// instruction set must be the plan's, or one that it includes.
        pub fn kernel(mut self, name: &'a str) -> Self {
            let operation = if name.starts_with("pw_") { Operation::Pointwise } else { Operation::Depthwise };
            self.common.kernels[operation as usize] = Some(name);
            self
        }

        /// The order of the weights' axes. Default: PyTorch's.
        pub fn weight_order(mut self, order: WeightOrder) -> Self {
            self.common.order = order;
            self
        }
    };
    (stage $stage:ident: $weights:ident $shape:literal, $bias:ident, $clamp:ident) => {
        #[doc = concat!("The weights, of shape ", $shape, " in PyTorch's order.")]
        pub fn $weights(mut self, weights: Weights<'a>) -> Self {
            self.$stage.weights = Some(weights);
            self
        }

        /// A bias for each output channel, where the sums start: any numbers, at the scale of input times weights. Default: none.
        pub fn $bias(mut self, bias: &'a [i32]) -> Self {
            self.$stage.bias = Some(bias);
            self
        }

        /// Bounds of the outputs, such as an activation has, as numbers of their type: ReLU starts at the zero point,
        /// and [`Quantized::nearest`] gives the others. Default: the type's.
        pub fn $clamp(mut self, low: i32, high: i32) -> Self {
            self.$stage.clamp = Some([low, high]);
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
    stage: AskedStage<'a>,
}

impl<'a> DepthwiseConv2dBuilder<'a> {
    pub(crate) fn new(channels: usize) -> Self {
        Self { common: Common::new(), channels, multiplier: 1, stage: AskedStage::default() }
    }

    setters!(common);
    geometry!(window);
    geometry!(multiplier);
    setters!(stage stage: weights "`[channels * multiplier, 1, kernel height, kernel width]`", bias, clamp);

    /// The plan.
    ///
    /// # Errors
    /// If something is missing, has the wrong length or is out of range, if a sum might not fit in 32 bits, or if this CPU lacks the
    /// instruction set.
    pub fn build(&self) -> Result<DepthwiseConv2d, Error> {
        let Self { common, channels, multiplier, stage } = self;
        let outputs = multiplied(*channels, *multiplier)?;
        let (window, isa, input) = (common.window.resolve()?, common.isa()?, common.input()?);
        let lengths = (common.order, outputs, 1, window.taps.kernel_size);
        let stage = stage.resolve(DEPTHWISE, lengths, input, common.goal()?)?;
        let stage = common.depthwise_stage(isa, window.taps, input, &stage)?;
        let stages = Stages::Depthwise(Arc::new(stage));
        Ok(DepthwiseConv2d::of(common.engine(isa, window, [*channels, outputs, outputs], stages)?))
    }
}

/// Builds a [`PointwiseConv2d`].
#[derive(Clone, Debug)]
pub struct PointwiseConv2dBuilder<'a> {
    common: Common<'a>,
    channels: [usize; 2],
    stage: AskedStage<'a>,
}

impl<'a> PointwiseConv2dBuilder<'a> {
    pub(crate) fn new(in_channels: usize, out_channels: usize) -> Self {
        Self { common: Common::new(), channels: [in_channels, out_channels], stage: AskedStage::default() }
    }

    setters!(common);
    setters!(stage stage: weights "`[out_channels, in_channels]`", bias, clamp);

    /// The plan.
    ///
    /// # Errors
    /// As of a [`DepthwiseConv2dBuilder`].
    pub fn build(&self) -> Result<PointwiseConv2d, Error> {
        let Self { common, channels: [inputs, outputs], stage } = self;
        check_channels(*inputs, "the number of input channels")?;
        check_channels(*outputs, "the number of output channels")?;
        let (isa, input) = (common.isa()?, common.input()?);
        let lengths = (common.order, *outputs, *inputs, [1, 1]);
        let stage = stage.resolve(POINTWISE, lengths, input, common.goal()?)?;
        let stages = Stages::Pointwise(Arc::new(common.pointwise_stage(isa, *inputs, input, &stage)?));
        Ok(PointwiseConv2d::of(common.engine(isa, Window::POINT, [*inputs, *inputs, *outputs], stages)?))
    }
}

/// Builds a [`SeparableConv2d`].
#[derive(Clone, Debug)]
pub struct SeparableConv2dBuilder<'a> {
    common: Common<'a>,
    channels: [usize; 2],
    multiplier: usize,
    first: AskedStage<'a>,
    between: Option<Target>,
    second: AskedStage<'a>,
}

impl<'a> SeparableConv2dBuilder<'a> {
    pub(crate) fn new(in_channels: usize, out_channels: usize) -> Self {
        let channels = [in_channels, out_channels];
        let (first, second) = (AskedStage::default(), AskedStage::default());
        Self { common: Common::new(), channels, multiplier: 1, first, between: None, second }
    }

    setters!(common);
    geometry!(window);
    geometry!(multiplier);
    setters!(stage first: depthwise_weights "`[in_channels * multiplier, 1, kernel height, kernel width]`", depthwise_bias, depthwise_clamp);
    setters!(stage second: pointwise_weights "`[out_channels, in_channels * multiplier]`", bias, clamp);

    /// What the numbers between the stages stand for.
    pub fn between(mut self, between: Quantized) -> Self {
        self.between = Some(Target::Numbers(between));
        self
    }

    /// What the numbers between the stages stand for, by a table, as of [`output_table`](Self::output_table).
    pub fn between_table(mut self, table: Table) -> Self {
        self.between = Some(Target::Table(Arc::new(table)));
        self
    }

    /// The plan.
    ///
    /// # Errors
    /// As of a [`DepthwiseConv2dBuilder`].
    pub fn build(&self) -> Result<SeparableConv2d, Error> {
        let Self { common, channels: [inputs, outputs], multiplier, first, between, second } = self;
        let mid = multiplied(*inputs, *multiplier)?;
        check_channels(*outputs, "the number of output channels")?;
        let (window, isa, input) = (common.window.resolve()?, common.isa()?, common.input()?);
        let target = between.as_ref().ok_or(Error::Missing {
            what: "what the numbers between the stages stand for",
            hint: "use `between`, or `between_table`",
        })?;
        target.check("what is between the stages")?;
        let between = match target {
            Target::Table(table) => table.output(),
            Target::Numbers(numbers) => *numbers,
            Target::Sums | Target::Real => unreachable!("no setter says so"),
        };
        let lengths = (common.order, mid, 1, window.taps.kernel_size);
        let first = first.resolve(DEPTHWISE, lengths, input, Goal { target, rounding: common.rounding, bias: None })?;
        let lengths = (common.order, *outputs, mid, [1, 1]);
        let second = second.resolve(POINTWISE, lengths, between, common.goal()?)?;
        let first = common.depthwise_stage(isa, window.taps, input, &first)?;
        let second = common.pointwise_stage(isa, mid, between, &second)?;
        let stages = Stages::Separable(Arc::new(first), Arc::new(second));
        Ok(SeparableConv2d::of(common.engine(isa, window, [*inputs, mid, *outputs], stages)?))
    }
}

/// Builds a [`Conv2d`].
#[derive(Clone, Debug)]
pub struct Conv2dBuilder<'a> {
    common: Common<'a>,
    channels: [usize; 2],
    stage: AskedStage<'a>,
}

impl<'a> Conv2dBuilder<'a> {
    pub(crate) fn new(in_channels: usize, out_channels: usize) -> Self {
        Self { common: Common::new(), channels: [in_channels, out_channels], stage: AskedStage::default() }
    }

    setters!(common);
    geometry!(window);
    setters!(stage stage: weights "`[out_channels, in_channels, kernel height, kernel width]`", bias, clamp);

    /// The plan.
    ///
    /// # Errors
    /// As of a [`DepthwiseConv2dBuilder`].
    pub fn build(&self) -> Result<Conv2d, Error> {
        let Self { common, channels: [inputs, outputs], stage } = self;
        check_channels(*inputs, "the number of input channels")?;
        check_channels(*outputs, "the number of output channels")?;
        let (window, isa, input) = (common.window.resolve()?, common.isa()?, common.input()?);
        let taps = window.taps.kernel_size;
        let lengths = (common.order, *outputs, *inputs, taps);
        let stage = stage.resolve(STANDARD, lengths, input, common.goal()?)?;
        // Checked with the number of weights.
        let depth = inputs * taps[0] * taps[1];
        let stage = Arc::new(common.pointwise_stage(isa, depth, input, &stage)?);
        let stages = if window.is_point() { Stages::Pointwise(stage) } else { Stages::Gathered(stage) };
        Ok(Conv2d::of(common.engine(isa, window, [*inputs, depth, *outputs], stages)?))
    }
}
