//! The work of a report: a chain of SHA-256, each the hash of the one before. On a bounded number of threads of their own,
//! of lower priority, so that the thread that answers requests is never kept waiting.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use common::metrics::{self, Gauges};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, oneshot};

/// Hashes between two looks at the clock: under a millisecond. A pause costs as much as some hundred of them.
const STRIDE: u64 = 16_384;
/// After each stride the thread gives way. A low priority is not enough: where the scheduler weighs groups of processes
/// (sessions, containers) against each other, a thread that never sleeps makes all others wait out its time slice.
const GIVE_WAY: Duration = Duration::from_micros(50);

#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// Seconds that a report takes, for any number of iterations
    #[arg(long, env, default_value_t = 10.0, value_parser = seconds)]
    pub report_seconds: f64,
    /// Hashes that a report takes, however long: for comparison by work; 0 goes by REPORT_SECONDS
    #[arg(long, env, default_value_t = 0)]
    pub report_iterations: u64,
    /// Reports that are computed at once
    #[arg(long, env, default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub report_workers: u16,
    /// Priority of the computing threads, as nice(1) counts: 0 to 19, the higher the lower
    #[arg(long, env, default_value_t = 19, value_parser = clap::value_parser!(u8).range(0..=19))]
    pub report_nice: u8,
}

static WORKERS: LazyLock<Gauges> =
    LazyLock::new(|| metrics::get().own_gauge("report_workers", "Reports that may be computed at once", &[]));
static BUSY: LazyLock<Gauges> =
    LazyLock::new(|| metrics::get().own_gauge("report_workers_busy", "Reports that are computed", &[]));
const NONE: &[&str] = &[];

/// What a report found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The last hash of the chain, in hexadecimal.
    pub hash: String,
    pub iterations: u64,
    pub seconds: f64,
}

/// The threads. Cheap to clone.
#[derive(Clone)]
pub struct Hashing {
    free: Arc<Semaphore>,
    until: Until,
    nice: u8,
}

#[derive(Clone, Copy, Debug)]
enum Until {
    Elapsed(Duration),
    Iterations(u64),
}

/// A thread that is free, and held for one report.
pub struct Worker {
    hashing: Hashing,
    permit: tokio::sync::OwnedSemaphorePermit,
}

impl Hashing {
    pub fn new(settings: &Settings) -> Hashing {
        let until = match settings.report_iterations {
            0 => Until::Elapsed(Duration::from_secs_f64(settings.report_seconds)),
            iterations => Until::Iterations(iterations),
        };
        let free = Arc::new(Semaphore::new(settings.report_workers.into()));
        WORKERS.with_label_values(NONE).set(settings.report_workers.into());
        BUSY.with_label_values(NONE).set(0);
        Hashing { free, until, nice: settings.report_nice }
    }

    /// Waits until a thread is free.
    pub async fn worker(&self) -> anyhow::Result<Worker> {
        let permit = Arc::clone(&self.free).acquire_owned().await?;
        Ok(Worker { hashing: self.clone(), permit })
    }
}

impl Worker {
    /// Computes a report about `seed`. If its caller has gone, the thread ends soon.
    ///
    /// # Errors
    /// When no thread can be started, or it died.
    pub async fn compute(self, seed: String) -> anyhow::Result<Report> {
        let (done, report) = oneshot::channel();
        let given_up = Arc::new(AtomicBool::new(false));
        let guard = GiveUp(Arc::clone(&given_up));
        let Hashing { until, nice, .. } = self.hashing;
        std::thread::Builder::new().name("report".into()).spawn(move || {
            lower_priority(nice);
            BUSY.with_label_values(NONE).inc();
            let report = chain(seed.as_bytes(), until, &given_up);
            BUSY.with_label_values(NONE).dec();
            drop(self.permit);
            // The caller has gone.
            done.send(report).ok();
        })?;
        let report = report.await?;
        drop(guard);
        Ok(report)
    }
}

struct GiveUp(Arc<AtomicBool>);

impl Drop for GiveUp {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn lower_priority(nice: u8) {
    // On Linux the priority belongs to the thread, and its id is taken where a process's is.
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice.into()) {
        tracing::debug!(%error, "priority stays as it is");
    }
}

fn chain(seed: &[u8], until: Until, given_up: &AtomicBool) -> Report {
    let started = Instant::now();
    let mut hash = Sha256::digest(seed);
    let mut iterations = 1;
    while !given_up.load(Ordering::Relaxed) {
        let stride = match until {
            Until::Elapsed(limit) if started.elapsed() >= limit => break,
            Until::Elapsed(_) => STRIDE,
            Until::Iterations(limit) if iterations >= limit => break,
            Until::Iterations(limit) => STRIDE.min(limit - iterations),
        };
        for _ in 0..stride {
            hash = Sha256::digest(hash);
        }
        iterations += stride;
        #[expect(clippy::disallowed_methods, reason = "on a thread of its own")]
        std::thread::sleep(GIVE_WAY);
    }
    let hex = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    Report { hash: hex, iterations, seconds: started.elapsed().as_secs_f64() }
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if (0.0..=3600.0).contains(&value) { Ok(value) } else { Err("must be between 0 and 3600".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_by_work_is_the_same_every_time() {
        let report = |iterations| chain(b"abc", Until::Iterations(iterations), &AtomicBool::new(false));
        // SHA-256 of "abc", FIPS 180-4; and of that hash.
        assert!(report(1).hash.starts_with("ba7816bf8f01cfea"));
        assert!(report(2).hash.starts_with("4f8b42c22dd3729b"));
        assert_eq!((report(10_000).iterations, report(10_000).hash), (10_000, report(10_000).hash));
    }

    #[test]
    fn a_report_that_nobody_wants_ends() {
        let report = chain(b"abc", Until::Iterations(u64::MAX), &AtomicBool::new(true));
        assert_eq!(report.iterations, 1);
    }
}
