//! What a run is given.

use core::fmt;

use super::threads::Parallelism;
use super::workspace::Workspace;
use crate::choose::choice::Choice;
use depthwise_kernels::{Element, OutputRange, TensorView, TensorViewMut};

/// The arguments of a run of a plan: tensors, a workspace, and what else is to be known. `E` is the type of the input's elements, `O`
/// that of the output's, which differs of 8 bits alone.
///
/// ```
/// use depthwise::{Activation, PointwiseConv2d, Run, Shape, TensorView, TensorViewMut, Workspace};
///
/// let plan = PointwiseConv2d::builder(1, 1).weights(&[2.0]).activation(Activation::Relu).build()?;
/// let (shape, layout) = (Shape::new(1, 1, 1, 3), plan.layout());
/// let (mut output, mut workspace) = ([0.0; 3], Workspace::new());
/// let input = TensorView::new(&[1.0, 2.0, 3.0], shape, layout)?;
/// let residual = TensorView::new(&[10.0, 0.0, -7.0], shape, layout)?;
/// let run = Run::new(input, TensorViewMut::new(&mut output, shape, layout)?, &mut workspace);
/// plan.run(run.residual(residual))?;
/// assert_eq!(output, [12.0, 4.0, 0.0]); // max(2·3 − 7, 0) is 0
/// # Ok::<(), depthwise::Error>(())
/// ```
#[must_use = "a plan's `run` takes it"]
#[non_exhaustive]
pub struct Run<'a, E = f32, O = E> {
    pub(crate) input: TensorView<'a, E>,
    pub(crate) residual: Option<TensorView<'a, O>>,
    pub(crate) output: TensorViewMut<'a, O>,
    pub(crate) range: Option<OutputRange>,
    pub(crate) workspace: &'a mut Workspace,
    pub(crate) parallelism: Parallelism<'a>,
    pub(crate) choice: Option<&'a Choice>,
    #[cfg(feature = "int8")]
    pub(crate) quantized: Option<crate::int8::Quantized>,
}

impl<'a, E, O> Run<'a, E, O> {
    /// From the input to the output, all of it, without a residual, on the calling thread. The workspace may be one that other runs
    /// have used.
    pub fn new(input: TensorView<'a, E>, output: TensorViewMut<'a, O>, workspace: &'a mut Workspace) -> Self {
        Run {
            input,
            residual: None,
            output,
            range: None,
            workspace,
            parallelism: Parallelism::Serial,
            choice: None,
            #[cfg(feature = "int8")]
            quantized: None,
        }
    }

    /// A residual of the output's shape, which is added before the activation: activation(convolution + residual). Default: none.
    pub fn residual(self, residual: TensorView<'a, O>) -> Self {
        self.maybe_residual(Some(residual))
    }

    /// As [`residual`](Self::residual), where there is one.
    pub fn maybe_residual(mut self, residual: Option<TensorView<'a, O>>) -> Self {
        self.residual = residual;
        self
    }

    /// Only this part of the whole output is computed. The output and the residual that are given have the part's shape, the input is
    /// whole. The bits are those of a whole run. Default: all of the output.
    ///
    /// This is for engines with threads of their own: see [`SeparableConv2d::parts`](crate::SeparableConv2d::parts).
    ///
    /// ```
    /// use depthwise::{Axis, DepthwiseConv2d, OutputRange, Run, Shape, TensorView, TensorViewMut, Workspace};
    ///
    /// let plan = DepthwiseConv2d::builder(2).weights(&[1.0; 18]).build()?;
    /// let (shape, layout) = (Shape::new(1, 2, 6, 4), plan.layout());
    /// let (x, mut y) = ([1.0; 48], [0.0; 48]);
    /// let input = TensorView::new(&x, shape, layout)?;
    /// // The upper and the lower three rows, each on a thread.
    /// let (upper, lower) = TensorViewMut::new(&mut y, shape, layout)?.split_at(Axis::H, 3)?;
    /// let all = OutputRange::all(plan.output_shape(shape)?);
    /// let run = |view, h| {
    ///     plan.run(Run::new(input, view, &mut Workspace::new()).range(OutputRange { h, ..all.clone() }))
    /// };
    /// std::thread::scope(|scope| {
    ///     let first = scope.spawn(|| run(upper, 0..3));
    ///     run(lower, 3..6)?;
    ///     first.join().expect("it does not panic")
    /// })?;
    /// assert_eq!(y[4..8], [6.0, 9.0, 9.0, 6.0]); // the second row: at its ends, 3 of 9 taps are padding
    /// # Ok::<(), depthwise::Error>(())
    /// ```
    pub fn range(self, range: OutputRange) -> Self {
        self.maybe_range(Some(range))
    }

