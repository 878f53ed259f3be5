//! The modules of one convolution each.

use std::sync::Arc;

use candle_core::{Module, Result, Tensor};
use candle_nn::{BatchNorm, Conv1dConfig, Conv2dConfig, VarBuilder};
use depthwise::Layout;

use crate::activation::Activation;
use crate::plan::{Plan, Spec};

/// A layer of candle that there can be a plan for.
pub(crate) trait Layer: Module + Clone {
    fn spec(&self) -> Spec<'_>;

    /// The same with other parameters.
    fn with(&self, weight: Tensor, bias: Tensor) -> Self;
}

impl Layer for candle_nn::Conv2d {
    fn spec(&self) -> Spec<'_> {
        let Conv2dConfig { padding, stride, dilation, groups, .. } = *self.config();
        let kernel_size = match *self.weight().dims() {
            [_, _, kh, kw] => [kh, kw],
            _ => [0, 0],
        };
        Spec {
            weight: self.weight(),
            bias: self.bias(),
            kernel_size,
            stride: [stride; 2],
            padding: [padding; 2],
            dilation: [dilation; 2],
            groups,
        }
    }

    fn with(&self, weight: Tensor, bias: Tensor) -> Self {
        Self::new(weight, Some(bias), *self.config())
    }
}

impl Layer for candle_nn::Conv1d {
    fn spec(&self) -> Spec<'_> {
        let Conv1dConfig { padding, stride, dilation, groups, .. } = *self.config();
        let kernel_size = match *self.weight().dims() {
            [_, _, k] => [1, k],
            _ => [0, 0],
        };
        Spec {
            weight: self.weight(),
            bias: self.bias(),
            kernel_size,
            stride: [1, stride],
            padding: [0, padding],
            dilation: [1, dilation],
            groups,
        }
    }

    fn with(&self, weight: Tensor, bias: Tensor) -> Self {
        Self::new(weight, Some(bias), *self.config())
    }
}

/// What the modules have in common: candle's layer, and the plan that computes it.
#[derive(Clone, Debug)]
pub(crate) struct Planned<L> {
    pub(crate) layer: L,
    pub(crate) activation: Activation,
    pub(crate) layout: Layout,
    /// Or why there is none.
    plan: std::result::Result<Plan, Arc<str>>,
}

impl<L: Layer> Planned<L> {
    fn new(layer: L, activation: Activation, layout: Layout) -> Self {
        let plan = Plan::new(&layer.spec(), activation.split().0, layout).map_err(Arc::from);
        Self { layer, activation, layout, plan }
    }

    /// The same without a plan of its own.
    pub(crate) fn without_plan(self) -> Self {
        Self { plan: Err("the plan of the pair computes it".into()), ..self }
    }

    pub(crate) fn forward(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let Ok(plan) = &self.plan else { return self.by_candle(x, residual) };
        if !plan.takes(x) || residual.is_some_and(|residual| !plan.takes(residual)) {
            return self.by_candle(x, residual);
        }
        let y = plan.forward(x, residual)?;
        match self.activation.split().1 {
            None => Ok(y),
            Some(activation) => activation.forward(&y),
        }
    }

    fn by_candle(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let y = self.layer.forward(x)?;
        self.activation.by_candle(match residual {
            None => y,
            Some(residual) => (y + residual)?,
        })
    }

    fn absorb(&self, bn: &BatchNorm) -> Result<Self> {
        let Spec { weight, bias, .. } = self.layer.spec();
        let (mean, variance) = (bn.running_mean().detach(), bn.running_var().detach());
        let outputs = weight.dim(0)?;
        if mean.elem_count() != outputs {
            candle_core::bail!(
                "the batch norm has {} channels, the convolution before it has {outputs}",
                mean.elem_count()
            )
        }
        let mut scale = (variance + bn.eps())?.sqrt()?.recip()?;
        if let Some((gamma, _)) = bn.weight_and_bias() {
            scale = (scale * gamma)?;
        }
        let shift = match bias {
            None => mean.neg()?,
            Some(bias) => (bias - mean)?,
        };
        let mut shift = (shift * &scale)?;
        if let Some((_, beta)) = bn.weight_and_bias() {
            shift = (shift + beta)?;
        }
        let mut extents = vec![1; weight.rank()];
        extents[0] = outputs;
        let weight = weight.broadcast_mul(&scale.reshape(extents)?)?;
        Ok(Self::new(self.layer.with(weight, shift), self.activation, self.layout))
    }
}

