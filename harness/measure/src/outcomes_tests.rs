//! Small hand-made runs: what is lost, twice, late, unexpected or out of order must be seen as such.

use super::*;

fn answer(workflow: &str, scenario: Scenario, status: u16, expected: bool) -> Answer {
    Answer { workflow: workflow.into(), scenario, status, expected, micros: 1_000, timed_out: false }
}

fn entry(workflow: &str, scenario: Scenario, effect: &str, accepted_ms: i64, done_ms: i64) -> Entry {
    Entry {
        workflow: workflow.into(),
        scenario: scenario.key().into(),
        effect: effect.into(),
        outcome: "ok".into(),
        accepted_us: accepted_ms * 1000,
        done_us: done_ms * 1000,
    }
}

fn run(answers: &[Answer], entries: &[Entry]) -> BTreeMap<Scenario, Outcome> {
    let samples = Samples { answers: answers.to_vec(), ..Samples::default() };
    join("r-", &samples, entries, 3)
}

fn about(value: Option<f64>, wanted: f64) {
    let value = value.expect("a figure");
    assert!((value - wanted).abs() <= wanted / 500.0, "{value} is not {wanted}");
}

#[test]
fn a_fan_out_is_complete_with_its_last_effect() {
    use Scenario::S3;
    // The slowest effect comes first in the journals: the order of lines means nothing.
    let entries = [
        entry("r-1", S3, "cache", 100, 180),
        entry("r-1", S3, "search", 100, 120),
        entry("r-1", S3, "analytics", 100, 110),
    ];
    let outcome = &run(&[answer("r-1", S3, 200, true)], &entries)[&S3];
    assert_eq!((outcome.requests, outcome.expected, outcome.open, outcome.twice), (1, 1, 0, 0));
    about(outcome.complete.quantile(0.5), 80.0);
    about(outcome.acknowledge.quantile(0.5), 1.0);
}

#[test]
fn a_fan_out_that_lacks_one_effect_is_open_and_has_no_completion_time() {
    use Scenario::S3;
    let entries = [entry("r-1", S3, "cache", 100, 180), entry("r-1", S3, "search", 100, 120)];
    let answers = [answer("r-1", S3, 200, true)];
    let outcome = &run(&answers, &entries)[&S3];
    assert_eq!((outcome.open, outcome.complete.count()), (1, 0));
    assert_eq!(outcome.examples, ["r-1 lacks analytics"]);
    assert_eq!(open(&answers, &entries, 3), 1);
}

#[test]
fn accepted_without_any_trace_is_lost() {
    use Scenario::S2;
    let answers = [answer("r-1", S2, 202, true), answer("r-2", S2, 202, true)];
    let entries = [entry("r-2", S2, "payment", 0, 2000)];
    let outcome = &run(&answers, &entries)[&S2];
    assert_eq!((outcome.expected, outcome.open, outcome.complete.count()), (2, 1, 1));
    assert_eq!(outcome.examples, ["r-1 left no trace"]);
    assert_eq!(open(&answers, &entries, 3), 1);
}

#[test]
fn an_effect_that_happens_twice_counts_the_workflow_once_and_its_first_time() {
    use Scenario::S5;
    let entries = [
        entry("r-1", S5, "stock", 0, 90),
        entry("r-1", S5, "order", 0, 50),
        entry("r-1", S5, "stock", 0, 60),
        entry("r-1", S5, "stock", 0, 95),
    ];
    let outcome = &run(&[answer("r-1", S5, 202, true)], &entries)[&S5];
    assert_eq!((outcome.twice, outcome.open), (1, 0));
    assert_eq!(outcome.effects["stock: ok"], 3);
    about(outcome.complete.quantile(0.5), 60.0);
}

#[test]
fn an_unexpected_answer_is_counted_by_status_and_owes_no_completion() {
    use Scenario::S1;
    let answers = [
        answer("r-1", S1, 503, false),
        answer("r-2", S1, 503, false),
        answer("r-3", S1, 0, false),
        answer("r-4", S1, 202, true),
    ];
    let outcome = &run(&answers, &[entry("r-4", S1, "email", 0, 500)])[&S1];
    let unexpected: Vec<(&str, u64)> =
        outcome.unexpected.iter().map(|(what, n)| (what.as_str(), *n)).collect();
    assert_eq!(unexpected, [("503", 2), ("no answer", 1)]);
    assert_eq!((outcome.expected, outcome.open, outcome.acknowledge.count()), (1, 0, 1));
}

#[test]
fn an_expected_status_with_a_wrong_body_is_unexpected_but_still_owes_its_completion() {
    use Scenario::S5;
    let samples = Samples {
        answers: vec![answer("r-1", S5, 400, true)],
        failed_checks: HashMap::from([("r-1".to_owned(), "S5 executed the compensation".to_owned())]),
        ..Samples::default()
    };
    let outcomes = join("r-", &samples, &[], 3);
    let outcome = &outcomes[&S5];
    assert_eq!((outcome.expected, outcome.unexpected_total(), outcome.open), (0, 1, 1));
    assert!(outcome.unexpected.contains_key("400, fails: S5 executed the compensation"));
}

#[test]
fn work_that_was_done_without_an_accepting_answer_is_named() {
    use Scenario::S2;
    let answers = [answer("r-1", S2, 0, false), answer("r-2", S2, 202, true)];
    let entries = [
        entry("r-1", S2, "payment", 0, 2000),
        entry("r-2", S2, "payment", 0, 2000),
        entry("r-3", S2, "payment", 0, 2000), // k6 never heard of it
        entry("warm-1", S2, "payment", 0, 2000),
    ];
    let outcome = &run(&answers, &entries)[&S2];
    assert_eq!((outcome.unacknowledged, outcome.open, outcome.complete.count()), (2, 0, 1));
}

#[test]
fn done_before_accepted_is_no_completion_time() {
    use Scenario::S6;
    let outcome = &run(&[answer("r-1", S6, 200, true)], &[entry("r-1", S6, "click", 10, 9)])[&S6];
    assert_eq!((outcome.open, outcome.complete.count()), (1, 0));
}

#[test]
fn dropped_iterations_show_even_where_nothing_was_answered() {
    let samples = Samples { dropped: BTreeMap::from([(Scenario::S4, 3)]), ..Samples::default() };
    let outcomes = join("r-", &samples, &[], 3);
    assert_eq!((outcomes[&Scenario::S4].dropped, outcomes[&Scenario::S4].requests), (3, 0));
    assert!(!outcomes.contains_key(&Scenario::S1));
}

#[test]
fn a_narrower_fan_out_is_complete_without_the_receivers_that_are_not_told() {
    use Scenario::S3;
    let entries = [entry("r-1", S3, "search", 100, 120), entry("r-1", S3, "cache", 100, 130)];
    let answers = [answer("r-1", S3, 200, true)];
    assert_eq!(open(&answers, &entries, 3), 1);
    assert_eq!(open(&answers, &entries, 2), 0);
}

#[test]
fn a_time_out_is_told_from_a_refused_connection() {
    use Scenario::S1;
    let late = Answer { timed_out: true, ..answer("r-1", S1, 0, false) };
    let outcome = &run(&[late, answer("r-2", S1, 0, false), answer("r-3", S1, 503, false)], &[])[&S1];
    assert_eq!((outcome.timed_out(), outcome.refused(), outcome.unexpected_total()), (1, 1, 3));
}
