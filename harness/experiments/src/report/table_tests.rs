use super::*;
use contract::Scenario;

use crate::report::example;
use crate::results::Results;
use measure::analysis::statistics::Analysis;
use stack::Mode;

fn printed(results: &Results) -> (String, usize) {
    let model = Model::of(results);
    (text(&model), model.problems.len())
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

#[test]
fn everything_printed_fits_100_columns_even_with_large_figures() {
    let (text, problems) = printed(&example::results());
    assert!(
        text.contains("S6 async 3703701") && text.contains("S5 order saga, payment fails: async"),
        "{text}"
    );
    assert!(text.contains("sooner") && text.ends_with(&wrap(ALL_GOOD)), "{text}");
    assert!((80..=100).contains(&widest(&text)) && problems == 0, "{}\n{text}", widest(&text));
}

#[test]
fn one_run_each_is_shown_and_not_judged() {
    let (text, _) = printed(&example::of(&[("sync", Mode::Sync), ("async", Mode::Async)], 1));
    assert_eq!(text.matches("differences are not judged").count(), 1, "{text}");
    assert!(
        !text.contains("sooner") && text.contains("async acknowledged after 2.56 ms (sync 501 ms)"),
        "{text}"
    );
}

#[test]
fn one_arm_alone_has_figures_and_no_differences() {
    let (text, _) = printed(&example::of(&[("async", Mode::Async)], 3));
    assert!(text.contains("S6 async") && !text.contains("difference"), "{text}");
    assert!(widest(&text) <= 100, "{text}");
}

#[test]
fn a_mode_against_itself_is_counted() {
    let (text, _) = printed(&example::of(&[("A", Mode::Async), ("B", Mode::Async)], 3));
    assert!(text.contains("A against A: 36 of 36 figures show no difference."), "{text}");
}

#[test]
fn an_invalid_run_is_named_and_not_counted_in_and_without_another_it_is_a_problem() {
    let mut results = example::results();
    let spoil = |results: &mut Results, index: usize| {
        if let Some(outcome) = results.runs[index].scenarios.get_mut(&Scenario::S6) {
            outcome.dropped = 7;
        }
    };
    spoil(&mut results, 0);
    let (shown, problems) = printed(&results);
    assert!(shown.contains("Left out: run 1 (sync): k6 did not offer 7 requests in time"), "{shown}");
    assert!(shown.contains("S6 sync  2469134") && problems == 0, "{shown}");
    spoil(&mut results, 3);
    spoil(&mut results, 4);
    let (shown, problems) = printed(&results);
    assert!(problems == 1 && !shown.contains(ALL_GOOD), "{shown}");
}

#[test]
fn what_is_wrong_is_listed() {
    let mut results = example::results();
    if let Some(outcome) = results.runs[1].scenarios.get_mut(&Scenario::S2) {
        (outcome.twice, outcome.open) = (1, 2);
    }
    let (text, problems) = printed(&results);
    assert!(text.contains("run 2 (async) S2: 2 accepted but not completed\n"), "{text}");
    assert!(text.contains("run 2 (async) S2: 1 applied twice\n") && problems == 2, "{text}");
}

#[test]
fn a_run_whose_load_was_not_offered_counts_for_nothing() {
    let Results { plan, mut runs, .. } = example::results();
    let before = Analysis::new(&plan, &runs);
    let first = runs[0].variant.clone();
    runs[0].scenarios.values_mut().next().unwrap().dropped = 3;
    let after = Analysis::new(&plan, &runs);
    let at = plan.variants.iter().position(|variant| variant.name == first).unwrap();
    assert_eq!((after.runs[at], after.invalid.len()), (before.runs[at] - 1, 1));
    assert_eq!(after.cells[0].variants[at].as_ref().unwrap().runs.len(), after.runs[at]);
}