/// The modules' methods, which differ in the layer alone.
macro_rules! module {
    ($(#[$doc:meta])* $module:ident, $config:ident, $shape:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub struct $module(pub(crate) Planned<candle_nn::$module>);

        impl $module {
            #[doc = concat!("A layer as `candle_nn::", stringify!($module), "::new` makes it.")]
            ///
            /// The plan packs the weights here, once. They count as constants: gradients do not reach them.
            pub fn new(weight: Tensor, bias: Option<Tensor>, config: $config) -> Self {
                candle_nn::$module::new(weight, bias, config).into()
            }

            /// The same layer with an activation after it, in place of what was there.
            pub fn with_activation(self, activation: impl Into<Activation>) -> Self {
                Self(Planned::new(self.0.layer, activation.into(), self.0.layout))
            }

            #[doc = concat!("The same layer with outputs of this layout. Their shape is ", $shape, " in either.")]
            ///
            /// `Layout::Nchw`, the default, gives contiguous outputs, as candle does. `Layout::Nhwc` gives outputs whose channels are
            /// neighbours in memory, and takes such inputs without a copy: it is the faster one where such layers follow each other. Other
            /// operations of candle are slower on such tensors.
            pub fn with_layout(self, layout: Layout) -> Self {
                Self(Planned::new(self.0.layer, self.0.activation, layout))
            }

            /// The same layer with a batch norm, of inference, between the convolution and its activation. It is folded into weights
            /// and bias.
            ///
            /// # Errors
            /// If the batch norm has not the convolution's number of output channels, or another type of elements.
            pub fn absorb_bn(&self, bn: &BatchNorm) -> Result<Self> {
                self.0.absorb(bn).map(Self)
            }

            /// `activation(convolution + residual)`. The residual has the output's shape.
            ///
            /// # Errors
            /// If a shape, type or device does not fit.
            pub fn forward_with_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
                self.0.forward(x, Some(residual))
            }

            /// Why candle computes this layer, if no plan can: the number of groups, the type or the device of its weights, or a
            /// variable among them.
            ///
            /// A layer with a plan still leaves to candle what is of another device or type, and inputs that gradients are asked for.
            pub fn fallback(&self) -> Option<&str> {
                self.0.plan.as_ref().err().map(|why| &**why)
            }

            /// The weights, with any batch norm folded in.
            pub fn weight(&self) -> &Tensor {
                self.0.layer.weight()
            }

            /// The bias, with any batch norm folded in.
            pub fn bias(&self) -> Option<&Tensor> {
                self.0.layer.bias()
            }

            /// Stride, padding, dilation, groups.
            pub fn config(&self) -> &$config {
                self.0.layer.config()
            }

            /// What follows the convolution.
            pub fn activation(&self) -> Activation {
                self.0.activation
            }

            /// The layout of the outputs.
            pub fn layout(&self) -> Layout {
                self.0.layout
            }
        }

        impl From<candle_nn::$module> for $module {
            fn from(layer: candle_nn::$module) -> Self {
                Self(Planned::new(layer, Activation::default(), Layout::default()))
            }
        }

        impl From<&candle_nn::$module> for $module {
            fn from(layer: &candle_nn::$module) -> Self {
                layer.clone().into()
            }
        }

        impl Module for $module {
            fn forward(&self, x: &Tensor) -> Result<Tensor> {
                self.0.forward(x, None)
            }
        }
    };
}

module!(
    /// A 2-D convolution in place of `candle_nn::Conv2d`: the same calls, computed by a plan of `depthwise`.
    ///
    /// Inputs may have any strides. Those whose rows (`Layout::Nchw`) or channels (`Layout::Nhwc`) are not neighbours in memory are copied.
    ///
    /// ```
    /// use candle_core::{DType, Device, Module, Tensor};
    /// use candle_nn::{Conv2dConfig, VarBuilder};
    /// use depthwise_candle::conv2d;
    ///
    /// let (dtype, device) = (DType::F32, Device::Cpu);
    /// let vb = VarBuilder::zeros(dtype, &device);
    /// let config = Conv2dConfig { padding: 1, groups: 8, ..Default::default() };
    /// let conv = conv2d(8, 8, 3, config, vb)?.with_activation(candle_nn::Activation::Relu6);
    /// assert_eq!(conv.fallback(), None);
    /// let y = conv.forward(&Tensor::ones((1, 8, 5, 5), dtype, &device)?)?;
    /// assert_eq!(y.dims(), [1, 8, 5, 5]);
    /// # Ok::<(), candle_core::Error>(())
    /// ```
    Conv2d, Conv2dConfig, "`[batch, channels, height, width]`"
);

module!(
    /// A 1-D convolution in place of `candle_nn::Conv1d`: the same calls, computed by a plan of `depthwise` for maps of one row.
    Conv1d, Conv1dConfig, "`[batch, channels, length]`"
);

/// As `candle_nn::conv2d`: weights and bias by the names `weight` and `bias`.
///
/// # Errors
/// If the builder has no such tensors.
pub fn conv2d(inputs: usize, outputs: usize, kernel: usize, config: Conv2dConfig, vb: VarBuilder) -> Result<Conv2d> {
    Ok(candle_nn::conv2d(inputs, outputs, kernel, config, vb)?.into())
}

/// As `candle_nn::conv2d_no_bias`: weights by the name `weight`.
///
/// # Errors
/// If the builder has no such tensor.
pub fn conv2d_no_bias(
    inputs: usize,
    outputs: usize,
    kernel: usize,
    config: Conv2dConfig,
    vb: VarBuilder,
) -> Result<Conv2d> {
    Ok(candle_nn::conv2d_no_bias(inputs, outputs, kernel, config, vb)?.into())
}

/// As `candle_nn::conv1d`: weights and bias by the names `weight` and `bias`.
///
/// # Errors
/// If the builder has no such tensors.
pub fn conv1d(inputs: usize, outputs: usize, kernel: usize, config: Conv1dConfig, vb: VarBuilder) -> Result<Conv1d> {
    Ok(candle_nn::conv1d(inputs, outputs, kernel, config, vb)?.into())
}

/// As `candle_nn::conv1d_no_bias`: weights by the name `weight`.
///
/// # Errors
/// If the builder has no such tensor.
pub fn conv1d_no_bias(
    inputs: usize,
    outputs: usize,
    kernel: usize,
    config: Conv1dConfig,
    vb: VarBuilder,
) -> Result<Conv1d> {
    Ok(candle_nn::conv1d_no_bias(inputs, outputs, kernel, config, vb)?.into())
}
