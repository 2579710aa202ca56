//! What a closed and an open load make of the same stall (`omission.json`).

use anyhow::Result;
use serde::Serialize;

use super::chart::lines::distributions;
use super::chart::{ASYNC, SYNC};
use crate::coordinated_omission::Omission;
use measure::analysis::format::counted;
use measure::times::{Times, short};

#[derive(Serialize)]
pub struct Stall {
    pub sentence: String,
    chart: Option<String>,
    rows: Vec<(&'static str, u64, Vec<String>)>,
}

pub fn stall(omission: &Omission) -> Result<Stall> {
    let Omission { closed, open, .. } = omission;
    let row = |name, times: &Times| {
        let figures = [0.50, 0.95, 0.99, 1.0].map(|share| short(times.quantile(share)));
        (name, times.count(), figures.into())
    };
    let label = "share of requests by time to acknowledge, open and closed load".to_owned();
    let both = [("open", SYNC, open), ("closed", ASYNC, closed)];
    Ok(Stall {
        sentence: sentence(omission),
        chart: distributions(label, both.into_iter())?,
        rows: vec![row("open", open), row("closed", closed)],
    })
}

fn sentence(omission: &Omission) -> String {
    let Omission { mode, stall_ms, rate, users, closed, open, .. } = omission;
    let p99 = |times: &Times| short(times.quantile(0.99));
    let slow = |times: &Times| format!("{} of {}", times.above(100.0), times.count());
    let callers = format!("{} that wait{}", counted(*users, "user"), if *users == 1 { "s" } else { "" });
    format!(
        "The service ({mode}) stood still for {}. The open load, {rate} arrivals a second whatever happens, says p99 {}: \
         {} requests took longer than 100 ms. The closed load, {callers} for each answer, says p99 {} ({}): \
         while it waited it asked nothing, so the requests that would have been slow are missing from its figures.",
        short(Some(*stall_ms as f64)),
        p99(open),
        slow(open),
        p99(closed),
        slow(closed),
    )
}
