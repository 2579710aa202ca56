//! Both loads side by side, and what it means.

use measure::times::{Times, short};
use stack::table;

use super::Omission;

/// Of the stall: who waited longer waited because of it.
const BECAUSE_OF_IT: f64 = 0.1;
const SHARES: [(&str, f64); 5] = [("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p99.9", 0.999)];

pub fn text(omission: &Omission) -> String {
    let Omission { mode, seconds, stall_ms, rate, users, closed, open, .. } = omission;
    let limit_ms = *stall_ms as f64 * BECAUSE_OF_IT;
    let mut table = table::plain([
        "time to acknowledge".to_owned(),
        format!("closed, {users} users"),
        format!("open, {rate}/s"),
    ]);
    let mut row = |name: &str, of: &dyn Fn(&Times) -> String| {
        table.add_row([name.to_owned(), of(closed), of(open)]);
    };
    for (name, share) in SHARES {
        row(name, &|times| short(times.quantile(share)));
    }
    row("max", &|times| short(times.figures().max));
    row("requests", &|times| times.count().to_string());
    row(&format!("of these over {limit_ms:.0} ms"), &|times| times.above(limit_ms).to_string());
    let (few, many) = (closed.above(limit_ms), open.above(limit_ms));
    let due = u64::from(*rate) * stall_ms / 1000;
    format!(
        "S6, {mode}, {seconds} s of each load; in the middle analyticsservice stands still for {stall_ms} ms.\n\n\
         {}\n\n\
         The closed load noticed the stall {few} times: its {users} users wait once each, and send nothing\n\
         meanwhile. Of the open load, on average as fast where nothing stalls, {many} requests noticed it:\n\
         {due} should have been sent meanwhile.\n",
        table::text(&mut table, 3, |column| column > 0)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use stack::Mode;

    #[test]
    fn both_loads_stand_side_by_side_within_100_columns() {
        let times = |slow: usize| Times::of([vec![1_200; 1_000_000 - slow], vec![900_000; slow]].concat());
        let omission = Omission {
            version: 1,
            mode: Mode::Async,
            seconds: 600,
            stall_ms: 1000,
            rate: 123_456,
            users: 10,
            closed: times(10),
            open: times(12_345),
        };
        let text = text(&omission);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        let line = |name: &str| text.lines().find(|line| line.starts_with(name)).unwrap().split_whitespace();
        assert_eq!(line("p99 ").collect::<Vec<_>>(), ["p99", "1.20", "ms", "900", "ms"]);
        assert!(line("of these over 100 ms").skip(5).eq(["10", "12345"]), "{text}");
    }
}
