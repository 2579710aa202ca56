//! What came of every request: k6's answers joined with the services' journals by the workflow's id. Nothing here is
//! assumed: lost is what was accepted and lacks a final effect, twice is what has one more than once.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context, Result, ensure};
use contract::Scenario;
use serde::{Deserialize, Serialize};

use super::backlog::Backlog;
use super::journal::Entry;
use super::load::Samples;
use super::samples::Answer;
use super::times::Times;

/// How many cases of a kind are named in the results.
const EXAMPLES: usize = 5;
const TIMED_OUT: &str = "timed out";

/// One scenario in one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub requests: u64,
    /// Time to acknowledge of the expected answers, as k6 measured it.
    pub acknowledge: Times,
    /// From accepting the request to the end of the last final effect, as the services noted it.
    pub complete: Times,
    pub expected: u64,
    /// By status, or by the check that failed.
    pub unexpected: BTreeMap<String, u64>,
    /// Accepted, but a final effect is missing.
    pub open: u64,
    /// Workflows in which a final effect happened more than once.
    pub twice: u64,
    /// Begun although k6 has no accepting answer: a time-out, or a refusal that was none.
    pub unacknowledged: u64,
    pub dropped: u64,
    pub backlog: Backlog,
    /// How the final effects ended, as `effect: outcome`.
    pub effects: BTreeMap<String, u64>,
    pub examples: Vec<String>,
}

impl Outcome {
    pub fn unexpected_total(&self) -> u64 {
        self.unexpected.values().sum()
    }

    /// Answers 503.
    pub fn refused(&self) -> u64 {
        self.unexpected.get("503").copied().unwrap_or(0)
    }

    pub fn timed_out(&self) -> u64 {
        self.unexpected.get(TIMED_OUT).copied().unwrap_or(0)
    }

    /// What is wrong with it, apart from requests that were not offered.
    pub fn problems(&self) -> Vec<String> {
        let unexpected = self.unexpected.iter();
        let unexpected = unexpected.map(|(what, count)| (*count, format!("unexpected answers ({what})")));
        [(self.open, "accepted but not completed".to_owned()), (self.twice, "applied twice".to_owned())]
            .into_iter()
            .chain(unexpected)
            .filter(|(count, _)| *count > 0)
            .map(|(count, what)| format!("{count} {what}"))
            .collect()
    }

    /// # Errors
    /// When its numbers do not agree.
    pub fn check(&self) -> Result<()> {
        let Self { requests, expected, acknowledge, complete, .. } = self;
        let unexpected = self.unexpected.values().try_fold(0_u64, |sum, count| sum.checked_add(*count));
        let answers = unexpected.and_then(|unexpected| unexpected.checked_add(*expected));
        let answers = answers.context("there are too many unexpected answers")?;
        ensure!(answers == *requests, "there are {answers} answers to {requests} requests");
        let (times, ends) = (acknowledge.count(), complete.count());
        ensure!(times <= *expected, "there are {times} times of {expected} expected answers");
        ensure!(ends <= *requests, "{ends} workflows of {requests} requests are complete");
        self.backlog.check()
    }
}

/// What the journals say of one workflow: for each final effect when it happened, and with what outcome.
#[derive(Default)]
struct Seen<'a> {
    scenario: &'a str,
    accepted_us: Option<i64>,
    done_us: BTreeMap<&'a str, Vec<(i64, &'a str)>>,
}

enum Fate {
    Complete { accepted_us: i64, micros: u64 },
    Open { why: String },
}

impl Seen<'_> {
    fn fate(&self, scenario: Scenario, width: usize) -> Fate {
        let count = if scenario == Scenario::S3 { width } else { usize::MAX };
        let expected = scenario.final_effects().map(|effect| effect.name).take(count);
        let missing: Vec<&str> = expected.filter(|effect| !self.done_us.contains_key(effect)).collect();
        if !missing.is_empty() {
            return Fate::Open { why: format!("lacks {}", missing.join(", ")) };
        }
        let last = self.done_us.values().filter_map(|times| times.iter().min()).max();
        match (last, self.accepted_us) {
            (Some((last, _)), Some(accepted)) if *last >= accepted => {
                Fate::Complete { accepted_us: accepted, micros: last.abs_diff(accepted) }
            }
            _ => Fate::Open { why: "is done before it was accepted".into() },
        }
    }

    fn twice(&self) -> Option<&str> {
        self.done_us.iter().find(|(_, times)| times.len() > 1).map(|(effect, _)| *effect)
    }
}

