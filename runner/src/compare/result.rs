//! A finished comparison as it is written to `results.json`, and what is wrong with it.

use std::collections::BTreeMap;

use serde::Serialize;

use super::crosscheck::CrossCheck;
use super::drain::Drain;
use super::host::{Host, Servers};
use super::join::Outcome;
use super::profile::{Delays, Load, Profile};
use super::scenario::Scenario;
use crate::local::Mode;

#[derive(Serialize)]
pub struct Comparison {
    /// UTC.
    pub started: String,
    pub profile: Profile,
    pub load: Load,
    pub settings: Delays,
    pub host: Host,
    pub modes: Vec<ModeResult>,
    /// Empty if every figure may be used.
    pub problems: Vec<String>,
}

#[derive(Serialize)]
pub struct ModeResult {
    pub mode: Mode,
    pub servers: Servers,
    pub scenarios: BTreeMap<Scenario, Outcome>,
    pub drain: Drain,
    pub cross_checks: Vec<CrossCheck>,
    /// Lines of the journals that are no entries.
    pub unreadable_journal_lines: u64,
}

impl ModeResult {
    pub fn problems(&self) -> Vec<String> {
        let mode = self.mode;
        let mut problems = Vec::new();
        for (scenario, outcome) in &self.scenarios {
            let mut note = |count: u64, what: &str| {
                if count > 0 {
                    problems.push(format!("{scenario} {mode}: {count} {what}"));
                }
            };
            note(outcome.open, "accepted but not completed");
            note(outcome.twice, "applied twice");
            note(outcome.dropped, "not offered in time by k6: the run is invalid");
            note(u64::from(outcome.requests == 0), "scenario without a single request");
            for (what, count) in &outcome.unexpected {
                note(*count, &format!("unexpected answers ({what})"));
            }
        }
        for (count, what) in [
            (self.drain.queued, "messages still in queues after the drain"),
            (self.drain.dead, "messages in dead-letter queues"),
            (self.unreadable_journal_lines, "unreadable lines in the journals"),
        ] {
            if count > 0 {
                problems.push(format!("{mode}: {count} {what}"));
            }
        }
        for check in self.cross_checks.iter().filter(|check| !check.ok) {
            problems
                .push(format!("{mode}: {}: expected {}, found {}", check.what, check.expected, check.found));
        }
        problems
    }
}

impl Comparison {
    pub fn of(&self, mode: Mode, scenario: Scenario) -> Option<&Outcome> {
        self.modes.iter().find(|result| result.mode == mode)?.scenarios.get(&scenario)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_trouble_is_named_and_a_clean_run_has_none() {
        let clean = || ModeResult {
            mode: Mode::Async,
            servers: Servers::default(),
            scenarios: BTreeMap::from([(
                Scenario::S3,
                Outcome { requests: 9, expected: 9, ..Outcome::default() },
            )]),
            drain: Drain::default(),
            cross_checks: Vec::new(),
            unreadable_journal_lines: 0,
        };
        assert_eq!(clean().problems(), [""; 0]);

        let mut run = clean();
        run.drain.dead = 3;
        run.cross_checks.push(CrossCheck {
            what: "clicks stored",
            expected: "5".into(),
            found: "4".into(),
            ok: false,
        });
        let outcome = run.scenarios.get_mut(&Scenario::S3).unwrap();
        (outcome.open, outcome.twice, outcome.dropped) = (1, 2, 4);
        outcome.unexpected.insert("503".into(), 5);
        assert_eq!(
            run.problems(),
            [
                "S3 async: 1 accepted but not completed",
                "S3 async: 2 applied twice",
                "S3 async: 4 not offered in time by k6: the run is invalid",
                "S3 async: 5 unexpected answers (503)",
                "async: 3 messages in dead-letter queues",
                "async: clicks stored: expected 5, found 4",
            ]
        );
    }
}
