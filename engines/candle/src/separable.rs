//! A depthwise and a pointwise convolution as one module.

use std::sync::Arc;

use candle_core::{Module, Result, Tensor};
use depthwise::Layout;

use crate::conv::{Conv2d, Layer, Planned};
use crate::plan::Plan;

/// A depthwise convolution and the pointwise one after it, each with its activation, in one pass over memory where that pays.
///
/// ```
/// use candle_core::{DType, Device, Module, Tensor};
/// use candle_nn::{Activation::Relu6, Conv2dConfig, VarBuilder};
/// use depthwise_candle::{Layout, SeparableConv2d, conv2d};
///
/// let (dtype, device) = (DType::F32, Device::Cpu);
/// let vb = VarBuilder::zeros(dtype, &device);
/// let config = Conv2dConfig { padding: 1, groups: 8, ..Default::default() };
/// let depthwise = conv2d(8, 8, 3, config, vb.pp("depthwise"))?.with_activation(Relu6);
/// let pointwise = conv2d(8, 16, 1, Default::default(), vb.pp("pointwise"))?.with_activation(Relu6);
/// let pair = SeparableConv2d::new(depthwise, pointwise).with_layout(Layout::Nhwc);
/// assert_eq!(pair.fallback(), None);
/// let y = pair.forward(&Tensor::ones((1, 8, 5, 5), dtype, &device)?)?;
/// assert_eq!(y.dims(), [1, 16, 5, 5]);
/// # Ok::<(), candle_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SeparableConv2d {
    stages: [Conv2d; 2],
    /// Or why there is none.
    plan: std::result::Result<Plan, Arc<str>>,
}

impl SeparableConv2d {
    /// The two, one after the other. The layout is that of the second.
    ///
    /// Where there is no plan for both, they run one after the other, each as it would alone: see [`fallback`](Self::fallback).
    pub fn new(depthwise: Conv2d, pointwise: Conv2d) -> Self {
        let (first, second, layout) = (&depthwise.0, &pointwise.0, pointwise.0.layout);
        let (between, left) = first.activation.split();
        let plan = match left {
            Some(activation) => Err(format!("the first activation, {activation:?}, is none of a plan's")),
            None => {
                let activations = [between, second.activation.split().0];
                Plan::pair([&first.layer.spec(), &second.layer.spec()], activations, layout)
            }
        };
        let mut stages = [depthwise, pointwise];
        // The pair's plan has packed weights of its own.
        if plan.is_ok() {
            stages = stages.map(|stage| Conv2d(Planned::without_plan(stage.0)));
        }
        Self { stages, plan: plan.map_err(Arc::from) }
    }

    /// The same pair with outputs of this layout: see [`Conv2d::with_layout`].
    pub fn with_layout(self, layout: Layout) -> Self {
        let [depthwise, pointwise] = self.stages.map(|stage| stage.with_layout(layout));
        Self::new(depthwise, pointwise)
    }

    /// `activation(convolutions + residual)`. The residual has the output's shape.
    ///
    /// # Errors
    /// If a shape, type or device does not fit.
    pub fn forward_with_residual(&self, x: &Tensor, residual: &Tensor) -> Result<Tensor> {
        self.run(x, Some(residual))
    }

    /// Why there is no plan for both, if so.
    pub fn fallback(&self) -> Option<&str> {
        self.plan.as_ref().err().map(|why| &**why)
    }

    /// The two modules. If the pair has a plan, these have none of their own.
    pub fn stages(&self) -> [&Conv2d; 2] {
        self.stages.each_ref()
    }

    fn run(&self, x: &Tensor, residual: Option<&Tensor>) -> Result<Tensor> {
        let [first, second] = &self.stages;
        match &self.plan {
            Ok(plan) if plan.takes(x) && residual.is_none_or(|residual| plan.takes(residual)) => {
                let y = plan.forward(x, residual)?;
                match second.0.activation.split().1 {
                    None => Ok(y),
                    Some(activation) => activation.forward(&y),
                }
            }
            _ => second.0.forward(&first.forward(x)?, residual),
        }
    }
}

impl Module for SeparableConv2d {
    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.run(x, None)
    }
}