fn by_workflow(entries: &[Entry]) -> HashMap<&str, Seen<'_>> {
    let mut seen: HashMap<&str, Seen<'_>> = HashMap::new();
    for entry in entries {
        let workflow = seen.entry(&entry.workflow).or_default();
        workflow.scenario = &entry.scenario;
        let accepted = workflow.accepted_us.get_or_insert(entry.accepted_us);
        *accepted = entry.accepted_us.min(*accepted);
        workflow.done_us.entry(&entry.effect).or_default().push((entry.done_us, &entry.outcome));
    }
    seen
}

/// How many accepted workflows still lack a final effect; `width`: of S3's fan-out.
pub fn open(answers: &[Answer], entries: &[Entry], width: usize) -> u64 {
    let seen = by_workflow(entries);
    let is_open = |answer: &&Answer| match seen.get(answer.workflow.as_str()) {
        Some(workflow) => matches!(workflow.fate(answer.scenario, width), Fate::Open { .. }),
        None => true,
    };
    answers.iter().filter(|answer| answer.expected).filter(is_open).count() as u64
}

/// One run: `prefix` is how its workflows' ids begin, so that a warm-up in the same journals does not count; `width`:
/// of S3's fan-out.
pub fn join(prefix: &str, samples: &Samples, entries: &[Entry], width: usize) -> BTreeMap<Scenario, Outcome> {
    let mut seen = by_workflow(entries);
    seen.retain(|workflow, _| workflow.starts_with(prefix));
    let mut outcomes = BTreeMap::new();
    for scenario in Scenario::ALL {
        let mine: Vec<&Answer> =
            samples.answers.iter().filter(|answer| answer.scenario == scenario).collect();
        let dropped = samples.dropped.get(&scenario).copied().unwrap_or(0);
        if mine.is_empty() && dropped == 0 {
            continue;
        }
        let mut outcome = Outcome { requests: mine.len() as u64, dropped, ..Outcome::default() };
        let (mut acknowledged, mut completed, mut spans) = (Vec::new(), Vec::new(), Vec::new());
        for answer in mine {
            match judge(answer, &samples.failed_checks) {
                None => {
                    outcome.expected += 1;
                    acknowledged.push(answer.micros);
                }
                Some(what) => *outcome.unexpected.entry(what).or_default() += 1,
            }
            let workflow = seen.remove(answer.workflow.as_str());
            let accepted_us = workflow.as_ref().and_then(|workflow| workflow.accepted_us);
            let fate = workflow.map(|workflow| {
                outcome.note(&answer.workflow, &workflow);
                workflow.fate(scenario, width)
            });
            match fate {
                _ if !answer.expected => outcome.unacknowledged += u64::from(fate.is_some()),
                Some(Fate::Complete { accepted_us, micros }) => {
                    completed.push(micros);
                    spans.push((accepted_us, Some(accepted_us.saturating_add_unsigned(micros))));
                }
                Some(Fate::Open { why }) => {
                    outcome.open(&answer.workflow, &why);
                    spans.extend(accepted_us.map(|accepted| (accepted, None)));
                }
                None => outcome.open(&answer.workflow, "left no trace"),
            }
        }
        outcome.acknowledge = Times::of(acknowledged);
        outcome.complete = Times::of(completed);
        outcome.backlog = Backlog::of(&spans);
        outcomes.insert(scenario, outcome);
    }
    // Begun, but k6 gave up before it had an answer to note.
    for (workflow, seen) in &seen {
        let scenario = Scenario::find(seen.scenario);
        let Some(outcome) = scenario.and_then(|scenario| outcomes.get_mut(&scenario)) else { continue };
        outcome.unacknowledged += 1;
        outcome.note(workflow, seen);
    }
    outcomes
}

/// `None` if the answer is as expected, else what is wrong with it.
fn judge(answer: &Answer, failed_checks: &HashMap<String, String>) -> Option<String> {
    match (answer.expected, answer.status, failed_checks.get(&answer.workflow)) {
        (true, _, None) => None,
        (true, status, Some(check)) => Some(format!("{status}, fails: {check}")),
        (false, 0, _) if answer.timed_out => Some(TIMED_OUT.into()),
        (false, 0, _) => Some("no answer".into()),
        (false, status, _) => Some(status.to_string()),
    }
}

impl Outcome {
    fn example(&mut self, text: String) {
        if self.examples.len() < EXAMPLES {
            self.examples.push(text);
        }
    }

    fn open(&mut self, workflow: &str, why: &str) {
        self.open += 1;
        self.example(format!("{workflow} {why}"));
    }

    fn note(&mut self, workflow: &str, seen: &Seen<'_>) {
        for (effect, times) in &seen.done_us {
            for (_, outcome) in times {
                *self.effects.entry(format!("{effect}: {outcome}")).or_default() += 1;
            }
        }
        if let Some(effect) = seen.twice() {
            self.twice += 1;
            self.example(format!("{workflow} has {effect} more than once"));
        }
    }
}

#[cfg(test)]
#[path = "outcomes_tests.rs"]
mod tests;
