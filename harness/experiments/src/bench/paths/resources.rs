//! What the services take: memory after the start and after all load, the time to be ready, the programs on disk.

use std::fs;

use anyhow::{Context, Result};
use contract::Service;

use crate::bench::goal::Bound::AtMost;
use crate::bench::goal::Unit::{Mb, MiB, Ms};
use crate::bench::goal::{Goal, Reading};
use crate::bench::lab::{Lab, Setup};
use stack::Mode;

pub const GOALS: [Goal; 7] = [
    Goal::plain("async, after start", MiB, AtMost(100.0)),
    Goal::plain("async, after all load", MiB, AtMost(160.0)),
    Goal::plain("async, slowest start", Ms, AtMost(150.0)),
    Goal::plain("sync, after start", MiB, AtMost(100.0)),
    Goal::plain("sync, after all load", MiB, AtMost(160.0)),
    Goal::plain("sync, slowest start", Ms, AtMost(150.0)),
    Goal::plain("largest program", Mb, AtMost(6.0)),
];

pub fn measure(lab: &mut Lab) -> Result<Vec<Reading>> {
    let mut found = Vec::new();
    for mode in [Mode::Async, Mode::Sync] {
        let (after_start, after_load) = (lab.side(mode)?.memory_after_start, lab.memory(mode)?);
        found.extend([after_start, after_load, slowest_start(lab, mode)?]);
    }
    let sizes = Service::ALL.iter().map(|service| {
        let program = lab.tools.programs.plain.join(service.name());
        fs::metadata(&program).with_context(|| format!("cannot read {}", program.display()))
    });
    let largest = sizes.map(|found| Ok(found?.len())).collect::<Result<Vec<u64>>>()?.into_iter().max();
    found.push(largest.unwrap_or(0) as f64 / 1e6);
    Ok(found.into_iter().map(Reading::plain).collect())
}

/// Milliseconds from the start of the process until it is ready, one service after the other: together they wait for each
/// other's processor time.
fn slowest_start(lab: &mut Lab, mode: Mode) -> Result<f64> {
    let mut slowest = 0.0_f64;
    for service in &Service::ALL {
        lab.stop_service(mode, service.name())?;
        let took = lab.start_service(mode, service.name(), &Setup::default())?;
        slowest = slowest.max(took.as_secs_f64() * 1000.0);
    }
    Ok(slowest)
}
