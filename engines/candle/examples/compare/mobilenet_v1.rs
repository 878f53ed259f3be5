//! MobileNetV1 1.0/224 (Howard and others, 2017), batch norms unfolded, by candle alone and with the modules of this crate.

use candle_core::{Device, Module, Result, Tensor};
use candle_nn::{Activation, BatchNorm, Conv2d, Conv2dConfig, Linear, Sequential};
use depthwise_candle::{Layout, SeparableConv2d};
use depthwise_models::{Level, Part, Random, mobilenet_v1_layers};

/// A convolution of candle, its batch norm, ReLU6.
struct Unit {
    conv: Conv2d,
    norm: BatchNorm,
}

impl Unit {
    fn new(layer: &depthwise_models::Conv, random: &mut Random) -> Result<Self> {
        let [kernel, stride, groups] = [layer.kernel[0], layer.stride[0], layer.groups];
        let config = Conv2dConfig { padding: kernel / 2, stride, groups, ..Default::default() };
        let weight = Tensor::from_vec(layer.weights(random), layer.shape(), &Device::Cpu)?;
        let norm = depthwise_models::BatchNorm::new(random, layer.outputs);
        let [mean, variance, gamma, beta] = [norm.mean, norm.variance, norm.gamma, norm.beta]
            .map(|values| Tensor::from_vec(values, layer.outputs, &Device::Cpu));
        let epsilon = f64::from(depthwise_models::BatchNorm::EPSILON);
        let norm = BatchNorm::new(layer.outputs, mean?, variance?, gamma?, beta?, epsilon)?;
        Ok(Self { conv: Conv2d::new(weight, None, config), norm })
    }

    /// The convolution with the batch norm that candle folded in, and ReLU6.
    fn folded(&self) -> Result<Sequential> {
        let conv = self.conv.absorb_bn(&self.norm)?;
        let (weight, bias) = (conv.weight().detach(), conv.bias().map(Tensor::detach));
        Ok(candle_nn::seq().add(Conv2d::new(weight, bias, *conv.config())).add(Activation::Relu6))
    }
}

/// The whole network, by candle.
pub struct MobileNetV1 {
    units: Vec<Unit>,
    classifier: Linear,
}

impl MobileNetV1 {
    pub fn new() -> Result<Self> {
        let mut random = Random(1);
        let units = mobilenet_v1_layers().iter().map(|layer| Unit::new(layer, &mut random)).collect::<Result<_>>()?;
        let classifier = depthwise_models::Conv::pointwise(1024, 1000);
        let weight = Tensor::from_vec(classifier.weights(&mut random), (1000, 1024), &Device::Cpu)?;
        Ok(Self { units, classifier: Linear::new(weight, None) })
    }

    /// By candle, with batch norms that candle folded.
    pub fn by_candle(&self) -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
        let modules = self.units.iter().map(|unit| Ok(Box::new(unit.folded()?) as Box<dyn Module>));
        Ok(self.whole(modules.collect::<Result<_>>()?))
    }

    /// With modules of this crate.
    pub fn with(&self, level: Level, layout: Layout) -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
        let ours = |index: usize| {
            let Unit { conv, norm } = &self.units[index];
            depthwise_candle::Conv2d::from(conv).with_layout(layout).absorb_bn(norm)
        };
        let layer = |index| -> Result<_> { Ok(ours(index)?.with_activation(Activation::Relu6)) };
        let module = |part| -> Result<Box<dyn Module>> {
            Ok(match part {
                Part::Engine(index) => Box::new(self.units[index].folded()?),
                Part::Convolution(index) => {
                    let conv = ours(index)?;
                    assert_eq!(conv.fallback(), None);
                    Box::new(candle_nn::seq().add(conv).add(Activation::Relu6))
                }
                Part::Layer(index) => {
                    let conv = layer(index)?;
                    assert_eq!(conv.fallback(), None);
                    Box::new(conv)
                }
                Part::Pair([first, second]) => {
                    let pair = SeparableConv2d::new(layer(first)?, layer(second)?);
                    assert_eq!(pair.fallback(), None);
                    Box::new(pair)
                }
            })
        };
        let parts = level.parts(self.units.iter().map(|unit| unit.conv.config().groups > 1));
        Ok(self.whole(parts.into_iter().map(module).collect::<Result<_>>()?))
    }

    fn whole(&self, modules: Vec<Box<dyn Module>>) -> impl Fn(&Tensor) -> Result<Tensor> {
        move |x| {
            let x = modules.iter().try_fold(x.clone(), |x, module| module.forward(&x))?;
            self.classifier.forward(&x.mean((2, 3))?)
        }
    }
}

#[cfg(test)]
mod tests {
    use candle_nn::ModuleT;

    use super::*;

    impl MobileNetV1 {
        /// By candle, each layer as it is.
        fn unfolded(&self, x: &Tensor) -> Result<Tensor> {
            let x = self.units.iter().try_fold(x.clone(), |x, unit| {
                Activation::Relu6.forward(&unit.norm.forward_t(&unit.conv.forward(&x)?, false)?)
            })?;
            self.classifier.forward(&x.mean((2, 3))?)
        }
    }

    fn assert_close(ours: &Tensor, theirs: &Tensor, what: &str) -> Result<()> {
        let values = |tensor: &Tensor| tensor.to_dtype(candle_core::DType::F64)?.flatten_all()?.to_vec1::<f64>();
        depthwise_models::assert_close(&values(ours)?, &values(theirs)?, 1e-5, what);
        Ok(())
    }

    /// Batch norms that nobody folded, and each way to replace a part of the network.
    #[test]
    fn each_level_gives_what_candle_gives() -> Result<()> {
        let network = MobileNetV1::new()?;
        let x = Tensor::from_vec(Random(2).floats(2 * 3 * 97 * 64), (2, 3, 97, 64), &Device::Cpu)?;
        let candle = network.unfolded(&x)?;
        assert_close(&network.by_candle()?(&x)?, &candle, "candle, folded")?;
        for layout in [Layout::Nchw, Layout::Nhwc] {
            for level in Level::ALL {
                assert_close(&network.with(level, layout)?(&x)?, &candle, &format!("{layout:?}, {level:?}"))?;
            }
        }
        Ok(())
    }
}
