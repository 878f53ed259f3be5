//! The threads of runs.

use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use depthwise::Executor;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::value_error;

/// More threads than this are a mistake.
const MOST: usize = 1024;

/// Threads that work beside the one that calls. Small runs stay on that one, and wake none.
pub(crate) struct Pool {
    /// The process that started the threads: a fork of it has none of them.
    process: u32,
    threads: usize,
    others: ThreadPool,
}

impl Executor for Pool {
    fn threads(&self) -> usize {
        self.threads
    }

    fn execute(&self, tasks: usize, task: &(dyn Fn(usize) + Sync)) {
        self.others.in_place_scope(|scope| {
            for i in 1..tasks {
                scope.spawn(move |_| task(i));
            }
            if tasks > 0 {
                task(0);
            }
        });
    }
}

/// The pool of that many threads, started at the first call. `None` is the calling thread alone.
///
/// The caller holds the interpreter's lock, so that no fork happens while this holds the list's.
pub(crate) fn pool(_: Python<'_>, threads: usize) -> PyResult<Option<Arc<Pool>>> {
    static POOLS: Mutex<Vec<Arc<Pool>>> = Mutex::new(Vec::new());
    match threads {
        0 => return Err(value_error("threads is 0: it must be at least 1")),
        1 => return Ok(None),
        2..=MOST => {}
        _ => return Err(value_error(format_args!("threads is {threads}: it must be at most {MOST}"))),
    }
    let process = process::id();
    let mut pools = POOLS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = pools.iter().find(|known| known.process == process && known.threads == threads) {
        return Ok(Some(known.clone()));
    }
    let builder = ThreadPoolBuilder::new().num_threads(threads - 1).thread_name(|i| format!("depthwise-{}", i + 1));
    let others = builder
        .build()
        .map_err(|error| PyRuntimeError::new_err(format!("{threads} threads cannot be started: {error}")))?;
    let pool = Arc::new(Pool { process, threads, others });
    pools.push(pool.clone());
    Ok(Some(pool))
}
