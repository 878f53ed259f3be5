//! What runs of a plan on inputs of one shape do, as a value that a caller keeps.

use alloc::format;
use alloc::string::String;
use core::fmt;

use super::descriptor::{Descriptor, Stages};
use super::passes::Decision;
use super::workers::Workers;
use depthwise_kernels::{Error, Isa, Layout, Shape};

/// What runs of a plan on inputs of one shape do: on which kernels, in one pass or two, in which blocks, and how threads share the
/// work. It changes no bit of a result.
///
/// A plan's `prepare` predicts it. A run that is given none makes its own, so an engine keeps one for each layer to save that time,
/// and to know beforehand what will run. A choice is good for every plan that was built alike, whatever its weights.
///
/// ```
/// use depthwise::{Layout, Parallelism, SeparableConv2d, Shape};
///
/// let builder = SeparableConv2d::builder(32, 64).depthwise_weights(&[1.0; 32 * 9]).pointwise_weights(&[1.0; 64 * 32]);
/// let plan = builder.layout(Layout::Nhwc).build()?;
/// let choice = plan.prepare(Shape::new(1, 32, 112, 112), Parallelism::Serial)?;
/// println!("{choice}"); // kernels, blocks, threads
/// assert_eq!(choice.describe().isa, plan.isa());
/// assert_eq!(choice.describe().passes, 1); // one thread, channels last: fused
/// # Ok::<(), depthwise::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Choice {
    descriptor: Descriptor,
    input: Shape,
    output: Shape,
    /// Those that it was made for, or `None` if the work is too small to be shared, whoever would.
    workers: Option<Workers>,
    decision: Decision,
    workspace_len: usize,
}

/// What runs: instruction set, kernels, passes, tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Description {
    /// The instruction set. A kernel may be of one that it includes.
    pub isa: Isa,
    /// The layout.
    pub layout: Layout,
    /// The depthwise kernel.
    pub depthwise: Option<&'static str>,
    /// The pointwise kernel.
    pub pointwise: Option<&'static str>,
    /// The passes over the tensors: 2 if all of the first stage is computed before any of the second, else 1.
    pub passes: usize,
    /// The tasks that the work is shared as, at most one for each thread.
    pub tasks: usize,
}

/// The names of the kernels.
impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.depthwise, self.pointwise) {
            (Some(depthwise), Some(pointwise)) => write!(f, "{depthwise} + {pointwise}"),
            (Some(kernel), None) | (None, Some(kernel)) => f.write_str(kernel),
            (None, None) => f.write_str("no kernel"),
        }
    }
}

impl Choice {
    /// The predicted one.
    pub(crate) fn new(descriptor: &Descriptor, input: Shape, workers: Option<Workers>) -> Result<Self, Error> {
        let (_, output) = descriptor.outputs(input)?;
        let decision = descriptor.choose(output, output, workers.unwrap_or(Workers::ONE));
        let workspace_len = descriptor.scratch_len(&decision, output)?;
        Ok(Self { descriptor: descriptor.clone(), input, output, workers, decision, workspace_len })
    }

    /// Fails unless it was made for such a run. `threads`: how many there are, asked for only where it matters.
    pub(crate) fn check(
        &self,
        descriptor: &Descriptor,
        input: Shape,
        threads: impl Fn() -> usize,
    ) -> Result<(), Error> {
        let otherwise = |made_for: String, given_to: String| Err(Error::Choice { made_for, given_to });
        if !self.descriptor.chooses_as(descriptor) {
            return otherwise(format!("the plan {}", self.descriptor), format!("the plan {descriptor}"));
        }
        if self.input != input {
            return otherwise(format!("an input of {}", self.input), format!("an input of {input}"));
        }
        match self.workers.map(|workers| (workers.threads, threads())) {
            Some((made_for, found)) if made_for != found => {
                let named = |threads| if threads == 1 { "1 thread".into() } else { format!("{threads} threads") };
                otherwise(named(made_for), named(found))
            }
            _ => Ok(()),
        }
    }

    /// What a whole run does.
    pub(crate) fn decision(&self) -> &Decision {
        &self.decision
    }

    /// What a run on a part of the output does: on the same kernels, in as many passes.
    pub(crate) fn of_part(&self, part: Shape) -> Decision {
        let tasks = |price: f64| self.workers.unwrap_or(Workers::ONE).worthwhile(price);
        match self.decision.first {
            Some(_) => self.descriptor.two_passes(self.decision.rows, self.output, part, tasks),
            None => self.descriptor.one_pass(self.decision.rows, self.output, part, tasks),
        }
    }

    /// The instruction set, the kernels by name, the passes and the tasks.
    pub fn describe(&self) -> Description {
        let (depthwise, pointwise) = match self.decision.rows {
            Stages::Depthwise(d) => (Some(d), None),
            Stages::Pointwise(p) | Stages::Gathered(p) => (None, Some(p)),
            Stages::Separable(d, p) => (Some(d), Some(p)),
        };
        Description {
            isa: self.descriptor.isa,
            layout: self.descriptor.layout,
            depthwise: depthwise.map(|kernel| kernel.name),
            pointwise: pointwise.map(|kernel| kernel.name),
            passes: if self.decision.first.is_some() { 2 } else { 1 },
            tasks: self.decision.tasks(),
        }
    }

    /// The shape of the input that it was made for.
    pub fn input_shape(&self) -> Shape {
        self.input
    }

    /// The length of the [`Workspace`](crate::Workspace), in `f32`, that a run with this choice uses.
    pub fn workspace_len(&self) -> usize {
        self.workspace_len
    }
}

/// One line.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Description { passes, tasks, .. } = self.describe();
        write!(f, "{}", self.describe())?;
        match (self.decision.rows, passes) {
            (Stages::Separable(..), 1) => write!(f, ", fused in blocks of {}", self.decision.block)?,
            (Stages::Separable(..), _) => f.write_str(", two passes")?,
            (Stages::Gathered(_), _) => write!(f, ", in blocks of {}", self.decision.block)?,
            _ => {}
        }
        let tasks = if tasks == 1 { format_args!("1 task") } else { format_args!("{tasks} tasks") };
        write!(f, ", {tasks}, a workspace of {} f32, for an input of {}", self.workspace_len, self.input)
    }
}
