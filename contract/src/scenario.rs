//! The six scenarios and their final effects: a workflow is complete when each of its final effects has happened once.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Service;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scenario {
    S1,
    S2,
    S3,
    S4,
    S5,
    S6,
}

impl Scenario {
    pub const ALL: [Scenario; 6] =
        [Scenario::S1, Scenario::S2, Scenario::S3, Scenario::S4, Scenario::S5, Scenario::S6];

    /// The word in metrics, in the journals and in k6's tags.
    pub const fn key(self) -> &'static str {
        match self {
            Scenario::S1 => "s1",
            Scenario::S2 => "s2",
            Scenario::S3 => "s3",
            Scenario::S4 => "s4",
            Scenario::S5 => "s5",
            Scenario::S6 => "s6",
        }
    }

    pub const fn title(self) -> &'static str {
        match self {
            Scenario::S1 => "register, welcome e-mail",
            Scenario::S2 => "payment",
            Scenario::S3 => "product update, fan-out to three",
            Scenario::S4 => "report, CPU-bound",
            Scenario::S5 => "order saga, payment fails",
            Scenario::S6 => "click tracking",
        }
    }

    /// What kind of work it stands for, and what happens.
    pub const fn description(self) -> &'static str {
        match self {
            Scenario::S1 => "non-critical task: register, send a welcome e-mail",
            Scenario::S2 => "long-running process: take a payment",
            Scenario::S3 => "fan-out: update a product",
            Scenario::S4 => "processor-bound work: compute a report",
            Scenario::S5 => "saga: an order whose payment fails",
            Scenario::S6 => "high-throughput ingestion: track clicks",
        }
    }

    /// The service, the method and the route of the request that starts it.
    pub const fn entrance(self) -> (Service, &'static str, &'static str) {
        match self {
            Scenario::S1 => (Service::User, "POST", "/register"),
            Scenario::S2 => (Service::Payment, "POST", "/process_payment"),
            Scenario::S3 => (Service::Product, "PUT", "/products/{id}"),
            Scenario::S4 => (Service::Report, "POST", "/generate_report"),
            Scenario::S5 => (Service::Order, "POST", "/create_order"),
            Scenario::S6 => (Service::Analytics, "POST", "/track_click"),
        }
    }

    /// The setting of the services that decides how long the work takes when nothing waits, in milliseconds or, if its name
    /// ends so, in seconds.
    pub const fn delay_setting(self) -> Option<&'static str> {
        match self {
            Scenario::S1 => Some("EMAIL_DELAY_MS"),
            Scenario::S2 => Some("PAYMENT_DELAY_MS"),
            Scenario::S3 => Some("PRODUCT_UPDATE_DELAY_MS"),
            Scenario::S4 => Some("REPORT_SECONDS"),
            Scenario::S5 => Some("SAGA_PAYMENT_DELAY_MS"),
            Scenario::S6 => None,
        }
    }

    pub fn find(key: &str) -> Option<Scenario> {
        Scenario::ALL.into_iter().find(|scenario| scenario.key() == key)
    }

    /// All of them must happen, each once.
    pub fn final_effects(self) -> impl Iterator<Item = Effect> {
        effects::ALL.into_iter().filter(move |effect| effect.scenario == self.key())
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.key().to_uppercase())
    }
}

/// One final effect of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Effect {
    /// The scenario's key, or `campus`.
    pub scenario: &'static str,
    /// The word in metrics and journals.
    pub name: &'static str,
    /// The name of the service where it happens.
    pub service: &'static str,
    /// How it can end.
    pub outcomes: &'static [&'static str],
}

/// Every final effect of the system.
pub mod effects {
    use super::{Effect, Scenario, Service};

    const fn effect(
        scenario: Scenario,
        name: &'static str,
        service: Service,
        outcomes: &'static [&'static str],
    ) -> Effect {
        Effect { scenario: scenario.key(), name, service: service.name(), outcomes }
    }

    /// The welcome e-mail was sent.
    pub const EMAIL: Effect = effect(Scenario::S1, "email", Service::Email, &["sent"]);
    /// The payment was taken.
    pub const PAYMENT: Effect = effect(Scenario::S2, "payment", Service::Payment, &["success"]);
    /// The product index has the change.
    pub const SEARCH: Effect = effect(Scenario::S3, "search", Service::Search, &["indexed", "outdated"]);
    /// The product cache has the change.
    pub const CACHE: Effect = effect(Scenario::S3, "cache", Service::Cache, &["cached", "outdated"]);
    /// The change is recorded.
    pub const ANALYTICS: Effect = effect(Scenario::S3, "analytics", Service::Analytics, &["recorded"]);
    /// The report was computed.
    pub const REPORT: Effect = effect(Scenario::S4, "report", Service::Report, &["completed"]);
    /// The order has ended.
    pub const ORDER: Effect =
        effect(Scenario::S5, "order", Service::Order, &["completed", "failed", "cancelled"]);
    /// The reservation has ended: sold, released, or refused.
    pub const STOCK: Effect =
        effect(Scenario::S5, "stock", Service::Inventory, &["sold", "released", "refused"]);
    /// The click is stored.
    pub const CLICK: Effect = effect(Scenario::S6, "click", Service::Analytics, &["stored"]);

    pub const ALL: [Effect; 9] = [EMAIL, PAYMENT, SEARCH, CACHE, ANALYTICS, REPORT, ORDER, STOCK, CLICK];
}
