//! EfficientNet-Lite0 with trained weights, by burn alone and with the modules of this crate.

use burn_core::module::Param;
use burn_nn::PaddingConfig2d;
use burn_nn::conv::{Conv2d, Conv2dConfig};
use burn_tensor::activation::relu6;
use burn_tensor::{Device, Tensor, TensorData};
use depthwise_burn::{Activation, Error, Layer, Layout, SeparableConv2d};
use depthwise_models::{Op, Step, Trained, Weights};

pub struct EfficientNet {
    network: Trained,
    /// The convolutions, where layers are such.
    convs: Vec<Option<Conv2d>>,
}

/// Images, normalised, and the outputs that belong to them, computed in `f64`.
pub fn reference(count: usize) -> (Tensor<4>, Vec<f32>) {
    let (images, outputs) = depthwise_models::reference(count);
    let images = Tensor::<4>::from_data(TensorData::new(images, [count, 224, 224, 3]), &Device::flex());
    (images.permute([0, 3, 1, 2]), outputs.into_iter().map(|value| value as f32).collect())
}

fn conv2d(Weights { conv, weights, bias }: &Weights) -> Conv2d {
    let pair = |values: &[usize]| [values[0], values[1]];
    let pads = conv.pads.as_ref().expect("explicit padding");
    let mut module = Conv2dConfig::new([conv.inputs, conv.outputs], pair(&conv.kernel))
        .with_stride(pair(&conv.stride))
        .with_groups(conv.groups)
        .with_padding(PaddingConfig2d::Explicit(pads[0], pads[1], pads[2], pads[3]))
        .init(&Device::flex());
    let weights = TensorData::new(weights.clone(), conv.shape());
    module.weight = Param::from_tensor(Tensor::from_data(weights, &Device::flex()));
    let bias = TensorData::new(bias.clone(), [conv.outputs]);
    module.bias = Some(Param::from_tensor(Tensor::from_data(bias, &Device::flex())));
    module
}

impl EfficientNet {
    pub fn load() -> Self {
        let network = Trained::efficientnet_lite0();
        let convs = network.layers.iter().map(|layer| match &layer.op {
            Op::Conv(weights) | Op::Dense(weights) => Some(conv2d(weights)),
            Op::Mean | Op::Add => None,
        });
        Self { convs: convs.collect(), network }
    }

    /// By burn.
    pub fn by_burn(&self, x: Tensor<4>) -> Tensor<4> {
        let mut values = vec![x];
        for (layer, conv) in self.network.layers.iter().zip(&self.convs) {
            let x = values[layer.inputs[0]].clone();
            let y = match (&layer.op, conv) {
                (_, Some(conv)) => conv.forward(x),
                (Op::Add, _) => x + values[layer.inputs[1]].clone(),
                _ => x.mean_dim(3).mean_dim(2),
            };
            values.push(if layer.relu6 { relu6(y) } else { y });
        }
        values.pop().expect("a layer")
    }

    /// With modules of this crate: sums in the plans of the convolutions before them, and depthwise with pointwise convolutions as
    /// pairs if that is asked for.
    pub fn with(&self, layout: Layout, pairs: bool) -> Result<impl Fn(Tensor<4>) -> Tensor<4>, Error> {
        let layer = |index: usize| {
            let activation = if self.network.layers[index].relu6 { Activation::Relu6 } else { Activation::None };
            Layer::new(self.convs[index].as_ref().expect("a convolution")).activation(activation)
        };
        let steps = self.network.steps(pairs).into_iter().map(|step| {
            Ok(match step {
                Step::Nothing => Replaced::Nothing,
                Step::Mean => Replaced::Mean,
                Step::Conv(index, residual) => {
                    Replaced::Conv(depthwise_burn::Conv2d::new(layer(index), layout)?, residual)
                }
                Step::Pair([first, second], residual) => {
                    Replaced::Pair(SeparableConv2d::new(layer(first), layer(second), layout)?, residual)
                }
            })
        });
        let steps = steps.collect::<Result<Vec<_>, Error>>()?;
        Ok(move |x: Tensor<4>| {
            let mut values = vec![x.clone()];
            let mut x = x;
            for step in &steps {
                let residual = |residual: &Option<usize>| residual.map(|index| values[index].clone());
                x = match step {
                    Replaced::Nothing => x,
                    Replaced::Mean => x.mean_dim(3).mean_dim(2),
                    Replaced::Conv(conv, from) => conv.run(x, residual(from)).expect("it fits"),
                    Replaced::Pair(pair, from) => pair.run(x, residual(from)).expect("it fits"),
                };
                values.push(x.clone());
            }
            x
        })
    }
}

/// A step, with the number of a tensor to add.
enum Replaced {
    Nothing,
    Mean,
    Conv(depthwise_burn::Conv2d, Option<usize>),
    Pair(SeparableConv2d, Option<usize>),
}
