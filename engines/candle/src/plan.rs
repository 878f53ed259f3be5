//! A plan of `depthwise` as an operation of candle.

use std::sync::Arc;

use candle_core::{
    CpuStorage, CustomOp1, CustomOp2, DType, Layout as CandleLayout, Result, Shape as CandleShape, Tensor, WithDType,
};
use depthwise::{
    Activation, AnyConv2d, Convolution, Element, Layout, Padding, Parallelism, SeparableConv2d, Shape, Strides,
    TensorView, Workspace,
};

/// A convolution's parameters, as candle has them. Pairs are `[height, width]`.
pub(crate) struct Spec<'a> {
    pub(crate) weight: &'a Tensor,
    pub(crate) bias: Option<&'a Tensor>,
    pub(crate) kernel_size: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) padding: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) groups: usize,
}

impl Spec<'_> {
    /// The channels of input and output.
    pub(crate) fn channels(&self) -> [usize; 2] {
        let dims = self.weight.dims();
        [dims.get(1).map_or(0, |inputs| inputs * self.groups), dims.first().copied().unwrap_or(0)]
    }

    /// Whether it mixes the channels of a pixel, and nothing else.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.groups == 1 && self.kernel_size == [1, 1] && self.stride == [1, 1] && self.padding == [0, 0]
    }

    fn sides(&self) -> Padding {
        Padding::symmetric(self.padding[0], self.padding[1])
    }

    /// Weights and bias, or why there is no plan for them.
    fn parameters(&self) -> std::result::Result<(Vec<f32>, Option<Vec<f32>>), String> {
        let dtype = self.weight.dtype();
        for (what, tensor) in std::iter::once(("weight", self.weight)).chain(self.bias.map(|bias| ("bias", bias))) {
            if !tensor.device().is_cpu() {
                return Err(format!("its {what} is on the device {:?}, and plans are for CPUs", tensor.device()));
            }
            if tensor.is_variable() {
                return Err(format!("its {what} is a variable, which may change: `detach()` it for inference"));
            }
            if tensor.dtype() != dtype {
                return Err(format!("its weight is {dtype:?} and its {what} is {:?}", tensor.dtype()));
            }
        }
        let floats = |tensor: &Tensor| {
            let floats = tensor.to_dtype(DType::F32).and_then(|tensor| tensor.flatten_all()?.to_vec1());
            floats.map_err(|error| error.to_string())
        };
        Ok((floats(self.weight)?, self.bias.map(floats).transpose()?))
    }
}

/// A plan for any type of elements that candle and `depthwise` both have.
#[derive(Clone, Debug)]
enum Elements {
    F32(Arc<dyn Convolution>),
    #[cfg(feature = "half")]
    F16(Arc<dyn Convolution<depthwise::f16>>),
    #[cfg(feature = "half")]
    BF16(Arc<dyn Convolution<depthwise::bf16>>),
}

/// Builds a plan for elements of that type, or says that there is none.
macro_rules! build {
    ($dtype:expr, $builder:expr) => {
        match $dtype {
            DType::F32 => $builder.build_as().map(|plan| Elements::F32(Arc::new(plan))).map_err(|e| e.to_string()),
            #[cfg(feature = "half")]
            DType::F16 => $builder.build_as().map(|plan| Elements::F16(Arc::new(plan))).map_err(|e| e.to_string()),
            #[cfg(feature = "half")]
            DType::BF16 => $builder.build_as().map(|plan| Elements::BF16(Arc::new(plan))).map_err(|e| e.to_string()),
            #[cfg(not(feature = "half"))]
            DType::F16 | DType::BF16 => {
                Err(format!("its weight is {:?}: plans for that need the feature `half`", $dtype))
            }
            other => Err(format!("its weight is {other:?}, and plans are for F32, F16 and BF16")),
        }
    };
}

/// A plan, and how its output lies in memory.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    elements: Elements,
    layout: Layout,
    /// The axes of its tensors: 3 have no rows.
    rank: usize,
}

