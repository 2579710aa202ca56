//! How counts, rates, costs and spans are written in the report.

use super::chart::axis::plain;
use super::costs::Span;

/// Three digits.
pub fn digits(value: f64) -> String {
    match value.abs() {
        size if size < 0.0005 => "0".into(),
        size if size < 9.995 => format!("{value:.2}"),
        size if size < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// `2.31 MB`.
pub fn bytes(value: f64) -> String {
    match value {
        value if value < 1e3 => format!("{value:.0} B"),
        value if value < 1e6 => format!("{} kB", digits(value / 1e3)),
        value if value < 1e9 => format!("{} MB", digits(value / 1e6)),
        value => format!("{} GB", digits(value / 1e9)),
    }
}

/// How a figure with this unit is written: `s`, `B`, `MiB`, `count`; three digits for any other.
pub fn unit(name: &str) -> fn(f64) -> String {
    match name {
        "s" => seconds,
        "B" => bytes,
        "MiB" => |mib| format!("{} MiB", digits(mib)),
        "count" => |count| if count.fract() == 0.0 { format!("{count:.0}") } else { digits(count) },
        _ => digits,
    }
}

pub fn seconds(value: f64) -> String {
    format!("{} s", digits(value))
}

/// The mean, and the range over the runs if there is any: `2.00 s (1.00 to 2.50)`.
pub fn span(span: &Span, show: impl Fn(f64) -> String) -> String {
    let [mean, low, high] = [span.mean, span.low, span.high].map(show);
    if low == high {
        return mean;
    }
    let parts = |text: &str| text.split_once(' ').map(|(number, unit)| (number.to_owned(), unit.to_owned()));
    match (parts(&mean), parts(&low), parts(&high)) {
        (Some((_, unit)), Some((from, a)), Some((to, b))) if a == unit && b == unit => {
            format!("{mean} ({from} to {to})")
        }
        _ => format!("{mean} ({low} to {high})"),
    }
}

/// `0.34 %`.
pub fn percent(share: f64) -> String {
    match share * 100.0 {
        percent if percent == 0.0 || percent >= 99.9995 => format!("{percent:.0} %"),
        percent => format!("{} %", plain(percent)),
    }
}

/// How often something happens at most (95 %) that was not seen in `count` cases: the rule of three.
pub fn never_in(count: u64) -> f64 {
    (3.0 / count.max(1) as f64).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits_and_a_unit() {
        assert_eq!((digits(0.0), digits(1.234), digits(123.4)), ("0".into(), "1.23".into(), "123".into()));
        assert_eq!((bytes(12.0), bytes(2_310_000.0)), ("12 B".into(), "2.31 MB".into()));
        assert_eq!(
            (percent(0.0), percent(1.0), percent(0.0034)),
            ("0 %".into(), "100 %".into(), "0.34 %".into())
        );
        let same = Span { mean: 2.0, low: 2.0, high: 2.0 };
        assert_eq!(span(&same, seconds), "2.00 s");
        assert_eq!(span(&Span { low: 1.0, ..same }, seconds), "2.00 s (1.00 to 2.00)");
    }
}
