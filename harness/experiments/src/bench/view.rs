//! The figures as text: `PERFORMANCE.md` and the terminal's tables.

use anyhow::Result;
use serde::Serialize;

use super::benchmarks::Benchmark;
use super::goal::{Threshold, Unit, Verdict};
use super::record::Record;
use super::sample::Sample;
use crate::templates::render;
use measure::analysis::format::counted;
use measure::analysis::statistics::Spread;
use measure::resource_usage::Cpu;
use measure::times::short;
use stack::table;

const GOALS: [&str; 8] = ["path", "", "median", "min..max", "limit", "share", "goal", "met"];
const LOADS: [&str; 10] =
    ["load", "per s", "min..max", "p50", "p99", "service", "broker", "datab.", "gen.", "others"];

#[derive(Serialize)]
struct View<'a> {
    record: &'a Record,
    machine: String,
    took: String,
    /// Rows as [`GOALS`] says, each with the source of its goal.
    goals: Vec<([String; 8], &'static str)>,
    loads: Vec<[String; 10]>,
    asked: usize,
    met: usize,
    /// Goals that were missed, as sentences.
    missed: Vec<String>,
}

/// `PERFORMANCE.md`
pub fn markdown(record: &Record) -> Result<String> {
    let judged = |met| record.verdicts.iter().filter(move |verdict| verdict.met == Some(met));
    let view = View {
        record,
        machine: record.host.line(),
        took: format!("{} min {:02} s", record.seconds / 60, record.seconds % 60),
        goals: record
            .verdicts
            .iter()
            .map(|verdict| (goal(verdict, record), Benchmark::source(verdict)))
            .collect(),
        loads: loads(record),
        asked: judged(true).count() + judged(false).count(),
        met: judged(true).count(),
        missed: judged(false).map(|verdict| sentence(verdict, record)).collect(),
    };
    render("performance.md", include_str!("page.md"), &view)
}

/// For a terminal.
pub fn text(record: &Record) -> String {
    let mut goals: Vec<[String; 8]> = record.verdicts.iter().map(|verdict| goal(verdict, record)).collect();
    // A path is named in its first row only.
    for at in (1..goals.len()).rev().filter(|at| record.verdicts[*at].path == record.verdicts[at - 1].path) {
        goals[at][0].clear();
    }
    let mut text = format!(
        "{}\n\n{}\n\nMedians of {}, with the lowest and the highest. Share: of the limit, in the same round. CPU in\n\
         microseconds a request: of the services that are measured, of broker, database and load generator\n\
         (gen.); others: share of all processors that went to other programs.\n",
        columns(GOALS, goals, |column| [2, 3, 5].contains(&column)),
        columns(LOADS, loads(record), |column| column > 0),
        counted(record.rounds, "round"),
    );
    if !record.noisy.is_empty() {
        let noisy: Vec<String> =
            record.noisy.iter().map(|(path, rounds)| format!("{path} {rounds}")).collect();
        text += &format!(
            "* Rounds in which others took more than 10 % of the processors: {}.\n",
            noisy.join(", ")
        );
    }
    for note in &record.notes {
        text += &format!("Left out: {note}\n");
    }
    text
}

fn columns<const N: usize>(
    header: [&str; N],
    rows: Vec<[String; N]>,
    figures: impl Fn(usize) -> bool,
) -> String {
    let mut table = table::within_width(header);
    table.add_rows(rows);
    table::text(&mut table, 1, figures)
}

fn goal(verdict: &Verdict, record: &Record) -> [String; 8] {
    let Verdict { path, what, unit, value, .. } = verdict;
    // Marked: others took the processors in some of its rounds.
    let noisy = if record.noisy.contains_key(path) { "*" } else { "" };
    [
        format!("{path}{noisy}"),
        what.clone(),
        value.map_or("-".into(), |value| figure(value.median, *unit)),
        value.map_or("-".into(), |value| range(&value, *unit)),
        limit(verdict),
        verdict.share.map_or(String::new(), |share| format!("{:.2}", share.median)),
        verdict.bound.map_or(String::new(), |bound| bound_text(bound, verdict)),
        verdict.met.map_or("", |met| if met { "yes" } else { "NO" }).to_owned(),
    ]
}

fn sentence(verdict: &Verdict, record: &Record) -> String {
    let [_, what, median, _, limit, share, bound, _] = goal(verdict, record);
    let of = if share.is_empty() { String::new() } else { format!(", {share} of {limit}") };
    format!("{}: {what} {median}{of}, asked for {bound}", verdict.path)
}

/// One row for each name, as [`LOADS`] says.
fn loads(record: &Record) -> Vec<[String; 10]> {
    let mut names: Vec<&str> = Vec::new();
    for sample in &record.samples {
        if !names.contains(&sample.name.as_str()) {
            names.push(&sample.name);
        }
    }
    names.into_iter().filter_map(|name| load(name, &record.samples)).collect()
}

