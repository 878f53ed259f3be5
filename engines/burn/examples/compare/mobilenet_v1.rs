//! MobileNetV1 1.0/224 (Howard and others, 2017), batch norms unfolded, by burn alone and with the modules of this crate.

use burn_core::module::{Param, RunningState};
use burn_nn::conv::{Conv2d, Conv2dConfig};
use burn_nn::{BatchNorm, BatchNormConfig, Linear, LinearConfig, PaddingConfig2d};
use burn_tensor::activation::relu6;
use burn_tensor::{Device, Tensor, TensorData};
use depthwise_burn::{Activation, Error, Layer, Layout, SeparableConv2d};
use depthwise_models::{Level, Part, Random, mobilenet_v1_layers};

/// A convolution, its batch norm, ReLU6.
struct Unit {
    conv: Conv2d,
    norm: BatchNorm,
}

fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

impl Unit {
    fn new(layer: &depthwise_models::Conv, random: &mut Random) -> Self {
        let (inputs, outputs, kernel) = (layer.inputs, layer.outputs, layer.kernel[0]);
        let pad = kernel / 2;
        let mut conv = Conv2dConfig::new([inputs, outputs], [kernel; 2])
            .with_stride([layer.stride[0]; 2])
            .with_groups(layer.groups)
            .with_padding(PaddingConfig2d::Explicit(pad, pad, pad, pad))
            .with_bias(false)
            .init(&Device::flex());
        let shape = [outputs, inputs / layer.groups, kernel, kernel];
        conv.weight = Param::from_tensor(tensor(layer.weights(random), shape));
        let values = depthwise_models::BatchNorm::new(random, outputs);
        let epsilon = f64::from(depthwise_models::BatchNorm::EPSILON);
        let mut norm = BatchNormConfig::new(outputs).with_epsilon(epsilon).init(&Device::flex());
        norm.gamma = Param::from_tensor(tensor(values.gamma, [outputs]));
        norm.beta = Param::from_tensor(tensor(values.beta, [outputs]));
        norm.running_mean = RunningState::new(tensor(values.mean, [outputs]));
        norm.running_var = RunningState::new(tensor(values.variance, [outputs]));
        Self { conv, norm }
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

type Step<'a> = Box<dyn Fn(Tensor<4>) -> Tensor<4> + 'a>;

impl MobileNetV1 {
    pub fn new() -> Self {
        let mut random = Random(1);
        let units = mobilenet_v1_layers().iter().map(|layer| Unit::new(layer, &mut random)).collect();
        let mut classifier = LinearConfig::new(1024, 1000).with_bias(false).init(&Device::flex());
        let weights = depthwise_models::Conv::pointwise(1024, 1000).weights(&mut random);
        classifier.weight = Param::from_tensor(tensor(weights, [1000, 1024]).transpose());
        Self { units, classifier }
    }

    fn engine(&self, index: usize) -> Step<'_> {
        let conv = self.units[index].folded();
        Box::new(move |x| relu6(conv.forward(x)))
    }

    /// By burn, with batch norms folded.
    pub fn by_burn(&self) -> impl Fn(Tensor<4>) -> Vec<f32> {
        self.whole((0..self.units.len()).map(|index| self.engine(index)).collect())
    }

    /// With modules of this crate.
    pub fn with(&self, level: Level, layout: Layout) -> Result<impl Fn(Tensor<4>) -> Vec<f32>, Error> {
        let layer = |index: usize| Layer::new(&self.units[index].conv).batch_norm(&self.units[index].norm);
        let activated = |index| layer(index).activation(Activation::Relu6);
        let step = |part| -> Result<Step<'_>, Error> {
            Ok(match part {
                Part::Engine(index) => self.engine(index),
                Part::Convolution(index) => {
                    let conv = depthwise_burn::Conv2d::new(layer(index), layout)?;
                    Box::new(move |x| relu6(conv.forward(x)))
                }
                Part::Layer(index) => {
                    let conv = depthwise_burn::Conv2d::new(activated(index), layout)?;
                    Box::new(move |x| conv.forward(x))
                }
                Part::Pair([first, second]) => {
                    let pair = SeparableConv2d::new(activated(first), activated(second), layout)?;
                    Box::new(move |x| pair.forward(x))
                }
            })
        };
        let parts = level.parts(self.units.iter().map(|unit| unit.conv.groups > 1));
        Ok(self.whole(parts.into_iter().map(step).collect::<Result<_, _>>()?))
    }

    fn whole<'a>(&'a self, steps: Vec<Step<'a>>) -> impl Fn(Tensor<4>) -> Vec<f32> + 'a {
        move |x| {
            let x = steps.iter().fold(x, |x, step| step(x)).mean_dim(3).mean_dim(2);
            let scores = self.classifier.forward(x.flatten::<2>(1, 3));
            scores.into_data().try_to_vec().expect("elements of f32")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_close(ours: &[f32], theirs: &[f32], what: &str) {
        let [ours, theirs] = [ours, theirs].map(|values| values.iter().copied().map(f64::from).collect::<Vec<_>>());
        depthwise_models::assert_close(&ours, &theirs, 1e-5, what);
    }

    /// Batch norms that nobody folded, and each way to replace a part of the network.
    #[test]
    fn each_level_gives_what_burn_gives() -> Result<(), Error> {
        let network = MobileNetV1::new();
        let unfolded =
            network.units.iter().map(|unit| -> Step { Box::new(|x| relu6(unit.norm.forward(unit.conv.forward(x)))) });
        let x = tensor(Random(2).floats(2 * 3 * 97 * 64), [2, 3, 97, 64]);
        let burn = network.whole(unfolded.collect())(x.clone());
        assert_close(&network.by_burn()(x.clone()), &burn, "burn, folded");
        for layout in [Layout::Nchw, Layout::Nhwc] {
            for level in Level::ALL {
                let what = format!("{layout:?}, {level:?}");
                assert_close(&network.with(level, layout)?(x.clone()), &burn, &what);
            }
        }
        Ok(())
    }
}
