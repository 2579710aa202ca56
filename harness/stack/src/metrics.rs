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
}
