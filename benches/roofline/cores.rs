//! How far apart the threads of a pool are.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Laps in a slice, and slices: 1 ms together for two threads that share a cache.
const LAPS: usize = 100;
const SLICES: usize = 100;
/// Turns of a waiting loop after which another thread, perhaps the one that is waited for, may have the CPU.
const PATIENCE: usize = 10_000;

/// A line that nothing else is on; two, as some CPUs fetch them in pairs.
#[repr(align(128))]
struct Line(AtomicUsize);

/// The nanoseconds that a cache line takes from each thread of the current `rayon` pool to the next, on average over the pool, in the
/// shortest of many slices.
///
/// A virtual machine's CPUs move: the same two may share a cache at one time, and at another time not.
pub fn hand_over() -> f64 {
    let (threads, turn) = (rayon::current_num_threads(), Line(AtomicUsize::new(0)));
    let shortest = rayon::broadcast(|thread| {
        let (mut mine, mut shortest) = (thread.index(), f64::INFINITY);
        for _ in 0..SLICES {
            let start = Instant::now();
            for _ in 0..LAPS {
                let mut waited = 0;
                while turn.0.load(Ordering::Acquire) != mine {
                    spin_loop();
                    waited += 1;
                    if waited % PATIENCE == 0 {
                        std::thread::yield_now();
                    }
                }
                turn.0.store(mine + 1, Ordering::Release);
                mine += threads;
            }
            shortest = start.elapsed().as_secs_f64().min(shortest);
        }
        shortest
    });
    shortest.into_iter().fold(f64::INFINITY, f64::min) / (LAPS * threads) as f64 * 1e9
}
