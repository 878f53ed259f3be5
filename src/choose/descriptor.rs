//! What a plan computes and on which kernels, without its weights.

use alloc::vec::Vec;
use core::fmt;

use super::choice::Choice;
use super::kernel::{self as choose, Alike};
use super::workers::Workers;
use crate::Isa;
use crate::cost::Cost;
use crate::geometry::{Outputs, Window};
use crate::machine::Machine;
use depthwise_kernels::{ElementType, Error, KernelInfo, Layout, OutputRange, Shape};

/// How the two stages of a separable convolution follow each other. The result has the same bits in every case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fusion {
    /// The default. The crate chooses for each run: fused, except in two cases. Two passes run where they divide the work more
    /// evenly between the threads. In NCHW they also run where 64 or more channels lie between the stages and all of their values
    /// fit a shared cache; on CPUs whose shared cache is slow to reach, only if the output has fewer channels than that.
    #[default]
    Auto,
    /// Both stages of a block of pixels, then both stages of the next block: the values between the stages stay in the cache.
    /// Where an output has too few rows for all threads, several threads compute different channels of the same rows. Each of
    /// them then computes the first stage of these rows for itself.
    Fused,
    /// All of the first stage, then all of the second. The workspace holds the whole output of the first stage.
    TwoPass,
}

/// The stages of a plan, and their kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stages<D, P> {
    Depthwise(D),
    Pointwise(P),
    Separable(D, P),
    /// A standard convolution: the window's inputs, gathered pixel by pixel, times a matrix.
    Gathered(P),
}

impl<D, P> Stages<D, P> {
    /// The depthwise stage.
    pub(crate) fn depthwise(self) -> Option<D> {
        match self {
            Stages::Depthwise(d) | Stages::Separable(d, _) => Some(d),
            Stages::Pointwise(_) | Stages::Gathered(_) => None,
        }
    }

    /// The pointwise stage.
    pub(crate) fn pointwise(self) -> Option<P> {
        match self {
            Stages::Pointwise(p) | Stages::Separable(_, p) | Stages::Gathered(p) => Some(p),
            Stages::Depthwise(_) => None,
        }
    }

    /// The same with another for the pointwise stage, if there is one.
    pub(crate) fn with_pointwise(self, p: P) -> Self {
        match self {
            Stages::Pointwise(_) => Stages::Pointwise(p),
            Stages::Gathered(_) => Stages::Gathered(p),
            Stages::Separable(d, _) => Stages::Separable(d, p),
            Stages::Depthwise(d) => Stages::Depthwise(d),
        }
    }

    /// The same with another for the depthwise stage.
    pub(crate) fn with_depthwise(self, d: D) -> Self {
        match self {
            Stages::Depthwise(_) => Stages::Depthwise(d),
            Stages::Separable(_, p) => Stages::Separable(d, p),
            others => others,
        }
    }
}

/// How runs of a plan are laid out on a machine, which need not be this one: for simulations.
#[doc(hidden)]
#[derive(Debug)]
pub struct Schedule {
    pub(crate) descriptor: Descriptor,
}

impl Schedule {
    /// As a plan's.
    pub fn output_shape(&self, input: Shape) -> Result<Shape, Error> {
        self.descriptor.output_shape(input)
    }

    /// As a plan's.
    pub fn cost(&self, input: Shape) -> Result<Cost, Error> {
        self.descriptor.cost(input)
    }

    /// As a plan's `prepare`, for that many threads.
    pub fn prepare(&self, input: Shape, threads: usize) -> Result<Choice, Error> {
        let workers = Some(Workers::called_within(threads));
        match self.turned(input) {
            Some(turned) => Choice::new(&turned, input.turned(), workers),
            None => Choice::new(&self.descriptor, input, workers),
        }
    }

    /// The parts of each step of each pass. `rayon` finishes a step before the next.
    pub fn steps(&self, input: Shape, threads: usize) -> Result<Vec<Vec<Vec<OutputRange>>>, Error> {
        let Some(turned) = self.turned(input) else { return self.descriptor.steps(input, threads) };
        let mut passes = turned.steps(input.turned(), threads)?;
        for range in passes.iter_mut().flatten().flatten() {
            *range = range.clone().turned();
        }
        Ok(passes)
    }

