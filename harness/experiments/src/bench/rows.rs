//! The figures as text, for the terminal and for the page.

use serde::Serialize;

use super::goal::{Spread, Threshold, Unit, Verdict};
use super::record::Record;
use super::sample::{Micros, Sample};
use measure::times::short;

/// One goal.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GoalRow {
    /// Empty where it is that of the row above.
    pub path: String,
    pub what: String,
    pub median: String,
    pub spread: String,
    /// What it is held against.
    pub limit: String,
    pub share: String,
    pub bound: String,
    pub met: String,
}

/// One kind of load, or one limit.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LoadRow {
    pub name: String,
    pub median: String,
    pub spread: String,
    pub p50: String,
    pub p99: String,
    /// Microseconds of processor time for each request.
    pub service: String,
    pub broker: String,
    pub database: String,
    pub generator: String,
    /// Share of all processors.
    pub others: String,
}

pub fn goals(record: &Record) -> Vec<GoalRow> {
    let mut before = None;
    let row = |verdict: &Verdict| {
        let first = before.replace(verdict.path.clone()).as_ref() != Some(&verdict.path);
        // Marked: others took the processors in some of its rounds.
        let noisy = if record.noisy.contains_key(&verdict.path) { "*" } else { "" };
        let of = |spread: fn(&Spread) -> f64| {
            verdict.value.as_ref().map_or("-".to_owned(), |value| figure(spread(value), verdict.unit))
        };
        GoalRow {
            path: if first { format!("{}{noisy}", verdict.path) } else { String::new() },
            what: verdict.what.clone(),
            median: of(|spread| spread.median),
            spread: verdict.value.as_ref().map_or("-".to_owned(), |value| range(value, verdict.unit)),
            limit: limit(verdict),
            share: verdict.share.map_or(String::new(), |share| format!("{:.2}", share.median)),
            bound: verdict.bound.map_or(String::new(), |bound| bound_text(bound, verdict)),
            met: verdict.met.map_or("", |met| if met { "yes" } else { "NO" }).to_owned(),
        }
    };
    record.verdicts.iter().map(row).collect()
}

pub fn loads(record: &Record) -> Vec<LoadRow> {
    let mut names: Vec<&str> = Vec::new();
    for sample in &record.samples {
        if !names.contains(&sample.name.as_str()) {
            names.push(&sample.name);
        }
    }
    names.into_iter().filter_map(|name| load(name, &record.samples)).collect()
}

fn load(name: &str, samples: &[Sample]) -> Option<LoadRow> {
    let valid: Vec<&Sample> =
        samples.iter().filter(|sample| sample.name == name && sample.invalid.is_none()).collect();
    let rate = Spread::of(valid.iter().map(|sample| sample.per_second))?;
    let time = |of: fn(&Sample) -> Option<f64>| {
        short(Spread::of(valid.iter().filter_map(|sample| of(sample))).map(|spread| spread.median))
    };
    let micros = |of: fn(&Micros) -> f64| {
        let spread = Spread::of(valid.iter().map(|sample| of(&sample.micros())));
        spread.map_or(String::new(), |spread| format!("{:.0}", spread.median))
    };
    let others = Spread::of(valid.iter().map(|sample| sample.cpu.others * 100.0));
    let noisy = if valid.iter().any(|sample| sample.noisy()) { "*" } else { "" };
    Some(LoadRow {
        name: name.to_owned(),
        median: figure(rate.median, Unit::PerSecond),
        spread: range(&rate, Unit::PerSecond),
        p50: time(|sample| sample.p50_ms),
        p99: time(|sample| sample.p99_ms),
        service: micros(|micros| micros.service),
        broker: micros(|micros| micros.broker),
        database: micros(|micros| micros.database),
        generator: micros(|micros| micros.generator),
        others: others.map_or(String::new(), |others| format!("{:.0} %{noisy}", others.median)),
    })
}

fn limit(verdict: &Verdict) -> String {
    match (&verdict.limit, verdict.limit_value) {
        (Some(name), Some(value)) => format!("{} {name}", figure(value, verdict.unit)),
        (Some(name), None) => name.clone(),
        (None, _) => String::new(),
    }
}

fn bound_text(bound: Threshold, verdict: &Verdict) -> String {
    let text = |value: f64| match verdict.limit {
        Some(_) => format!("{value}"),
        None => figure(value, verdict.unit),
    };
    match bound {
        Threshold::AtLeast(least) => format!("≥ {}", text(least)),
        Threshold::AtMost(most) => format!("≤ {}", text(most)),
        Threshold::Exactly(wanted) => format!("= {}", text(wanted)),
    }
}

/// `9500..10020`, with its unit once; nothing where there is no spread.
fn range(spread: &Spread, unit: Unit) -> String {
    if spread.min == spread.max {
        return String::new();
    }
    let (min, max) = (figure(spread.min, unit), figure(spread.max, unit));
    match (min.split_once(' '), max.split_once(' ')) {
        (Some((number, one)), Some((_, other))) if one == other => format!("{number}..{max}"),
        _ => format!("{min}..{max}"),
    }
}

fn figure(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ms => short(Some(value)),
        Unit::Us => format!("{value:.0} µs"),
        Unit::MiB => format!("{value:.0} MiB"),
        Unit::Mb => format!("{value:.1} MB"),
        Unit::PerSecond if value >= 1e6 => format!("{:.2} M", value / 1e6),
        Unit::PerSecond | Unit::Count => format!("{value:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_says_its_unit_once() {
        let range = |min, max, unit| range(&Spread { median: min, min, max }, unit);
        assert_eq!(range(9.0, 12.0, Unit::Ms), "9.00..12.0 ms");
        assert_eq!(range(900.0, 1200.0, Unit::Ms), "900 ms..1.20 s");
        assert_eq!(range(9500.0, 10_020.0, Unit::PerSecond), "9500..10020");
        assert_eq!(range(15.92e6, 16.0e6, Unit::PerSecond), "15.92..16.00 M");
        assert_eq!(range(7.0, 7.0, Unit::Us), "");
    }

    #[test]
    fn a_load_is_told_by_the_medians_of_its_valid_samples() {
        let sample = |per_second, invalid: Option<&str>| Sample {
            name: "a".into(),
            per_second,
            count: 1,
            invalid: invalid.map(ToOwned::to_owned),
            ..Sample::default()
        };
        let samples = [sample(1.0, Some("503")), sample(30.0, None), sample(10.0, None), sample(20.0, None)];
        let row = load("a", &samples).unwrap();
        assert_eq!((row.median.as_str(), row.spread.as_str(), row.p99.as_str()), ("20", "10..30", "-"));
        assert_eq!(load("a", &samples[..1]), None);
    }
}
