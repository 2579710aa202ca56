//! S4: how much of a processor a report turns into hashes, and how long others wait for an answer meanwhile.

use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;

use super::prelude::*;
use crate::bench::session::cores;
use stack::http;

pub const GOALS: [Goal; 3] = [
    Goal::share("hashes/CPU s", PerSecond, "sha256", AtLeast(0.95)),
    Goal::plain("p99 of /health, busy", Ms, AtMost(10.0)),
    Goal::share("/health, busy", PerSecond, "idle", AtLeast(0.6))
        .from("own target for the share of the idle service"),
];

const SERVICE: &str = Service::Report.name();
const CONNECTIONS: u32 = 16;

#[derive(Deserialize)]
struct Accepted {
    job_id: String,
}

pub fn measure(session: &mut Session) -> Result<Vec<Measurement>> {
    session.setup(Mode::Async, &[SERVICE], &Setup::default())?;
    let (limit, report) = (session.sample("sha256", sha256)?, session.sample("s4, one report", report)?);
    let idle = session.sample("s4, /health idle", health)?;
    let busy = session.sample("s4, /health busy", |session| {
        let jobs = (0..cores()).map(|_| accept(session)).collect::<Result<Vec<_>>>()?;
        wait(session, &jobs, "status = 'running'")?;
        let sample = health(session)?;
        wait(session, &jobs, "status = 'completed'")?;
        Ok(sample)
    })?;
    Ok(vec![
        Measurement::of(report.per_second, limit.per_second),
        Measurement::plain(busy.p99_ms.unwrap_or(0.0)),
        Measurement::of(busy.per_second, idle.per_second),
    ])
}

/// Hashes per processor second of a bare thread.
fn sha256(session: &mut Session) -> Result<Sample> {
    let meter = session.meter(Mode::Async, &[]);
    let seconds = session.plan.report_seconds() - 1;
    let limit = session.baseline(&["sha256".into(), "--seconds".into(), seconds.to_string()], || {})?;
    let per_second = limit.per_cpu_second.context("no processor time is known")?;
    Ok(Sample { per_second, ..limit.sample(meter.end()) })
}

/// The same of the service while it computes one report, and does all that it does besides.
fn report(session: &mut Session) -> Result<Sample> {
    let meter = session.meter(Mode::Async, &[SERVICE]);
    let job = accept(session)?;
    wait(session, std::slice::from_ref(&job), "status = 'completed'")?;
    let cpu = meter.end();
    let iterations = session
        .store(Mode::Async)?
        .count(&format!("SELECT iterations FROM reportservice.report_jobs WHERE job_id = '{job}'"))?;
    let per_second = iterations as f64 / cpu.services;
    Ok(Sample { count: iterations, per_second, cpu, ..Sample::default() })
}

fn health(session: &mut Session) -> Result<Sample> {
    let meter = session.meter(Mode::Async, &[SERVICE]);
    let line = session.wrk(&LoadSpec {
        url: session.url(Mode::Async, SERVICE, "/health"),
        script: Script::Get,
        args: &[],
        connections: CONNECTIONS,
        seconds: session.plan.report_seconds() - 1,
    })?;
    Ok(Sample::of(&line, meter.end()))
}

/// The id of a report that will be computed.
fn accept(session: &Session) -> Result<String> {
    let url = session.url(Mode::Async, SERVICE, "/generate_report");
    let answer = http::post(&http::agent(Duration::from_secs(5)), &url, "{}")?;
    Ok(serde_json::from_str::<Accepted>(&answer)?.job_id)
}

fn wait(session: &mut Session, jobs: &[String], condition: &str) -> Result<()> {
    let ids: Vec<String> = jobs.iter().map(|job| format!("'{job}'")).collect();
    let all = format!(
        "SELECT bool_and({condition}) FROM reportservice.report_jobs WHERE job_id IN ({})",
        ids.join(", ")
    );
    session.store(Mode::Async)?.wait(&all, SETTLED_WITHIN)
}
