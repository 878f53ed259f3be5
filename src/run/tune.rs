//! A choice by measurement.

use std::time::{Duration, Instant};
use std::vec::Vec;

use super::arguments::Run;
use super::engine::Engine;
use super::threads::Parallelism;
use super::workspace::Workspace;
use crate::choose::choice::Choice;
use crate::choose::kernel::Lie;
use depthwise_kernels::{Element, Error, Shape, TensorView, TensorViewMut};
#[cfg(feature = "half")]
use depthwise_kernels::{ElementType, bf16, f16};

/// How long a slice of runs of one choice takes at the least, for the clock to tell them apart.
const SLICE: Duration = Duration::from_micros(20);
/// What is so much slower than the fastest after so many slices is measured no more.
const GIVEN_UP: [(u32, f64); 3] = [(1, 2.0), (3, 1.3), (10, 1.1)];
/// What has fewer slices, or is compared with fewer, may be faster by chance: one of them may have been disturbed.
const LEAST_SLICES: u32 = 5;
/// What is faster than the prediction by less than that may be so by chance.
const CERTAIN: f64 = 0.99;
/// Elements of a page.
const PAGE: usize = 1024;

/// One of the choices.
struct Candidate<'a> {
    choice: &'a Choice,
    /// Runs in a slice.
    runs: u32,
    slices: u32,
    /// The least mean time of a run in a slice, where tensors lie like each, or 0 where that is not measured.
    seconds: [f64; 3],
}

impl Candidate<'_> {
    fn total(&self) -> f64 {
        self.seconds.iter().sum()
    }
}

/// Where choices are measured.
struct Bench<'a, E> {
    engine: &'a Engine,
    parallelism: Parallelism<'a>,
    shapes: [Shape; 2],
    data: [Vec<E>; 2],
    /// Of the input and of the output, where they lie like each.
    starts: [[usize; 2]; 3],
    workspace: Workspace,
}

impl Engine {
    /// The fastest choice for an input of that shape, measured within that time.
    pub(crate) fn tune(&self, input: Shape, parallelism: Parallelism<'_>, budget: Duration) -> Result<Choice, Error> {
        if let Some(twin) = self.twin(input) {
            let here = self.prepare(input, parallelism)?;
            return Ok(twin.engine.tune(twin.shape(input), parallelism, budget)?.with_workspace_of(&here));
        }
        match self.descriptor.element {
            #[cfg(feature = "half")]
            ElementType::F16 => self.tune_as::<f16>(input, parallelism, budget),
            #[cfg(feature = "half")]
            ElementType::Bf16 => self.tune_as::<bf16>(input, parallelism, budget),
            _ => self.tune_as::<f32>(input, parallelism, budget),
        }
    }

    fn tune_as<E: Element>(
        &self,
        input: Shape,
        parallelism: Parallelism<'_>,
        budget: Duration,
    ) -> Result<Choice, Error> {
        let predicted = self.prepare(input, parallelism)?;
        let output = self.descriptor.output_shape(input)?;
        let choices = predicted.alternatives();
        if choices.len() == 1 || output.is_empty() {
            return Ok(predicted);
        }
        let mut bench = Bench::<E>::new(self, parallelism, [input, output])?;
        let others: Vec<Lie> = Lie::OTHERS.into_iter().filter(|&lie| predicted.may_lie(lie)).collect();
        if others.is_empty() {
            // How the tensors of runs will lie is not known, and what runs does not depend on it.
            return Ok(choices[bench.fastest(&choices, &[Lie::Lines, Lie::Across], budget)?].clone());
        }
        let share = budget / (1 + others.len() as u32);
        let best = choices[bench.fastest(&choices, &[Lie::Lines], share)?].clone();
        others.into_iter().try_fold(best, |best, lie| {
            let there = bench.fastest(&choices, &[lie], share)?;
            Ok(best.with_where(lie, &choices[there]))
        })
    }
}

