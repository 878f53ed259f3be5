//! The builder of a separable convolution.

use alloc::sync::Arc;

use super::common::{Common, check_activation, check_channels, multiplied};
use super::setters::{geometry, maybe, setters};
use super::stages::{depthwise_stage, pointwise_stage};
use super::{DEPTHWISE, POINTWISE};
use crate::api::plan::SeparableConv2d;
use crate::api::weights::{BatchNorm, Parameters, WeightOrder};
use crate::choose::descriptor::{Descriptor, Fusion, Schedule, Stages};
use crate::geometry::Padding;
use crate::machine::Machine;
use crate::run::engine::Engine;
use crate::run::twin::Label;
use depthwise_kernels::{Activation, Element, Error, Isa, Layout, Operation};

/// Builds a [`SeparableConv2d`].
#[derive(Clone, Debug)]
pub struct SeparableConv2dBuilder<'a> {
    pub(super) common: Common<'a>,
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) multiplier: usize,
    pub(super) depthwise: Parameters<'a>,
    pub(super) pointwise: Parameters<'a>,
    pub(super) activations: [Activation; 2],
    pub(super) fusion: Fusion,
}

impl<'a> SeparableConv2dBuilder<'a> {
    pub(crate) fn new(in_channels: usize, out_channels: usize) -> Self {
        Self {
            common: Common::new(),
            in_channels,
            out_channels,
            multiplier: 1,
            depthwise: Parameters::default(),
            pointwise: Parameters::default(),
            activations: [Activation::default(); 2],
            fusion: Fusion::default(),
        }
    }

    setters!(common);
    geometry!(window);
    geometry!(multiplier);

    /// The weights of the first stage, of shape `[in_channels * multiplier, 1, kernel height, kernel width]` in
    /// PyTorch's order.
    pub fn depthwise_weights(mut self, weights: &'a [f32]) -> Self {
        self.depthwise.weights = Some(weights);
        self
    }

    /// The weights of the second stage, of shape `[out_channels, in_channels * multiplier]` in PyTorch's order.
    pub fn pointwise_weights(mut self, weights: &'a [f32]) -> Self {
        self.pointwise.weights = Some(weights);
        self
    }

    /// The order of both stages' weights' axes. Default: PyTorch's.
    pub fn weight_order(mut self, order: WeightOrder) -> Self {
        self.depthwise.order = order;
        self.pointwise.order = order;
        self
    }

    /// A bias per channel between the stages. Default: none.
    pub fn depthwise_bias(mut self, bias: &'a [f32]) -> Self {
        self.depthwise.bias = Some(bias);
        self
    }
    maybe!(maybe_depthwise_bias, depthwise_bias: &'a [f32]);

    /// A bias per output channel, where the sums of the second stage start. Default: none.
    pub fn bias(mut self, bias: &'a [f32]) -> Self {
        self.pointwise.bias = Some(bias);
        self
    }
    maybe!(maybe_bias, bias: &'a [f32]);

    /// A batch normalisation between the stages, folded into the first. Default: none.
    pub fn depthwise_batch_norm(mut self, batch_norm: BatchNorm<'a>) -> Self {
        self.depthwise.batch_norm = Some(batch_norm);
        self
    }
    maybe!(maybe_depthwise_batch_norm, depthwise_batch_norm: BatchNorm<'a>);

    /// A batch normalisation after the second stage, folded into it. Default: none.
    pub fn batch_norm(mut self, batch_norm: BatchNorm<'a>) -> Self {
        self.pointwise.batch_norm = Some(batch_norm);
        self
    }
    maybe!(maybe_batch_norm, batch_norm: BatchNorm<'a>);

    /// The function applied between the stages. Default: none.
    pub fn depthwise_activation(mut self, activation: Activation) -> Self {
        self.activations[0] = activation;
        self
    }

    /// The function applied to each output. Default: none.
    pub fn activation(mut self, activation: Activation) -> Self {
        self.activations[1] = activation;
        self
    }

    /// Whether the stages run in one pass, block by block, or in two. Default: [`Fusion::Auto`], which chooses for each run.
    pub fn fusion(mut self, fusion: Fusion) -> Self {
        self.fusion = fusion;
        self
    }

    setters!(build SeparableConv2d);

    pub(super) fn engine(&self, descriptor: Descriptor) -> Result<Engine, Error> {
        let Stages::Separable(_, pointwise) = descriptor.kernels else { unreachable!("it describes two stages") };
        let (taps, between) = (descriptor.window.taps, descriptor.mid_channels);
        let first = self.depthwise.fold(DEPTHWISE, between, 1, taps.kernel_size)?;
        let second = self.pointwise.fold(POINTWISE, self.out_channels, between, [1, 1])?;
        let second = Arc::new(pointwise_stage(&descriptor, pointwise, &second, self.activations[1])?);
        let build = |descriptor: Descriptor| {
            let Stages::Separable(kernel, _) = descriptor.kernels else { unreachable!("it describes two stages") };
            let first = depthwise_stage(&descriptor, kernel, self.multiplier, &first, self.activations[0])?;
            let descriptor = descriptor.with_own_kernels(kernel, first.sweeps())?;
            Ok(Engine::new(descriptor, Stages::Separable(Arc::new(first), Arc::clone(&second))))
        };
        let turned = descriptor.turned().map(build).transpose()?;
        Ok(build(descriptor)?.with_twin(Label::Turned, turned))
    }

    pub(super) fn descriptor(&self, isa: Isa, machine: &'static Machine) -> Result<Descriptor, Error> {
        let window = self.common.window.resolve()?;
        check_channels(self.out_channels, "the number of output channels")?;
        self.activations.into_iter().try_for_each(check_activation)?;
        self.common.check_kernels(&[Operation::Depthwise, Operation::Pointwise])?;
        let (inputs, outputs) = (self.in_channels, self.out_channels);
        let between = multiplied(inputs, self.multiplier)?;
        let kernel = self.common.depthwise_kernel(machine, isa, inputs, self.multiplier)?;
        let pointwise = self.common.pointwise_kernel(machine, isa, outputs)?;
        let channels = [inputs, between, outputs];
        let biases = [self.depthwise.biases(between), self.pointwise.biases(outputs)];
        let stages = Stages::Separable(kernel, pointwise);
        let descriptor = self.common.descriptor(isa, machine, window, channels, biases, stages);
        Ok(Descriptor { fusion: self.fusion, ..descriptor })
    }
}
