//! What all builders hold, and what they check.

use alloc::format;

use crate::choose::descriptor::{Descriptor, Fusion, Stages};
use crate::choose::kernel::{self as choose, Alike};
use crate::geometry::{AskedWindow, Window};
use crate::machine::Machine;
use depthwise_kernels::{Activation, Available, ElementType, Error, Isa, KernelInfo, Layout, Operation, Taps, fits};

/// What all builders hold.
#[derive(Clone, Debug)]
pub(super) struct Common<'a> {
    pub(super) window: AskedWindow,
    pub(super) layout: Layout,
    pub(super) isa: Option<Isa>,
    pub(super) machine: Option<&'static Machine>,
    /// Those asked for, at the index of their operation.
    pub(super) kernels: [Option<&'a str>; 2],
}

impl<'a> Common<'a> {
    /// A 3×3 window, until told otherwise.
    pub(super) fn new() -> Self {
        let taps = Taps { kernel_size: [3, 3], stride: [1, 1], dilation: [1, 1] };
        let window = AskedWindow { taps, padding: None };
        Self { window, layout: Layout::default(), isa: None, machine: None, kernels: [None; 2] }
    }

    /// The instruction set asked for, by the builder or by the environment, or else the best.
    pub(super) fn isa(&self) -> Result<Isa, Error> {
        Ok(asked_isa(self.isa)?.map_or_else(Isa::detect, Isa::of_floats))
    }

    /// Fails if a kernel was asked for that a plan of these operations does not have.
    pub(super) fn check_kernels(&self, operations: &[Operation]) -> Result<(), Error> {
        for name in self.kernels.into_iter().flatten() {
            let listed = depthwise_kernels::table().find(|info| info.name == name);
            let info = listed.ok_or_else(|| Error::UnknownKernel { name: name.into() })?;
            if info.element == ElementType::I8 {
                let why = "its elements are of 8 bits, for plans of the module `int8`, and this plan computes with f32"
                    .into();
                return Err(Error::KernelDoesNotFit { name: info.name, why });
            }
            if !operations.contains(&info.operation) {
                let why = format!("the plan has no {:?} stage", info.operation);
                return Err(Error::KernelDoesNotFit { name: info.name, why });
            }
            if info.layout != self.layout {
                let why = format!("the plan is for {}", self.layout);
                return Err(Error::KernelDoesNotFit { name: info.name, why });
            }
        }
        Ok(())
    }

    pub(super) fn machine(&self) -> Result<&'static Machine, Error> {
        asked_machine(self.machine)
    }

    /// The kernel of that operation asked for by name.
    pub(super) fn asked(&self, isa: Isa, operation: Operation) -> Result<Option<&'static KernelInfo>, Error> {
        let Some(name) = self.kernels[operation as usize] else { return Ok(None) };
        let listed = depthwise_kernels::table().find(|info| info.name == name);
        let info = listed.ok_or_else(|| Error::UnknownKernel { name: name.into() })?;
        if !isa.includes(info.isa) {
            let why = format!("the plan is for {isa}: give the builder that kernel's instruction set");
            return Err(Error::KernelDoesNotFit { name: info.name, why });
        }
        Ok(Some(info))
    }

    pub(super) fn depthwise_kernel(
        &self,
        machine: &Machine,
        isa: Isa,
        channels: usize,
        multiplier: usize,
    ) -> Result<&'static KernelInfo, Error> {
        let taps = self.window.taps;
        if let Some(info) = self.asked(isa, Operation::Depthwise)? {
            if fits(info, taps, multiplier) {
                return Ok(info);
            }
            let [[kh, kw], [sh, sw], [dh, dw]] = [taps.kernel_size, taps.stride, taps.dilation];
            let why = format!(
                "it does not compute {kh}x{kw} taps at stride {sh}x{sw}, dilation {dh}x{dw} and multiplier {multiplier}"
            );
            return Err(Error::KernelDoesNotFit { name: info.name, why });
        }
        let chosen = choose::depthwise(machine, isa, self.layout, taps, channels, multiplier);
        chosen.ok_or(Error::UnavailableIsa { isa, from_environment: false })
    }

    pub(super) fn pointwise_kernel(
        &self,
        machine: &Machine,
        isa: Isa,
        out_channels: usize,
    ) -> Result<&'static KernelInfo, Error> {
        if let Some(info) = self.asked(isa, Operation::Pointwise)? {
            return Ok(info);
        }
        choose::pointwise(machine, isa, self.layout, out_channels)
            .ok_or(Error::UnavailableIsa { isa, from_environment: false })
    }

    /// What a plan on these kernels computes.
    ///
    /// `channels`: of the input, between the stages, of the output. `biases`: of the first and of the last stage.
    pub(super) fn descriptor(
        &self,
        isa: Isa,
        machine: &'static Machine,
        window: Window,
        channels: [usize; 3],
        biases: [usize; 2],
        kernels: Stages<&'static KernelInfo, &'static KernelInfo>,
    ) -> Descriptor {
        let [in_channels, mid_channels, out_channels] = channels;
        let alike = |kernel| choose::alike(kernel, ElementType::F32, window.taps, mid_channels / in_channels);
        Descriptor {
            isa,
            machine,
            element: ElementType::F32,
            layout: self.layout,
            in_channels,
            mid_channels,
            out_channels,
            window,
            fusion: Fusion::default(),
            biases,
            forced: self.kernels[Operation::Depthwise as usize].is_some(),
            kernels,
            few_pixels: kernels.pointwise().and_then(|kernel| self.of_few_pixels(kernel)),
            alike: kernels.depthwise().map_or_else(Alike::default, alike),
            own: Alike::default(),
        }
    }

    /// The one for maps of few pixels beside that, unless one was asked for.
    fn of_few_pixels(&self, packed: &KernelInfo) -> Option<&'static KernelInfo> {
        let asked = self.kernels[Operation::Pointwise as usize].is_some();
        if asked { None } else { choose::of_few_pixels(packed) }
    }
}

