//! What can be wrong with the arguments.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{Axis, ElementType, Isa, Layout, OutputRange, Shape, Strides};

/// What is wrong with the arguments: each message names the numbers that disagree and what to do.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// A parameter that must be at least 1 is 0.
    Zero {
        /// The parameter.
        what: &'static str,
    },
    /// A product or sum of parameters does not fit the address space.
    Overflow {
        /// What was being computed.
        what: &'static str,
    },
    /// The cost of a convolution does not fit the 64 bits that it is counted in.
    CostOverflow,
    /// A parameter is larger than kernels compute.
    TooLarge {
        /// The parameter.
        what: &'static str,
        /// Its value.
        found: usize,
        /// The largest that it may be.
        limit: usize,
    },
    /// There is no memory for packed weights or a workspace.
    OutOfMemory {
        /// The `f32` asked for.
        elements: usize,
    },
    /// A slice ends before its tensor does.
    SliceTooShort {
        /// The elements the tensor needs.
        needed: usize,
        /// The elements there are.
        len: usize,
        /// The tensor's extents.
        shape: Shape,
        /// The tensor's strides.
        strides: Strides,
    },
    /// A slice has more elements than the contiguous tensor that it was given for.
    SliceTooLong {
        /// The tensor's elements.
        needed: usize,
        /// The elements there are.
        len: usize,
        /// The tensor's extents.
        shape: Shape,
    },
    /// Two elements of an output would lie at the same place.
    OverlappingStrides {
        /// The tensor's extents.
        shape: Shape,
        /// The tensor's strides.
        strides: Strides,
    },
    /// An axis of an array runs backwards.
    NegativeStride {
        /// Its stride.
        stride: isize,
    },
    /// A tensor is not contiguous along the axis that its layout's kernels load vectors from.
    NotContiguous {
        /// Which tensor.
        what: &'static str,
        /// The plan's layout.
        layout: Layout,
        /// The axis.
        axis: Axis,
        /// Its stride.
        stride: usize,
    },
    /// A tensor's shape is not the one the plan needs.
    Shape {
        /// Which tensor.
        what: &'static str,
        /// What the plan needs.
        expected: Shape,
        /// What was given.
        found: Shape,
    },
    /// The input has another number of channels than the plan.
    Channels {
        /// The plan's input channels.
        expected: usize,
        /// The input's channels.
        found: usize,
    },
    /// The window is larger than the padded input, so there is no output.
    WindowTooLarge {
        /// Height or width.
        axis: Axis,
        /// The kernel's extent along it, dilation included.
        window: usize,
        /// The input's extent.
        input: usize,
        /// The padding before and after it.
        padding: [usize; 2],
    },
    /// A builder was not told of the padding, and none of the same width on both sides keeps the size: (K − 1)·d is odd.
    PaddingNotGiven {
        /// Height or width.
        axis: Axis,
        /// The taps along it, K.
        kernel: usize,
        /// The dilation along it, d.
        dilation: usize,
    },
    /// The channels of a convolution cannot be in as many groups: one of their numbers is no multiple of it.
    UnevenGroups {
        /// The groups asked for.
        groups: usize,
        /// The input channels.
        inputs: usize,
        /// The output channels.
        outputs: usize,
    },
    /// The channels of a convolution are in groups that no plan computes.
    Groups {
        /// The groups asked for.
        groups: usize,
        /// The input channels.
        inputs: usize,
        /// The output channels.
        outputs: usize,
    },
    /// A parameter array has another length than the shape of the convolution asks for.
    Length {
        /// The array.
        what: &'static str,
        /// How its length follows from the parameters.
        formula: String,
        /// The length it must have.
        expected: usize,
        /// The length it has.
        found: usize,
    },
    /// A parameter array that the operation cannot do without was not given.
    Missing {
        /// The array.
        what: &'static str,
        /// The builder's method that gives it.
        hint: &'static str,
    },
    /// A range does not lie within its axis.
    Range {
        /// The axis.
        axis: Axis,
        /// The range's start.
        start: usize,
        /// The range's end.
        end: usize,
        /// The axis's extent.
        extent: usize,
    },
    /// Two parts that an output is to be cut into share an element.
    PartsMeet {
        /// The two.
        parts: Box<[OutputRange; 2]>,
    },
    /// An executor did not call each task of a run, or not to its end.
    Executor {
        /// The tasks.
        tasks: usize,
        /// Those that came to their end.
        ended: usize,
    },
    /// A choice was given to a run that it was not made for: of another plan, shape or number of threads.
    Choice {
        /// What the choice was made for.
        made_for: String,
        /// What it was given to.
        given_to: String,
    },
    /// The text of a choice is of another version, instruction set, machine or plan, or is no such text.
    ChoiceText {
        /// Of which fact.
        what: &'static str,
        /// What the text says.
        found: String,
        /// What it must say.
        expected: String,
    },
    /// A clamp whose bounds are out of order or not numbers, or hold no finite number.
    Clamp {
        /// The lower bound.
        min: f32,
        /// The upper bound.
        max: f32,
    },
    /// A number that must be finite is not.
    NotFinite {
        /// The parameter.
        what: &'static str,
        /// Its value.
        value: f32,
    },
    /// The ε of a batch normalisation is negative, infinite or no number.
    Epsilon {
        /// The ε.
        epsilon: f32,
    },
    /// The σ² + ε of a batch normalisation is not a finite number above 0, so it has no scale.
    Variance {
        /// The output channel.
        channel: usize,
        /// Its σ².
        variance: f32,
        /// The ε.
        epsilon: f32,
    },
    /// Finite parameters fold to a weight or bias beyond what an `f32` holds.
    Folded {
        /// Which stage's weights or bias.
        what: &'static str,
        /// The output channel.
        channel: usize,
        /// What it folds to.
        value: f64,
    },
    /// A scale of 8 bits is no finite number above 0.
    Scale {
        /// Of what.
        what: &'static str,
        /// The output channel, if each has one.
        channel: Option<usize>,
        /// The scale.
        scale: f32,
    },
    /// A zero point is not in the range of its type.
    ZeroPoint {
        /// Of what.
        what: &'static str,
        /// The zero point.
        zero_point: i32,
        /// The type.
        element: ElementType,
    },
    /// A clamp of numbers of 8 bits holds none of its type.
    ClampOfIntegers {
        /// The lower bound.
        low: i32,
        /// The upper bound.
        high: i32,
        /// The type.
        element: ElementType,
    },
    /// A factor from a sum to 8 bits is out of range.
    Factor {
        /// The output channel.
        channel: usize,
        /// The factor: the scales of input and weights over that of the output.
        factor: f64,
    },
    /// The scale of a sum of two tensors of 8 bits is too fine for theirs.
    ScaleOfSum {
        /// The sum's.
        output: f32,
        /// Theirs.
        inputs: [f32; 2],
    },
    /// A sum, or its product with a factor's power of two, might not fit in 32 bits.
    Sum {
        /// The output channel.
        channel: usize,
        /// How large its magnitude may be.
        bound: u128,
    },
    /// A tensor has elements of another type than the plan.
    ElementType {
        /// Which tensor.
        what: &'static str,
        /// The plan's type.
        expected: ElementType,
        /// The tensor's type.
        found: ElementType,
    },
    /// Plans of 8 bits do not have this.
    NotOf8Bits {
        /// What was asked for.
        what: &'static str,
        /// What to do instead.
        hint: &'static str,
    },
    /// There is no instruction set of this name.
    UnknownIsa {
        /// The name asked for.
        name: String,
        /// Whether the environment variable `DEPTHWISE_ISA` asked for it; else a call did.
        from_environment: bool,
    },
    /// This target or this CPU does not have the instruction set.
    UnavailableIsa {
        /// The instruction set asked for.
        isa: Isa,
        /// Whether the environment variable `DEPTHWISE_ISA` asked for it; else a call did, such as the builder's `isa`.
        from_environment: bool,
    },
    /// There is no machine of this name.
    UnknownMachine {
        /// The name asked for.
        name: String,
        /// The names that there are.
        known: String,
        /// Whether the environment variable `DEPTHWISE_MACHINE` asked for it.
        from_environment: bool,
    },
    /// There is no layout of this name.
    UnknownLayout {
        /// The name asked for.
        name: String,
    },
    /// There is no kernel of this name on this target.
    UnknownKernel {
        /// The name asked for.
        name: String,
    },
    /// The kernel asked for does not compute this convolution.
    KernelDoesNotFit {
        /// The kernel's name.
        name: &'static str,
        /// What does not fit.
        why: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Zero { what } => write!(f, "{what} is 0: it must be at least 1"),
            Error::Overflow { what } => {
                write!(f, "{what} does not fit the address space: check the sizes for a wrong unit or order")
            }
            Error::CostOverflow => {
                write!(f, "the cost of a convolution does not fit 64 bits: check the sizes for a wrong unit or order")
            }
            Error::TooLarge { what, found, limit } => write!(f, "{what} is {found}: it must be at most {limit}"),
            Error::OutOfMemory { elements } => {
                write!(f, "there is no memory for {elements} f32: use smaller sizes, or fewer threads")
            }
            Error::SliceTooShort { needed, len, shape, strides } => write!(
                f,
                "a tensor of shape {shape} with strides {strides} needs a slice of {needed} elements, but it has {len}"
            ),
            Error::SliceTooLong { needed, len, shape } => write!(
                f,
                "a contiguous tensor of shape {shape} has {needed} elements, but the slice has {len}: check the shape, pass \
                 that part of the slice, or use `strided`, which takes longer slices"
            ),
            Error::OverlappingStrides { shape, strides } => write!(
                f,
                "an output of shape {shape} with strides {strides} has two elements at the same place: \
                 each stride must be greater than what the smaller ones reach"
            ),
            Error::NegativeStride { stride } => {
                write!(f, "an axis of the array has stride {stride}: copy the array, strides must not be negative")
            }
            Error::NotContiguous { what, layout, axis, stride } => write!(
                f,
                "the {what} of a plan for {layout} must have stride 1 along its {axis}, but it has {stride}: \
                 copy it, or build the plan for the other layout"
            ),
            Error::Shape { what, expected, found } => {
                write!(f, "the {what} has shape {found}, but this run needs {expected}")
            }
            Error::Channels { expected, found } => {
                write!(f, "the input has {found} channels, but the plan was built for {expected}")
            }
            Error::WindowTooLarge { axis, window, input, padding: [before, after] } => write!(
                f,
                "the kernel spans {window} along the {axis}, more than the input's {input} with padding {before} \
                 before and {after} after it: pad more, or use a smaller kernel or dilation"
            ),
            Error::PaddingNotGiven { axis, kernel, dilation } => write!(
                f,
                "no padding was given, and along the {axis} there is no default for a kernel of {kernel} with dilation \
                 {dilation}: ({kernel} - 1) * {dilation} is odd, and one half of it is due on each side; use `.padding(...)`, \
                 such as `.padding(Padding::same_upper())`"
            ),
            Error::UnevenGroups { groups, inputs, outputs } => write!(
                f,
                "{inputs} input and {outputs} output channels cannot be in {groups} groups: both numbers must be multiples of \
                 the number of groups"
            ),
            Error::Groups { groups, inputs, outputs } => write!(
                f,
                "groups {groups} of {inputs} inputs and {outputs} outputs: a plan computes 1 group, or as many as there are \
                 inputs; cut input and output along the channels and give each group a plan of its own"
            ),
            Error::Length { what, formula, expected, found } => {
                write!(f, "{found} elements were given for {what}, but {expected} are needed ({formula})")
            }
            Error::Missing { what, hint } => write!(f, "{what} must be given: {hint}"),
            Error::Range { axis, start, end, extent } => {
                write!(f, "the range {start}..{end} does not lie within the {axis} of 0..{extent}")
            }
            Error::PartsMeet { parts } => write!(
                f,
                "an output cannot be cut into the parts {} and {}, which share elements: each element may be in one part",
                parts[0], parts[1]
            ),
            Error::Executor { tasks, ended } => write!(
                f,
                "of {tasks} tasks of a run the executor ended {ended}, so outputs may be missing: `execute` must call each task \
                 once, and return after the last"
            ),
            Error::Choice { made_for, given_to } => write!(
                f,
                "a choice that was made for {made_for} was given to a run of {given_to}: use the plan's `prepare` for that"
            ),
            Error::ChoiceText { what, found, expected } => write!(
                f,
                "the text of a choice says `{found}` of `{what}`, but here it must be {expected}: make the choice anew, by \
                 `tune` or `prepare`"
            ),
            Error::Clamp { min, max } => write!(
                f,
                "an activation cannot clamp to {min} ..= {max}: the bounds must be numbers with min <= max, and hold a \
                 finite one"
            ),
            Error::NotFinite { what, value } => write!(f, "{what} is {value}: it must be a finite number"),
            Error::Epsilon { epsilon } => {
                write!(f, "the batch norm's epsilon is {epsilon}: it must be a finite number, 0 or above")
            }
            Error::Variance { channel, variance, epsilon } => write!(
                f,
                "the batch norm's variance of channel {channel} is {variance}, with an epsilon of {epsilon}: their sum must \
                 be a finite number above 0; check the file that they come from, and the order of the four arrays"
            ),
            Error::Folded { what, channel, value } => write!(
                f,
                "with the batch norm folded in, {what} of channel {channel} would be {value:.3e}, which no f32 holds: check \
                 its variance and gamma, or compute the batch norm after the convolution"
            ),
            Error::Scale { what, channel, scale } => {
                write!(f, "the scale of {what}")?;
                if let Some(channel) = channel {
                    write!(f, " of channel {channel}")?;
                }
                write!(f, " is {scale:?}: it must be a finite number above 0")
            }
            Error::ZeroPoint { what, zero_point, element } => {
                let (low, high) = if *element == ElementType::U8 { (0, 255) } else { (-128, 127) };
                write!(f, "the zero point of {what} is {zero_point}: of {element} it must be in {low} ..= {high}")
            }
            Error::ClampOfIntegers { low, high, element } => {
                write!(
                    f,
                    "an output of {element} cannot be clamped to {low} ..= {high}, which holds no number of that type"
                )
            }
            Error::Factor { channel, factor } => write!(
                f,
                "the scales of input and weights over that of the output give channel {channel} a factor of {factor:e}, which is \
                 out of range: check the scales for a wrong unit or order"
            ),
            Error::ScaleOfSum { output, inputs: [a, b] } => write!(
                f,
                "a sum of scale {output:?} is too fine for inputs of scale {a:?} and {b:?}: TensorFlow Lite's rule adds at 2^-19 of \
                 the greater one, which must be less; use a larger scale, or `Rounding::NearestEven`"
            ),
            Error::Sum { channel, bound } => write!(
                f,
                "a sum of channel {channel} may reach {bound}, but it must stay below 2^31, also times the power of two of its \
                 factor: check its bias and scales, or use fewer inputs"
            ),
            Error::ElementType { what, expected, found } => {
                write!(
                    f,
                    "the {what} has elements of {found}, but was described as {expected}: give what was described, or describe it so"
                )
            }
            Error::NotOf8Bits { what, hint } => write!(f, "plans of 8 bits do not take {what}: {hint}"),
            Error::UnknownIsa { name, from_environment } => {
                let by = if *from_environment { ", which the environment variable DEPTHWISE_ISA asks for" } else { "" };
                write!(f, "there is no instruction set `{name}`{by}: use ")?;
                listed(f, &Isa::EVERY, " or ")
            }
            Error::UnavailableIsa { isa, from_environment } => {
                let by =
                    if *from_environment { " by the environment variable DEPTHWISE_ISA" } else { " in the program" };
                write!(f, "the instruction set {isa} was asked for{by}, but this CPU and target have ")?;
                let have: Vec<Isa> = Isa::all().iter().copied().filter(|isa| isa.is_available()).collect();
                listed(f, &have, " and ")
            }
            Error::UnknownMachine { name, known, from_environment } => {
                let source = if *from_environment { " (from the environment variable DEPTHWISE_MACHINE)" } else { "" };
                write!(f, "there is no machine `{name}`{source}: use {known}")
            }
            Error::UnknownLayout { name } => write!(f, "there is no layout `{name}`: use nchw or nhwc"),
            Error::UnknownKernel { name } => {
                write!(f, "there is no kernel `{name}` on this target: `depthwise::kernels()` lists them")
            }
            Error::KernelDoesNotFit { name, why } => write!(f, "the kernel {name} was asked for, but {why}"),
        }
    }
}

/// Names one after the other, the last after `last`.
fn listed(f: &mut fmt::Formatter<'_>, isas: &[Isa], last: &str) -> fmt::Result {
    isas.iter().enumerate().try_for_each(|(i, isa)| {
        let before = match i {
            0 => "",
            i if i + 1 == isas.len() => last,
            _ => ", ",
        };
        write!(f, "{before}{isa}")
    })
}

impl core::error::Error for Error {}
