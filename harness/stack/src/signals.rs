//! Ctrl-C, SIGTERM and SIGHUP as a number that every waiting loop looks at, so that whatever is interrupted still
//! unwinds and ends what it started. The second one means: without waiting.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static RECEIVED: AtomicUsize = AtomicUsize::new(0);

/// The error of a wait that a signal ended; `main` turns it into exit code 130.
#[derive(Debug)]
pub struct Interrupted;

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("interrupted")
    }
}

impl std::error::Error for Interrupted {}

/// Call once, before the first child process: from here on the signals no longer end this process by themselves.
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

/// Waits although a signal came: for loops that end what runs.
#[expect(clippy::disallowed_methods, reason = "this program has no async runtime that it could block")]
pub fn rest(duration: Duration) {
    std::thread::sleep(duration);
}
