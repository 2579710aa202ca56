//! Ctrl-C, SIGTERM and SIGHUP as a count that every waiting loop checks, so that an interrupted command still ends the processes
//! that it started. A second signal ends the waiting, too.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static RECEIVED: AtomicUsize = AtomicUsize::new(0);

/// The error of an interrupted wait; `main` turns it into exit code 130.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Call once, before the first child process. From then on the signals do not end this process by themselves.
pub fn install() -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen for Ctrl-C")?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            RECEIVED.fetch_add(1, Ordering::Relaxed);
        }
    });
    Ok(())
}

pub fn received() -> usize {
    RECEIVED.load(Ordering::Relaxed)
}

pub fn interrupted() -> bool {
    received() > 0
}

/// Waits, or fails with [`Interrupted`]: for loops that poll a condition.
pub fn pause(duration: Duration) -> Result<()> {
    rest(duration);
    if interrupted() { Err(Interrupted.into()) } else { Ok(()) }
}

/// Calls `check` every `every` until it returns something; `None` after `limit`.
pub fn poll<T>(
    every: Duration,
    limit: Duration,
    mut check: impl FnMut() -> Result<Option<T>>,
) -> Result<Option<T>> {
    let deadline = Instant::now() + limit;
    loop {
        let found = check()?;
        if found.is_some() || Instant::now() > deadline {
            return Ok(found);
        }
        pause(every)?;
    }
}

/// Waits even after a signal: for loops that end processes.
#[expect(clippy::disallowed_methods, reason = "this program has no async runtime that it could block")]
pub fn rest(duration: Duration) {
    std::thread::sleep(duration);
}
