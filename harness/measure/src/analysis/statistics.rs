//! What the runs say together: each figure with its interval, the difference between two variants with its interval, and
//! whether there is one.
//!
//! A figure is a percentile of all samples of a variant's valid runs. Runs, not requests, are what repeats: within a run,
//! requests share one start of all processes and one state of the machine. So the bootstrap draws whole runs (with
//! replacement) and takes the percentile anew. From a handful of runs its percentile intervals are known to be too
//! narrow (Hesterberg, What Teachers Should Know About the Bootstrap, 2015): an interval here is
//! the figure ± Student's t x the bootstrap's standard error x sqrt(n / (n - 1)), for a difference with Welch's degrees
//! of freedom. Intervals cover 95 %; a difference is called one where its 99 % interval excludes 0, because 36 figures
//! are looked at together.

use contract::Scenario;
use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF, StudentsT};

use crate::outcomes::Outcome;
use crate::record::{Plan, Run, valid};
use crate::times::{Times, millis, rank};

const DRAWS: usize = 2000;
/// Times have three digits: closer values are equal.
const RESOLUTION: f64 = 0.001;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Quantity {
    /// Until the answer.
    Acknowledge,
    /// Until the last final effect.
    Complete,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Percentile {
    P50,
    P95,
    P99,
}

/// One percentile of one quantity of one scenario.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Cell {
    pub scenario: Scenario,
    pub quantity: Quantity,
    pub percentile: Percentile,
    /// In the order of the plan's variants; `None` where a variant has no sample.
    #[serde(rename = "arms")]
    pub variants: Vec<Option<Estimate>>,
    /// The second variant minus the first. `None` unless both have at least two valid runs.
    pub difference: Option<Difference>,
}

/// Milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Estimate {
    pub ms: f64,
    /// 95 %; `None` from a single run.
    pub interval: Option<(f64, f64)>,
    /// The same percentile of each run.
    pub runs: Vec<f64>,
}

/// Milliseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub ms: f64,
    /// 95 %.
    pub interval: (f64, f64),
    pub verdict: Verdict,
}

/// Of the second variant against the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Lower,
    Higher,
    /// The runs do not separate a difference from noise.
    None,
}

/// The median of some values, and how far they spread.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

pub struct Analysis {
    pub cells: Vec<Cell>,
    /// Valid runs of each variant.
    pub runs: Vec<usize>,
    /// Runs whose figures are not used, with their variants, and why.
    pub invalid: Vec<(usize, String, String)>,
}

impl Spread {
    /// `None` of nothing.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let (below, above) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
        Some(Self { median: below.midpoint(above), min, max })
    }
}

impl Quantity {
    pub const ALL: [Self; 2] = [Self::Acknowledge, Self::Complete];

    pub fn of(self, outcome: &Outcome) -> &Times {
        match self {
            Self::Acknowledge => &outcome.acknowledge,
            Self::Complete => &outcome.complete,
        }
    }
}

impl Percentile {
    pub const ALL: [Self; 3] = [Self::P50, Self::P95, Self::P99];

    pub fn share(self) -> f64 {
        match self {
            Self::P50 => 0.50,
            Self::P95 => 0.95,
            Self::P99 => 0.99,
        }
    }
}

impl Analysis {
    pub fn new(plan: &Plan, runs: &[Run]) -> Self {
        let mut cells = Vec::new();
        for scenario in Scenario::ALL {
            for quantity in Quantity::ALL {
                let samples: Vec<Vec<&Times>> = plan
                    .variants
                    .iter()
                    .map(|variant| times(runs, &variant.name, scenario, quantity))
                    .collect();
                if samples.iter().all(Vec::is_empty) {
                    continue;
                }
                let mut random = fastrand::Rng::with_seed(plan.seed);
                let drawn: Vec<Draws> = samples.iter().map(|runs| Draws::draw(runs, &mut random)).collect();
                cells.extend(
                    Percentile::ALL.map(|percentile| cell(scenario, quantity, percentile, &samples, &drawn)),
                );
            }
        }
        Self {
            cells,
            runs: plan.variants.iter().map(|variant| valid(runs, &variant.name).count()).collect(),
            invalid: runs
                .iter()
                .filter_map(|run| Some((run.index, run.variant.clone(), run.invalid()?)))
                .collect(),
        }
    }

    /// The cells of one scenario.
    pub fn of(&self, scenario: Scenario) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(move |cell| cell.scenario == scenario)
    }

    /// All differences that are judged.
    pub fn judged(&self) -> impl Iterator<Item = &Difference> {
        self.cells.iter().filter_map(|cell| cell.difference.as_ref())
    }

    pub fn cell(&self, scenario: Scenario, quantity: Quantity, percentile: Percentile) -> Option<&Cell> {
        self.of(scenario).find(|cell| (cell.quantity, cell.percentile) == (quantity, percentile))
    }
}

/// Of the valid runs of a variant that have any.
pub fn times<'a>(runs: &'a [Run], variant: &str, scenario: Scenario, quantity: Quantity) -> Vec<&'a Times> {
    let outcomes = valid(runs, variant).filter_map(|run| run.scenarios.get(&scenario));
    outcomes.map(|outcome| quantity.of(outcome)).filter(|times| times.count() > 0).collect()
}

