//! What runs of a plan on inputs of one shape do, as a value that a caller keeps.

use alloc::format;
use alloc::string::String;
#[cfg(feature = "std")]
use alloc::vec::Vec;
use core::fmt;
use core::ops::RangeInclusive;

use super::descriptor::{Descriptor, Fusion, Stages};
use super::kernel::Lie;
use super::passes::{Decision, Rows};
use super::workers::{MOST_TASKS, Workers};
use depthwise_kernels::{Error, Isa, KernelInfo, Layout, Shape};

/// What runs of a plan on inputs of one shape do: on which kernels, in one pass or two, in which blocks, and how threads share the
/// work. It changes no bit of a result.
///
/// A plan's `prepare` predicts it, and `tune` measures which is the fastest. A run that is given none makes its own, so an engine keeps one for each layer to save that time,
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
    /// The layout that the kernels take: of one channel, NCHW also for a plan in NHWC.
    pub layout: Layout,
    /// The depthwise kernel.
    pub depthwise: Option<&'static str>,
    /// The depthwise kernel of runs whose input and output share cache sets, if it is another one.
    pub sharing: Option<&'static str>,
    /// The depthwise kernel of runs whose input's vectors lie across cache lines, if it is another one.
    pub across: Option<&'static str>,
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
            (Some(depthwise), Some(pointwise)) => write!(f, "{depthwise} + {pointwise}")?,
            (Some(kernel), None) | (None, Some(kernel)) => f.write_str(kernel)?,
            (None, None) => f.write_str("no kernel")?,
        }
        for (kernel, fact) in [(self.sharing, FACTS[SHARING]), (self.across, FACTS[ACROSS])] {
            kernel.map_or(Ok(()), |kernel| write!(f, " ({kernel} {fact})"))?;
        }
        Ok(())
    }
}

/// What a choice's text says, in this order.
const FACTS: [&str; 12] = [
    "depthwise",
    "isa",
    "machine",
    "plan",
    "input",
    "threads",
    "depthwise kernel",
    "where cache sets are shared",
    "across cache lines",
    "pointwise kernel",
    "passes",
    "tasks",
];
const INPUT: usize = 4;
const THREADS: usize = 5;
const DEPTHWISE: usize = 6;
const SHARING: usize = 7;
const ACROSS: usize = 8;
const POINTWISE: usize = 9;
const PASSES: usize = 10;
const MOST: usize = 11;
/// Of threads, where the work is too small to be shared.
const ANY: &str = "any";
/// Of a kernel, where there is none.
const NONE: &str = "none";

/// A text that says something else than it must.
fn not(what: &'static str, found: &str, expected: String) -> Error {
    Error::ChoiceText { what, found: found.into(), expected }
}

/// The names of the depthwise and of the pointwise kernel.
fn names(rows: Rows) -> [Option<&'static str>; 2] {
    match rows {
        Stages::Depthwise(d) => [Some(d.name), None],
        Stages::Pointwise(p) | Stages::Gathered(p) => [None, Some(p.name)],
        Stages::Separable(d, p) => [Some(d.name), Some(p.name)],
    }
}

impl Choice {
    /// The predicted one.
    pub(crate) fn new(descriptor: &Descriptor, input: Shape, workers: Option<Workers>) -> Result<Self, Error> {
        let (_, output) = descriptor.outputs(input)?;
        let decision = descriptor.choose(output, output, workers.unwrap_or(Workers::ONE));
        let widths = descriptor.widths(&decision, input, output);
        let workspace_len = descriptor.scratch_len(&decision, &widths, output)?;
        Ok(Self { descriptor: descriptor.clone(), input, output, workers, decision, workspace_len })
    }

    /// The same, whose workspace is large enough for the other, too.
    pub(crate) fn with_workspace_of(self, other: &Choice) -> Self {
        Self { workspace_len: self.workspace_len.max(other.workspace_len), ..self }
    }

    /// For the same runs, on these rows, in so many passes, shared as so many tasks at the most.
    fn with(&self, rows: Rows, passes: usize, most: usize) -> Result<Self, Error> {
        let (descriptor, output) = (self.descriptor.clone(), self.output);
        let decision = if passes == 2 {
            descriptor.two_passes(rows, output, output, |_| most)
        } else {
            descriptor.one_pass(rows, output, output, |_| most)
        };
        let widths = descriptor.widths(&decision, self.input, output);
        let workspace_len = descriptor.scratch_len(&decision, &widths, output)?;
        Ok(Self { descriptor, decision, workspace_len, ..*self })
    }

