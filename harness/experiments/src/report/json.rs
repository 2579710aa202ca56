//! The report for programs: the figures of `report.html` without the words.

use anyhow::Result;
use serde_json::{Value, json};

use super::model::Model;

/// Of this file.
pub const VERSION: u32 = 1;

pub fn json(model: &Model<'_>) -> Result<String> {
    let (analysis, beside) = (&model.analysis, &model.results.beside);
    let scenarios = model.scenarios.iter().flat_map(|of| {
        of.variants.iter().map(|variant| {
            json!({
                "scenario": of.scenario,
                "arm": variant.name,
                "outcome": variant.totals,
                "acknowledge": variant.totals.acknowledge.figures(),
                "complete": variant.totals.complete.figures(),
                "cost_per_1000": variant.costs,
                "backlog": variant.waiting,
            })
        })
    });
    let curves = beside.curves.iter().map(|curve| {
        json!({
            "scenario": curve.scenario,
            "arm": curve.variant,
            "bound_ms": curve.bound_ms,
            "sustainable_per_second": curve.sustainable,
            "limited_by": curve.limited_by,
        })
    });
    let stacks = model.variants.iter().map(|variant| json!({ "arm": variant.name, "taken": variant.stack }));
    let omission = beside.omission.as_ref().map(|omission| {
        json!({ "mode": omission.mode, "stall_ms": omission.stall_ms,
                "closed": omission.closed.figures(), "open": omission.open.figures() })
    });
    let invalid = analysis.invalid.iter().map(|(index, _, why)| json!({ "run": index + 1, "why": why }));
    let all = json!({
        "version": VERSION,
        "plan": model.results.plan,
        "valid_runs": analysis.runs,
        "invalid_runs": invalid.collect::<Value>(),
        "problems": model.problems,
        "figures": analysis.cells,
        "scenarios": scenarios.collect::<Value>(),
        "stacks": stacks.collect::<Value>(),
        "little": model.little,
        "cross_checks": model.checks,
        "curves": curves.collect::<Value>(),
        "grid": model.judged,
        "omission": omission,
    });
    Ok(serde_json::to_string_pretty(&all)? + "\n")
}
