//! The figures as one flat table: a row per scenario, quantity, percentile and variant, then the difference.

use super::model::Model;
use measure::analysis::format;
use measure::analysis::statistics::Verdict;

const HEADER: &str = "scenario,quantity,percentile,arm,value_ms,low_ms,high_ms,verdict,runs_ms\n";

pub fn csv(model: &Model<'_>) -> String {
    let mut text = HEADER.to_owned();
    for cell in &model.analysis.cells {
        let of = [cell.scenario.key(), format::quantity(cell.quantity), format::percentile(cell.percentile)]
            .join(",");
        for (variant, figure) in model.variants.iter().zip(&cell.variants) {
            let Some(figure) = figure else { continue };
            let (low, high) =
                figure.interval.map_or_else(Default::default, |(low, high)| (exact(low), exact(high)));
            let runs: Vec<String> = figure.runs.iter().map(|ms| exact(*ms)).collect();
            text += &format!(
                "{of},{},{},{low},{high},,{}\n",
                quoted(&variant.name),
                exact(figure.ms),
                runs.join(";")
            );
        }
        if let ([first, second], Some(gap)) = (&model.variants[..], &cell.difference) {
            let verdict = match gap.verdict {
                Verdict::Lower => "lower",
                Verdict::Higher => "higher",
                Verdict::None => "none",
            };
            let name = quoted(&format!("{} minus {}", second.name, first.name));
            let (low, high) = gap.interval;
            text += &format!("{of},{name},{},{},{},{verdict},\n", exact(gap.ms), exact(low), exact(high));
        }
    }
    text
}

/// Microseconds.
fn exact(ms: f64) -> String {
    format!("{ms:.3}")
}

fn quoted(text: &str) -> String {
    if text.contains([',', '"', '\n']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::example;
    use super::*;

    #[test]
    fn every_row_has_every_column_and_its_numbers_are_numbers() {
        let results = example::results();
        let text = csv(&Model::of(&results));
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split(',').collect()).collect();
        assert_eq!(rows.len(), 1 + 6 * 2 * 3 * 3);
        for row in &rows[1..] {
            assert_eq!(row.len(), rows[0].len(), "{row:?}");
            assert!(row[4..7].iter().all(|number| number.parse::<f64>().is_ok()), "{row:?}");
            let runs = row[8].split(';').filter(|run| run.parse::<f64>().is_ok()).count();
            assert_eq!(runs, if row[3].contains("minus") { 0 } else { 3 }, "{row:?}");
        }
        assert!(
            rows.iter()
                .any(|row| row[..4] == ["s1", "acknowledge", "p50", "async minus sync"] && row[7] == "lower")
        );
    }

    #[test]
    fn a_name_with_a_comma_stays_one_column() {
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
