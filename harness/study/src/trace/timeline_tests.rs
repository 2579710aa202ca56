//! Lines as services write them, of both modes: order, nesting, gaps, and what is said to be missing.

use super::*;

fn line(service: &str, end: f64, fields: &Value, span: &Value) -> Line {
    let mut value = json!({"timestamp": format!("2026-11-21T10:00:{:09.6}Z", end / 1000.0), "level": "INFO", "target": "workflow"});
    value.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    if !span.is_null() {
        value["span"] = span.clone();
    }
    Line::parse(service, &value.to_string()).unwrap()
}

fn request(path: &str, subject: &str) -> Value {
    let mut span = json!({"name": "request", "request_id": "w", "method": "POST", "handler": path,
                          "traceparent": "00-abc-def-01"});
    if !subject.is_empty() {
        span["subject"] = subject.into();
    }
    span
}

/// Times in milliseconds, as everywhere here.
fn answered(service: &str, (start, end): (f64, f64), path: &str, status: u16, subject: &str) -> Line {
    let fields = json!({"message": "answered", "status": status, "seconds": (end - start) / 1000.0});
    line(service, end, &fields, &request(path, subject))
}

fn published(service: &str, (start, end): (f64, f64), event: &str) -> Line {
    let fields = json!({"message": "published", "request_id": "w", "event": event,
                        "seconds": (end - start) / 1000.0});
    line(service, end, &fields, &Value::Null)
}

fn handled(service: &str, (start, end): (f64, f64), queue: &str, outcome: &str) -> Line {
    let fields = json!({"message": "handled", "request_id": "w", "traceparent": "00-abc-def-01", "queue": queue,
                        "outcome": outcome, "seconds": (end - start) / 1000.0, "age": 0.1});
    line(service, end, &fields, &Value::Null)
}

/// Of a workflow that was accepted at `accepted`.
fn effect(service: &str, at: f64, accepted: f64, effect: &str, outcome: &str) -> Line {
    let fields = json!({"message": "effect", "request_id": "w", "scenario": "s5", "effect": effect,
                        "outcome": outcome, "age": (at - accepted) / 1000.0});
    line(service, at, &fields, &json!({"name": "event", "request_id": "w"}))
}

fn warning(service: &str, at: f64, message: &str, span: &Value) -> Line {
    let fields = json!({"level": "WARN", "target": "common::bus::amqp::consumer", "message": message,
                        "request_id": "w", "attempt": 1, "reason": "no stamps"});
    line(service, at, &fields, span)
}

fn timeline(mode: Mode, lines: &[Line]) -> Timeline {
    Timeline::of(mode.as_str(), mode, "w", lines).unwrap()
}

/// Service, depth, and start and gap in milliseconds.
fn rows(timeline: &Timeline) -> Vec<(&str, usize, f64, Option<f64>)> {
    let row = |hop: &'_ Hop| (hop.depth, seconds(hop.start) * 1e3, hop.gap.map(|gap| seconds(gap) * 1e3));
    let rows = timeline.hops.iter().map(|hop| (hop.service.as_str(), row(hop)));
    rows.map(|(service, (depth, start, gap))| (service, depth, start, gap)).collect()
}

/// The first half of a saga in async mode.
fn accepted_order() -> Vec<Line> {
    vec![
        handled("inventoryservice", (106.0, 109.0), "order_created_queue", "ok"),
        published("orderservice", (100.5, 104.0), "OrderCreated"),
        answered("orderservice", (100.0, 102.0), "/create_order", 202, "order 17"),
        published("inventoryservice", (106.5, 110.0), "StockReserved"),
    ]
}