/// `None` without a valid sample.
fn load(name: &str, samples: &[Sample]) -> Option<[String; 10]> {
    let valid: Vec<&Sample> =
        samples.iter().filter(|sample| sample.name == name && sample.invalid.is_none()).collect();
    let median = |of: &dyn Fn(&Sample) -> Option<f64>| {
        Spread::of(valid.iter().filter_map(|sample| of(sample))).map(|spread| spread.median)
    };
    let micros = |of: fn(&Cpu) -> f64| {
        median(&|sample| Some(of(&sample.micros()))).map_or(String::new(), |median| format!("{median:.0}"))
    };
    let rate = Spread::of(valid.iter().map(|sample| sample.per_second))?;
    let others = median(&|sample| Some(sample.cpu.others * 100.0)).unwrap_or(0.0);
    let noisy = if valid.iter().any(|sample| sample.noisy()) { "*" } else { "" };
    Some([
        name.to_owned(),
        figure(rate.median, Unit::PerSecond),
        range(&rate, Unit::PerSecond),
        short(median(&|sample| sample.p50_ms)),
        short(median(&|sample| sample.p99_ms)),
        micros(|cpu| cpu.services),
        micros(|cpu| cpu.broker),
        micros(|cpu| cpu.database),
        micros(|cpu| cpu.generator),
        format!("{others:.0} %{noisy}"),
    ])
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
pub mod tests {
    use std::collections::BTreeMap;

    use clap::ValueEnum;

    use super::*;
    use crate::bench::goal::Measurement;
    use measure::host::Host;

    pub fn example() -> Record {
        let cpu = Cpu {
            services: 0.5,
            broker: 2.5,
            database: 1.25,
            generator: 0.1,
            others: 0.12,
            ..Cpu::default()
        };
        let sample = |name: &str, round| Sample {
            name: name.into(),
            round,
            count: 30_000,
            per_second: 10_000.0 * f64::from(round),
            p50_ms: Some(6.25),
            p99_ms: Some(123.4),
            cpu,
            invalid: None,
        };
        let verdicts = Benchmark::value_variants().iter().flat_map(|path| {
            path.goals().iter().map(|goal| {
                let reading = |value| Measurement { value, of: goal.of.map(|_| 12_345.0) };
                goal.judge(&path.name(), &[reading(9_500.0), reading(10_020.0)])
            })
        });
        Record {
            version: 1,
            started: "2026-01-01 00:00 UTC".into(),
            seconds: 700,
            rounds: 2,
            sample_seconds: 3,
            quick: false,
            host: Host::read("1.1.0", None),
            servers: None,
            verdicts: verdicts.collect(),
            samples: vec![sample("s6-async, c=256", 1), sample("s6-async, c=256", 2)],
            noisy: BTreeMap::from([("s6-async".to_owned(), 2)]),
            notes: vec!["s6-async, round 1: of 9 requests 1 had an unexpected answer, and 0 none".into()],
        }
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let text = text(&example());
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    }

    #[test]
    fn each_goal_has_a_line_and_busy_neighbours_a_mark() {
        let text = text(&example());
        let line = |begin: &str| text.lines().find(|line| line.starts_with(begin)).unwrap_or_default();
        assert!(line("s6-async*").contains("9500..10020") && line("s6-async*").ends_with("NO"), "{text}");
        assert!(line("s6-async*").contains("12345 broker"), "{text}");
        assert!(line("s6-packed").ends_with("yes"), "{text}");
        assert!(line("s6-async, c=256").ends_with("12 %*"), "{text}");
        assert!(text.contains("processors: s6-async 2.") && text.contains("Left out: s6-async"), "{text}");
    }

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
        assert_eq!([&row[1], &row[2], &row[4]], ["20", "10..30", "-"]);
        assert_eq!(load("a", &samples[..1]), None);
    }

    #[test]
    fn the_page_tells_every_goal_and_names_the_missed() {
        let page = markdown(&example()).unwrap();
        let line = |begin: &str| page.lines().find(|line| line.starts_with(begin)).unwrap_or_default();
        assert!(
            line("| s6-async* | clicks/s |")
                .ends_with("| ≥ 0.85 | NO | own target for the share of the limit |"),
            "{page}"
        );
        assert!(line("- s6-async: clicks/s").contains("0.79 of 12345 broker, asked for ≥ 0.85"), "{page}");
        assert!(line("| s6-async, c=256 |").contains("123 ms"), "{page}");
        assert!(!page.contains("{{") && !page.contains("\n\n\n"), "{page}");
    }
}
