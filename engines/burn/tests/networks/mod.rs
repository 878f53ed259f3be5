//! Networks, their random parameters, and how outputs are compared.
#![allow(dead_code, reason = "each test uses some of it")]

pub mod efficientnet;
pub mod mobilenet_v3;

use std::cell::RefCell;

use burn_core::module::{Param, RunningState};
use burn_nn::conv::{Conv2d, Conv2dConfig};
use burn_nn::{BatchNorm, BatchNormConfig, PaddingConfig2d};
use burn_tensor::{Device, Tensor, TensorData};
use depthwise_models::Random;

thread_local! {
    static RANDOM: RefCell<Random> = const { RefCell::new(Random(22)) };
}

/// A tensor of random numbers, uniform between -1 and 1: in each test, which is a thread of its own, the same ones.
pub fn random<const D: usize>(shape: [usize; D]) -> Tensor<D> {
    let values = RANDOM.with_borrow_mut(|random| random.floats(shape.iter().product()));
    Tensor::from_data(TensorData::new(values, shape), &Device::flex())
}

/// A convolution with random weights, which keep the variance from layer to layer, and a random bias.
pub fn conv(channels: [usize; 2], kernel: [usize; 2], stride: [usize; 2], groups: usize, bias: bool) -> Conv2d {
    let padding = PaddingConfig2d::Explicit(kernel[0] / 2, kernel[1] / 2, kernel[0] / 2, kernel[1] / 2);
    let config = Conv2dConfig::new(channels, kernel).with_stride(stride).with_groups(groups).with_padding(padding);
    let mut conv = config.with_bias(false).init(&Device::flex());
    let [inputs, outputs] = channels;
    let terms = inputs / groups * kernel[0] * kernel[1];
    let weights = random([outputs, inputs / groups, kernel[0], kernel[1]]);
    conv.weight = Param::from_tensor(weights * (6.0 / terms as f32).sqrt());
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
