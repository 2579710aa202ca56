//! Latency under growing load, from `rate-sN.json`: the curves, what is sustained, and how latency degrades.

use anyhow::Result;
use contract::Scenario;
use serde::Serialize;

use super::chart::axis::{Axis, plain, time};
use super::chart::colour;
use super::chart::lines::{Lines, Mark, Series};
use super::numbers::digits;
use crate::rate::curve::{Curve, Point};
use measure::times::short;

#[derive(Serialize)]
pub struct Rates {
    key: &'static str,
    name: String,
    bound: String,
    seconds: u64,
    /// p50 and p99 of completion.
    latency: Option<String>,
    /// p95 of both times.
    growing: Option<String>,
    /// p95 of completion, as multiples of that at the lowest rate.
    degradation: Option<String>,
    variants: Vec<Row>,
    points: Vec<PointRow>,
}

#[derive(Serialize)]
struct Row {
    variant: String,
    sustainable: String,
    /// What happened at the next rate, or why none was tried.
    limit: String,
}

#[derive(Serialize)]
struct PointRow {
    variant: String,
    rate: String,
    times: Vec<String>,
    completed: String,
    peak: u32,
    unexpected: u64,
    why_not: String,
}

/// One for each scenario that has curves.
pub fn rates(curves: &[Curve]) -> Result<Vec<Rates>> {
    let mut all = Vec::new();
    for scenario in Scenario::ALL {
        let curves: Vec<&Curve> = curves.iter().filter(|curve| curve.scenario == scenario).collect();
        let Some(first) = curves.first() else { continue };
        let marks = || {
            curves
                .iter()
                .filter_map(|curve| Some(Mark { at: curve.sustainable?, color: colour(&curve.variant) }))
        };
        let p = |share: f64| move |point: &Point| point.complete.quantile(share);
        let mut latency = lines(&curves, " p99", false, p(0.99));
        latency.extend(lines(&curves, " p50", true, p(0.50)));
        let mut growing = lines(&curves, " complete", false, p(0.95));
        growing.extend(lines(&curves, " acknowledge", true, |point| point.acknowledge.quantile(0.95)));
        all.push(Rates {
            key: scenario.key(),
            name: format!("{scenario}: {}", scenario.title()),
            bound: short(Some(first.bound_ms)),
            seconds: first.seconds,
            latency: chart(
                &format!("{scenario}: completion against rate"),
                latency,
                marks().collect(),
                Some(first.bound_ms),
                time,
            )?,
            growing: chart(&format!("{scenario}: p95 against rate"), growing, Vec::new(), None, time)?,
            degradation: chart(
                &format!("{scenario}: p95 of completion as multiples of that at the lowest rate"),
                relative(&curves),
                marks().collect(),
                None,
                |factor| format!("{}×", plain(factor)),
            )?,
            variants: curves.iter().map(|curve| row(curve)).collect(),
            points: curves
                .iter()
                .flat_map(|curve| curve.points.iter().map(|point| point_row(curve, point)))
                .collect(),
        });
    }
    Ok(all)
}

fn lines(curves: &[&Curve], what: &str, dashed: bool, of: impl Fn(&Point) -> Option<f64>) -> Vec<Series> {
    let line = |curve: &&Curve| Series {
        name: format!("{}{what}", curve.variant),
        color: colour(&curve.variant),
        dashed,
        dots: true,
        points: curve.points.iter().filter_map(|point| Some((point.rate, of(point)?))).collect(),
    };
    curves.iter().map(line).collect()
}

fn relative(curves: &[&Curve]) -> Vec<Series> {
    let mut all = lines(curves, "", false, |point| point.complete.quantile(0.95));
    for line in &mut all {
        let Some((_, first)) = line.points.first().copied() else { continue };
        line.points.iter_mut().for_each(|(_, ms)| *ms /= first.max(0.001));
    }
    all
}

fn chart(
    label: &str,
    mut series: Vec<Series>,
    marks: Vec<Mark>,
    bound: Option<f64>,
    show: fn(f64) -> String,
) -> Result<Option<String>> {
    series.retain(|line| !line.points.is_empty());
    let points = || series.iter().flat_map(|line| line.points.iter());
    let x = Axis::log(points().map(|(rate, _)| *rate), |rate| format!("{}/s", plain(rate)));
    let y = Axis::log(points().map(|(_, ms)| *ms), show);
    let (Some(x), Some(y)) = (x, y) else { return Ok(None) };
    Lines { label: label.to_owned(), x, y, series, marks, bound }.draw().map(Some)
}

fn row(curve: &Curve) -> Row {
    let limit = curve.limited_by.clone().or_else(|| {
        let point = curve.first_failing()?;
        Some(format!("at {}/s: {}", digits(point.rate), point.why_not.as_deref().unwrap_or_default()))
    });
    Row { variant: curve.variant.clone(), sustainable: sustained(curve), limit: limit.unwrap_or_default() }
}

pub fn sustained(curve: &Curve) -> String {
    // Where the load generator was at its end, the services were not.
    let least = if curve.limited_by.is_some() { "at least " } else { "" };
    curve.sustainable.map_or("none that was tried".into(), |rate| format!("{least}{}/s", digits(rate)))
}

fn point_row(curve: &Curve, point: &Point) -> PointRow {
    let times = [&point.acknowledge, &point.complete].into_iter();
    PointRow {
        variant: curve.variant.clone(),
        rate: digits(point.rate),
        times: times.flat_map(|times| [0.50, 0.95, 0.99].map(|share| short(times.quantile(share)))).collect(),
        completed: digits(point.completed_per_second),
        peak: point.peak_backlog,
        unexpected: point.unexpected,
        why_not: point.why_not.clone().unwrap_or_default(),
    }
}
