//! MobileNetV1 1.0/224 (Howard and others, 2017), batch norms unfolded, by burn alone and with the modules of this crate.

use burn_core::module::Param;
use burn_nn::conv::Conv2d;
use burn_nn::{BatchNorm, Linear, LinearConfig};
use burn_tensor::activation::relu6;
use burn_tensor::{Device, Tensor};
use depthwise_burn::{Activation, Error, Layer, Layout, SeparableConv2d};

use super::{conv, norm, values};

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

/// A convolution, its batch norm, ReLU6.
struct Unit {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Unit {
    fn new(channels: [usize; 2], kernel: usize, stride: usize, groups: usize) -> Self {
        Self { conv: conv(channels, [kernel; 2], [stride; 2], groups, false), norm: norm(channels[1]) }
    }

    /// The convolution with the batch norm folded in.
    fn folded(&self) -> Conv2d {
        let outputs = self.conv.weight.dims()[0];
        let deviation = (self.norm.running_var.value() + self.norm.epsilon).sqrt();
        let scale = self.norm.gamma.val() / deviation;
        let mut conv = self.conv.clone();
        conv.weight = Param::from_tensor(self.conv.weight.val() * scale.clone().reshape([outputs, 1, 1, 1]));
        conv.bias = Some(Param::from_tensor(self.norm.beta.val() - self.norm.running_mean.value() * scale));
        conv
    }
}

/// The whole network, by burn.
pub struct MobileNetV1 {
    units: Vec<Unit>,
    classifier: Linear,
}

/// How much of the network this crate computes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Level {
    /// The depthwise convolutions with their batch norms; ReLU6 by burn.
    Depthwise,
    /// All convolutions with their batch norms; ReLU6 by burn.
    Convolutions,
    /// ReLU6 too.
    Activations,
    /// And depthwise with pointwise convolutions as pairs.
    Pairs,
}

type Step<'a> = Box<dyn Fn(Tensor<4>) -> Tensor<4> + 'a>;

impl MobileNetV1 {
    pub fn new() -> Self {
        let mut units = vec![Unit::new([3, 32], 3, 2, 1)];
        let mut inputs = 32;
        for (outputs, stride) in BLOCKS {
            units.push(Unit::new([inputs, inputs], 3, stride, inputs));
            units.push(Unit::new([inputs, outputs], 1, 1, 1));
            inputs = outputs;
        }
        Self { units, classifier: LinearConfig::new(inputs, 1000).init(&Device::flex()) }
    }

    /// By burn, each layer as it is.
    pub fn unfolded(&self, x: Tensor<4>) -> Vec<f32> {
        let steps =
            self.units.iter().map(|unit| -> Step { Box::new(|x| relu6(unit.norm.forward(unit.conv.forward(x)))) });
        self.whole(steps.collect())(x)
    }

    /// By burn, with batch norms folded.
    pub fn by_burn(&self) -> impl Fn(Tensor<4>) -> Vec<f32> {
        let steps = self.units.iter().map(|unit| -> Step {
            let conv = unit.folded();
            Box::new(move |x| relu6(conv.forward(x)))
        });
        self.whole(steps.collect())
    }

    /// With modules of this crate.
    pub fn with(&self, level: Level, layout: Layout) -> Result<impl Fn(Tensor<4>) -> Vec<f32>, Error> {
        let mut steps: Vec<Step> = Vec::new();
        let mut waiting = None;
        for unit in &self.units {
            let depthwise = unit.conv.groups > 1;
            if level == Level::Depthwise && !depthwise {
                let conv = unit.folded();
                steps.push(Box::new(move |x| relu6(conv.forward(x))));
                continue;
            }
            let layer = Layer::new(&unit.conv).batch_norm(&unit.norm);
            if level == Level::Depthwise || level == Level::Convolutions {
                let conv = depthwise_burn::Conv2d::new(layer, layout)?;
                steps.push(Box::new(move |x| relu6(conv.forward(x))));
                continue;
            }
            let layer = layer.activation(Activation::Relu6);
            match (level, waiting.take()) {
                (Level::Pairs, None) if depthwise => waiting = Some(layer),
                (_, Some(first)) => {
                    let pair = SeparableConv2d::new(first, layer, layout)?;
                    steps.push(Box::new(move |x| pair.forward(x)));
                }
                (_, None) => {
                    let conv = depthwise_burn::Conv2d::new(layer, layout)?;
                    steps.push(Box::new(move |x| conv.forward(x)));
                }
            }
        }
        Ok(self.whole(steps))
    }

    fn whole<'a>(&'a self, steps: Vec<Step<'a>>) -> impl Fn(Tensor<4>) -> Vec<f32> + 'a {
        move |x| {
            let x = steps.iter().fold(x, |x, step| step(x)).mean_dim(3).mean_dim(2);
            values(self.classifier.forward(x.flatten::<2>(1, 3)))
        }
    }
}
