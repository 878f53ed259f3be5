//! What follows a convolution, element by element.

use candle_core::{Module, Result, Tensor};

/// What follows a convolution, element by element: one of `candle_nn`, one of `depthwise`, or a clamp.
///
/// ```
/// use depthwise_candle::Activation;
///
/// let relu6 = Activation::from(candle_nn::Activation::Relu6);
/// let clamp = Activation::clamp(0.0, 6.0);
/// assert!(relu6.in_plan() && clamp.in_plan());
/// assert!(!Activation::from(candle_nn::Activation::Elu(1.0)).in_plan());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Activation(Kind);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Plan(depthwise::Activation),
    Candle(candle_nn::Activation),
}

impl Activation {
    /// min(max(x, min), max). Where no number lies between them, candle computes the layer.
    pub fn clamp(min: f32, max: f32) -> Self {
        depthwise::Activation::Clamp { min, max }.into()
    }

    /// Whether the plan computes it, as it stores the convolution's outputs. What it lacks, candle computes after it: ELU, GELU by
    /// the approximation with tanh, squared ReLU, and SwiGLU.
    pub fn in_plan(&self) -> bool {
        matches!(self.0, Kind::Plan(_))
    }

    /// That of the plan, and that of candle after it.
    pub(crate) fn split(self) -> (depthwise::Activation, Option<candle_nn::Activation>) {
        match self.0 {
            Kind::Plan(activation) => (activation, None),
            Kind::Candle(activation) => (depthwise::Activation::None, Some(activation)),
        }
    }

    /// All of it by candle.
    pub(crate) fn by_candle(self, x: Tensor) -> Result<Tensor> {
        use candle_nn::Activation as Candle;
        use depthwise::Activation as Plan;
        let same = match self.0 {
            Kind::Candle(activation) => activation,
            Kind::Plan(Plan::None) => return Ok(x),
            Kind::Plan(Plan::Clamp { min, max }) => return x.clamp(min, max),
            Kind::Plan(Plan::Tanh) => return x.tanh(),
            Kind::Plan(Plan::Relu) => Candle::Relu,
            Kind::Plan(Plan::Relu6) => Candle::Relu6,
            Kind::Plan(Plan::LeakyRelu { slope }) => Candle::LeakyRelu(f64::from(slope)),
            Kind::Plan(Plan::HardSwish) => Candle::HardSwish,
            Kind::Plan(Plan::HardSigmoid) => Candle::HardSigmoid,
            Kind::Plan(Plan::Sigmoid) => Candle::Sigmoid,
            Kind::Plan(Plan::Silu) => Candle::Silu,
            Kind::Plan(Plan::Gelu) => Candle::Gelu,
            Kind::Plan(Plan::Mish) => Candle::Mish,
            Kind::Plan(other) => candle_core::bail!("candle has no activation {other:?}, and this layer needs candle"),
        };
        same.forward(&x)
    }
}

impl Default for Activation {
    /// None.
    fn default() -> Self {
        depthwise::Activation::None.into()
    }
}

impl From<depthwise::Activation> for Activation {
    fn from(activation: depthwise::Activation) -> Self {
        Self(Kind::Plan(activation))
    }
}

impl From<candle_nn::Activation> for Activation {
    fn from(activation: candle_nn::Activation) -> Self {
        use candle_nn::Activation as Candle;
        use depthwise::Activation as Plan;
        Self(match activation {
            Candle::Relu => Kind::Plan(Plan::Relu),
            Candle::Relu6 => Kind::Plan(Plan::Relu6),
            Candle::LeakyRelu(slope) => Kind::Plan(Plan::LeakyRelu { slope: slope as f32 }),
            Candle::HardSwish => Kind::Plan(Plan::HardSwish),
            Candle::HardSigmoid => Kind::Plan(Plan::HardSigmoid),
            Candle::Sigmoid => Kind::Plan(Plan::Sigmoid),
            Candle::Silu | Candle::Swish => Kind::Plan(Plan::Silu),
            Candle::Gelu => Kind::Plan(Plan::Gelu),
            Candle::Mish => Kind::Plan(Plan::Mish),
            other => Kind::Candle(other),
        })
    }
}