#[test]
fn a_line_is_read_as_a_service_wrote_it() {
    let text = r#"{"timestamp":"2026-11-21T17:41:54.768183Z","level":"INFO","message":"answered","status":202,"seconds":0.005044554,"target":"workflow","span":{"handler":"/create_order","method":"POST","request_id":"try-1","subject":"order 43","traceparent":"00-8e829ea3bd8d4997ae1e7d87c877e619-bd83407e674b8b6f-01","name":"request"}}"#;
    let line = Line::parse("orderservice", text).unwrap();
    assert_eq!((line.request_id(), line.subject()), (Some("try-1"), Some("order 43")));
    let timeline = Timeline::of("async", Mode::Async, "try-1", &[line]).unwrap();
    assert_eq!(timeline.accepted_at(), "2026-11-21T17:41:54.763138Z");
    assert_eq!(timeline.trace.as_deref(), Some("8e829ea3bd8d4997ae1e7d87c877e619"));
    assert_eq!((timeline.hops[0].start, timeline.hops[0].end), (0, 5_045));
    let handler = What::Request { method: "POST".into(), handler: "/create_order".into(), status: 202 };
    assert_eq!(timeline.hops[0].what, handler);
    // Readable by people, or half of a line that is being written.
    for text in
        [&text[..text.len() - 1], "2026-11-21T16:05:38.742472Z  INFO common::service: listening", "{}"]
    {
        assert!(Line::parse("orderservice", text).is_none(), "{text}");
    }
}

#[test]
fn events_follow_each_other_and_a_gap_is_when_nothing_was_at_work() {
    let mut lines = accepted_order();
    lines.extend([
        handled("paymentservice", (115.0, 118.0), "stock_reserved_queue", "ok"),
        published("paymentservice", (116.0, 119.0), "PaymentFailed"),
        // Delivered before the publisher has heard that it was.
        handled("orderservice", (118.5, 122.0), "order_payment_failed_queue", "ok"),
        effect("orderservice", 121.5, 100.1, "order", "failed"),
        handled("inventoryservice", (119.5, 121.0), "inventory_payment_failed_queue", "ok"),
        effect("inventoryservice", 120.5, 100.1, "stock", "released"),
    ]);
    let timeline = timeline(Mode::Async, &lines);
    assert_eq!(
        rows(&timeline),
        [
            ("orderservice", 0, 0.0, Some(0.0)),
            ("orderservice", 0, 0.5, Some(0.0)),
            ("inventoryservice", 0, 6.0, Some(2.0)),
            ("inventoryservice", 0, 6.5, Some(0.0)),
            ("paymentservice", 0, 15.0, Some(5.0)),
            ("paymentservice", 0, 16.0, Some(0.0)),
            ("orderservice", 0, 18.5, Some(0.0)),
            ("orderservice", 1, 21.5, None),
            ("inventoryservice", 0, 19.5, Some(0.0)),
            ("inventoryservice", 1, 20.5, None),
        ]
    );
    assert_eq!(timeline.last_effect().map(|hop| hop.end), Some(21_500));
    assert_eq!((timeline.idle(21_500), timeline.whole()), (7_000, 22_000));
    assert_eq!(timeline.subjects, ["order 17"]);
    assert!(timeline.missing().is_empty() && timeline.unanswered.is_empty());
}

#[test]
fn calls_stand_inside_their_caller_even_if_its_line_came_late() {
    let mut lines = vec![
        // It seems to begin after its first call.
        answered("orderservice", (101.2, 110.0), "/create_order", 400, "order 17"),
        answered("inventoryservice", (101.0, 103.0), "/reserve_stock", 200, ""),
        answered("paymentservice", (104.0, 106.0), "/process_payment_fail", 400, ""),
        answered("inventoryservice", (106.5, 109.0), "/compensate_stock", 200, ""),
        effect("orderservice", 109.5, 100.0, "order", "failed"),
        effect("inventoryservice", 108.0, 100.0, "stock", "released"),
    ];
    lines.reverse();
    let timeline = timeline(Mode::Sync, &lines);
    assert_eq!(
        rows(&timeline),
        [
            ("orderservice", 0, 1.2, Some(1.2)),
            ("inventoryservice", 1, 1.0, Some(0.0)),
            ("paymentservice", 1, 4.0, Some(1.0)),
            ("inventoryservice", 1, 6.5, Some(0.5)),
            ("inventoryservice", 2, 8.0, None),
            ("orderservice", 1, 9.5, None),
        ]
    );
    assert!(timeline.missing().is_empty());
}

#[test]
fn of_two_calls_at_the_same_time_neither_stands_inside_the_other() {
    let lines = [
        answered("productservice", (100.0, 110.0), "/products/{id}", 200, ""),
        answered("searchservice", (101.0, 109.0), "/reindex", 200, ""),
        answered("cacheservice", (102.0, 103.0), "/invalidate_cache", 200, ""),
    ];
    let depths: Vec<usize> = timeline(Mode::Sync, &lines).hops.iter().map(|hop| hop.depth).collect();
    assert_eq!(depths, [0, 1, 1]);
}

