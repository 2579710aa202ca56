//! The final effects of the six scenarios. A workflow is complete when all of its effects are; the service where
//! one happens reports it here, in both modes, with the time since the workflow was accepted.

use contract::Effect;
pub use contract::effects::*;

use crate::context::{Context, now_us};
use crate::{journal, metrics, telemetry};

/// Shows the effect in the metrics before it happens: a counter that appears with a value of one has no rise.
pub(crate) fn announce(effect: Effect) {
    for outcome in effect.outcomes {
        let labels = [effect.scenario, effect.name, outcome];
        metrics::get().workflow_completion.with_label_values(&labels);
    }
}

/// The effect happened, just now, in the workflow that the task works on.
pub fn completed(effect: Effect, outcome: &'static str) {
    completed_in(effect, &Context::current(), outcome);
}

/// The effect happened, just now, in the workflow `context`.
pub fn completed_in(effect: Effect, context: &Context, outcome: &'static str) {
    debug_assert!(effect.outcomes.contains(&outcome), "{outcome} is not announced");
    let (scenario, age) = (effect.scenario, context.age_seconds());
    if metrics::counting() {
        let completion = &metrics::get().workflow_completion;
        completion.with_label_values(&[scenario, effect.name, outcome]).observe(age);
    }
    telemetry::happened(context, scenario, effect.name, outcome, age);
    journal::record(&journal::Entry {
        workflow: &context.workflow,
        scenario,
        effect: effect.name,
        outcome,
        accepted_us: context.accepted_us,
        done_us: now_us(),
    });
}
