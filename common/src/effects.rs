//! The final effects of the six scenarios. A workflow is complete when all of its effects are; the service where
//! one happens says so here, in both modes, with the time since the workflow was accepted.

use crate::context::{Context, now_us};
use crate::{journal, metrics, telemetry};

/// One final effect of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Effect {
    scenario: &'static str,
    effect: &'static str,
    outcomes: &'static [&'static str],
}

/// S1: the welcome e-mail was sent.
pub const EMAIL: Effect = Effect::new("s1", "email", &["sent"]);
/// S2: the payment was taken.
pub const PAYMENT: Effect = Effect::new("s2", "payment", &["success"]);
/// S3: the product index has the change.
pub const SEARCH: Effect = Effect::new("s3", "search", &["indexed", "outdated"]);
/// S3: the product cache has the change.
pub const CACHE: Effect = Effect::new("s3", "cache", &["cached", "outdated"]);
/// S3: the change is recorded.
pub const ANALYTICS: Effect = Effect::new("s3", "analytics", &["recorded"]);
/// S4: the report was computed.
pub const REPORT: Effect = Effect::new("s4", "report", &["completed"]);
/// S5: the order has ended.
pub const ORDER: Effect = Effect::new("s5", "order", &["completed", "failed", "cancelled"]);
/// S5: the reservation has ended: released, committed, or refused.
pub const STOCK: Effect = Effect::new("s5", "stock", &["sold", "released", "refused"]);
/// S6: the click is stored.
pub const CLICK: Effect = Effect::new("s6", "click", &["stored"]);

impl Effect {
    const fn new(scenario: &'static str, effect: &'static str, outcomes: &'static [&'static str]) -> Effect {
        Effect { scenario, effect, outcomes }
    }

    /// Shows the effect in the metrics before it happens: what appears with a count of one has no rise.
    pub(crate) fn announce(self) {
        for outcome in self.outcomes {
            metrics::get().workflow_completion.with_label_values(&[self.scenario, self.effect, outcome]);
        }
    }

    /// The effect happened, just now, in the workflow that the task works on.
    pub fn completed(self, outcome: &'static str) {
        self.completed_in(&Context::current(), outcome);
    }

    /// The effect happened, just now, in the workflow `context`.
    pub fn completed_in(self, context: &Context, outcome: &'static str) {
        debug_assert!(self.outcomes.contains(&outcome), "{outcome} is not announced");
        let age = context.age_seconds();
        if metrics::counting() {
            let completion = &metrics::get().workflow_completion;
            completion.with_label_values(&[self.scenario, self.effect, outcome]).observe(age);
        }
        telemetry::happened(context, self.scenario, self.effect, outcome, age);
        journal::record(&journal::Entry {
            workflow: &context.workflow,
            scenario: self.scenario,
            effect: self.effect,
            outcome,
            accepted_us: context.accepted_us,
            done_us: now_us(),
        });
    }
}