    /// All there is to choose from for the same runs: this one, then each row that fits, in one pass or two where both are allowed, on one
    /// thread, on all, or on as many as this one.
    #[cfg(feature = "std")]
    pub(crate) fn alternatives(&self) -> Vec<Choice> {
        let mut all = alloc::vec![self.clone()];
        let threads = self.workers.map_or(1, |workers| workers.threads).clamp(1, MOST_TASKS);
        let same = |a: &Choice, b: &Choice| a.describe() == b.describe() && a.decision.most == b.decision.most;
        for rows in self.descriptor.all_rows() {
            for passes in self.passes() {
                for most in [self.decision.most, 1, threads] {
                    // What lies between two passes may be more than can be addressed.
                    let Ok(other) = self.with(rows, passes, most) else { continue };
                    let other = Lie::OTHERS.into_iter().fold(other, |other, lie| other.with_elsewhere(lie, None));
                    if !all.iter().any(|choice| same(choice, &other)) {
                        all.push(other);
                    }
                }
            }
        }
        all
    }

    /// The numbers of passes that the plan may take.
    fn passes(&self) -> RangeInclusive<usize> {
        match (self.descriptor.kernels, self.descriptor.fusion) {
            (Stages::Separable(..), Fusion::Auto) => 1..=2,
            (Stages::Separable(..), Fusion::TwoPass) => 2..=2,
            _ => 1..=1,
        }
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
        let workers = self.workers.unwrap_or(Workers::ONE);
        let tasks = |price: f64| workers.worthwhile(price, &self.descriptor.machine.sharing).min(self.decision.most);
        let decision = match self.decision.first {
            Some(_) => self.descriptor.two_passes(self.decision.rows, self.output, part, tasks),
            None => self.descriptor.one_pass(self.decision.rows, self.output, part, tasks),
        };
        Decision { elsewhere: self.decision.elsewhere, ..decision }
    }

