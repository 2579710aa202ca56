//! Goals and loads for a terminal.

use comfy_table::ContentArrangement;
use stack::table;

use super::record::Record;
use super::rows;

/// What fits a terminal window side by side with another.
const WIDTH: u16 = 100;

pub fn text(record: &Record) -> String {
    let goals = rows::goals(record).into_iter();
    let goals = goals.map(|row| {
        [row.path, row.what, row.median, row.spread, row.limit, row.share, row.bound, row.met].into()
    });
    let loads = rows::loads(record).into_iter();
    let loads = loads.map(|row| {
        [
            row.name,
            row.median,
            row.spread,
            row.p50,
            row.p99,
            row.service,
            row.broker,
            row.database,
            row.generator,
            row.others,
        ]
        .into()
    });
    let mut text = format!(
        "{}\n\n{}\n\nMedians of {} {}, with the lowest and the highest. Share: of the limit, in the same round. CPU in\n\
         microseconds a request: of the services that are measured, of broker, database and load generator\n\
         (gen.); others: share of all processors that went to other programs.\n",
        table(&["path", "", "median", "min..max", "limit", "share", "goal", "met"], &[2, 3, 5], goals),
        table(
            &["load", "per s", "min..max", "p50", "p99", "service", "broker", "datab.", "gen.", "others"],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9],
            loads
        ),
        record.rounds,
        if record.rounds == 1 { "round" } else { "rounds" },
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

fn table(header: &[&str], right: &[usize], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = table::plain(header.to_vec());
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    rows.for_each(|row| {
        table.add_row(row);
    });
    table::text(&mut table, 1, |column| right.contains(&column))
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeMap;

    use clap::ValueEnum;

    use super::*;
    use crate::bench::benchmarks::Benchmark;
    use crate::bench::goal::Measurement;
    use crate::bench::processor::Cpu;
    use crate::bench::sample::Sample;
    use measure::host::Host;

    pub fn example() -> Record {
        let cpu =
            Cpu { service: 0.5, broker: 2.5, database: 1.25, generator: 0.1, others: 0.12, ..Cpu::default() };
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
}
