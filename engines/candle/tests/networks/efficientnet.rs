//! EfficientNet-Lite0 with trained weights, by candle alone and with the modules of this crate.

use candle_core::{Device, Module, Result, Tensor};
use candle_nn::{Activation, Conv2d, Conv2dConfig};
use depthwise_candle::{Layout, SeparableConv2d};
use depthwise_models::{Op, Step, Trained, Weights};

pub struct EfficientNet {
    network: Trained,
    /// The convolutions, where layers are such, with the zeros below and to the right beyond candle's, which pads all sides alike.
    convs: Vec<Option<(Conv2d, usize)>>,
}

/// Images, normalised, and the outputs that belong to them, computed in `f64`.
pub fn reference(count: usize) -> Result<(Tensor, Tensor)> {
    let (images, outputs) = depthwise_models::reference(count);
    let images = Tensor::from_vec(images, (count, 224, 224, 3), &Device::Cpu)?;
    Ok((images.permute((0, 3, 1, 2))?.contiguous()?, Tensor::from_vec(outputs, (count, 1000), &Device::Cpu)?))
}

fn conv2d(Weights { conv, weights, bias }: &Weights) -> Result<(Conv2d, usize)> {
    let pads = conv.pads.as_ref().expect("explicit padding");
    assert_eq!((pads[0], pads[2]), (pads[1], pads[3]));
    let config = Conv2dConfig {
        padding: pads[0],
        stride: conv.stride[0],
        dilation: conv.dilation[0],
        groups: conv.groups,
        cudnn_fwd_algo: None,
    };
    let weight = Tensor::from_slice(weights, conv.shape(), &Device::Cpu)?;
    let bias = Tensor::from_slice(bias, conv.outputs, &Device::Cpu)?;
    Ok((Conv2d::new(weight, Some(bias), config), pads[2] - pads[0]))
}

impl EfficientNet {
    pub fn load() -> Result<Self> {
        let network = Trained::efficientnet_lite0();
        let convs = network.layers.iter().map(|layer| match &layer.op {
            Op::Conv(weights) | Op::Dense(weights) => conv2d(weights).map(Some),
            Op::Mean | Op::Add => Ok(None),
        });
        Ok(Self { convs: convs.collect::<Result<_>>()?, network })
    }

    /// By candle.
    pub fn by_candle(&self, x: &Tensor) -> Result<Tensor> {
        let mut values = vec![x.clone()];
        for (layer, conv) in self.network.layers.iter().zip(&self.convs) {
            let x = &values[layer.inputs[0]];
            let y = match (&layer.op, conv) {
                (_, Some((conv, more))) => conv.forward(&padded(x, *more)?)?,
                (Op::Add, _) => (x + &values[layer.inputs[1]])?,
                _ => x.mean_keepdim((2, 3))?,
            };
            values.push(if layer.relu6 { Activation::Relu6.forward(&y)? } else { y });
        }
        values.pop().expect("a layer").flatten_from(1)
    }

    /// With modules of this crate: sums in the plans of the convolutions before them, and depthwise with pointwise convolutions as
    /// pairs if that is asked for.
    pub fn with(&self, layout: Layout, pairs: bool) -> Result<impl Fn(&Tensor) -> Result<Tensor>> {
        let ours = |index: usize| {
            let (conv, more) = self.convs[index].as_ref().expect("a convolution");
            let activation = if self.network.layers[index].relu6 {
                depthwise::Activation::Relu6
            } else {
                depthwise::Activation::None
            };
            let conv = depthwise_candle::Conv2d::from(conv).with_layout(layout).with_activation(activation);
            assert_eq!(conv.fallback(), None);
            (conv, *more)
        };
        let mut replaced = 0;
        let steps = self.network.steps(pairs).into_iter().map(|step| match step {
            Step::Nothing => Replaced::Nothing,
            Step::Mean => Replaced::Mean,
            Step::Conv(index, residual) => {
                replaced += 1;
                let (conv, more) = ours(index);
                Replaced::Conv(conv, more, residual)
            }
            Step::Pair([first, second], residual) => {
                replaced += 2;
                let ((first, more), (second, _)) = (ours(first), ours(second));
                let pair = SeparableConv2d::new(first, second);
                assert_eq!(pair.fallback(), None);
                Replaced::Pair(pair, more, residual)
            }
        });
        let steps: Vec<_> = steps.collect();
        assert_eq!(replaced, 50);
        Ok(move |x: &Tensor| {
            let mut values = vec![x.clone()];
            let mut x = x.clone();
            for step in &steps {
                match step {
                    Replaced::Nothing => {}
                    Replaced::Mean => x = x.mean_keepdim((2, 3))?,
                    Replaced::Conv(conv, more, None) => x = conv.forward(&padded(&x, *more)?)?,
                    Replaced::Conv(conv, more, Some(residual)) => {
                        x = conv.forward_with_residual(&padded(&x, *more)?, &values[*residual])?;
                    }
                    Replaced::Pair(pair, more, None) => x = pair.forward(&padded(&x, *more)?)?,
                    Replaced::Pair(pair, more, Some(residual)) => {
                        x = pair.forward_with_residual(&padded(&x, *more)?, &values[*residual])?;
                    }
                }
                values.push(x.clone());
            }
            x.flatten_from(1)
        })
    }
}

/// A step, with the zeros to add below and to the right, and the number of a tensor to add.
enum Replaced {
    Nothing,
    Mean,
    Conv(depthwise_candle::Conv2d, usize, Option<usize>),
    Pair(SeparableConv2d, usize, Option<usize>),
}

fn padded(x: &Tensor, more: usize) -> Result<Tensor> {
    if more == 0 { Ok(x.clone()) } else { x.pad_with_zeros(2, 0, more)?.pad_with_zeros(3, 0, more) }
}
