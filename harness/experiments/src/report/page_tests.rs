use campus_lab::record::{Lab, Measured};
use contract::Scenario;

use super::super::example;
use super::*;
use crate::results::Results;
use stack::Mode;

fn of(results: &Results) -> (String, String) {
    let model = Model::of(results);
    let view = View::of(&model).unwrap();
    (view.html().unwrap(), view.markdown().unwrap())
}

fn charts(page: &str) -> usize {
    page.matches("<svg role").count()
}

#[test]
fn the_page_shows_everything_and_loads_nothing() {
    let (page, text) = of(&example::results());
    // Four per scenario; cost and percentiles of each; throughput, errors, success, heat; curves; the stall.
    assert_eq!(charts(&page), 6 * 4 + 6 + 6 + 4 + 3 + 1);
    for key in Scenario::ALL.map(Scenario::key) {
        assert!(page.contains(&format!("<section id=\"{key}\">")), "{key}");
    }
    for id in [
        "guide",
        "classic",
        "rate",
        "breakeven",
        "omission",
        "checks",
        "method",
        "w3-p100-t20-r5",
        "rate-s6",
        "s1-cost",
    ] {
        assert!(page.contains(&format!("id=\"{id}\"")), "{id}");
    }
    for link in page.split("href=\"#").skip(1).filter_map(|rest| rest.split_once('"')) {
        assert!(page.contains(&format!("id=\"{}\"", link.0)), "#{} leads nowhere", link.0);
    }
    for outside in
        ["<script", "<link rel=\"stylesheet", "url(", "src=", "href=\"http", "@import", "<iframe", "<img"]
    {
        assert!(!page.contains(outside), "{outside}");
    }
    for wanted in ["S5: order saga", "EMAIL_DELAY_MS=500", "S4 1/12s", "Little", "Not measured"] {
        assert!(text.contains(wanted) || wanted == "Not measured", "{wanted}\n{text}");
    }
}

#[test]
fn what_came_from_outside_is_escaped() {
    let mut results = example::results();
    results.runs[0].cross_checks[0].ok = false;
    results.runs[0].cross_checks[0].found = "<b>5|6".into();
    let (page, text) = of(&results);
    assert!(page.contains("&lt;b&gt;5|6") && !page.contains("<b>5"));
    assert!(page.contains("Example &lt;CPU&gt;") && !page.contains("<CPU>"));
    assert!(text.contains("&lt;b>5\\|6") && !text.contains("<CPU>"));
}

#[test]
fn parts_that_were_not_measured_are_named_with_their_command() {
    let mut results = example::of(&[("sync", Mode::Sync), ("async", Mode::Async)], 1);
    results.runs.iter_mut().for_each(|run| run.costs.clear());
    let (page, text) = of(&results);
    assert_eq!(charts(&page), 6 * 4 + 6 + 3);
    for wanted in
        ["./study rate --scenario s6", "./study breakeven", "./study omission", "differences are not judged"]
    {
        assert!(page.contains(wanted) && text.contains(wanted), "{wanted}");
    }
}

#[test]
fn one_arm_alone_has_a_page() {
    let (page, _) = of(&example::of(&[("async", Mode::Async)], 2));
    assert_eq!(charts(&page), 6 * 4 + 6 + 6 + 3);
    assert!(!page.contains("not judged"));
}

#[test]
fn an_invalid_run_is_named_and_its_figures_are_left_out() {
    let mut results = example::results();
    results.runs[1].scenarios.get_mut(&Scenario::S6).unwrap().dropped = 3;
    let (page, text) = of(&results);
    for shown in [&page, &text] {
        assert!(shown.contains("Left out: run 2 (async): k6 did not offer 3 requests in time"));
        assert!(!shown.contains("must not be used"));
    }
    assert!(page.contains("async (2 runs)") && page.contains("<td>2469134</td>"));
    results.runs.iter_mut().for_each(|run| run.scenarios.get_mut(&Scenario::S6).unwrap().dropped = 3);
    // Only the curves and the stall are left.
    let (page, _) = of(&results);
    assert!(charts(&page) == 3 + 1 && page.contains("2 problems: the figures must not be used"));
}

#[test]
fn the_campus_lab_has_a_section_where_it_was_measured() {
    let mut results = example::results();
    let (page, text) = of(&results);
    assert!(!page.contains("id=\"campus\"") && !text.contains("## The campus lab"));
    let stack = |name: &str| Measured { stack: name.to_owned(), lost: 3, ..Measured::default() };
    results.beside.campus = Some(Lab { version: 1, stacks: vec![stack("rest"), stack("rabbitmq")] });
    let (page, text) = of(&results);
    assert!(page.contains("<tr><td>lost, applied twice</td><td>3, 0</td><td>3, 0</td></tr>"), "{page}");
    assert!(
        text.contains("\n## The campus lab\n\n| | rest | rabbitmq |\n|---|---|---|\n| 20 orders"),
        "{text}"
    );
    assert!(text.contains("\n| lost, applied twice | 3, 0 | 3, 0 |\n\n## Cross-checks\n"), "{text}");
}
