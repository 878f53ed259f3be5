//! The builder of a convolution of any groups, which is one of the other operations.

use super::common::{Common, check_channels};
use super::setters::{geometry, setters};
use super::{Conv2dBuilder, DepthwiseConv2dBuilder};
use crate::api::plan::AnyConv2d;
use crate::api::weights::{BatchNorm, Parameters, WeightOrder};
use crate::choose::descriptor::{Descriptor, Schedule};
use crate::geometry::Padding;
use crate::machine::Machine;
use crate::run::engine::Engine;
use depthwise_kernels::{Activation, Element, Error, Isa, Layout, Operation};

/// Builds an [`AnyConv2d`].
#[derive(Clone, Debug)]
pub struct AnyConv2dBuilder<'a> {
    pub(super) common: Common<'a>,
    pub(super) in_channels: usize,
    pub(super) out_channels: usize,
    pub(super) groups: usize,
    pub(super) parameters: Parameters<'a>,
    pub(super) activation: Activation,
}

/// The builder of the operation that a convolution is.
enum Picked<'a> {
    Depthwise(DepthwiseConv2dBuilder<'a>),
    Standard(Conv2dBuilder<'a>),
}

impl<'a> AnyConv2dBuilder<'a> {
    pub(crate) fn new(in_channels: usize, out_channels: usize, groups: usize) -> Self {
        Self {
            common: Common::new(),
            in_channels,
            out_channels,
            groups,
            parameters: Parameters::default(),
            activation: Activation::default(),
        }
    }

    setters!(common);
    geometry!(window);
    setters!(parameters "`[out_channels, in_channels / groups, kernel height, kernel width]`");

    setters!(build AnyConv2d, "If there is neither 1 group nor one for each input channel.");

    fn picked(&self) -> Result<Picked<'a>, Error> {
        let Self { common, in_channels, out_channels, groups, parameters, activation } = self.clone();
        check_channels(in_channels, "the number of input channels")?;
        check_channels(out_channels, "the number of output channels")?;
        check_channels(groups, "the number of groups")?;
        match groups {
            1 => Ok(Picked::Standard(Conv2dBuilder { common, in_channels, out_channels, parameters, activation })),
            _ if groups == in_channels && out_channels % groups == 0 => {
                let (channels, multiplier) = (in_channels, out_channels / groups);
                Ok(Picked::Depthwise(DepthwiseConv2dBuilder { common, channels, multiplier, parameters, activation }))
            }
            _ => {
                let (inputs, outputs) = (in_channels, out_channels);
                Err(if inputs.is_multiple_of(groups) && outputs.is_multiple_of(groups) {
                    Error::Groups { groups, inputs, outputs }
                } else {
                    Error::UnevenGroups { groups, inputs, outputs }
                })
            }
        }
    }

    pub(super) fn engine(&self, descriptor: Descriptor) -> Result<Engine, Error> {
        match self.picked()? {
            Picked::Depthwise(builder) => builder.engine(descriptor),
            Picked::Standard(builder) => builder.engine(descriptor),
        }
    }

    pub(super) fn descriptor(&self, isa: Isa, machine: &'static Machine) -> Result<Descriptor, Error> {
        match self.picked()? {
            Picked::Depthwise(builder) => builder.descriptor(isa, machine),
            Picked::Standard(builder) => builder.descriptor(isa, machine),
        }
    }
}