    /// As [`range`](Self::range), where there is one.
    pub fn maybe_range(mut self, range: Option<OutputRange>) -> Self {
        self.range = range;
        self
    }

    /// Who does the work. Default: [`Parallelism::Serial`], the calling thread.
    pub fn parallelism(mut self, parallelism: Parallelism<'a>) -> Self {
        self.parallelism = parallelism;
        self
    }

    /// What the run does, as the plan's [`prepare`](crate::SeparableConv2d::prepare) chose it. Default: the run chooses for itself.
    ///
    /// The choice must be one for a plan that was built alike, for the input's shape, and for as many threads.
    ///
    /// ```
    /// use depthwise::{DepthwiseConv2d, Parallelism, Run, Shape, TensorView, TensorViewMut, Workspace};
    ///
    /// let plan = DepthwiseConv2d::builder(2).weights(&[1.0; 18]).build()?;
    /// let (shape, layout) = (Shape::new(1, 2, 6, 4), plan.layout());
    /// let choice = plan.prepare(shape, Parallelism::Serial)?;
    /// let mut workspace = Workspace::with_len(choice.workspace_len())?;
    /// let (x, mut y) = ([1.0; 48], [0.0; 48]);
    /// for _ in 0..3 {
    ///     let output = TensorViewMut::new(&mut y, shape, layout)?;
    ///     plan.run(Run::new(TensorView::new(&x, shape, layout)?, output, &mut workspace).choice(&choice))?;
    /// }
    /// assert_eq!(y[..4], [4.0, 6.0, 6.0, 4.0]);
    /// # Ok::<(), depthwise::Error>(())
    /// ```
    pub fn choice(self, choice: &'a Choice) -> Self {
        self.maybe_choice(Some(choice))
    }

    /// As [`choice`](Self::choice), where there is one.
    pub fn maybe_choice(mut self, choice: Option<&'a Choice>) -> Self {
        self.choice = choice;
        self
    }
}

#[cfg(feature = "int8")]
impl<I: depthwise_kernels::Integer<Stored = u8>, O> Run<'_, I, O> {
    /// What the numbers of this run's input stand for, instead of what the plan was built for: of plans with
    /// [`output_f32`](crate::int8::DepthwiseConv2dBuilder::output_f32) and one stage. Padding stands for 0 by it.
    pub fn quantized(mut self, input: crate::int8::Quantized) -> Self {
        self.quantized = Some(input);
        self
    }
}

impl<'a, E: Element> Run<'a, E> {
    /// The same, if `F` is the type of the elements.
    pub(crate) fn of_type<F: Element>(self) -> Option<Run<'a, F>> {
        let Run { input, residual, output, range, workspace, parallelism, choice, .. } = self;
        let residual = residual.and_then(TensorView::of_type);
        let (input, output) = input.of_type().zip(output.of_type())?;
        Some(Run { residual, range, parallelism, choice, ..Run::new(input, output, workspace) })
    }
}

impl<E, O> fmt::Debug for Run<'_, E, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut run = f.debug_struct("Run");
        run.field("input", &self.input).field("residual", &self.residual).field("output", &self.output);
        run.field("range", &self.range).field("workspace", &self.workspace).field("parallelism", &self.parallelism);
        run.field("choice", &self.choice.map(|choice| alloc::format!("{choice}"))).finish()
    }
}
