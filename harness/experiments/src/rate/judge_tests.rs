//! Backlogs of known systems, and what they mean.

use std::collections::BTreeMap;

use contract::Scenario;

use super::*;
use measure::drain::Drain;
use measure::load::Samples;
use measure::resource_usage::Parts;
use measure::times::Times;

/// Workflows that arrive evenly for 8 s, each with the time that it is open.
fn backlog(rate: i64, open_us: impl Fn(i64) -> i64) -> Backlog {
    let arrivals = (0..8 * rate).map(|n| n * 1_000_000 / rate);
    Backlog::of(&arrivals.map(|at| (at, Some(at + open_us(at)))).collect::<Vec<_>>())
}

#[test]
fn a_slow_workflow_alone_is_no_growth() {
    for (rate, service) in [(20, 2_000_000), (200, 2_000_000), (1000, 1_000), (2, 500_000)] {
        let growth = growth(&backlog(rate, |_| service), 8);
        assert!(!grows(growth, rate as f64, 8), "{rate}/s of {service}: {growth}");
    }
}

#[test]
fn work_that_arrives_a_tenth_too_fast_is_growth_as_large_as_what_is_too_much() {
    // Served at 10/11 of the rate: each waits a tenth of the time since the begin.
    for rate in [30_i64, 200, 3000] {
        let growth = growth(&backlog(rate, |at| at / 10), 8);
        let wanted = rate as f64 / 11.0;
        assert!((growth - wanted).abs() < wanted / 10.0 + 0.3, "{rate}/s: {growth}");
        assert!(grows(growth, rate as f64, 8));
    }
}

#[test]
fn one_more_of_a_few_is_no_growth() {
    let growth = growth(&backlog(2, |at| if at > 3_000_000 { 1_900_000 } else { 400_000 }), 8);
    assert!(growth > GROWTH * 2.0 && !grows(growth, 2.0, 8), "{growth}");
}

#[test]
fn a_pause_of_the_system_is_no_growth() {
    for from in [4_500_000, 6_500_000, 7_900_000] {
        let stall = |at: i64| if (from..from + 400_000).contains(&at) { from + 400_000 - at } else { 1000 };
        let growth = growth(&backlog(1000, stall), 8);
        assert!(!grows(growth, 1000.0, 8), "{from}: {growth}");
    }
}

#[test]
fn what_was_complete_when_the_load_ended_is_counted_without_the_rest() {
    let backlog = backlog(100, |_| 2_000_000);
    let outcome = Outcome { backlog, complete: Times::of(vec![2_000_000; 800]), ..Outcome::default() };
    assert!((completed(&outcome, 8) - 600.0).abs() <= 10.0);
}

fn question() -> Question {
    let range = super::super::search::Range { start: 20.0, highest: 1000.0 };
    Question { scenario: Scenario::S6, bound_ms: 250.0, hiccup_ms: 330.0, seconds: 8, range }
}

fn measured(outcome: Outcome, k6_cpu: f64, stack_cpu: f64) -> Measured {
    let cpu = Some(Parts { services: stack_cpu, ..Parts::default() });
    Measured {
        samples: Samples::default(),
        outcomes: [(Scenario::S6, outcome)].into(),
        watched: Watched { seconds: 8.0, cpu, k6_cpu, others: Some(0.0), ..Watched::default() },
        drain: Drain::default(),
        in_progress: BTreeMap::new(),
        prefix: String::new(),
    }
}

fn took(ms: u64) -> Outcome {
    let times = || Times::of(vec![ms * 1000; 1600]);
    Outcome { acknowledge: times(), complete: times(), ..Outcome::default() }
}

fn verdict(outcome: Outcome, k6_cpu: f64, stack_cpu: f64) -> (Verdict, String) {
    let (point, verdict) = judge(&question(), 200.0, &measured(outcome, k6_cpu, stack_cpu), 2);
    (verdict, point.why_not.unwrap_or_default())
}

#[test]
fn each_condition_alone_makes_a_rate_fail() {
    assert_eq!(verdict(took(4), 2.0, 2.0), (Verdict::Sustained, String::new()));
    let unexpected = [("503".to_owned(), 7)].into();
    for (outcome, why) in [
        (Outcome { unexpected, ..took(4) }, "7 unexpected answers (503)"),
        (Outcome { open: 1, ..took(4) }, "1 accepted but not completed"),
        (Outcome { twice: 2, ..took(4) }, "2 applied twice"),
        (took(251), "p99 to complete 251 ms, over 250 ms"),
        (Outcome { backlog: backlog(200, |at| at / 10), ..took(4) }, "backlog grows by 18.2/s"),
        (Outcome::default(), "nothing completed"),
    ] {
        assert_eq!(verdict(outcome, 2.0, 2.0), (Verdict::Failed, why.to_owned()));
    }
}

#[test]
fn what_k6_did_not_offer_is_not_the_systems_failure_unless_it_is_slow() {
    let dropped = |ms| Outcome { dropped: 5, ..took(ms) };
    assert_eq!(
        verdict(dropped(4), 2.0, 2.0),
        (Verdict::NotOffered, "5 not offered in time by k6".to_owned())
    );
    assert_eq!(verdict(dropped(400), 2.0, 2.0).0, Verdict::Failed);
}

#[test]
fn k6_without_a_spare_processor_is_the_limit_only_where_something_failed() {
    let (verdict_of, why) = verdict(took(400), 9.0, 6.0);
    assert_eq!(verdict_of, Verdict::NotOffered);
    assert!(why.ends_with("; k6 takes 56 % of the processors"), "{why}");
    assert_eq!(verdict(took(4), 9.0, 6.0).0, Verdict::Sustained);
    // The stack takes more: it is the limit.
    assert_eq!(verdict(took(400), 6.0, 9.5).0, Verdict::Failed);
}

#[test]
fn what_is_still_open_after_the_wait_ends_the_search() {
    let mut measured = measured(took(400), 2.0, 2.0);
    measured.drain.open = 3;
    assert_eq!(judge(&question(), 200.0, &measured, 2).1, Verdict::Stuck);
}
