//! A choice by measurement.

use std::time::{Duration, Instant};
use std::vec::Vec;

use super::arguments::Run;
use super::engine::Engine;
use super::threads::Parallelism;
use super::workspace::Workspace;
use crate::choose::choice::Choice;
use depthwise_kernels::{Element, ElementType, Error, Shape, TensorView, TensorViewMut};
#[cfg(feature = "half")]
use depthwise_kernels::{bf16, f16};

/// How long a slice of runs of one choice takes at the least, for the clock to tell them apart.
const SLICE: Duration = Duration::from_micros(20);
/// What is so much slower than the fastest after so many slices is measured no more.
const GIVEN_UP: [(u32, f64); 3] = [(1, 2.0), (3, 1.3), (10, 1.1)];
/// What is faster than the prediction by less than that may be so by chance.
const CERTAIN: f64 = 0.99;

/// One of the choices.
struct Candidate {
    choice: Choice,
    /// Runs in a slice.
    runs: u32,
    slices: u32,
    /// The least mean time of a run in a slice.
    seconds: f64,
}

impl Engine {
    /// The fastest choice for an input of that shape, measured within that time.
    pub(crate) fn tune(&self, input: Shape, parallelism: Parallelism, budget: Duration) -> Result<Choice, Error> {
        match self.descriptor.element {
            #[cfg(feature = "half")]
            ElementType::F16 => self.tune_as::<f16>(input, parallelism, budget),
            #[cfg(feature = "half")]
            ElementType::Bf16 => self.tune_as::<bf16>(input, parallelism, budget),
            _ => self.tune_as::<f32>(input, parallelism, budget),
        }
    }

    fn tune_as<E: Element>(&self, input: Shape, parallelism: Parallelism, budget: Duration) -> Result<Choice, Error> {
        let start = Instant::now();
        let predicted = self.prepare(input, parallelism)?;
        let output = self.descriptor.output_shape(input)?;
        let mut candidates: Vec<Candidate> = predicted
            .alternatives()
            .into_iter()
            .map(|choice| Candidate { choice, runs: 1, slices: 0, seconds: f64::INFINITY })
            .collect();
        if candidates.len() == 1 || output.is_empty() {
            return Ok(predicted);
        }
        let (x, mut y) = (values::<E>(input)?, values::<E>(output)?);
        let mut workspace = Workspace::new();
        let layout = self.descriptor.layout;
        let mut run = |choice: &Choice| {
            let input = TensorView::new(&x, input, layout)?;
            let output = TensorViewMut::new(&mut y, output, layout)?;
            self.run(Run::new(input, output, &mut workspace).parallelism(parallelism).choice(choice))
        };
        // The first run of each brings everything nearer, and says how many make a slice.
        for candidate in &mut candidates {
            let began = Instant::now();
            run(&candidate.choice)?;
            let runs = SLICE.as_secs_f64() / began.elapsed().as_secs_f64().max(1e-9);
            candidate.runs = runs.clamp(1.0, 1000.0) as u32;
            if start.elapsed() >= budget {
                break;
            }
        }
        // In turns, so that what disturbs the CPU for a while disturbs all of them.
        'turns: while candidates.len() > 1 {
            for candidate in &mut candidates {
                if start.elapsed() >= budget {
                    break 'turns;
                }
                let began = Instant::now();
                for _ in 0..candidate.runs {
                    run(&candidate.choice)?;
                }
                let seconds = began.elapsed().as_secs_f64() / f64::from(candidate.runs);
                candidate.seconds = candidate.seconds.min(seconds);
                candidate.slices += 1;
            }
            let least = candidates.iter().map(|candidate| candidate.seconds).fold(f64::INFINITY, f64::min);
            let given_up = |candidate: &Candidate| {
                GIVEN_UP.iter().any(|&(slices, times)| candidate.slices >= slices && candidate.seconds > times * least)
            };
            // The first is the prediction, which the others are compared with.
            let mut place = 0..;
            candidates.retain(|candidate| place.next() == Some(0) || !given_up(candidate));
        }
        let (first, others) = (candidates[0].seconds, candidates.into_iter().skip(1));
        let best = others.min_by(|a, b| a.seconds.total_cmp(&b.seconds));
        Ok(best.filter(|best| best.seconds < CERTAIN * first).map_or(predicted, |best| best.choice))
    }
}

/// A tensor of plain values, none of them denormal.
fn values<E: Element>(shape: Shape) -> Result<Vec<E>, Error> {
    let elements = shape.len().ok_or(Error::Overflow { what: "the number of elements of a tensor" })?;
    let mut data = Vec::new();
    data.try_reserve_exact(elements).map_err(|_| Error::OutOfMemory { elements })?;
    data.extend((0..elements).map(|i| E::from_f32((i % 17) as f32 / 8.0 - 1.0)));
    Ok(data)
}