/// The percentiles of each draw of runs, in the order of [`Percentile::ALL`].
struct Draws {
    draws: Vec<[f64; 3]>,
}

impl Draws {
    fn draw(runs: &[&Times], random: &mut fastrand::Rng) -> Self {
        if runs.len() < 2 {
            return Self { draws: Vec::new() };
        }
        // One common list of values, so that a draw is a sum of columns.
        let mut values: Vec<u64> =
            runs.iter().flat_map(|times| times.counts()).map(|(value, _)| *value).collect();
        values.sort_unstable();
        values.dedup();
        let columns: Vec<Vec<u64>> = runs
            .iter()
            .map(|times| {
                let mut column = vec![0; values.len()];
                for (value, count) in times.counts() {
                    if let Ok(at) = values.binary_search(value) {
                        column[at] = *count;
                    }
                }
                column
            })
            .collect();
        let draw = |random: &mut fastrand::Rng| {
            let drawn: Vec<&Vec<u64>> =
                (0..runs.len()).map(|_| &columns[random.usize(..columns.len())]).collect();
            percentiles(&values, &drawn)
        };
        Self { draws: (0..DRAWS).map(|_| draw(random)).collect() }
    }

    /// Standard error of a percentile, corrected for drawing from few runs.
    fn error(&self, at: usize, runs: usize) -> f64 {
        let count = self.draws.len() as f64;
        let mean = self.draws.iter().map(|draw| draw[at]).sum::<f64>() / count;
        let variance = self.draws.iter().map(|draw| (draw[at] - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let runs = runs as f64;
        (variance * runs / (runs - 1.0)).sqrt()
    }
}

fn percentiles(values: &[u64], columns: &[&Vec<u64>]) -> [f64; 3] {
    let all: u64 = columns.iter().flat_map(|column| column.iter()).sum();
    let ranks = Percentile::ALL.map(|percentile| rank(percentile.share(), all));
    let (mut found, mut next, mut below) = ([0.0; 3], 0, 0);
    for (at, value) in values.iter().enumerate() {
        below += columns.iter().map(|column| column[at]).sum::<u64>();
        while next < 3 && below >= ranks[next] {
            found[next] = millis(*value);
            next += 1;
        }
    }
    found
}

fn cell(
    scenario: Scenario,
    quantity: Quantity,
    percentile: Percentile,
    samples: &[Vec<&Times>],
    drawn: &[Draws],
) -> Cell {
    let at = percentile as usize;
    let error = |runs: &[&Times], variant: &Draws| (runs.len() > 1).then(|| variant.error(at, runs.len()));
    let estimate = |runs: &Vec<&Times>, variant: &Draws| {
        let ms = Times::merged(runs.iter().copied()).quantile(percentile.share())?;
        let interval = error(runs, variant).map(|error| {
            let half = half_width(0.975, (runs.len() - 1) as f64, error, ms);
            ((ms - half).max(0.0), ms + half)
        });
        let runs = runs.iter().filter_map(|times| times.quantile(percentile.share())).collect();
        Some(Estimate { ms, interval, runs })
    };
    let variants: Vec<Option<Estimate>> =
        samples.iter().zip(drawn).map(|(runs, variant)| estimate(runs, variant)).collect();
    let difference = match (&variants[..], samples, drawn) {
        ([Some(first), Some(second)], [a, b], [drawn_a, drawn_b]) => error(a, drawn_a)
            .zip(error(b, drawn_b))
            .map(|errors| difference(first.ms, second.ms, errors, (a.len(), b.len()))),
        _ => None,
    };
    Cell { scenario, quantity, percentile, variants, difference }
}

fn difference(first: f64, second: f64, errors: (f64, f64), runs: (usize, usize)) -> Difference {
    let error = errors.0.hypot(errors.1);
    let freedom = welch(errors, runs);
    let ms = second - first;
    let half = |level| half_width(level, freedom, error, first.max(second));
    let verdict = match half(0.995) {
        half if ms.abs() <= half => Verdict::None,
        _ if ms < 0.0 => Verdict::Lower,
        _ => Verdict::Higher,
    };
    Difference { ms, interval: (ms - half(0.975), ms + half(0.975)), verdict }
}

/// Of an interval around a figure of about `ms`, never below what the times resolve.
fn half_width(level: f64, freedom: f64, error: f64, ms: f64) -> f64 {
    let t = StudentsT::new(0.0, 1.0, freedom).map_or(f64::INFINITY, |student| student.inverse_cdf(level));
    (t * error).max(RESOLUTION * ms)
}

/// Degrees of freedom of a difference (Welch-Satterthwaite).
fn welch(errors: (f64, f64), runs: (usize, usize)) -> f64 {
    let part = |error: f64, runs: usize| error.powi(4) / (runs - 1) as f64;
    let below = part(errors.0, runs.0) + part(errors.1, runs.1);
    let least = (runs.0.min(runs.1) - 1) as f64;
    if below > 0.0 { (errors.0.hypot(errors.1).powi(4) / below).max(least) } else { least }
}

#[cfg(test)]
#[path = "statistics_tests.rs"]
mod tests;