    /// As text, a line for each fact, for the plan's `choice_from_text` to read back: in another process, but of the same version of
    /// the crate, for the same plan, instruction set and machine.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for (what, value) in FACTS.iter().zip(self.facts()) {
            text += &format!("{what}: {value}\n");
        }
        text
    }

    /// The values of the facts of a text.
    fn facts(&self) -> [String; FACTS.len()] {
        let Descriptor { isa, machine, .. } = &self.descriptor;
        let Shape { n, c, h, w } = self.input;
        let Description { depthwise, sharing, across, pointwise, passes, .. } = self.describe();
        [
            env!("CARGO_PKG_VERSION").into(),
            format!("{isa}"),
            format!("{machine}"),
            format!("{}", self.descriptor),
            format!("{n} {c} {h} {w}"),
            self.workers.map_or(ANY.into(), |workers| format!("{}", workers.threads)),
            depthwise.unwrap_or(NONE).into(),
            sharing.unwrap_or(NONE).into(),
            across.unwrap_or(NONE).into(),
            pointwise.unwrap_or(NONE).into(),
            format!("{passes}"),
            format!("{}", self.decision.most),
        ]
    }

    /// From its text.
    pub(crate) fn from_text(descriptor: &Descriptor, text: &str) -> Result<Self, Error> {
        let mut lines = text.lines();
        let mut found = [""; FACTS.len()];
        for (found, what) in found.iter_mut().zip(FACTS) {
            let line = lines.next().unwrap_or_default();
            let value = line.strip_prefix(what).and_then(|rest| rest.strip_prefix(": "));
            *found = value.ok_or_else(|| not(what, line, format!("a line `{what}: …`")))?;
        }
        if let Some(line) = lines.find(|line| !line.is_empty()) {
            return Err(not("end", line, "nothing more".into()));
        }
        // What must be this program's, this CPU's and this plan's.
        let number = |i: usize| found[i].parse::<usize>().map_err(|_| not(FACTS[i], found[i], "a number".into()));
        let mut extents = found[INPUT].split(' ').map(str::parse);
        let mut extent = || extents.next().and_then(Result::ok);
        let input = match [extent(), extent(), extent(), extent(), extent()] {
            [Some(n), Some(c), Some(h), Some(w), None] => Shape::new(n, c, h, w),
            _ => return Err(not(FACTS[INPUT], found[INPUT], "batch, channels, height and width".into())),
        };
        let workers = if found[THREADS] == ANY { None } else { Some(Workers::called_within(number(THREADS)?)) };
        let here = Choice::new(descriptor, input, workers)?;
        for (i, value) in here.facts().into_iter().enumerate().take(INPUT) {
            if found[i] != value {
                return Err(not(FACTS[i], found[i], format!("`{value}`")));
            }
        }
        let (passes, most) = (number(PASSES)?, number(MOST)?);
        // Kernels are named as a run of so many passes takes them: those of the plan's own elements, where there are some. Several rows may
        // become the same kernel, so the predicted one is asked first.
        let named = |rows: &Rows| {
            let rows = descriptor.on_own_elements(*rows, passes == 2);
            let [depthwise, pointwise] = names(rows).map(|name| name.unwrap_or(NONE));
            found[DEPTHWISE] == depthwise && found[POINTWISE] == pointwise
        };
        let Some(rows) = core::iter::once(descriptor.rows(here.output)).chain(descriptor.all_rows()).find(named) else {
            let kernels = format!("{} and {}", found[DEPTHWISE], found[POINTWISE]);
            return Err(not("kernels", &kernels, "kernels of the plan's packing".into()));
        };
        if !here.passes().contains(&passes) {
            let allowed = here.passes();
            return Err(not(FACTS[PASSES], found[PASSES], format!("{} to {}", allowed.start(), allowed.end())));
        }
        let threads = workers.map_or(1, |workers| workers.threads).clamp(1, MOST_TASKS);
        if !(1..=threads).contains(&most) {
            return Err(not(FACTS[MOST], found[MOST], format!("1 to {threads}, the threads")));
        }
        let choice = here.with(rows, passes, most)?;
        [(Lie::Sharing, SHARING), (Lie::Across, ACROSS)].into_iter().try_fold(choice, |choice, (lie, fact)| {
            let name = found[fact];
            if choice.elsewhere(lie).map_or(NONE, |row| row.name) == name {
                return Ok(choice);
            }
            let mut rows = descriptor.all_rows().filter_map(Stages::depthwise);
            match rows.find(|row| row.name == name) {
                None if name != NONE => Err(not(FACTS[fact], name, "a kernel of the plan's packing, or none".into())),
                _ if !choice.may_lie(lie) => Err(not(FACTS[fact], name, "none".into())),
                row => Ok(choice.with_elsewhere(lie, row)),
            }
        })
    }

    /// Whether a kernel may be chosen for runs whose tensors lie like that.
    pub(crate) fn may_lie(&self, lie: Lie) -> bool {
        matches!(self.descriptor.kernels, Stages::Depthwise(_)) && self.descriptor.may_lie(lie)
    }

    /// The depthwise kernel where tensors without gaps lie like that, if it is another one.
    fn elsewhere(&self, lie: Lie) -> Option<&'static KernelInfo> {
        let in_blocks = self.decision.first.is_none() && matches!(self.descriptor.kernels, Stages::Separable(..));
        let row = self.decision.where_they_lie(lie).map(|(row, _)| row);
        row.filter(|_| !(in_blocks && lie == Lie::Sharing) && self.descriptor.may_lie(lie))
    }

    /// The same with that kernel where they do, or with none for that.
    fn with_elsewhere(mut self, lie: Lie, row: Option<&'static KernelInfo>) -> Self {
        if let Some(index) = Lie::OTHERS.iter().position(|&other| other == lie).filter(|_| self.may_lie(lie)) {
            self.decision.elsewhere[index] = self.descriptor.tuned(row);
        }
        self
    }

    /// The same with what another runs where they do.
    #[cfg(feature = "std")]
    pub(crate) fn with_where(self, lie: Lie, other: &Choice) -> Self {
        let row = other.elsewhere(lie).or(other.decision.rows.depthwise());
        let own = self.decision.rows.depthwise();
        self.with_elsewhere(lie, row.filter(|&row| Some(row) != own))
    }

    /// The instruction set, the kernels by name, the passes and the tasks.
    pub fn describe(&self) -> Description {
        let [depthwise, pointwise] = names(self.decision.rows);
        Description {
            isa: self.descriptor.isa,
            layout: self.descriptor.layout,
            depthwise,
            sharing: self.elsewhere(Lie::Sharing).map(|row| row.name),
            across: self.elsewhere(Lie::Across).map(|row| row.name),
            pointwise,
            passes: if self.decision.first.is_some() { 2 } else { 1 },
            tasks: self.decision.tasks(),
        }
    }

    /// The shape of the input that it was made for: of one column, with height and width exchanged, as it runs.
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
