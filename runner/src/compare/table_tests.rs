use super::*;
use crate::local::Mode;
use crate::report::example;

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

#[test]
fn everything_printed_fits_100_columns_even_with_large_figures() {
    let (text, problems) = text(&example::results());
    assert!(
        text.contains("S6 async 3703701") && text.contains("S5 order saga, payment fails: async"),
        "{text}"
    );
    assert!(text.contains("sooner") && text.ends_with(&wrap(ALL_GOOD)), "{text}");
    assert!((80..=WIDTH).contains(&widest(&text)) && problems == 0, "{}\n{text}", widest(&text));
}

#[test]
fn one_run_each_is_shown_and_not_judged() {
    let (text, _) = text(&example::of(&[("sync", Mode::Sync), ("async", Mode::Async)], 1));
    assert_eq!(text.matches("differences are not judged").count(), 1, "{text}");
    assert!(
        !text.contains("sooner") && text.contains("async acknowledged after 2.56 ms (sync 501 ms)"),
        "{text}"
    );
}

#[test]
fn one_arm_alone_has_figures_and_no_differences() {
    let (text, _) = text(&example::of(&[("async", Mode::Async)], 3));
    assert!(text.contains("S6 async") && !text.contains("difference"), "{text}");
    assert!(widest(&text) <= WIDTH, "{text}");
}

#[test]
fn a_mode_against_itself_is_counted() {
    let (text, _) = text(&example::of(&[("A", Mode::Async), ("B", Mode::Async)], 3));
    assert!(text.contains("A against A: 36 of 36 figures show no difference."), "{text}");
}

#[test]
fn what_is_wrong_is_listed_and_an_invalid_run_is_not_counted_in() {
    let mut results = example::results();
    if let Some(outcome) = results.runs[0].scenarios.get_mut(&Scenario::S6) {
        outcome.dropped = 7;
    }
    let (text, problems) = text(&results);
    assert_eq!(problems, 1);
    assert!(text.contains("run 1 (sync) S6: 7 not offered in time by k6: the run is invalid"), "{text}");
    assert!(text.contains("S6 sync  2469134") && !text.contains(ALL_GOOD), "{text}");
}