    /// What runs on such inputs are turned to, if they are.
    fn turned(&self, input: Shape) -> Option<Descriptor> {
        if self.descriptor.is_column(input) { self.descriptor.turned() } else { None }
    }

    /// The slots of a multiply unit that a vector of a kernel takes.
    pub fn slots(&self, kernel: &KernelInfo) -> f64 {
        self.descriptor.slots(kernel)
    }
}

/// What a plan computes, and on which kernels.
#[derive(Clone, Debug)]
pub(crate) struct Descriptor {
    pub(crate) isa: Isa,
    pub(crate) machine: &'static Machine,
    /// Of input, residual and output, and of what lies between two stages.
    pub(crate) element: ElementType,
    pub(crate) layout: Layout,
    pub(crate) in_channels: usize,
    /// Channels between the stages: those of a depthwise stage, or the gathered inputs of a pixel.
    pub(crate) mid_channels: usize,
    pub(crate) out_channels: usize,
    pub(crate) window: Window,
    pub(crate) fusion: Fusion,
    /// Biases of the first and of the last stage, given or folded.
    pub(crate) biases: [usize; 2],
    /// The depthwise kernel was asked for by name, and no other may take its place.
    pub(crate) forced: bool,
    /// Those that the weights are packed for.
    pub(crate) kernels: Stages<&'static KernelInfo, &'static KernelInfo>,
    /// The pointwise one that shares that packing and is for maps of few pixels.
    pub(crate) few_pixels: Option<&'static KernelInfo>,
    /// The depthwise ones that share that packing: a run takes one of them, unless one was asked for.
    pub(crate) alike: Alike,
    /// Those for the plan's own narrow elements, where no sweep follows: they read and write tensors as they are.
    pub(crate) own: Alike,
}

