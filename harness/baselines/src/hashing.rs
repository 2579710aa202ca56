//! One thread that does nothing but what a report does: each hash is the hash of the one before.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::times::{end_of, positive};

/// Hashes between two looks at the clock, as many as a report makes.
const STRIDE: u64 = 4096;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long, value_name = "N", default_value = "3", value_parser = positive)]
    seconds: f64,
}

pub(crate) fn chain(args: &Args) -> Value {
    let (begun, cpu_begun, end) = (Instant::now(), cpu_seconds(), end_of(args.seconds));
    let (mut hash, mut count) = (Sha256::digest(b"abc"), 0_u64);
    while Instant::now() < end {
        for _ in 0..STRIDE {
            hash = Sha256::digest(hash);
        }
        count += STRIDE;
    }
    let (seconds, cpu) = (begun.elapsed().as_secs_f64(), cpu_seconds() - cpu_begun);
    json!({
        "count": count,
        "seconds": seconds,
        "per_second": count as f64 / seconds,
        "per_cpu_second": count as f64 / cpu,
        // Printed, so that no compiler removes the work.
        "last": hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
    })
}

/// Of this process.
fn cpu_seconds() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
