//! The curves' ends for a terminal.

use super::curve::Curve;
use measure::times::short;
use stack::table;

/// One row for each curve, and below what must be known to read it.
pub fn text(curves: &[Curve]) -> String {
    let mut table = table::within_width(["", "mode", "sustained", "p99 there", "failed at", "why"]);
    for curve in curves {
        table.add_row(row(curve));
    }
    let last = table.column_count() - 1;
    let mut text = format!("{}\n", table::text(&mut table, 2, |column| (2..last).contains(&column)));
    if let Some(curve) = curves.first() {
        let (seconds, bound) = (curve.seconds, short(Some(curve.bound_ms)));
        text += &format!(
            "\nArrivals per second, each rate for {seconds} s. Sustained: all was offered, answered and completed,\n\
             the p99 to complete is at most {bound}, and the backlog does not grow.\n"
        );
    }
    for curve in curves {
        if let Some(limited_by) = &curve.limited_by {
            text += &format!("{}: {limited_by}: the rate is a lower bound.\n", curve.variant);
        }
    }
    text
}

fn row(curve: &Curve) -> [String; 6] {
    let sustained = curve.sustainable;
    let point = curve.points.iter().find(|point| Some(point.rate) == sustained);
    let failing = curve.first_failing();
    let rate = sustained.map_or("none".to_owned(), |rate| match curve.limited_by {
        Some(_) => format!("at least {rate}"),
        None => rate.to_string(),
    });
    [
        curve.scenario.to_string(),
        curve.variant.clone(),
        rate,
        short(point.and_then(|point| point.complete.quantile(0.99))),
        failing.map_or("-".to_owned(), |point| point.rate.to_string()),
        failing.and_then(|point| point.why_not.clone()).unwrap_or_default(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate::curve::Point;
    use contract::Scenario;
    use measure::times::Times;

    fn point(rate: f64, why_not: Option<&str>) -> Point {
        Point {
            rate,
            acknowledge: Times::default(),
            complete: Times::of([4_000; 10]),
            completed_per_second: rate,
            unexpected: 0,
            dropped: 0,
            peak_backlog: 7,
            backlog_growth: 0.0,
            why_not: why_not.map(ToOwned::to_owned),
        }
    }

    fn curve(limited_by: Option<&str>, sustainable: Option<f64>) -> Curve {
        let why = "unexpected answers (12345 x 503, 12345 x timed out); p99 to complete 12.3 s, over 250 ms; \
                   backlog grows by 1234.5/s; 12345 not offered in time by k6; k6 takes 60 % of the processors";
        Curve {
            version: 1,
            scenario: Scenario::S6,
            variant: "async".into(),
            bound_ms: 250.0,
            seconds: 8,
            points: vec![point(100.0, Some("bad luck")), point(1600.0, None), point(1792.0, Some(why))],
            sustainable,
            limited_by: limited_by.map(ToOwned::to_owned),
        }
    }

    #[test]
    fn no_line_is_wider_than_a_terminal() {
        let curves =
            [curve(None, Some(1600.0)), curve(Some("k6 was at its end before the services were"), None)];
        let text = text(&curves);
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(text.contains("none") && text.contains("12345 x"), "{text}");
    }

    #[test]
    fn a_row_says_what_was_sustained_and_what_failed_first_above_it() {
        let of = |curve: &Curve| row(curve)[2..5].to_vec();
        assert_eq!(of(&curve(None, Some(1600.0))), ["1600", "4.00 ms", "1792"]);
        assert_eq!(of(&curve(Some("k6"), Some(1600.0))), ["at least 1600", "4.00 ms", "1792"]);
        assert_eq!(of(&curve(None, None)), ["none", "-", "100"]);
    }
}
