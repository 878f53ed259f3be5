//! The builder of a depthwise convolution.

use super::DEPTHWISE;
use super::common::{Common, check_activation, multiplied};
use super::setters::{geometry, setters};
use super::stages::depthwise_engine;
use crate::api::plan::DepthwiseConv2d;
use crate::api::weights::{BatchNorm, Parameters, WeightOrder};
use crate::choose::descriptor::{Descriptor, Schedule, Stages};
use crate::geometry::Padding;
use crate::machine::Machine;
use crate::run::engine::Engine;
use depthwise_kernels::{Activation, Element, Error, Isa, Layout, Operation};

/// Builds a [`DepthwiseConv2d`].
#[derive(Clone, Debug)]
pub struct DepthwiseConv2dBuilder<'a> {
    pub(super) common: Common<'a>,
    pub(super) channels: usize,
    pub(super) multiplier: usize,
    pub(super) parameters: Parameters<'a>,
    pub(super) activation: Activation,
}

impl<'a> DepthwiseConv2dBuilder<'a> {
    pub(crate) fn new(channels: usize) -> Self {
        Self {
            common: Common::new(),
            channels,
            multiplier: 1,
            parameters: Parameters::default(),
            activation: Activation::default(),
        }
    }

    setters!(common);
    geometry!(window);
    geometry!(multiplier);
    setters!(parameters "`[channels * multiplier, 1, kernel height, kernel width]`");

    setters!(build DepthwiseConv2d);

    pub(super) fn engine(&self, descriptor: Descriptor) -> Result<Engine, Error> {
        let taps = descriptor.window.taps;
        let folded = self.parameters.fold(DEPTHWISE, descriptor.out_channels, 1, taps.kernel_size)?;
        depthwise_engine(descriptor, self.multiplier, &folded, self.activation)
    }

    pub(super) fn descriptor(&self, isa: Isa, machine: &'static Machine) -> Result<Descriptor, Error> {
        let window = self.common.window.resolve()?;
        self.common.check_kernels(&[Operation::Depthwise])?;
        check_activation(self.activation)?;
        let outputs = multiplied(self.channels, self.multiplier)?;
        let kernel = self.common.depthwise_kernel(machine, isa, self.channels, self.multiplier)?;
        let channels = [self.channels, outputs, outputs];
        let biases = [0, self.parameters.biases(outputs)];
        Ok(self.common.descriptor(isa, machine, window, channels, biases, Stages::Depthwise(kernel)))
    }
}
