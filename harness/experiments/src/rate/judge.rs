//! Whether a rate was sustained, from what was measured at it.

use super::Question;
use super::curve::Point;
use super::search::Verdict;
use measure::analysis::statistics::Spread;
use measure::backlog::Backlog;
use measure::outcomes::Outcome;
use measure::resource_usage::Watched;
use measure::session::Measured;
use measure::times::short;

/// Of the arrival rate: less growth is noise.
const GROWTH: f64 = 0.02;
/// Workflows: a backlog that differs by less has not grown, however seldom they arrive.
const GROWN: f64 = 3.0;
/// Of the processor time that others leave to it: a load generator that takes as much has none to spare.
const NO_SPARE: f64 = 0.85;

/// The point of the curve, and what it means for the search.
pub fn judge(question: &Question, rate: f64, measured: &Measured, cores: usize) -> (Point, Verdict) {
    let empty = Outcome::default();
    let outcome = measured.outcomes.get(&question.scenario).unwrap_or(&empty);
    let growth = growth(&outcome.backlog, question.seconds);
    let system = against_system(question, outcome, growth, rate);
    let dropped = (outcome.dropped > 0).then(|| format!("{} not offered in time by k6", outcome.dropped));
    let starved = starved(&measured.watched, question.seconds, cores);
    let verdict = match (system.is_empty(), &dropped, &starved) {
        (true, None, _) => Verdict::Sustained,
        // A system that keeps its users waiting takes them from k6: then the failure is its own.
        (false, _, None) => Verdict::Failed,
        _ => Verdict::NotOffered,
    };
    let why_not = (verdict != Verdict::Sustained)
        .then(|| system.into_iter().chain(dropped).chain(starved).collect::<Vec<_>>().join("; "));
    let verdict =
        if verdict != Verdict::Sustained && measured.drain.open > 0 { Verdict::Stuck } else { verdict };
    let point = Point {
        rate,
        acknowledge: outcome.acknowledge.clone(),
        complete: outcome.complete.clone(),
        completed_per_second: completed(outcome, question.seconds) / question.seconds as f64,
        unexpected: outcome.unexpected_total(),
        dropped: outcome.dropped,
        peak_backlog: outcome.backlog.peak,
        backlog_growth: growth,
        why_not,
    };
    (point, verdict)
}

/// What speaks against the system, the worst first.
fn against_system(question: &Question, outcome: &Outcome, growth: f64, rate: f64) -> Vec<String> {
    let mut against = outcome.problems();
    match outcome.complete.quantile(0.99) {
        None => against.push("nothing completed".into()),
        Some(p99) if p99 > question.bound_ms => {
            let (is, limit) = (short(Some(p99)), short(Some(question.bound_ms)));
            against.push(format!("p99 to complete {is}, over {limit}"));
        }
        Some(_) => {}
    }
    if grows(growth, rate, question.seconds) {
        against.push(format!("backlog grows by {growth:.1}/s"));
    }
    against
}

/// Where the load generator has no processor time left, its own times are not to be trusted.
fn starved(watched: &Watched, seconds: u64, cores: usize) -> Option<String> {
    // While k6 ran; what the stack did after that counts as if it were then, in k6's favour.
    let all = cores as f64 * seconds as f64;
    let stack = watched.cpu?.total();
    let left = all * (1.0 - watched.others.unwrap_or(0.0)) - stack;
    (watched.k6_cpu > NO_SPARE * left && watched.k6_cpu > stack)
        .then(|| format!("k6 takes {:.0} % of the processors", 100.0 * watched.k6_cpu / all))
}

/// How much faster workflows are accepted than completed in the second half of the load, per second. The medians of
/// its two halves are compared: a pause in either does not count, nor does the backlog that a slow workflow always
/// leaves.
fn growth(backlog: &Backlog, seconds: u64) -> f64 {
    if backlog.step_ms == 0 {
        return 0.0;
    }
    let at = |share: u64| usize::try_from(seconds * 250 * share / backlog.step_ms).unwrap_or(usize::MAX);
    // Where everything has ended the series does, too.
    let open = |index: usize| backlog.at.get(index).copied().unwrap_or(0);
    let median = |from: usize, until: usize| {
        Spread::of((from..until).map(|index| f64::from(open(index)))).map_or(0.0, |spread| spread.median)
    };
    (median(at(3), at(4)) - median(at(2), at(3))) / (seconds as f64 / 4.0)
}

fn grows(growth: f64, rate: f64, seconds: u64) -> bool {
    growth > GROWTH * rate && growth * seconds as f64 / 4.0 > GROWN
}

/// Workflows that were complete when the load ended.
fn completed(outcome: &Outcome, seconds: u64) -> f64 {
    let backlog = &outcome.backlog;
    let end = (seconds * 1000).checked_div(backlog.step_ms).and_then(|index| usize::try_from(index).ok());
    let open = end.and_then(|end| backlog.at.get(end)).copied().unwrap_or(0);
    // Of these, what never ended is not among the completed.
    let ended_later = u64::from(open).saturating_sub(outcome.open);
    outcome.complete.count().saturating_sub(ended_later) as f64
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