impl Descriptor {
    /// The plan's type.
    fn name(&self) -> &'static str {
        match self.kernels {
            Stages::Depthwise(_) => "DepthwiseConv2d",
            Stages::Pointwise(_) => "PointwiseConv2d",
            Stages::Separable(..) => "SeparableConv2d",
            Stages::Gathered(_) => "Conv2d",
        }
    }

    /// Whether plans of both make the same choices, which each of them can run.
    pub(crate) fn chooses_as(&self, other: &Descriptor) -> bool {
        let extents = |of: &Descriptor| [of.in_channels, of.mid_channels, of.out_channels];
        let way = |of: &Descriptor| (of.isa, of.element, of.layout, of.fusion, of.forced);
        let kernels = |of: &Descriptor| match of.kernels {
            Stages::Depthwise(d) => (0, [Some(d.name), None]),
            Stages::Pointwise(p) => (1, [None, Some(p.name)]),
            Stages::Separable(d, p) => (2, [Some(d.name), Some(p.name)]),
            Stages::Gathered(p) => (3, [None, Some(p.name)]),
        };
        // Machines of a name may differ in the sizes of their caches.
        core::ptr::eq(self.machine, other.machine)
            && way(self) == way(other)
            && extents(self) == extents(other)
            && self.window == other.window
            && kernels(self) == kernels(other)
    }

    /// Of a separable convolution's first stage alone.
    pub(crate) fn first_stage(&self) -> Descriptor {
        let Stages::Separable(kernel, _) = self.kernels else { unreachable!("a separable convolution has two stages") };
        let (out_channels, biases) = (self.mid_channels, [0, self.biases[0]]);
        Descriptor { out_channels, biases, kernels: Stages::Depthwise(kernel), ..*self }
    }

    /// Of a separable convolution's second stage alone.
    pub(crate) fn second_stage(&self) -> Descriptor {
        let Stages::Separable(_, kernel) = self.kernels else { unreachable!("a separable convolution has two stages") };
        let (in_channels, biases) = (self.mid_channels, [0, self.biases[1]]);
        Descriptor {
            in_channels,
            biases,
            window: Window::POINT,
            kernels: Stages::Pointwise(kernel),
            alike: Alike::default(),
            own: Alike::default(),
            ..*self
        }
    }

    /// Of the same convolution with height and width exchanged: of one column, which has the same taps in the same order then.
    pub(crate) fn turned(&self) -> Option<Descriptor> {
        let window = self.window.turned();
        let [kh, _] = window.taps.kernel_size;
        if kh != 1 || self.forced {
            return None;
        }
        let kernels = match self.kernels {
            Stages::Pointwise(_) => return None,
            Stages::Gathered(p) => return Some(Descriptor { window, kernels: Stages::Gathered(p), ..*self }),
            both @ (Stages::Depthwise(_) | Stages::Separable(..)) => both,
        };
        let multiplier = self.mid_channels / self.in_channels.max(1);
        let kernel = choose::depthwise(self.machine, self.isa, self.layout, window.taps, self.in_channels, multiplier)?;
        let alike = choose::alike(kernel, ElementType::F32, window.taps, multiplier);
        Some(Descriptor { window, kernels: kernels.with_depthwise(kernel), alike, own: Alike::default(), ..*self })
    }

    /// Of the same convolution channels first, if one channel is all there is: the memory is the same.
    pub(crate) fn plane(&self) -> Option<Descriptor> {
        let Stages::Depthwise(_) = self.kernels else { return None };
        if (self.layout, self.in_channels, self.out_channels, self.forced) != (Layout::Nhwc, 1, 1, false) {
            return None;
        }
        let kernel = choose::depthwise(self.machine, self.isa, Layout::Nchw, self.window.taps, 1, 1)?;
        let alike = choose::alike(kernel, ElementType::F32, self.window.taps, 1);
        Some(Descriptor { layout: Layout::Nchw, kernels: Stages::Depthwise(kernel), alike, ..*self })
    }

    /// Whether a run on that input is one of a map of one column: it had better be [turned](Self::turned), as kernels compute a row at a
    /// time.
    pub(crate) fn is_column(&self, input: Shape) -> bool {
        let one_column = |outputs: Outputs| (outputs.extent[1], outputs.pad[1]) == (1, 0);
        input.w == 1 && input.h > 1 && self.window.outputs(input).is_ok_and(one_column)
    }

    pub(crate) fn output_shape(&self, input: Shape) -> Result<Shape, Error> {
        Ok(self.outputs(input)?.1)
    }

    pub(crate) fn outputs(&self, input: Shape) -> Result<(Outputs, Shape), Error> {
        self.window.whole(input, [self.in_channels, self.out_channels])
    }

    pub(crate) fn cost(&self, input: Shape) -> Result<Cost, Error> {
        let (_, output) = self.outputs(input)?;
        let ([first, last], element) = (self.biases, self.element);
        match self.kernels {
            Stages::Depthwise(_) => Cost::of(&self.window, element, [input, output], 1, last),
            Stages::Pointwise(_) | Stages::Gathered(_) => {
                Cost::of(&self.window, element, [input, output], input.c, last)
            }
            Stages::Separable(..) => {
                let between = Shape { c: self.mid_channels, ..output };
                let depthwise = Cost::of(&self.window, element, [input, between], 1, first)?;
                let pointwise = Cost::of(&Window::POINT, element, [between, output], between.c, last)?;
                depthwise.then(pointwise, element, between)
            }
        }
    }
}

/// What a plan shows of itself: what it was built for, not its weights.
impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut plan = f.debug_struct(self.name());
        plan.field("in_channels", &self.in_channels);
        if let Stages::Depthwise(_) | Stages::Separable(..) = self.kernels {
            plan.field("multiplier", &(self.mid_channels / self.in_channels));
        }
        plan.field("out_channels", &self.out_channels);
        if !matches!(self.kernels, Stages::Pointwise(_)) {
            let Window { taps, padding } = self.window;
            plan.field("kernel_size", &taps.kernel_size)
                .field("stride", &taps.stride)
                .field("dilation", &taps.dilation);
            plan.field("padding", &padding);
        }
        if let Stages::Separable(..) = self.kernels {
            plan.field("fusion", &self.fusion);
        }
        plan.field("element", &format_args!("{}", self.element)).field("layout", &self.layout).field("isa", &self.isa);
        plan.field("machine", &format_args!("{}", self.machine));
        match self.kernels {
            Stages::Depthwise(kernel) | Stages::Pointwise(kernel) | Stages::Gathered(kernel) => {
                plan.field("packed_for", &format_args!("{}", kernel.name))
            }
            Stages::Separable(d, p) => plan.field("packed_for", &format_args!("{} + {}", d.name, p.name)),
        }
        .finish()
    }
}
