//! A histogram as a service shows it to Prometheus.

use stack::metrics;

/// Upper bounds, ascending, each with how many are not above it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Histogram(Vec<(f64, f64)>);

impl Histogram {
    /// Of the series with this label, such as `queue="a"`; `None` if there is none.
    pub fn read(text: &str, name: &str, label: &str) -> Option<Self> {
        let buckets = format!("{name}_bucket");
        let with = metrics::series(text, &buckets)
            .filter(|(labels, _)| labels.split(',').any(|known| known == label));
        let bucket = |(labels, count): (&str, f64)| Some((bound(metrics::label(labels, "le")?)?, count));
        let mut all: Vec<(f64, f64)> = with.filter_map(bucket).collect();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        (!all.is_empty()).then_some(Self(all))
    }

    /// What came in since `before`, which has the same bounds.
    pub fn since(&self, before: &Self) -> Self {
        Self(self.0.iter().zip(&before.0).map(|(now, before)| (now.0, now.1 - before.1)).collect())
    }

    /// As Prometheus has it: within a bucket all are spread evenly. `None` of nothing.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all = self.0.last().map(|(_, count)| *count).filter(|count| *count > 0.0)?;
        let rank = share * all;
        let (mut low, mut below) = (0.0, 0.0);
        for (high, count) in &self.0 {
            if *count >= rank {
                // Beyond the last bound nothing is known.
                let inside = (rank - below) / (count - below);
                return Some(if high.is_finite() { low + (high - low) * inside } else { low });
            }
            (low, below) = (*high, *count);
        }
        None
    }
}

fn bound(text: &str) -> Option<f64> {
    if text == "+Inf" { Some(f64::INFINITY) } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "age_bucket{queue=\"a\",le=\"0.1\"} 50\nage_bucket{queue=\"a\",le=\"0.2\"} 100\n\
        age_bucket{queue=\"a\",le=\"+Inf\"} 100\nage_bucket{queue=\"b\",le=\"0.1\"} 7\nage_count{queue=\"a\"} 100\n";

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let histogram = Histogram::read(TEXT, "age", "queue=\"a\"").unwrap();
        let quantile = |share| histogram.quantile(share).unwrap();
        assert!((quantile(0.5) - 0.1).abs() < 1e-9 && (quantile(0.75) - 0.15).abs() < 1e-9);
        assert_eq!(Histogram::read(TEXT, "age", "queue=\"c\""), None);
    }

    #[test]
    fn only_what_came_in_since_counts() {
        let before = Histogram::read(TEXT, "age", "queue=\"a\"").unwrap();
        let now = TEXT.replace("} 100", "} 200");
        let since = Histogram::read(&now, "age", "queue=\"a\"").unwrap().since(&before);
        assert!((since.quantile(0.5).unwrap() - 0.15).abs() < 1e-9, "{since:?}");
        assert_eq!(before.since(&before).quantile(0.99), None);
    }

    #[test]
    fn beyond_the_last_bound_the_bound_is_told() {
        let text = "age_bucket{queue=\"a\",le=\"0.1\"} 1\nage_bucket{queue=\"a\",le=\"+Inf\"} 100\n";
        assert_eq!(Histogram::read(text, "age", "queue=\"a\"").unwrap().quantile(0.99), Some(0.1));
    }
}
