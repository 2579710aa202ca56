//! The final effects of the six scenarios. A workflow is complete when all of its effects are; the service where
//! one happens says so here, in both modes, with the time since the workflow was accepted.

use crate::context::{Context, now_us};
use crate::{journal, metrics};

/// One final effect of a scenario.
#[derive(Clone, Copy, Debug)]
pub struct Effect {
    scenario: &'static str,
    effect: &'static str,
}

/// S1: the welcome e-mail was sent.
pub const EMAIL: Effect = Effect::new("s1", "email");
/// S2: the payment was taken.
pub const PAYMENT: Effect = Effect::new("s2", "payment");
/// S3: the product index has the change.
pub const SEARCH: Effect = Effect::new("s3", "search");
/// S3: the product cache has the change.
pub const CACHE: Effect = Effect::new("s3", "cache");
/// S3: the change is recorded.
pub const ANALYTICS: Effect = Effect::new("s3", "analytics");
/// S4: the report was computed.
pub const REPORT: Effect = Effect::new("s4", "report");
/// S5: the order has ended.
pub const ORDER: Effect = Effect::new("s5", "order");
/// S5: the reservation has ended: released, committed, or refused.
pub const STOCK: Effect = Effect::new("s5", "stock");
/// S6: the click is stored.
pub const CLICK: Effect = Effect::new("s6", "click");

impl Effect {
    const fn new(scenario: &'static str, effect: &'static str) -> Effect {
        Effect { scenario, effect }
    }

    /// The effect happened, just now, in the workflow that the task works on.
    pub fn completed(self, outcome: &'static str) {
        self.completed_in(&Context::current(), outcome);
    }

    /// The effect happened, just now, in the workflow `context`.
    pub fn completed_in(self, context: &Context, outcome: &'static str) {
        metrics::get()
            .workflow_completion
            .with_label_values(&[self.scenario, self.effect, outcome])
            .observe(context.age_seconds());
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
