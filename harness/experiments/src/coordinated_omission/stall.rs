//! Stops a process for a while at a planned time, on a thread of its own: the thread that offers the load is busy.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use rustix::process::Signal;

use stack::process::signal;
use stack::signals;

const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Dropped before its time it does not happen; in the middle of it, it ends.
pub struct Stall {
    cancelled: Arc<AtomicBool>,
    /// Returns whether the whole stall happened.
    thread: Option<JoinHandle<bool>>,
}

impl Stall {
    pub fn plan(pid: u32, after: Duration, length: Duration) -> Self {
        let cancelled = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&cancelled);
        let thread = std::thread::spawn(move || {
            if !wait(after, &flag) {
                return false;
            }
            signal(pid, Signal::STOP);
            let whole = wait(length, &flag);
            // Whatever happened: a process that is stopped cannot end either.
            signal(pid, Signal::CONT);
            whole
        });
        Self { cancelled, thread: Some(thread) }
    }

    /// After the load, when it must be over.
    pub fn end(mut self) -> Result<()> {
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(true)) => Ok(()),
            _ => bail!("the service was not stopped for as long as planned"),
        }
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// False if it was cut short.
fn wait(length: Duration, cancelled: &AtomicBool) -> bool {
    let until = Instant::now() + length;
    loop {
        if cancelled.load(Ordering::Relaxed) || signals::interrupted() {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        signals::rest(left.min(LOOK_EVERY));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::{Child, Command};

    use super::*;

    /// A process that does nothing, and ends with the test even if that fails.
    struct Sleeper(Child);

    impl Sleeper {
        fn start() -> Self {
            Self(Command::new("sleep").arg("60").spawn().unwrap())
        }

        fn stopped(&self) -> bool {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.0.id())).unwrap();
            stat.rsplit_once(')').unwrap().1.trim_start().starts_with('T')
        }

        fn wait_until_stopped_is(&self, stopped: bool) {
            let limit = Instant::now() + Duration::from_secs(30);
            while self.stopped() != stopped {
                assert!(Instant::now() < limit, "stopped: {}", self.stopped());
                signals::rest(Duration::from_millis(1));
            }
        }
    }

    impl Drop for Sleeper {
        fn drop(&mut self) {
            self.0.kill().ok();
            self.0.wait().ok();
        }
    }

    #[test]
    fn a_process_stands_still_and_goes_on() {
        let sleeper = Sleeper::start();
        let stall = Stall::plan(sleeper.0.id(), Duration::ZERO, Duration::from_millis(200));
        sleeper.wait_until_stopped_is(true);
        stall.end().unwrap();
        sleeper.wait_until_stopped_is(false);
    }

    #[test]
    fn a_stall_that_is_given_up_leaves_nothing_stopped() {
        let sleeper = Sleeper::start();
        let stall = Stall::plan(sleeper.0.id(), Duration::ZERO, Duration::from_secs(3600));
        sleeper.wait_until_stopped_is(true);
        drop(stall);
        sleeper.wait_until_stopped_is(false);
        // And one that was not yet due never comes.
        drop(Stall::plan(sleeper.0.id(), Duration::from_secs(3600), Duration::ZERO));
        assert!(!sleeper.stopped());
    }
}