impl Plan {
    /// A plan for one convolution, or why there is none.
    pub(crate) fn new(spec: &Spec<'_>, activation: Activation, layout: Layout) -> std::result::Result<Self, String> {
        let (weights, bias) = spec.parameters()?;
        let (bias, [inputs, outputs]) = (bias.as_deref(), spec.channels());
        let dtype = spec.weight.dtype();
        let builder = AnyConv2d::builder(inputs, outputs, spec.groups).layout(layout);
        let builder = builder.kernel_size(spec.kernel_size).stride(spec.stride).dilation(spec.dilation);
        let builder = builder.padding(spec.sides()).weights(&weights).maybe_bias(bias).activation(activation);
        Ok(Self { elements: build!(dtype, builder)?, layout, rank: spec.weight.rank() })
    }

    /// A plan for a depthwise convolution and the pointwise one after it, or why there is none.
    pub(crate) fn pair(
        [depthwise, pointwise]: [&Spec<'_>; 2],
        [between, after]: [Activation; 2],
        layout: Layout,
    ) -> std::result::Result<Self, String> {
        let [inputs, middle] = depthwise.channels();
        let [mixed, outputs] = pointwise.channels();
        if depthwise.groups != inputs || inputs == 0 || !middle.is_multiple_of(inputs) {
            return Err(format!(
                "the first convolution has {} groups of {inputs} channels, and a depthwise one has a group for each channel",
                depthwise.groups
            ));
        }
        if !pointwise.is_pointwise() {
            let ([kh, kw], [sh, sw], [ph, pw]) = (pointwise.kernel_size, pointwise.stride, pointwise.padding);
            return Err(format!(
                "the second convolution is {kh}x{kw} with stride {sh}x{sw}, padding {ph}x{pw} and {} groups, not pointwise",
                pointwise.groups
            ));
        }
        if mixed != middle {
            return Err(format!("the first convolution gives {middle} channels, the second takes {mixed}"));
        }
        let dtype = depthwise.weight.dtype();
        if pointwise.weight.dtype() != dtype {
            return Err(format!("the convolutions' weights are {dtype:?} and {:?}", pointwise.weight.dtype()));
        }
        let [first, second] = [depthwise.parameters()?, pointwise.parameters()?];
        let builder = SeparableConv2d::builder(inputs, outputs).channel_multiplier(middle / inputs).layout(layout);
        let builder = builder.kernel_size(depthwise.kernel_size).stride(depthwise.stride).dilation(depthwise.dilation);
        let builder = builder.padding(depthwise.sides());
        let builder = builder.depthwise_weights(&first.0).maybe_depthwise_bias(first.1.as_deref());
        let builder = builder.depthwise_activation(between);
        let builder = builder.pointwise_weights(&second.0).maybe_bias(second.1.as_deref()).activation(after);
        Ok(Self { elements: build!(dtype, builder)?, layout, rank: depthwise.weight.rank() })
    }

    /// Whether it computes what candle would, of that input: gradients are candle's alone.
    pub(crate) fn takes(&self, x: &Tensor) -> bool {
        let dtype = match self.elements {
            Elements::F32(_) => DType::F32,
            #[cfg(feature = "half")]
            Elements::F16(_) => DType::F16,
            #[cfg(feature = "half")]
            Elements::BF16(_) => DType::BF16,
        };
        x.rank() == self.rank && x.dtype() == dtype && x.device().is_cpu() && !x.track_op()
    }

    /// The convolution of `x`, plus the residual, then the activation. Axes are as candle has them; the output's strides are those of
    /// the plan's layout.
    pub(crate) fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let x = self.arranged(x)?;
        let y = match residual {
            None => x.apply_op1_no_bwd(self)?,
            Some(residual) => x.apply_op2_no_bwd(&self.arranged(residual)?, self)?,
        };
        match (self.layout, self.rank) {
            (Layout::Nhwc, 4) => y.permute((0, 3, 1, 2)),
            (Layout::Nhwc, 3) => y.permute((0, 2, 1)),
            _ => Ok(y),
        }
    }