/// The instruction set asked for, by a builder or by the environment, which this CPU has.
pub(crate) fn asked_isa(by_builder: Option<Isa>) -> Result<Option<Isa>, Error> {
    let asked = match by_builder {
        Some(isa) => Some(isa),
        #[cfg(feature = "std")]
        None => match std::env::var_os("DEPTHWISE_ISA") {
            Some(name) if !name.is_empty() => Some(name.to_string_lossy().parse().map_err(|error| match error {
                Error::UnknownIsa { name, .. } => Error::UnknownIsa { name, from_environment: true },
                other => other,
            })?),
            _ => None,
        },
        #[cfg(not(feature = "std"))]
        None => None,
    };
    match asked {
        Some(isa) if !isa.is_available() => Err(Error::UnavailableIsa { isa, from_environment: by_builder.is_none() }),
        asked => Ok(asked),
    }
}

/// The machine asked for, by a builder or by the environment, or else the one that this CPU is.
pub(crate) fn asked_machine(by_builder: Option<&'static Machine>) -> Result<&'static Machine, Error> {
    if let Some(machine) = by_builder {
        return Ok(machine);
    }
    #[cfg(feature = "std")]
    if let Some(name) = std::env::var_os("DEPTHWISE_MACHINE").filter(|name| !name.is_empty()) {
        return Machine::named(&name.to_string_lossy()).map_err(|error| match error {
            Error::UnknownMachine { name, known, .. } => Error::UnknownMachine { name, known, from_environment: true },
            other => other,
        });
    }
    Ok(Machine::detect())
}

/// The kernel, if this CPU has its instruction set.
pub(crate) fn available(info: &KernelInfo) -> Result<Available, Error> {
    depthwise_kernels::available(info).ok_or(Error::UnavailableIsa { isa: info.isa, from_environment: false })
}

pub(super) fn check_activation(activation: Activation) -> Result<(), Error> {
    match activation {
        // Of bounds that are both the same infinity every output would be that.
        Activation::Clamp { min, max } if !(min <= max && min < f32::INFINITY && max > f32::NEG_INFINITY) => {
            Err(Error::Clamp { min, max })
        }
        Activation::LeakyRelu { slope } if !slope.is_finite() => {
            Err(Error::NotFinite { what: "the slope of the leaky ReLU", value: slope })
        }
        _ => Ok(()),
    }
}

pub(crate) fn check_channels(channels: usize, what: &'static str) -> Result<(), Error> {
    if channels == 0 { Err(Error::Zero { what }) } else { Ok(()) }
}

/// The channels between the stages.
pub(crate) fn multiplied(channels: usize, multiplier: usize) -> Result<usize, Error> {
    check_channels(channels, "the number of channels")?;
    check_channels(multiplier, "the channel multiplier")?;
    channels.checked_mul(multiplier).ok_or(Error::Overflow { what: "channels times multiplier" })
}
