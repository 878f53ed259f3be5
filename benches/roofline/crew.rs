//! Threads that measure together, by the shortest of many short slices.

use std::error;
use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use depthwise::{Error, Parallelism};
use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

use crate::cores::hand_over;

/// The share of a thread's time from which on others disturb what is measured.
pub const BUSY: f64 = 0.05;

/// What to say of such a share.
pub fn busy(share: f64) -> String {
    format!("The machine was busy: a thread waited {:.0} % of its time for others to leave it a CPU.", 100.0 * share)
}

/// Threads that work together.
pub struct Crew {
    pub threads: usize,
    pool: ThreadPool,
}

impl Crew {
    pub fn new(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        Ok(Self { threads, pool: ThreadPoolBuilder::new().num_threads(threads).build()? })
    }

    /// Those asked for, the smallest first, each number of threads once; `all` is a thread for each CPU.
    pub fn of_each(threads: &[String]) -> Result<Vec<Self>, Box<dyn error::Error>> {
        let mut numbers = Vec::new();
        for text in threads {
            let all = || std::thread::available_parallelism().map(usize::from).ok();
            let number = if text == "all" { all() } else { text.parse().ok() };
            match number {
                Some(number @ 1..) if !numbers.contains(&number) => numbers.push(number),
                Some(1..) => {}
                _ => return Err(format!("--threads has `{text}`: give numbers from 1 and `all`, such as 1,all").into()),
            }
        }
        numbers.sort_unstable();
        Ok(numbers.into_iter().map(Crew::new).collect::<Result<_, _>>()?)
    }

    /// What [`waits`](Self::waits) says of the largest crew that has a CPU for each thread: more would wait for each other.
    pub fn longest_wait(crews: &[Self]) -> f64 {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        crews.iter().rev().find(|crew| crew.threads <= cpus).map_or(0.0, Crew::waits)
    }

    /// What [`hand_over`] says of its threads.
    pub fn hand_over(&self) -> Option<f64> {
        self.pool.install(hand_over)
    }

    /// Runs `work` on every thread at once. Returns the seconds from the first start to the last end.
    pub fn together(&self, work: impl Fn(usize) -> Result<(), Error> + Sync) -> Result<f64, Error> {
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

    /// Calls `work` as one of its threads, with the parallelism of the crew.
    pub fn within<T: Send>(&self, work: impl FnOnce(Parallelism) -> T + Send) -> T {
        let parallelism = if self.threads == 1 { Parallelism::Serial } else { Parallelism::Rayon };
        self.pool.install(|| work(parallelism))
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

    /// The seconds of the fastest call within one turn.
    pub fn turn(
        &self,
        turn: Duration,
        mut call: impl FnMut(Parallelism) -> Result<(), Error> + Send,
    ) -> Result<f64, Error> {
        self.within(|parallelism| {
            let mut calls = |n: u32| {
                let start = Instant::now();
                (0..n).try_for_each(|_| call(parallelism))?;
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
