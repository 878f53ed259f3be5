//! Measuring: roofs and layers, each by the shortest of many short slices.

use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use depthwise::{Error, Isa, Parallelism};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::machine::Machine;
use depthwise_benches::cores::hand_over;
use depthwise_benches::roof::{Level, Roofs};
use depthwise_testkit::shapes::Prepared;

/// Threads that work together.
pub struct Crew {
    pub threads: usize,
    pool: ThreadPool,
}

impl Crew {
    pub fn new(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        Ok(Self { threads, pool: ThreadPoolBuilder::new().num_threads(threads).build()? })
    }

    /// Runs `work` on every thread at once. Returns the seconds from the first start to the last end.
    fn together(&self, work: impl Fn(usize) -> Result<(), Error> + Sync) -> Result<f64, Error> {
        let (ready, epoch) = (AtomicUsize::new(0), Instant::now());
        let spans = self.pool.broadcast(|thread| {
            // All are awake before any starts.
            ready.fetch_add(1, Ordering::AcqRel);
            while ready.load(Ordering::Acquire) < self.threads {
                spin_loop();
            }
            let start = epoch.elapsed();
            work(thread.index())?;
            Ok((start, epoch.elapsed()))
        });
        let spans = spans.into_iter().collect::<Result<Vec<_>, Error>>()?;
        let start = spans.iter().map(|span| span.0).min().unwrap_or_default();
        let end = spans.iter().map(|span| span.1).max().unwrap_or_default();
        Ok((end - start).as_secs_f64())
    }

    /// The share of its time that a thread waits for others to leave it a CPU, 0 to 1: of the thread that waits longest.
    pub fn waits(&self) -> f64 {
        const LOOK: Duration = Duration::from_millis(300);
        // An interrupt takes some microseconds, another process a turn of milliseconds.
        const JUMP: Duration = Duration::from_micros(200);
        let shares = self.pool.broadcast(|_| {
            let (start, mut waited) = (Instant::now(), Duration::ZERO);
            let mut last = start;
            while last - start < LOOK {
                let now = Instant::now();
                if now - last > JUMP {
                    waited += now - last;
                }
                last = now;
            }
            waited.as_secs_f64() / (last - start).as_secs_f64()
        });
        shares.into_iter().fold(0.0, f64::max)
    }

    /// The seconds of the fastest call of a layer within one turn.
    pub fn turn(&self, layer: &mut Prepared, turn: Duration) -> Result<f64, Error> {
        let parallelism = if self.threads == 1 { Parallelism::Serial } else { Parallelism::Rayon };
        self.pool.install(|| {
            let mut calls = |n: u32| {
                let start = Instant::now();
                (0..n).try_for_each(|_| (layer.run)(parallelism))?;
                Ok(start.elapsed().as_secs_f64() / f64::from(n))
            };
            // Twice: its memory is in the caches then as in a row of calls.
            let first = calls(1)?.min(calls(1)?);
            // Slices of 50 µs, so that reading the clock takes no part of it.
            let n = (50e-6 / first).clamp(1.0, 1e6) as u32;
            let (start, mut best) = (Instant::now(), f64::INFINITY);
            while best.is_infinite() || start.elapsed() < turn {
                best = best.min(calls(n)?);
            }
            Ok(best)
        })
    }
}

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
        if let Some(now) = self.crew.pool.install(hand_over) {
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
