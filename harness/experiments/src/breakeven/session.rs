//! All rates and payloads on one stack, from its start to its end.

use anyhow::Result;
use contract::Scenario;

use super::grid::{Conditions, Taken};
use super::plan::{Plan, PlannedStack};
use measure::load::Kind;
use measure::load_profile::Load;
use measure::outcomes::Outcome;
use measure::output_dir::{Environment, OutputDir, Scratch};
use measure::record::Cost;
use measure::resource_usage::Watched;
use measure::session::{Measured, Session};

/// For connections, caches and query plans.
const WARM_UP_SECONDS: u64 = 2;
const WARM_UP_RATE: u32 = 50;
/// k6 has users for so long without answers, and for the receivers' time: a pause is to be measured, not avoided.
const HICCUP_MS: u32 = 1000;
/// Idle time that costs are corrected for.
const IDLE_SECONDS: u64 = 5;

pub fn measure(
    environment: &Environment,
    output: &OutputDir,
    plan: &Plan,
    planned: &PlannedStack,
    seconds: u64,
) -> Result<Vec<(Conditions, Taken)>> {
    let scratch = Scratch::new(output, "breakeven")?;
    let mut session = Session::start(environment, &planned.variant, &scratch.0)?;
    session.offer(&load(WARM_UP_RATE, WARM_UP_SECONDS), "warm-up", Kind::default())?;
    let idle = session.idle(IDLE_SECONDS)?;
    let mut all = Vec::new();
    for conditions in plan.conditions(planned) {
        let Conditions { rate, payload, .. } = conditions;
        let hiccup_ms = Some(HICCUP_MS + conditions.service_ms * u32::try_from(conditions.width)?);
        let kind = Kind { payload, hiccup_ms, ..Kind::default() };
        let measured = session.offer(&load(rate, seconds), &format!("{rate}-{payload}"), kind)?;
        all.push((conditions, taken(&measured, &idle)));
    }
    session.stack.stop()?;
    scratch.remove();
    Ok(all)
}

fn load(rate: u32, seconds: u64) -> Load {
    Load::alone(Scenario::S3, rate.to_string(), seconds)
}

fn taken(measured: &Measured, idle: &Watched) -> Taken {
    let nothing = Outcome::default();
    let outcome = measured.outcomes.get(&Scenario::S3).unwrap_or(&nothing);
    // Seconds per thousand are milliseconds for each.
    let cost = Cost::of(&measured.watched, idle, outcome.complete.count());
    Taken {
        acknowledge: outcome.acknowledge.clone(),
        complete: outcome.complete.clone(),
        cpu_ms_per_workflow: cost.map_or(0.0, |cost| cost.cpu.total()),
        problems: problems(outcome),
    }
}

fn problems(outcome: &Outcome) -> Vec<String> {
    let mut problems = outcome.problems();
    if outcome.dropped > 0 {
        problems.push(format!("{} not offered in time by k6", outcome.dropped));
    }
    if outcome.requests == 0 {
        problems.push("not a single request".into());
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_wrong_is_a_problem() {
        let good = Outcome { requests: 7, expected: 7, ..Outcome::default() };
        assert_eq!(problems(&good), [""; 0]);
        let unexpected = [("503".to_owned(), 2)].into();
        for (outcome, wanted) in [
            (Outcome { open: 1, ..good.clone() }, "1 accepted but not completed"),
            (Outcome { twice: 3, ..good.clone() }, "3 applied twice"),
            (Outcome { dropped: 4, ..good.clone() }, "4 not offered in time by k6"),
            (Outcome { unexpected, ..good.clone() }, "2 unexpected answers (503)"),
            (Outcome::default(), "not a single request"),
        ] {
            assert_eq!(problems(&outcome), [wanted]);
        }
    }
}