    /// The tensor with neighbours along the layout's last axis: itself, if it has them.
    fn arranged(&self, x: &Tensor) -> Result<Tensor> {
        let last = match self.layout {
            Layout::Nchw => self.rank - 1,
            Layout::Nhwc => 1,
        };
        let lies = |(&extent, &stride)| extent <= 1 || stride == 1;
        if x.dims().iter().zip(x.stride()).nth(last).is_none_or(lies) {
            return Ok(x.clone());
        }
        match (self.layout, self.rank) {
            (Layout::Nhwc, 4) => x.permute((0, 2, 3, 1))?.contiguous()?.permute((0, 3, 1, 2)),
            (Layout::Nhwc, 3) => x.permute((0, 2, 1))?.contiguous()?.permute((0, 2, 1)),
            _ => x.contiguous(),
        }
    }

    fn run(&self, input: Stored<'_>, residual: Option<Stored<'_>>) -> Result<(CpuStorage, CandleShape)> {
        match &self.elements {
            Elements::F32(plan) => run(plan.as_ref(), input, residual),
            #[cfg(feature = "half")]
            Elements::F16(plan) => run(plan.as_ref(), input, residual),
            #[cfg(feature = "half")]
            Elements::BF16(plan) => run(plan.as_ref(), input, residual),
        }
    }
}

impl CustomOp1 for Plan {
    fn name(&self) -> &'static str {
        "depthwise"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &CandleLayout) -> Result<(CpuStorage, CandleShape)> {
        self.run((x, layout), None)
    }
}

impl CustomOp2 for Plan {
    fn name(&self) -> &'static str {
        "depthwise-residual"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        layout: &CandleLayout,
        residual: &CpuStorage,
        residual_layout: &CandleLayout,
    ) -> Result<(CpuStorage, CandleShape)> {
        self.run((x, layout), Some((residual, residual_layout)))
    }
}

type Stored<'a> = (&'a CpuStorage, &'a CandleLayout);

fn run<E: Element + WithDType>(
    plan: &dyn Convolution<E>,
    input: Stored<'_>,
    residual: Option<Stored<'_>>,
) -> Result<(CpuStorage, CandleShape)> {
    let wrap = |error: depthwise::Error| candle_core::Error::wrap(error);
    let rank = input.1.dims().len();
    let (input, residual) = (view(input)?, residual.map(view).transpose()?);
    let Shape { n, c, h, w } = plan.output_shape(input.shape()).map_err(wrap)?;
    let run = |workspace: &mut Workspace| plan.run_to_vec(input, residual, workspace, Parallelism::Rayon);
    let data = Workspace::with_thread(run).map_err(wrap)?;
    let dims = match (plan.layout(), rank) {
        (Layout::Nchw, 3) => vec![n, c, w],
        (Layout::Nchw, _) => vec![n, c, h, w],
        (Layout::Nhwc, 3) => vec![n, w, c],
        (Layout::Nhwc, _) => vec![n, h, w, c],
    };
    Ok((E::to_cpu_storage_owned(data), dims.into()))
}

/// The tensor, whose rows are one if it has no axis of them.
fn view<'a, E: Element + WithDType>((storage, layout): Stored<'a>) -> Result<TensorView<'a, E>> {
    let data = storage.as_slice::<E>()?.get(layout.start_offset()..).unwrap_or_default();
    let (shape, strides) = match (layout.dims(), layout.stride()) {
        (&[n, c, h, w], &[sn, sc, sh, sw]) => (Shape::new(n, c, h, w), Strides { n: sn, c: sc, h: sh, w: sw }),
        (&[n, c, w], &[sn, sc, sw]) => (Shape::new(n, c, 1, w), Strides { n: sn, c: sc, h: 0, w: sw }),
        (dims, _) => candle_core::bail!("a tensor of shape {dims:?}, where a convolution takes 3 or 4 axes"),
    };
    TensorView::strided(data, shape, strides).map_err(candle_core::Error::wrap)
}
