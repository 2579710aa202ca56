use super::super::example;
use super::*;
use crate::results::Results;
use stack::Mode;

fn of(results: &Results) -> Vec<Rule> {
    rules(&Model::of(results))
}

#[test]
fn every_rule_quotes_its_figures() {
    let rules = of(&example::results());
    assert!(rules.iter().all(|rule| rule.measured && !rule.figures.is_empty()), "{rules:?}");
    let says: Vec<&str> = rules.iter().map(|rule| rule.says.as_str()).collect();
    assert_eq!(says[0], "async acknowledges sooner in S1, S2, S4.");
    assert_eq!(rules[0].figures[0].says, "async 498 ms sooner (2.57 ms, sync 501 ms)");
    assert_eq!(says[4], "async completes soonest with 3 receivers of 20 ms each, 5 arrivals a second.");
    assert!(
        says[5].starts_with("acknowledges soonest, of 8 cells: async 8; completes soonest"),
        "{}",
        says[5]
    );
    assert_eq!(rules[6].figures[0].says, "sync 800/s, async 400/s");
}

#[test]
fn what_was_not_measured_is_not_asserted() {
    let mut results = example::of(&[("async", Mode::Async)], 2);
    results.runs.iter_mut().for_each(|run| run.costs.clear());
    let rules = of(&results);
    assert!(rules.iter().all(|rule| !rule.measured && rule.says.starts_with("Not measured: ")), "{rules:?}");
}
