//! The measured stacks side by side.

use std::fmt::Display;

use measure::times::{Times, short};
use serde::Serialize;
use stack::table;

use crate::record::{Drain, Lab, Measured, Orders};

/// A heading, and a cell for each stack.
#[derive(Serialize)]
pub struct Row {
    pub heading: String,
    pub cells: Vec<String>,
}

fn rows(lab: &Lab) -> Vec<Row> {
    let row = |heading: &str, cell: &dyn Fn(&Measured) -> String| Row {
        heading: heading.to_owned(),
        cells: lab.stacks.iter().map(cell).collect(),
    };
    let mut rows = Vec::new();
    let mut both = |name: &str, orders: fn(&Measured) -> &Orders| {
        rows.push(row(&format!("{name}: acknowledge p50, p95"), &|stack| {
            figures(&orders(stack).acknowledge)
        }));
        rows.push(row(&format!("{name}: complete p50, p95"), &|stack| figures(&orders(stack).complete)));
    };
    both("20 orders, one by one", |stack| &stack.few);
    both("200 orders, ten at once", |stack| &stack.many);
    both("inventory 2 s slower", |stack| &stack.slow);
    rows.push(row("reservations fail: answers, then", &|stack| outcome(&stack.failing)));
    rows.push(row("inventory away, 20 orders: answers, then", &|stack| outcome(&stack.away)));
    rows.push(row("after its return the last ended after", &|stack| {
        stack.away.drained_ms.map_or_else(none, |ms| short(Some(ms as f64)))
    }));
    let backlog = |stack: &Measured, what: &dyn Fn(&Drain) -> String| match &stack.drains[..] {
        [] => none(),
        drains => listed(drains.iter().map(what)),
    };
    rows.push(row("2000 wait: orders/s of 1, 2, 4 consumers", &|stack| {
        backlog(stack, &|drain| drain.rate().map_or_else(none, |rate| format!("{rate:.0}")))
    }));
    rows.push(row("half of them ended after", &|stack| backlog(stack, &half)));
    rows.push(row("120 orders on a stock of 100", &|stack| {
        format!("{}, {} left", counts(&stack.oversold.ends, " "), stack.stock_left)
    }));
    rows.push(row("the same message, a crash between", &|stack| {
        format!("{} times, counted {}", stack.delivered, stack.counted)
    }));
    rows.push(row("invalid messages: refused or dead-lettered", &|stack| {
        format!("{} of {}", stack.set_aside, stack.poison)
    }));
    rows.push(row("lost, applied twice", &|stack| format!("{}, {}", stack.lost, stack.twice)));
    rows
}

fn none() -> String {
    "-".to_owned()
}

fn figures(times: &Times) -> String {
    listed([0.50, 0.95].map(|share| short(times.quantile(share))))
}

fn half(drain: &Drain) -> String {
    let all = drain.curve.last().map_or(0, |(_, orders)| *orders);
    let point = drain.curve.iter().find(|(_, orders)| orders * 2 >= all);
    short(point.map(|(ms, _)| *ms as f64))
}

fn outcome(orders: &Orders) -> String {
    format!("{}, {}", counts(&orders.answers, " × "), counts(&orders.ends, " "))
}

/// `18 reserved, 2 failed`.
fn counts<'a, T: Display + 'a>(counts: impl IntoIterator<Item = (&'a T, &'a u64)>, between: &str) -> String {
    listed(counts.into_iter().map(|(what, count)| format!("{count}{between}{what}")))
}

fn listed(items: impl IntoIterator<Item = String>) -> String {
    items.into_iter().collect::<Vec<_>>().join(", ")
}

/// The names of the stacks, and the rows.
pub fn parts(lab: &Lab) -> (Vec<String>, Vec<Row>) {
    (lab.stacks.iter().map(|stack| stack.stack.clone()).collect(), rows(lab))
}

/// For a terminal.
pub fn text(lab: &Lab) -> String {
    let (stacks, rows) = parts(lab);
    let mut table = table::plain([String::new()].into_iter().chain(stacks).collect::<Vec<_>>());
    for Row { heading, cells } in rows {
        table.add_row([heading].into_iter().chain(cells).collect::<Vec<_>>());
    }
    table::text(&mut table, 3, |_| false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn orders(status: u16, end: &str) -> Orders {
        Orders {
            answers: [(status, 20)].into(),
            ends: [(end.to_owned(), 20)].into(),
            acknowledge: Times::of([1_500; 20]),
            complete: Times::of([2_500; 20]),
            drained_ms: None,
        }
    }

    #[test]
    fn a_stack_without_a_broker_has_no_backlog_and_no_drain() {
        let stack = |name: &str, drains: Vec<Drain>| Measured {
            stack: name.to_owned(),
            few: orders(201, "notified"),
            many: orders(201, "notified"),
            slow: orders(201, "notified"),
            failing: orders(422, "failed"),
            away: Orders { drained_ms: (!drains.is_empty()).then_some(812), ..orders(502, "failed") },
            drains,
            oversold: orders(201, "notified"),
            stock_left: 0,
            delivered: 10,
            counted: 1,
            poison: 15,
            set_aside: 15,
            lost: 0,
            twice: 0,
        };
        let drain = Drain { consumers: 1, curve: vec![(0, 1), (1_000, 1_000), (2_000, 2_000)] };
        let lab = Lab { version: 1, stacks: vec![stack("rest", Vec::new()), stack("rabbitmq", vec![drain])] };
        let rows = rows(&lab);
        let cells = |heading: &str| &rows.iter().find(|row| row.heading.starts_with(heading)).unwrap().cells;
        assert_eq!(cells("20 orders, one by one: ack"), &["1.50 ms, 1.50 ms"; 2]);
        assert_eq!(cells("reservations"), &["20 × 422, 20 failed"; 2]);
        assert_eq!(cells("after its return"), &["-", "812 ms"]);
        assert_eq!(cells("2000 wait"), &["-", "1000"]);
        assert_eq!(cells("half"), &["-", "1.00 s"]);
        assert_eq!(cells("lost"), &["0, 0"; 2]);
        assert!(text(&lab).lines().all(|line| line.chars().count() <= 110), "{}", text(&lab));
    }
}
