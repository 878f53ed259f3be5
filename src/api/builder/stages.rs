//! Stages and engines: a descriptor's kernels with the weights packed for them.

use alloc::sync::Arc;

use super::common::available;
use crate::api::weights::Folded;
use crate::choose::descriptor::{Descriptor, Stages};
use crate::run::engine::Engine;
use crate::run::twin::Label;
use depthwise_kernels::{Activation, DepthwiseStage, Error, KernelInfo, PointwiseStage};

pub(super) fn depthwise_stage(
    descriptor: &Descriptor,
    kernel: &KernelInfo,
    multiplier: usize,
    folded: &Folded,
    activation: Activation,
) -> Result<DepthwiseStage, Error> {
    let (taps, channels) = (descriptor.window.taps, descriptor.in_channels);
    let parameters = [&folded.weights[..], &folded.bias];
    DepthwiseStage::new(available(kernel)?, taps, channels, multiplier, parameters, activation)
}

pub(super) fn depthwise_engine(
    descriptor: Descriptor,
    multiplier: usize,
    folded: &Folded,
    activation: Activation,
) -> Result<Engine, Error> {
    let build = |descriptor: Descriptor| {
        let Stages::Depthwise(kernel) = descriptor.kernels else {
            unreachable!("it describes a depthwise convolution")
        };
        let stage = depthwise_stage(&descriptor, kernel, multiplier, folded, activation)?;
        let descriptor = descriptor.with_own_kernels(kernel, stage.sweeps())?;
        Ok(Engine::new(descriptor, Stages::Depthwise(Arc::new(stage))))
    };
    let turned = |descriptor: Descriptor| {
        let twin = descriptor.turned().map(build).transpose()?;
        Ok(build(descriptor)?.with_twin(Label::Turned, twin))
    };
    match descriptor.plane() {
        Some(plane) => Ok(build(descriptor)?.with_twin(Label::Plane, Some(turned(plane)?))),
        None => turned(descriptor),
    }
}

pub(super) fn pointwise_engine(
    descriptor: Descriptor,
    folded: &Folded,
    activation: Activation,
) -> Result<Engine, Error> {
    let (kernel, stages): (_, fn(_) -> _) = match descriptor.kernels {
        Stages::Pointwise(kernel) => (kernel, Stages::Pointwise),
        Stages::Gathered(kernel) => (kernel, Stages::Gathered),
        Stages::Depthwise(_) | Stages::Separable(..) => unreachable!("it describes a matrix product"),
    };
    let stage = Arc::new(pointwise_stage(&descriptor, kernel, folded, activation)?);
    let twin = descriptor.turned().map(|turned| Engine::new(turned, stages(Arc::clone(&stage))));
    Ok(Engine::new(descriptor, stages(stage)).with_twin(Label::Turned, twin))
}

pub(super) fn pointwise_stage(
    descriptor: &Descriptor,
    kernel: &KernelInfo,
    folded: &Folded,
    activation: Activation,
) -> Result<PointwiseStage, Error> {
    let (inputs, outputs) = (descriptor.mid_channels, descriptor.out_channels);
    let prefetches = descriptor.machine.prefetches_outputs(kernel);
    let parameters = [&folded.weights[..], &folded.bias];
    PointwiseStage::new(available(kernel)?, inputs, outputs, parameters, activation, prefetches)
}
