//! S4: how much of a processor a report turns into hashes, and how long others wait for an answer meanwhile.

use std::time::Duration;

use anyhow::{Context, Result};
use contract::Service;
use serde::Deserialize;

use crate::bench::goal::Bound::{AtLeast, AtMost};
use crate::bench::goal::Unit::{Ms, PerSecond};
use crate::bench::goal::{Goal, Reading};
use crate::bench::lab::{Lab, Setup, cores};
use crate::bench::sample::Sample;
use crate::bench::store::SETTLED_WITHIN;
use crate::bench::wrk::{Script, Shot};
use stack::{Mode, http};

pub const GOALS: [Goal; 3] = [
    Goal::share("hashes/CPU s", PerSecond, "sha256", AtLeast(0.95)),
    Goal::plain("p99 of /health, busy", Ms, AtMost(10.0)),
    Goal::share("/health, busy", PerSecond, "idle", AtLeast(0.6)),
];

const SERVICE: &str = Service::Report.name();
const CONNECTIONS: u32 = 16;

#[derive(Deserialize)]
struct Accepted {
    job_id: String,
}

pub fn measure(lab: &mut Lab) -> Result<Vec<Reading>> {
    lab.setup(Mode::Async, SERVICE, &Setup::default())?;
    let (limit, report) = (lab.sample("sha256", sha256)?, lab.sample("s4, one report", report)?);
    let idle = lab.sample("s4, /health idle", health)?;
    let busy = lab.sample("s4, /health busy", |lab| {
        let jobs = (0..cores()).map(|_| accept(lab)).collect::<Result<Vec<_>>>()?;
        wait(lab, &jobs, "status = 'running'")?;
        let sample = health(lab)?;
        wait(lab, &jobs, "status = 'completed'")?;
        Ok(sample)
    })?;
    Ok(vec![
        Reading::of(report.per_second, limit.per_second),
        Reading::plain(busy.p99_ms.unwrap_or(0.0)),
        Reading::of(busy.per_second, idle.per_second),
    ])
}

/// Hashes per processor second of a bare thread.
fn sha256(lab: &mut Lab) -> Result<Sample> {
    let meter = lab.meter(Mode::Async, &[]);
    let seconds = lab.plan.report_seconds() - 1;
    let limit = lab.baseline(&["sha256".into(), "--seconds".into(), seconds.to_string()])?;
    let per_second = limit.per_cpu_second.context("no processor time is told")?;
    Ok(Sample { per_second, ..limit.sample(meter.end()) })
}

/// The same of the service while it computes one report, and does all that it does besides.
fn report(lab: &mut Lab) -> Result<Sample> {
    let meter = lab.meter(Mode::Async, &[SERVICE]);
    let job = accept(lab)?;
    wait(lab, std::slice::from_ref(&job), "status = 'completed'")?;
    let cpu = meter.end();
    let iterations = lab
        .store(Mode::Async)?
        .count(&format!("SELECT iterations FROM reportservice.report_jobs WHERE job_id = '{job}'"))?;
    let per_second = iterations as f64 / cpu.service;
    Ok(Sample { count: iterations, per_second, cpu, ..Sample::default() })
}

fn health(lab: &mut Lab) -> Result<Sample> {
    let meter = lab.meter(Mode::Async, &[SERVICE]);
    let line = lab.wrk(&Shot {
        url: lab.url(Mode::Async, SERVICE, "/health"),
        script: Script::Get,
        args: &[],
        connections: CONNECTIONS,
        seconds: lab.plan.report_seconds() - 1,
    })?;
    Ok(Sample::of(&line, meter.end()))
}

/// The id of a report that will be computed.
fn accept(lab: &Lab) -> Result<String> {
    let url = lab.url(Mode::Async, SERVICE, "/generate_report");
    let answer = http::post(&http::agent(Duration::from_secs(5)), &url, "{}")?;
    Ok(serde_json::from_str::<Accepted>(&answer)?.job_id)
}

fn wait(lab: &mut Lab, jobs: &[String], condition: &str) -> Result<()> {
    let ids: Vec<String> = jobs.iter().map(|job| format!("'{job}'")).collect();
    let all = format!(
        "SELECT bool_and({condition}) FROM reportservice.report_jobs WHERE job_id IN ({})",
        ids.join(", ")
    );
    lab.store(Mode::Async)?.wait(&all, SETTLED_WITHIN)
}