impl<'a, E: Element> Bench<'a, E> {
    fn new(engine: &'a Engine, parallelism: Parallelism<'a>, shapes: [Shape; 2]) -> Result<Self, Error> {
        let data = [values::<E>(shapes[0])?, values::<E>(shapes[1])?];
        let page = [&data[0], &data[1]].map(|data| data.as_ptr().align_offset(4096).min(PAGE));
        let half = engine.descriptor.spacing(engine.descriptor.in_channels) / 2;
        // In the order of `Lie`. Half of the way between pixels from each other they share no sets; large `Vec`s start 16 bytes behind
        // a page.
        let starts = [[16, 16 + half], [16, 16], [4, 4]].map(|at| [page[0] + at[0], page[1] + at[1]]);
        Ok(Self { engine, parallelism, shapes, data, starts, workspace: Workspace::new() })
    }

    /// Runs it that often, and says how many seconds a run took.
    fn runs(&mut self, choice: &Choice, lie: Lie, runs: u32) -> Result<f64, Error> {
        let ([input, output], layout) = (self.shapes, self.engine.descriptor.layout);
        let ([x, y], [from, to]) = (&mut self.data, self.starts[lie as usize]);
        let began = Instant::now();
        for _ in 0..runs {
            let input = TensorView::new(&x[from..from + input.len().unwrap_or(0)], input, layout)?;
            let output = TensorViewMut::new(&mut y[to..to + output.len().unwrap_or(0)], output, layout)?;
            let run = Run::new(input, output, &mut self.workspace).parallelism(self.parallelism);
            self.engine.run(run.choice(choice))?;
        }
        Ok(began.elapsed().as_secs_f64() / f64::from(runs))
    }

    /// Which of the choices is the fastest where tensors lie like these, measured within that time. The first is the prediction.
    fn fastest(&mut self, choices: &[Choice], lies: &[Lie], budget: Duration) -> Result<usize, Error> {
        let start = Instant::now();
        let candidate = |choice| Candidate { choice, runs: 1, slices: 0, seconds: [0.0; 3] };
        let mut candidates: Vec<Candidate<'_>> = choices.iter().map(candidate).collect();
        // The first run of each brings everything nearer, and says how many make a slice.
        for candidate in &mut candidates {
            let seconds = self.runs(candidate.choice, lies[0], 1)?;
            candidate.runs = (SLICE.as_secs_f64() / seconds.max(1e-9)).clamp(1.0, 1000.0) as u32;
            for &lie in lies {
                candidate.seconds[lie as usize] = f64::INFINITY;
            }
            if start.elapsed() >= budget {
                return Ok(0);
            }
        }
        // In turns, so that what disturbs the CPU for a while disturbs all of them.
        'turns: while candidates.len() > 1 {
            for candidate in &mut candidates {
                if start.elapsed() >= budget {
                    break 'turns;
                }
                for &lie in lies {
                    let seconds = self.runs(candidate.choice, lie, candidate.runs)?;
                    let least = &mut candidate.seconds[lie as usize];
                    *least = least.min(seconds);
                }
                candidate.slices += 1;
            }
            let least = candidates.iter().map(Candidate::total).fold(f64::INFINITY, f64::min);
            let given_up = |candidate: &Candidate<'_>| {
                GIVEN_UP.iter().any(|&(slices, times)| candidate.slices >= slices && candidate.total() > times * least)
            };
            // The first is what the others are compared with.
            let mut index = 0..;
            candidates.retain(|candidate| index.next() == Some(0) || !given_up(candidate));
        }
        let (first, others) = (&candidates[0], &candidates[1..]);
        let enough = others.iter().filter(|candidate| candidate.slices.min(first.slices) >= LEAST_SLICES);
        let best = enough.min_by(|a, b| a.total().total_cmp(&b.total()));
        let best = best.filter(|best| best.total() < CERTAIN * first.total()).map_or(first.choice, |best| best.choice);
        Ok(choices.iter().position(|choice| core::ptr::eq(choice, best)).unwrap_or(0))
    }
}

/// Plain values for a tensor, none of them denormal, and for as much before it as their places differ by.
fn values<E: Element>(shape: Shape) -> Result<Vec<E>, Error> {
    let elements = shape.len().and_then(|len| len.checked_add(2 * PAGE));
    let elements = elements.ok_or(Error::Overflow { what: "the number of elements of a tensor" })?;
    let mut data = Vec::new();
    data.try_reserve_exact(elements).map_err(|_| Error::OutOfMemory { elements })?;
    data.extend((0..elements).map(|i| E::from_f32((i % 17) as f32 / 8.0 - 1.0)));
    Ok(data)
}
