//! The report for programs: the figures of `report.html` without the words.

use anyhow::Result;
use contract::Scenario;
use serde_json::{Value, json};

use super::costs::{Costs, Stack, Waiting};
use super::{checks, littles_law};
use crate::breakeven::winner::Judged;
use crate::results::Results;
use crate::totals::Totals;
use measure::analysis::statistics::Analysis;
use measure::record;

/// Of this file.
pub const VERSION: u32 = 1;

pub fn json(results: &Results, analysis: &Analysis, judged: &[Judged]) -> Result<String> {
    let (plan, runs) = (&results.plan, &results.runs);
    let mut scenarios = Vec::new();
    for scenario in Scenario::ALL {
        for arm in &plan.arms {
            let Some(totals) = Totals::of(runs, &arm.name, scenario) else { continue };
            scenarios.push(json!({
                "scenario": scenario,
                "arm": arm.name,
                "outcome": totals,
                "acknowledge": totals.acknowledge.figures(),
                "complete": totals.complete.figures(),
                "cost_per_1000": Costs::of(runs, &arm.name, scenario),
                "backlog": Waiting::of(runs, &arm.name, scenario),
            }));
        }
    }
    let curves: Vec<Value> = results
        .beside
        .curves
        .iter()
        .map(|curve| {
            json!({
                "scenario": curve.scenario,
                "arm": curve.arm,
                "bound_ms": curve.bound_ms,
                "sustainable_per_second": curve.sustainable,
                "limited_by": curve.limited_by,
            })
        })
        .collect();
    let stacks: Vec<Value> =
        plan.arms.iter().map(|arm| json!({ "arm": arm.name, "taken": Stack::of(runs, &arm.name) })).collect();
    let omission = results.beside.omission.as_ref().map(|omission| {
        json!({ "mode": omission.mode, "stall_ms": omission.stall_ms,
                "closed": omission.closed.figures(), "open": omission.open.figures() })
    });
    let invalid: Vec<Value> =
        analysis.invalid.iter().map(|(slot, _, why)| json!({ "run": slot + 1, "why": why })).collect();
    let all = json!({
        "version": VERSION,
        "plan": plan,
        "valid_runs": analysis.runs,
        "invalid_runs": invalid,
        "problems": record::problems(plan, runs),
        "figures": analysis.cells,
        "scenarios": scenarios,
        "stacks": stacks,
        "little": littles_law::of(plan, runs),
        "cross_checks": checks::of(runs),
        "curves": curves,
        "grid": judged,
        "omission": omission,
    });
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}
