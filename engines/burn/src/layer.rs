//! A convolution of burn with what follows it: what a plan is built from.

use burn_flex::Flex;
use burn_nn::{BatchNorm, PaddingConfig2d, conv};
use burn_tensor::{DType, Tensor};
use depthwise::{Activation, Padding};

use crate::error::Error;

/// A convolution of burn and what follows it: a batch norm, an activation.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    conv: &'a conv::Conv2d,
    batch_norm: Option<&'a BatchNorm>,
    pub(crate) activation: Activation,
}

impl<'a> Layer<'a> {
    /// The convolution, and nothing after it yet.
    pub fn new(conv: &'a conv::Conv2d) -> Self {
        Self { conv, batch_norm: None, activation: Activation::None }
    }

    /// With a batch norm after the convolution, as burn computes it in inference: by the running statistics. It is folded into weights
    /// and bias.
    pub fn batch_norm(mut self, batch_norm: &'a BatchNorm) -> Self {
        self.batch_norm = Some(batch_norm);
        self
    }

    /// With an activation after all that. Default: none.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activation = activation;
        self
    }

    pub(crate) fn read(&self) -> Result<Parameters, Error> {
        let [outputs, per_group, kh, kw] = self.conv.weight.dims();
        let norm = match self.batch_norm {
            None => None,
            Some(norm) => {
                let [channels] = norm.gamma.dims();
                if channels != outputs {
                    return Err(Error::BatchNorm { channels, outputs });
                }
                Some(Norm {
                    gamma: floats("γ of the batch norm", norm.gamma.val())?,
                    beta: floats("β of the batch norm", norm.beta.val())?,
                    mean: floats("mean of the batch norm", norm.running_mean.value())?,
                    variance: floats("variance of the batch norm", norm.running_var.value())?,
                    epsilon: norm.epsilon as f32,
                })
            }
        };
        let dilation = self.conv.dilation;
        let padding = match self.conv.padding {
            PaddingConfig2d::Valid => Padding::Valid,
            PaddingConfig2d::Explicit(top, left, bottom, right) => Padding::explicit(top, left, bottom, right),
            PaddingConfig2d::Same if [(kh, dilation[0]), (kw, dilation[1])].iter().any(|&(k, d)| k > 1 && d > 1) => {
                return Err(Error::SamePadding { dilation });
            }
            PaddingConfig2d::Same => Padding::SameUpper,
        };
        Ok(Parameters {
            inputs: per_group * self.conv.groups,
            outputs,
            groups: self.conv.groups,
            kernel_size: [kh, kw],
            stride: self.conv.stride,
            dilation,
            padding,
            weights: floats("weight", self.conv.weight.val())?,
            bias: self.conv.bias.as_ref().map(|bias| floats("bias", bias.val())).transpose()?,
            norm,
        })
    }
}

/// A layer's parameters, in slices. Pairs are `[height, width]`.
pub(crate) struct Parameters {
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) groups: usize,
    pub(crate) kernel_size: [usize; 2],
    pub(crate) stride: [usize; 2],
    pub(crate) dilation: [usize; 2],
    pub(crate) padding: Padding,
    pub(crate) weights: Vec<f32>,
    pub(crate) bias: Option<Vec<f32>>,
    norm: Option<Norm>,
}

struct Norm {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    mean: Vec<f32>,
    variance: Vec<f32>,
    epsilon: f32,
}

impl Parameters {
    pub(crate) fn batch_norm(&self) -> Option<depthwise::BatchNorm<'_>> {
        let Norm { gamma, beta, mean, variance, epsilon } = self.norm.as_ref()?;
        Some(depthwise::BatchNorm { gamma, beta, mean, variance, epsilon: *epsilon })
    }

    /// Whether it mixes the channels of a pixel, and nothing else.
    pub(crate) fn is_pointwise(&self) -> bool {
        let unpadded = match self.padding {
            Padding::Explicit { top, left, bottom, right } => [top, left, bottom, right] == [0; 4],
            _ => true,
        };
        self.groups == 1 && self.kernel_size == [1, 1] && self.stride == [1, 1] && unpadded
    }
}

/// The values of a parameter, on whatever device it is.
fn floats<const D: usize>(what: &'static str, tensor: Tensor<D>) -> Result<Vec<f32>, Error> {
    if tensor.dtype() != DType::F32 {
        return Err(Error::Elements { what, found: format!("{:?}", tensor.dtype()) });
    }
    let device = tensor.device();
    tensor.into_data().try_to_vec().map_err(|_| Error::Backend { what, device: format!("{device:?}") })
}

/// The primitive of burn-flex that a tensor is.
pub(crate) fn primitive(what: &'static str, tensor: Tensor<4>) -> Result<burn_flex::FlexTensor, Error> {
    if tensor.dtype() != DType::F32 {
        return Err(Error::Elements { what, found: format!("{:?}", tensor.dtype()) });
    }
    let device = tensor.device();
    tensor.try_into_primitive::<Flex>().map_err(|_| Error::Backend { what, device: format!("{device:?}") })
}
