//! The builder of a standard convolution, which may be one of the other operations.

use super::common::{Common, check_activation, check_channels};
use super::setters::{geometry, setters};
use super::stages::{depthwise_engine, pointwise_engine};
use super::{DepthwiseConv2dBuilder, PointwiseConv2dBuilder, STANDARD};
use crate::api::plan::Conv2d;
use crate::api::weights::{BatchNorm, Parameters, WeightOrder};
use crate::choose::descriptor::{Descriptor, Schedule, Stages};
use crate::geometry::{AskedWindow, Padding};
use crate::machine::Machine;
use crate::run::engine::Engine;
use depthwise_kernels::{Activation, Element, Error, Isa, Layout, Operation};

/// So many outputs of a gathered tap are worth the gathering (094).
const MANY_OUTPUTS: usize = 32;

/// Builds a [`Conv2d`].
#[derive(Clone, Debug)]
pub struct Conv2dBuilder<'a> {
    pub(super) common: Common<'a>,
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) parameters: Parameters<'a>,
    pub(super) activation: Activation,
}

impl<'a> Conv2dBuilder<'a> {
    pub(crate) fn new(in_channels: usize, out_channels: usize) -> Self {
        Self {
            common: Common::new(),
            in_channels,
            out_channels,
            parameters: Parameters::default(),
            activation: Activation::default(),
        }
    }

    setters!(common);
    geometry!(window);
    setters!(parameters "`[out_channels, in_channels, kernel height, kernel width]`");

    setters!(build Conv2d);

    pub(super) fn engine(&self, descriptor: Descriptor) -> Result<Engine, Error> {
        let taps = descriptor.window.taps;
        let folded = self.parameters.fold(STANDARD, self.out_channels, self.in_channels, taps.kernel_size)?;
        match descriptor.kernels {
            Stages::Depthwise(_) => depthwise_engine(descriptor, self.out_channels, &folded, self.activation),
            _ => pointwise_engine(descriptor, &folded, self.activation),
        }
    }

    pub(super) fn descriptor(&self, isa: Isa, machine: &'static Machine) -> Result<Descriptor, Error> {
        let window = self.common.window.resolve()?;
        check_channels(self.in_channels, "the number of input channels")?;
        check_channels(self.out_channels, "the number of output channels")?;
        check_activation(self.activation)?;
        let Self { common, in_channels, out_channels, parameters, activation } = self.clone();
        // One input is a depthwise convolution, too. To gather its taps pays where many outputs lie side by side, or where windows do not
        // overlap.
        let lie_side_by_side = common.layout == Layout::Nhwc && out_channels >= MANY_OUTPUTS;
        let pays_to_gather = lie_side_by_side || out_channels > 1 && !window.overlaps();
        if window.is_point() {
            let common = Common { window: AskedWindow::POINT, ..common };
            let same = PointwiseConv2dBuilder { common, in_channels, out_channels, parameters, activation };
            return same.descriptor(isa, machine);
        }
        if in_channels == 1 && !pays_to_gather && common.kernels[Operation::Pointwise as usize].is_none() {
            let same = DepthwiseConv2dBuilder { common, channels: 1, multiplier: out_channels, parameters, activation };
            return same.descriptor(isa, machine);
        }
        self.common.check_kernels(&[Operation::Pointwise])?;
        let [kh, kw] = window.taps.kernel_size;
        let gathered = kh.checked_mul(kw).and_then(|taps| taps.checked_mul(self.in_channels));
        let gathered = gathered.ok_or(Error::Overflow { what: "the number of weights" })?;
        let kernel = self.common.pointwise_kernel(machine, isa, self.out_channels)?;
        let channels = [self.in_channels, gathered, self.out_channels];
        let biases = [0, self.parameters.biases(self.out_channels)];
        Ok(self.common.descriptor(isa, machine, window, channels, biases, Stages::Gathered(kernel)))
    }
}
