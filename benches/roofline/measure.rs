//! Measuring the roofs, each by the shortest of many short slices.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use depthwise::{Error, Isa};

use crate::crew::Crew;
use crate::machine::Machine;
use crate::roof::{Level, Roofs};

/// Measures the roofs of a crew, the better the more rounds.
pub struct Surveyor<'a> {
    crew: &'a Crew,
    isa: Isa,
    data: &'a [f32],
    /// How often to repeat each peak and each level for a slice.
    times: Vec<usize>,
    pub roofs: Roofs,
}

/// The least seconds of a slice: threads start within a microsecond of each other.
const SLICE: f64 = 200e-6;
/// What a roof gets in each round.
const TURN: Duration = Duration::from_millis(2);

impl<'a> Surveyor<'a> {
    /// Reads `data`, which is larger than the caches and starts on a cache line, with that instruction set.
    pub fn new(crew: &'a Crew, machine: &Machine, isa: Isa, data: &'a [f32]) -> Result<Self, Error> {
        let threads = crew.threads;
        let level = |name, capacity, bytes: usize| {
            // Whole rounds of every instruction set's reader, which are 40 to 192 elements.
            let read_by_thread = (bytes.min(4 * data.len() / threads) / 4 / 960 * 960).max(960) * 4;
            Level { name, capacity, read_by_thread, bandwidth: 0.0 }
        };
        let (mut levels, mut nearer) = (Vec::new(), usize::MAX);
        for cache in &machine.caches {
            let instances = cache.instances(threads, machine.cpus);
            // Half of a cache of one's own. Of the last level, which others fill too, so much that the one before it
            // holds little of it: on a virtual machine, half of 32 MiB was read at half the rate of 4 MiB.
            let own = cache.bytes * instances / threads;
            let bytes = if cache.name == "L3" { nearer.saturating_mul(4).min(own / 2) } else { own / 2 };
            nearer = own;
            levels.push(level(cache.name, (cache.bytes * instances) as f64, bytes));
        }
        levels.push(level("memory", f64::INFINITY, 4 * data.len() / threads));
        let available = Isa::all().iter().filter(|isa| isa.is_available());
        let peaks: Vec<(Isa, f64)> = available.map(|&isa| (isa, 0.0)).collect();
        let times = vec![1; peaks.len() + levels.len()];
        let mut surveyor = Self { crew, isa, data, times, roofs: Roofs { threads, peaks, levels, hand_over: None } };
        for roof in 0..surveyor.times.len() {
            while surveyor.fastest_of_five(roof)? < SLICE {
                surveyor.times[roof] *= 2;
            }
        }
        Ok(surveyor)
    }

    /// A turn for each roof; keeps the best of each.
    pub fn round(&mut self) -> Result<(), Error> {
        for roof in 0..self.times.len() {
            let (start, mut rate) = (Instant::now(), 0.0f64);
            while rate == 0.0 || start.elapsed() < TURN {
                let (amount, seconds) = self.slice(roof)?;
                rate = rate.max(amount / seconds * 1e-9);
            }
            let best = match roof.checked_sub(self.roofs.peaks.len()) {
                None => &mut self.roofs.peaks[roof].1,
                Some(level) => &mut self.roofs.levels[level].bandwidth,
            };
            *best = best.max(rate);
        }
        if let Some(now) = self.crew.hand_over() {
            let [least, most] = self.roofs.hand_over.unwrap_or([now; 2]);
            self.roofs.hand_over = Some([least.min(now), most.max(now)]);
        }
        Ok(())
    }

    /// An interrupted slice is no measure of the others.
    fn fastest_of_five(&self, roof: usize) -> Result<f64, Error> {
        (0..5).try_fold(f64::INFINITY, |best, _| Ok(self.slice(roof)?.1.min(best)))
    }

    /// The operations or bytes of a slice, and its seconds.
    fn slice(&self, roof: usize) -> Result<(f64, f64), Error> {
        let (threads, times) = (self.crew.threads, self.times[roof]);
        match roof.checked_sub(self.roofs.peaks.len()) {
            None => {
                let isa = self.roofs.peaks[roof].0;
                let operations = AtomicUsize::new(0);
                let seconds = self.crew.together(|_| {
                    operations.fetch_add(isa.multiply_adds(1000 * times)? as usize, Ordering::Relaxed);
                    Ok(())
                })?;
                Ok((operations.into_inner() as f64, seconds))
            }
            Some(level) => {
                let bytes = self.roofs.levels[level].read_by_thread;
                // Whole cache lines: a vector across two takes twice as long.
                let share = self.data.len() / threads / 16 * 16;
                let seconds = self.crew.together(|thread| {
                    let data = &self.data[thread * share..][..bytes / 4];
                    black_box(self.isa.read(data, times)?);
                    Ok(())
                })?;
                Ok(((bytes * times * threads) as f64, seconds))
            }
        }
    }
}
