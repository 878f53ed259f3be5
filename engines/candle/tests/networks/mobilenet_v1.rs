//! MobileNetV1 1.0/224 (Howard and others, 2017), batch norms unfolded, by candle alone and with the modules of this crate.

use candle_core::{Module, Result, Tensor};
use candle_nn::{Activation, BatchNorm, Conv2d, Conv2dConfig, Linear, ModuleT, VarBuilder};
use depthwise_candle::{Layout, SeparableConv2d};

/// Output channels and stride of each block.
const BLOCKS: [(usize, usize); 13] = [
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
];

/// A convolution of candle, its batch norm, ReLU6.
struct Unit {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Unit {
    fn new(channels: [usize; 2], kernel: usize, stride: usize, groups: usize, vb: VarBuilder) -> Result<Self> {
        let config = Conv2dConfig { padding: kernel / 2, stride, groups, ..Default::default() };
        let conv = candle_nn::conv2d_no_bias(channels[0], channels[1], kernel, config, vb.pp("conv"))?;
        Ok(Self { conv, norm: candle_nn::batch_norm(channels[1], 1e-3, vb.pp("norm"))? })
    }
}

/// The whole network, by candle.
pub struct MobileNetV1 {
    units: Vec<Unit>,
    classifier: Linear,
}

/// How much of the network this crate computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    /// The depthwise convolutions with their batch norms; ReLU6 by candle.
    Depthwise,
    /// All convolutions with their batch norms; ReLU6 by candle.
    Convolutions,
    /// ReLU6 too.
    Activations,
    /// And depthwise with pointwise convolutions as pairs.
    Pairs,
}

impl MobileNetV1 {
    pub fn new(vb: VarBuilder) -> Result<Self> {
        let mut units = vec![Unit::new([3, 32], 3, 2, 1, vb.pp("stem"))?];
        let mut inputs = 32;
        for (index, (outputs, stride)) in BLOCKS.into_iter().enumerate() {
            let vb = vb.pp(format!("block{index}"));
            units.push(Unit::new([inputs, inputs], 3, stride, inputs, vb.pp("depthwise"))?);
            units.push(Unit::new([inputs, outputs], 1, 1, 1, vb.pp("pointwise"))?);
            inputs = outputs;
        }
        Ok(Self { units, classifier: candle_nn::linear(inputs, 1000, vb.pp("classifier"))? })
    }

    /// By candle, each layer as it is.
    pub fn unfolded(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.units.iter().try_fold(x.clone(), |x, unit| {
            Activation::Relu6.forward(&unit.norm.forward_t(&unit.conv.forward(&x)?, false)?)
        })?;
        self.classify(&x)
    }

    /// By candle, with batch norms that candle folded.
    pub fn by_candle(&self) -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
        let convs = self.units.iter().map(|unit| {
            let conv = unit.conv.absorb_bn(&unit.norm)?;
            let (weight, bias) = (conv.weight().detach(), conv.bias().map(Tensor::detach));
            Ok(Conv2d::new(weight, bias, *conv.config()))
        });
        let convs = convs.collect::<Result<Vec<_>>>()?;
        Ok(move |x: &Tensor| {
            let x = convs.iter().try_fold(x.clone(), |x, conv| Activation::Relu6.forward(&conv.forward(&x)?))?;
            self.classify(&x)
        })
    }

    /// With modules of this crate.
    pub fn with(&self, level: Level, layout: Layout) -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
        let mut modules: Vec<Box<dyn Module>> = Vec::new();
        let mut waiting = None;
        for unit in &self.units {
            let depthwise = unit.conv.config().groups > 1;
            let conv = depthwise_candle::Conv2d::from(&unit.conv).with_layout(layout).absorb_bn(&unit.norm)?;
            if level == Level::Depthwise && !depthwise {
                let (weight, bias) = (conv.weight().clone(), conv.bias().cloned());
                modules.push(Box::new(Conv2d::new(weight, bias, *conv.config())));
                modules.push(Box::new(Activation::Relu6));
                continue;
            }
            if level == Level::Depthwise || level == Level::Convolutions {
                assert_eq!(conv.fallback(), None);
                modules.push(Box::new(conv));
                modules.push(Box::new(Activation::Relu6));
                continue;
            }
            let conv = conv.with_activation(Activation::Relu6);
            match (level, waiting.take()) {
                (Level::Pairs, None) if depthwise => waiting = Some(conv),
                (_, Some(first)) => {
                    let pair = SeparableConv2d::new(first, conv);
                    assert_eq!(pair.fallback(), None);
                    modules.push(Box::new(pair));
                }
                (_, None) => {
                    assert_eq!(conv.fallback(), None);
                    modules.push(Box::new(conv));
                }
            }
        }
        Ok(move |x: &Tensor| self.classify(&modules.iter().try_fold(x.clone(), |x, module| module.forward(&x))?))
    }

    fn classify(&self, x: &Tensor) -> Result<Tensor> {
        self.classifier.forward(&x.mean((2, 3))?)
    }
}
