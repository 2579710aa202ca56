//! Reads the Prometheus text format, as far as the project's metrics use it.

/// Labels and value of each series of a metric that has labels.
pub fn series<'a>(text: &'a str, metric: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(metric)?.strip_prefix('{')?.rsplit_once("} ")?;
        Some((labels, value.parse().ok()?))
    })
}

/// `email` of `effect="email",outcome="sent"`.
pub fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let mut all = labels.split(',').filter_map(|label| label.split_once("=\""));
    all.find(|(known, _)| *known == name)?.1.strip_suffix('"')
}

/// The sum of all series of a metric with this label, such as `queue="a"`.
pub fn sum(text: &str, metric: &str, label: &str) -> u64 {
    let with = series(text, metric).filter(|(labels, _)| labels.split(',').any(|known| known == label));
    with.map(|(_, value)| value).sum::<f64>() as u64
}

/// A quantile of what a histogram with this label counted between two texts, as Prometheus computes it: within a bucket
/// all are spread evenly, and beyond the last bound nothing is known. `None` of nothing.
pub fn quantile(before: &str, now: &str, metric: &str, label: &str, share: f64) -> Option<f64> {
    let buckets = |text| {
        let name = format!("{metric}_bucket");
        let with = series(text, &name).filter(|(labels, _)| labels.split(',').any(|known| known == label));
        let bound = |labels| self::label(labels, "le")?.replace("+Inf", "inf").parse().ok();
        let mut all: Vec<(f64, f64)> =
            with.filter_map(|(labels, count)| Some((bound(labels)?, count))).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        all
    };
    let counts = buckets(now)
        .into_iter()
        .zip(buckets(before))
        .map(|((bound, now), (_, before))| (bound, now - before));
    let counts: Vec<(f64, f64)> = counts.collect();
    let rank = share * counts.last().map(|(_, all)| *all).filter(|all| *all > 0.0)?;
    let at = counts.iter().position(|(_, count)| *count >= rank)?;
    let (low, below) = at.checked_sub(1).map_or((0.0, 0.0), |at| counts[at]);
    let (high, count) = counts[at];
    Some(if high.is_finite() { low + (high - low) * (rank - below) / (count - below) } else { low })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_series_of_a_metric_are_read_and_no_other() {
        let text = "# TYPE a_total counter\na_total{x=\"1\",y=\"2\"} 3\na_total_more{x=\"1\"} 4\na_total 5\nb{x=\"1\"} 6\n";
        assert_eq!(series(text, "a_total").collect::<Vec<_>>(), [("x=\"1\",y=\"2\"", 3.0)]);
        assert_eq!(label("x=\"1\",y=\"2\"", "y"), Some("2"));
        assert_eq!(label("xy=\"1\"", "y"), None);
    }

    #[test]
    fn a_quantile_lies_within_its_bucket_and_only_what_came_in_since_counts() {
        let none = "age_bucket{queue=\"a\",le=\"0.1\"} 0\nage_bucket{queue=\"a\",le=\"0.2\"} 0\n\
                    age_bucket{queue=\"a\",le=\"+Inf\"} 0\nage_bucket{queue=\"b\",le=\"0.1\"} 7\n";
        let half = none.replace("\"0.1\"} 0", "\"0.1\"} 50").replace("} 0", "} 100");
        let more = half.replace("} 100", "} 200");
        let of = |before: &str, now: &str, share| quantile(before, now, "age", "queue=\"a\"", share).unwrap();
        assert!((of(none, &half, 0.5) - 0.1).abs() < 1e-9 && (of(none, &half, 0.75) - 0.15).abs() < 1e-9);
        assert!((of(&half, &more, 0.5) - 0.15).abs() < 1e-9);
        assert_eq!(quantile(&half, &half, "age", "queue=\"a\"", 0.99), None);
        assert_eq!(quantile(none, &half, "age", "queue=\"c\"", 0.5), None);
        let late = none.replace("+Inf\"} 0", "+Inf\"} 100");
        assert_eq!(of(none, &late, 0.99), 0.2);
    }
}
