//! How hard and how long both modes are loaded. The rates suit two cores that k6, ten services, PostgreSQL and
//! RabbitMQ share: what k6 cannot offer in time makes a run invalid.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::Serialize;

use super::scenario::Scenario;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Both modes within 2 minutes: does it work?
    Smoke,
    /// Both modes within 6 minutes.
    Quick,
}

#[derive(Clone, Debug, Serialize)]
pub struct Load {
    /// Arrivals as k6 takes them: per second, or "1/12s".
    pub rates: BTreeMap<Scenario, String>,
    pub seconds: u64,
    /// Load before the measured one, dropped: connections, caches and query plans are made in it.
    pub warm_up_seconds: u64,
    /// How long accepted work may take to end after the load.
    pub drain_limit_seconds: u64,
}

impl Profile {
    pub fn load(self) -> Load {
        // A report takes a core for 10 s, so about one runs at any time. The last begins 11 s or more before the
        // end: then the drain does not wait for it alone.
        let (report, seconds, warm_up_seconds) = match self {
            Self::Smoke => ("1/14s", 27, 4),
            Self::Quick => ("1/12s", 119, 6),
        };
        let rate = |scenario| match scenario {
            Scenario::S4 => report,
            Scenario::S6 => "100",
            _ => "5",
        };
        Load {
            rates: Scenario::ALL.map(|scenario| (scenario, rate(scenario).to_owned())).into(),
            seconds,
            warm_up_seconds,
            drain_limit_seconds: 60,
        }
    }
}

impl Load {
    /// The warm-up leaves the reports out: one would still run when the measured load begins.
    pub fn warm_up(&self) -> Self {
        let mut rates = self.rates.clone();
        rates.remove(&Scenario::S4);
        Self { rates, seconds: self.warm_up_seconds, ..self.clone() }
    }
}

/// What the services take for their work, the same in both modes and said to k6 too. The contract's values, unless
/// the caller's environment sets others.
#[derive(Clone, Debug, Serialize)]
pub struct Delays(pub BTreeMap<&'static str, String>);

impl Delays {
    pub fn from_environment() -> Self {
        const DEFAULTS: [(&str, &str); 6] = [
            ("EMAIL_DELAY_MS", "500"),
            ("PAYMENT_DELAY_MS", "2000"),
            ("SAGA_PAYMENT_DELAY_MS", "0"),
            ("SAGA_PAYMENT_FAILURE_RATE", "1.0"),
            ("REPORT_SECONDS", "10"),
            ("REPORT_ITERATIONS", "0"),
        ];
        let value = |name, default: &str| match std::env::var_os(name) {
            Some(value) => value.to_string_lossy().into_owned(),
            None => default.to_owned(),
        };
        Self(DEFAULTS.into_iter().map(|(name, default)| (name, value(name, default))).collect())
    }

    pub fn environment(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_is_the_same_load_without_reports() {
        let load = Profile::Quick.load();
        let warm_up = load.warm_up();
        assert!(load.rates.contains_key(&Scenario::S4) && !warm_up.rates.contains_key(&Scenario::S4));
        assert_eq!((warm_up.rates.len(), warm_up.seconds), (5, load.warm_up_seconds));
    }
}
