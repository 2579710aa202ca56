//! Which lines of which logs are taken for an id.

use std::fs;

use contract::campus;
use stack::{Layout, Mode};

use super::*;

fn answered(second: u32, request: &str, subject: &str) -> String {
    let request = quoted(request);
    format!(
        r#"{{"timestamp":"2026-11-21T10:00:{second:02}.000000Z","level":"INFO","message":"answered","status":202,"seconds":0.5,"target":"workflow","span":{{"handler":"/create_order","method":"POST","request_id":{request},"subject":"{subject}","name":"request"}}}}"#
    )
}

fn swept(second: u32, order: u32) -> String {
    format!(
        r#"{{"timestamp":"2026-11-21T10:00:{second:02}.000000Z","level":"WARN","message":"order is pending for long and announced again","order_id":{order},"target":"orderservice::messaging"}}"#
    )
}

/// Reads the logs with these lines in that of orderservice.
fn look(name: &str, lines: &[String], id: &str) -> Found {
    look_in(&Layout::study(Mode::Async), "orderservice", name, lines, id)
}

/// The same in the log of a service of a stack.
fn look_in(layout: &Layout, service: &str, name: &str, lines: &[String], id: &str) -> Found {
    let folder = std::env::temp_dir().join(format!("study-trace-{name}-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("{service}.log")), lines.join("\n")).unwrap();
    fs::write(folder.join("postgresql.log"), "2026-11-21 10:00:00 LOG:  ready\n").unwrap();
    let found = super::look(&Logs::of_processes(layout, &folder, &layout.names()), id);
    fs::remove_dir_all(&folder).unwrap();
    found.unwrap()
}

#[test]
fn of_several_orders_with_one_number_the_newest_is_meant() {
    let lines = [
        answered(1, "a", "order 17"),
        answered(9, "b", "order 17"),
        answered(5, "c", "order 17"),
        answered(10, "d", "order 170"),
    ];
    let found = look("newest", &lines, "17").timelines;
    let known: Vec<_> =
        found.iter().map(|found| (found.workflow.as_str(), found.older, found.hops.len())).collect();
    assert_eq!(known, [("b", 2, 1)]);
    assert!(show::text(&found[0], None).contains("2 older workflows"));
}

#[test]
fn a_number_may_be_an_order_and_a_request_and_any_request_id_is_found() {
    let odd = "r\"\\{}|17";
    let lines = [
        answered(1, "a", "order 17"),
        answered(2, "17", "order 3"),
        answered(3, odd, "order 4"),
        answered(4, "x", "job job_1"),
    ];
    let known =
        |id| look("ids", &lines, id).timelines.into_iter().map(|found| found.workflow).collect::<Vec<_>>();
    assert_eq!(known("17"), ["a", "17"]);
    assert_eq!(known("3"), ["17"]);
    assert_eq!(known(odd), [odd]);
    assert_eq!(known("job_1"), ["x"]);
    // What stands in a line without being its id.
    for id in ["", "order", "POST", "/create_order", "r", "1", "order 17", "workflow"] {
        assert!(known(id).is_empty(), "{id}");
    }
}

#[test]
fn what_the_sweeper_says_of_an_order_belongs_to_it() {
    let lines = [answered(1, "a", "order 17"), swept(8, 17), swept(9, 170), swept(9, 1)];
    let found = look("sweeper", &lines, "17").timelines;
    let text = show::text(&found[0], None);
    assert_eq!((found[0].hops.len(), text.matches("announced again").count()), (2, 2), "{text}");
    assert!(text.contains("No effect order: not ended yet, or its logs are gone."), "{text}");
}

#[test]
fn services_with_unparsable_lines_are_named_and_their_lines_skipped() {
    let pretty =
        r#"2026-11-21T10:00:00.000000Z  INFO request{request_id="a" subject="order 17"}: workflow: answered"#;
    let half = answered(3, "a", "order 17").split_off(9);
    let found = look("pretty", &[pretty.to_owned(), answered(1, "a", "order 17"), half], "17");
    assert_eq!(
        (found.timelines[0].hops.len(), found.unreadable.into_iter().collect::<Vec<_>>()),
        (1, vec!["orderservice".to_owned()])
    );
    assert!(look("json", &[answered(1, "a", "order 17")], "17").unreadable.is_empty());
}

#[test]
fn a_line_of_a_container_names_its_service() {
    assert_eq!(
        of_container("orderservice-1      | {\"a\":\"| \"}"),
        Some(("orderservice", "{\"a\":\"| \"}"))
    );
    assert_eq!(of_container("\u{1b}[2Kemailservice-12  | {}"), Some(("emailservice", "{}")));
    assert_eq!(of_container("postgres-1  | LOG: ready"), None);
    assert_eq!(of_container("a warning of docker"), None);
}

#[test]
fn a_table_fits_the_terminal_and_obeys_nobody() {
    let lines = [answered(1, "a", "order 17"), swept(8, 17).replace("announced again", "\\u001b[31mred")];
    let found = look("show", &lines, "17").timelines;
    let (wide, narrow) = (show::text(&found[0], Some(200)), show::text(&found[0], Some(100)));
    assert!(wide.contains('\u{2588}') && !narrow.contains('\u{2588}'), "{wide}{narrow}");
    assert!(wide.contains("\u{fffd}[31mred") && !wide.contains('\u{1b}'), "{wide}");
    assert!(narrow.contains("POST /create_order -> 202"), "{narrow}");
}

#[test]
fn logs_without_any_workflow_differ_from_logs_without_this_one() {
    assert!(!look("hidden", &[swept(1, 17)], "3").any_workflow);
    assert!(look("seen", &[answered(1, "a", "order 17")], "3").any_workflow);
}

#[test]
fn an_order_of_the_lab_is_found_by_its_uuid() {
    let (id, other) = ("019b0000-0000-7000-8000-000000000001", "019b0000-0000-7000-8000-000000000002");
    let swept = |order| {
        format!(
            r#"{{"timestamp":"2026-11-21T10:00:08.000000Z","level":"WARN","message":"an overdue order is announced again","order_id":"{order}","target":"campus"}}"#
        )
    };
    let order = |second, request, id| {
        answered(second, request, &format!("order {id}")).replace("/create_order", "/order")
    };
    let lines = [order(1, "a", id), order(2, "b", other), swept(id), swept(other)];
    let layout = Layout::campus(campus::Stack::Rabbitmq, false);
    let found = look_in(&layout, "order", "lab", &lines, id).timelines;
    let known: Vec<_> = found.iter().map(|found| (found.workflow.as_str(), found.hops.len())).collect();
    assert_eq!(known, [("a", 2)]);
    let text = show::text(&found[0], None);
    assert!(text.starts_with(&format!("order {id}, campus/rabbitmq\n")), "{text}");
    assert!(text.contains("No effect order: not ended yet, or its logs are gone."), "{text}");
}
