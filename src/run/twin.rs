//! The same convolution under another label: the same elements in memory, the same sums in the same order, but kernels that are faster.

use alloc::sync::Arc;

use crate::choose::descriptor::Descriptor;
use crate::run::arguments::Run;
use crate::run::engine::Engine;
use depthwise_kernels::{Axis, Error, Layout, OutputRange, Shape, Strides};

/// How else the axes may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Label {
    /// Height and width are exchanged, where there is one column: kernels compute a row at a time.
    Turned,
    /// A single channel is a plane, channels last too: vectors run along the row then.
    Plane,
}

/// An engine for the same convolution under another label.
#[derive(Clone)]
pub(crate) struct Twin {
    label: Label,
    pub(crate) engine: Arc<Engine>,
}

impl Twin {
    pub(crate) fn new(label: Label, engine: Engine) -> Self {
        Self { label, engine: Arc::new(engine) }
    }

    /// The same for one of an engine's stages.
    pub(crate) fn of_stage(&self, stage: impl FnOnce(&Engine) -> Engine) -> Self {
        Self::new(self.label, stage(&self.engine))
    }

    /// Whether it takes runs on inputs of that shape, if their tensors have no gaps.
    pub(crate) fn suits(&self, descriptor: &Descriptor, input: Shape) -> bool {
        match self.label {
            Label::Turned => descriptor.is_column(input),
            Label::Plane => true,
        }
    }

    /// Whether the tensors of a run lie so that its kernels can read and write them: vectors run along the image's height if
    /// turned, along its width in a plane.
    pub(crate) fn can_run<E>(&self, run: &Run<'_, E>) -> bool {
        let axis = match self.label {
            Label::Turned => Axis::H,
            Label::Plane => Axis::W,
        };
        let lies = |shape: Shape, strides: Strides| shape[axis] <= 1 || strides[axis] == 1;
        self.engine.descriptor.layout == Layout::Nhwc
            || lies(run.input.shape(), run.input.strides())
                && lies(run.output.shape(), run.output.strides())
                && run.residual.as_ref().is_none_or(|residual| lies(residual.shape(), residual.strides()))
    }

    /// An input's shape under this label.
    pub(crate) fn shape(&self, input: Shape) -> Shape {
        match self.label {
            Label::Turned => input.turned(),
            Label::Plane => input,
        }
    }

    /// A part of an output under this label, or back from it.
    pub(crate) fn range(&self, range: OutputRange) -> OutputRange {
        match self.label {
            Label::Turned => range.turned(),
            Label::Plane => range,
        }
    }

    /// What a run under this label says of itself, as it was said.
    pub(crate) fn error(&self, error: Error) -> Error {
        match (self.label, error) {
            (Label::Turned, Error::Range { axis, start, end, extent }) => {
                let axis = match axis {
                    Axis::H => Axis::W,
                    Axis::W => Axis::H,
                    other => other,
                };
                Error::Range { axis, start, end, extent }
            }
            (Label::Turned, Error::Shape { what, expected, found }) => {
                Error::Shape { what, expected: expected.turned(), found: found.turned() }
            }
            (_, error) => error,
        }
    }

    /// A run under this label.
    pub(crate) fn run<'a, E>(&self, run: Run<'a, E>) -> Run<'a, E> {
        match self.label {
            Label::Turned => Run {
                input: run.input.turned(),
                residual: run.residual.map(|residual| residual.turned()),
                output: run.output.turned(),
                range: run.range.map(OutputRange::turned),
                ..run
            },
            Label::Plane => run,
        }
    }
}
