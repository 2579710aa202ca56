//! What the services take: memory after the start and after all load, the time to be ready, the programs on disk.

use std::fs;

use anyhow::Context;

use super::prelude::*;

pub const GOALS: [Goal; 7] = [
    Goal::plain("async, after start", MiB, AtMost(100.0)),
    Goal::plain("async, after all load", MiB, AtMost(160.0)),
    Goal::plain("async, slowest start", Ms, AtMost(150.0)),
    Goal::plain("sync, after start", MiB, AtMost(100.0)),
    Goal::plain("sync, after all load", MiB, AtMost(160.0)),
    Goal::plain("sync, slowest start", Ms, AtMost(150.0)),
    Goal::plain("largest program", Mb, AtMost(6.0)),
];

pub fn measure(session: &mut Session) -> Result<Vec<Measurement>> {
    let mut found = Vec::new();
    for mode in [Mode::Async, Mode::Sync] {
        let (after_start, after_load) = (session.side(mode)?.memory_after_start, session.memory(mode)?);
        found.extend([after_start, after_load, slowest_start(session, mode)?]);
    }
    let sizes = Service::ALL.iter().map(|service| {
        let program = session.tools.programs.plain.join(service.name());
        fs::metadata(&program).with_context(|| format!("cannot read {}", program.display()))
    });
    let largest = sizes.map(|found| Ok(found?.len())).collect::<Result<Vec<u64>>>()?.into_iter().max();
    found.push(largest.unwrap_or(0) as f64 / 1e6);
    Ok(found.into_iter().map(Measurement::plain).collect())
}

/// Milliseconds from the start of the process until it is ready, one service after the other: together they wait for each
/// other's processor time.
fn slowest_start(session: &mut Session, mode: Mode) -> Result<f64> {
    let mut slowest = 0.0_f64;
    for service in &Service::ALL {
        session.stop_service(mode, service.name())?;
        let took = session.start_service(mode, service.name(), &Setup::default())?;
        slowest = slowest.max(took.as_secs_f64() * 1000.0);
    }
    Ok(slowest)
}