#[test]
fn what_was_tried_again_is_seen_with_its_reason_and_the_time_between() {
    let mut lines = vec![
        answered("userservice", (100.0, 102.0), "/register", 202, ""),
        published("userservice", (100.5, 104.0), "UserRegistered"),
        handled("emailservice", (105.0, 106.0), "user_registered_queue", "failed"),
        warning("emailservice", 106.1, "event will be tried again", &Value::Null),
    ];
    assert_eq!(timeline(Mode::Async, &lines).missing(), ["email"]);
    assert!(!timeline(Mode::Async, &lines).set_aside());
    lines.extend([
        handled("emailservice", (1106.0, 1606.0), "user_registered_queue", "ok"),
        effect("emailservice", 1605.0, 100.0, "email", "sent"),
    ]);
    let timeline = timeline(Mode::Async, &lines);
    let said = timeline.hops.iter().find_map(|hop| match &hop.what {
        What::Said { level, message, fields } => Some((level, message, fields)),
        _ => None,
    });
    let (level, message, fields) = said.unwrap();
    assert_eq!((level.as_str(), message.as_str()), ("WARN", "event will be tried again"));
    assert_eq!(Value::Object(fields.clone()), json!({"attempt": 1, "reason": "no stamps"}));
    assert_eq!(rows(&timeline)[4], ("emailservice", 0, 1006.0, Some(1000.0)));
    assert!(timeline.missing().is_empty());
}

#[test]
fn an_effect_is_missing_only_where_it_must_come() {
    assert_eq!(timeline(Mode::Async, &accepted_order()).missing(), ["order", "stock"]);
    let mut lines = accepted_order();
    lines.push(warning("paymentservice", 120.0, "event is set aside", &Value::Null));
    assert!(timeline(Mode::Async, &lines).set_aside());
    // The same answer as the first time, given without doing anything: it has no subject.
    let repeated = |mode, path, status| {
        timeline(mode, &[answered("orderservice", (100.0, 101.0), path, status, "")]).missing()
    };
    for path in ["/create_order", "/process_payment", "/generate_report", "/register"] {
        assert!(repeated(Mode::Async, path, 202).is_empty(), "{path}");
        assert!(repeated(Mode::Sync, path, 400).is_empty(), "{path}");
    }
    assert_eq!(repeated(Mode::Async, "/track_click", 200), ["click"]);
    // Nothing was stored.
    let refused = [answered("orderservice", (100.0, 101.0), "/create_order", 503, "order 17")];
    assert!(timeline(Mode::Async, &refused).missing().is_empty());
    assert!(timeline(Mode::Sync, &refused).missing().is_empty());
    // The sweeper goes on.
    let left = [
        answered("orderservice", (100.0, 200.0), "/create_order", 504, "order 17"),
        answered("inventoryservice", (101.0, 103.0), "/reserve_stock", 200, ""),
    ];
    assert_eq!(timeline(Mode::Sync, &left).missing(), ["order", "stock"]);
}

#[test]
fn a_request_that_only_said_something_is_not_answered() {
    let span = request("/create_order", "order 17");
    let mut lines = vec![warning("orderservice", 105.0, "saga is given up", &span)];
    lines.push(effect("orderservice", 107.0, 100.0, "order", "failed"));
    let cut_off = timeline(Mode::Sync, &lines);
    assert_eq!(cut_off.unanswered, ["POST /create_order of orderservice"]);
    // When it was accepted is known from the effect.
    assert_eq!((cut_off.hops[0].start, cut_off.subjects.as_slice()), (5_000, &["order 17".to_owned()][..]));
    lines.push(answered("orderservice", (100.0, 108.0), "/create_order", 400, "order 17"));
    assert!(timeline(Mode::Sync, &lines).unanswered.is_empty());
}

#[test]
fn lines_without_a_workflow_make_no_timeline() {
    let chat = json!({"target": "sqlx::query", "level": "DEBUG", "message": "x", "request_id": "w"});
    assert!(
        Timeline::of("sync", Mode::Sync, "w", &[line("userservice", 1.0, &chat, &Value::Null)]).is_none()
    );
}
