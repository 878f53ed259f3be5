//! The builder of a pointwise convolution.

use super::POINTWISE;
use super::common::{Common, check_activation, check_channels};
use super::setters::setters;
use super::stages::pointwise_engine;
use crate::api::plan::PointwiseConv2d;
use crate::api::weights::{BatchNorm, Parameters, WeightOrder};
use crate::choose::descriptor::{Descriptor, Schedule, Stages};
use crate::geometry::{AskedWindow, Window};
use crate::machine::Machine;
use crate::run::engine::Engine;
use depthwise_kernels::{Activation, Element, Error, Isa, Layout, Operation};

/// Builds a [`PointwiseConv2d`].
#[derive(Clone, Debug)]
pub struct PointwiseConv2dBuilder<'a> {
    pub(super) common: Common<'a>,
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) parameters: Parameters<'a>,
    pub(super) activation: Activation,
}

impl<'a> PointwiseConv2dBuilder<'a> {
    pub(crate) fn new(in_channels: usize, out_channels: usize) -> Self {
        Self {
            common: Common { window: AskedWindow::POINT, ..Common::new() },
            in_channels,
            out_channels,
            parameters: Parameters::default(),
            activation: Activation::default(),
        }
    }

    setters!(common);
    setters!(parameters "`[out_channels, in_channels]`");

    setters!(build PointwiseConv2d);

    pub(super) fn engine(&self, descriptor: Descriptor) -> Result<Engine, Error> {
        let folded = self.parameters.fold(POINTWISE, self.out_channels, self.in_channels, [1, 1])?;
        pointwise_engine(descriptor, &folded, self.activation)
    }

    pub(super) fn descriptor(&self, isa: Isa, machine: &'static Machine) -> Result<Descriptor, Error> {
        check_channels(self.in_channels, "the number of input channels")?;
        check_channels(self.out_channels, "the number of output channels")?;
        check_activation(self.activation)?;
        self.common.check_kernels(&[Operation::Pointwise])?;
        let kernel = self.common.pointwise_kernel(machine, isa, self.out_channels)?;
        let channels = [self.in_channels, self.in_channels, self.out_channels];
        let biases = [0, self.parameters.biases(self.out_channels)];
        Ok(self.common.descriptor(isa, machine, Window::POINT, channels, biases, Stages::Pointwise(kernel)))
    }
}
