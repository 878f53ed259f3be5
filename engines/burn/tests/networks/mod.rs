//! Networks, their random parameters, and how outputs are compared.
#![allow(dead_code, reason = "each test uses some of it")]

pub mod efficientnet;
pub mod mobilenet_v3;

use burn_core::module::{Param, RunningState};
use burn_nn::conv::{Conv2d, Conv2dConfig};
use burn_nn::{BatchNorm, BatchNormConfig, Initializer, PaddingConfig2d};
use burn_tensor::{Device, Distribution, Tensor};

/// A tensor of random numbers, uniform between -1 and 1.
pub fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    Tensor::random(shape, Distribution::Uniform(-1.0, 1.0), &Device::flex())
}

/// A convolution with random weights, which keep the variance from layer to layer, and a random bias.
pub fn conv(channels: [usize; 2], kernel: [usize; 2], stride: [usize; 2], groups: usize, bias: bool) -> Conv2d {
    let padding = PaddingConfig2d::Explicit(kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2);
    let config = Conv2dConfig::new(channels, kernel).with_stride(stride).with_groups(groups).with_padding(padding);
    let initializer = Initializer::KaimingUniform { gain: 2.0_f64.sqrt(), fan_out_only: false };
    let mut conv = config.with_bias(false).with_initializer(initializer).init(&Device::flex());
    if bias {
        conv.bias = Some(Param::from_tensor(random([channels[1]])));
    }
    conv
}

/// A batch norm with random parameters and statistics.
pub fn norm(channels: usize) -> BatchNorm {
    let mut norm = BatchNormConfig::new(channels).with_epsilon(1e-3).init(&Device::flex());
    norm.gamma = Param::from_tensor(random([channels]) * 0.3 + 1.0);
    norm.beta = Param::from_tensor(random([channels]) * 0.2);
    norm.running_mean = RunningState::new(random([channels]) * 0.2);
    norm.running_var = RunningState::new(random([channels]) * 0.4 + 1.0);
    norm
}

pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_to_vec().expect("elements of f32")
}

/// Fails if the outputs differ by more than `tolerance` of the largest one.
#[track_caller]
pub fn assert_close<const D: usize>(ours: Tensor<D>, theirs: Tensor<D>, tolerance: f64, what: &str) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    assert_values_close(&values(ours), &values(theirs), tolerance, what);
}

#[track_caller]
pub fn assert_values_close(ours: &[f32], theirs: &[f32], tolerance: f64, what: &str) {
    let [ours, theirs] = [ours, theirs].map(|values| values.iter().copied().map(f64::from).collect::<Vec<_>>());
    depthwise_models::assert_close(&ours, &theirs, tolerance, what);
}
