//! `./study trace`: a real order through real services, in both modes, from their logs alone.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::json;
use stack::logs::Logs;
use stack::{Layout, Mode, Stack};
use study::trace::{self, Hop, Timeline, What};

use crate::client::{eventually, post};
use crate::fixture;

/// The delay of the saga's payment, which the timeline must show.
const PAYMENT: i64 = 40_000;

/// The timeline of a new order, found by its number, and the microseconds until a client saw its end.
fn order(stack: &Stack, number: usize) -> (Timeline, i64) {
    let (began, request) = (Instant::now(), format!("traced-{number}"));
    let body = json!({"product_id": 1, "quantity": 1});
    let (_, answer) = post(stack, "orderservice", "/create_order", &request, &body);
    let order = answer.get("id").unwrap_or(&answer["detail"]["order_id"]).to_string();
    let layout = Layout::study(stack.mode());
    let logs = Logs::of_processes(&layout, &stack.logs(), &layout.names());
    let look = |id: &str| trace::look(&logs, id).unwrap().timelines;
    let mut found = None;
    eventually("all of it is in the logs", || {
        found = look(&order).pop();
        found.as_ref().is_some_and(ended)
    });
    let took = i64::try_from(began.elapsed().as_micros()).unwrap();
    let found = found.unwrap();
    assert_eq!(
        (found.workflow.as_str(), &found.subjects),
        (request.as_str(), &vec![format!("order {order}")])
    );
    assert_eq!(look(&request).pop().unwrap().to_json(), found.to_json(), "by its request id");
    assert!(look("traced").is_empty() && look("999999").is_empty(), "nobody has these");
    (found, took)
}

/// A handler's line follows its effect, and the publisher's confirm is last.
fn ended(timeline: &Timeline) -> bool {
    let count = |test: &dyn Fn(&Hop) -> bool| timeline.hops.iter().filter(|hop| test(hop)).count();
    let effects = count(&|hop| matches!(hop.what, What::Effect { .. }) && hop.depth > 0);
    let published = count(&|hop| matches!(hop.what, What::Published { .. }));
    (effects, published) == (2, if timeline.mode == Mode::Async { 3 } else { 0 })
}

fn work(timeline: &Timeline) -> Vec<&Hop> {
    timeline.hops.iter().filter(|hop| hop.what.is_work()).collect()
}

/// Service and description of each hop in the order of the table, without publishes.
fn steps(timeline: &Timeline) -> Vec<(&str, usize, &str)> {
    let step = |hop: &'_ Hop| match &hop.what {
        What::Request { handler, .. } => Some(handler.clone()),
        What::Handled { queue, outcome } if outcome == "ok" => Some(queue.clone()),
        _ => None,
    };
    let known = [
        "/create_order",
        "/reserve_stock",
        "/process_payment_fail",
        "/compensate_stock",
        "order_created_queue",
        "stock_reserved_queue",
        "order_payment_failed_queue",
        "inventory_payment_failed_queue",
    ];
    let steps = timeline.hops.iter().filter_map(|hop| Some((hop, step(hop)?)));
    let named = |name: &str| known.into_iter().find(|known| *known == name).unwrap_or("another");
    steps.map(|(hop, name)| (hop.service.as_str(), hop.depth, named(&name))).collect()
}

fn times_are_plausible(timeline: &Timeline, took: i64) {
    let work = work(timeline);
    for hop in &work {
        assert!(hop.gap.unwrap() >= 0 && 0 <= hop.start && hop.start < hop.end && hop.end <= took, "{hop:?}");
    }
    // Every microsecond belongs to a hop or to a gap before one.
    let (mut busy, mut until) = (0, 0);
    for hop in work.iter().filter(|hop| hop.depth == 0) {
        busy += (hop.end - hop.start.max(until)).max(0);
        until = until.max(hop.end);
    }
    assert_eq!(busy + timeline.idle(until), until, "{:#?}", timeline.hops);
    let paying = work.iter().find(|hop| hop.service == "paymentservice").unwrap();
    assert!(paying.end - paying.start >= PAYMENT, "{paying:?}");
    let last = timeline.last_effect().unwrap();
    assert!(last.end > paying.end && last.end <= took, "{last:?}");
}

#[test]
fn the_logs_show_an_order_through_calls() {
    let (stack, _folder) = start(Mode::Sync);
    for number in 0..3 {
        let (timeline, took) = order(&stack, number);
        assert_eq!(
            steps(&timeline),
            [
                ("orderservice", 0, "/create_order"),
                ("inventoryservice", 1, "/reserve_stock"),
                ("paymentservice", 1, "/process_payment_fail"),
                ("inventoryservice", 1, "/compensate_stock"),
            ]
        );
        times_are_plausible(&timeline, took);
        let inside = work(&timeline).into_iter().filter(|hop| hop.depth == 1);
        let inside: i64 = inside.map(|hop| hop.end - hop.start + hop.gap.unwrap()).sum();
        assert!((PAYMENT..=timeline.whole()).contains(&inside), "{inside}: {:#?}", timeline.hops);
    }
    stack.stop().unwrap();
}

#[test]
fn the_logs_show_an_order_through_events() {
    let (stack, _folder) = start(Mode::Async);
    for number in 0..3 {
        let (timeline, took) = order(&stack, number);
        let steps = steps(&timeline);
        let first = [
            ("orderservice", 0, "/create_order"),
            ("inventoryservice", 0, "order_created_queue"),
            ("paymentservice", 0, "stock_reserved_queue"),
        ];
        assert_eq!(steps[..3], first);
        let mut last = steps[3..].to_vec();
        // Both receive the event at the same time.
        last.sort_unstable();
        let both = [
            ("inventoryservice", 0, "inventory_payment_failed_queue"),
            ("orderservice", 0, "order_payment_failed_queue"),
        ];
        assert_eq!(last, both);
        let published = timeline.hops.iter().filter_map(|hop| match &hop.what {
            What::Published { event } => Some((hop.service.as_str(), event.as_str())),
            _ => None,
        });
        let events = [
            ("inventoryservice", "StockReserved"),
            ("orderservice", "OrderCreated"),
            ("paymentservice", "PaymentFailed"),
        ];
        assert_eq!(published.collect::<BTreeSet<_>>(), BTreeSet::from(events));
        times_are_plausible(&timeline, took);
    }
    stack.stop().unwrap();
}

fn start(mode: Mode) -> (Stack, fixture::Folder) {
    fixture::start(&format!("trace-{mode}"), mode, &[("SAGA_PAYMENT_DELAY_MS", "40")])
}
