//! How hard and how long all variants are loaded: `k6-tests/profiles.json`, which the load scripts read too. The rates
//! suit two cores that k6, ten services, PostgreSQL and RabbitMQ share: what k6 cannot offer in time makes a run
//! invalid. S4 keeps its rate in all profiles: a report takes a core for 10 s, so a higher one measures the processor.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail, ensure};
use contract::Scenario;
use contract::events::PRODUCT_RECEIVERS;
use serde::{Deserialize, Serialize};

use super::stored::{LONGEST_SECONDS, within};

const PROFILES: &str = include_str!("../../../k6-tests/profiles.json");
pub const DEFAULT: &str = "quick";

/// One profile of open load, as its file has it.
#[derive(Clone, Debug, Deserialize)]
pub struct Profile {
    pub about: String,
    /// Of each variant.
    pub runs: u32,
    #[serde(flatten)]
    pub load: Load,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Load {
    /// Arrivals as k6 takes them: per second, or "1/12s".
    pub rates: BTreeMap<Scenario, String>,
    pub seconds: u64,
    /// Load before the measured one, dropped: connections, caches and query plans are made in it.
    pub warm_up_seconds: u64,
    /// Seconds of each scenario alone, before the load, to measure its cost; 0: its cost is not measured.
    #[serde(default)]
    pub cost_seconds: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<Burst>,
}

/// Other rates for some time; a scenario that is not named keeps its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Burst {
    /// Seconds after the begin of the load.
    pub after: u64,
    pub seconds: u64,
    pub rates: BTreeMap<Scenario, String>,
}

#[derive(Deserialize)]
struct File {
    open: BTreeMap<String, Profile>,
}

fn all() -> BTreeMap<String, Profile> {
    let file: File =
        serde_json::from_str(PROFILES).unwrap_or_else(|error| unreachable!("checked by a test: {error}"));
    file.open
}

/// For `--profile`: each with what it is for.
pub fn possible() -> Vec<clap::builder::PossibleValue> {
    let value =
        |(name, profile): (String, Profile)| clap::builder::PossibleValue::new(name).help(profile.about);
    let mut profiles: Vec<_> = all().into_iter().collect();
    profiles.sort_by_key(|(_, profile)| {
        (profile.load.seconds * u64::from(profile.runs), profile.load.rates[&Scenario::S6].clone())
    });
    profiles.into_iter().map(value).collect()
}

pub fn find(name: &str) -> Result<Profile> {
    all().remove(name).with_context(|| format!("there is no profile {name}"))
}

/// Arrivals per second that k6 accepts.
pub const LOWEST_RATE: f64 = 0.001;
pub const HIGHEST_RATE: f64 = 100_000.0;

/// Arrivals per second of `5`, `0.4` or `1/12s`, as the load scripts take them.
///
/// # Errors
/// When it is neither, or out of range.
pub fn per_second(rate: &str) -> Result<f64> {
    let value = match rate.strip_suffix('s').and_then(|rate| rate.split_once('/')) {
        Some((count, seconds)) => count
            .parse::<u32>()
            .ok()
            .zip(seconds.parse::<u32>().ok())
            .map(|(count, seconds)| f64::from(count) / f64::from(seconds)),
        // Without an exponent or a sign.
        None if rate.starts_with(|first: char| first.is_ascii_digit())
            && rate.ends_with(|last: char| last.is_ascii_digit())
            && rate.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') =>
        {
            rate.parse::<f64>().ok()
        }
        None => None,
    };
    match value {
        Some(value) if (LOWEST_RATE..=HIGHEST_RATE).contains(&value) => Ok(value),
        _ => bail!(
            "{rate} is no arrival rate: say 5, 0.5 or 1/12s, {LOWEST_RATE} to {HIGHEST_RATE} per second"
        ),
    }
}

impl Load {
    /// # Errors
    /// When it cannot be offered.
    pub fn check(&self) -> Result<()> {
        within("the seconds of load", self.seconds, 1, LONGEST_SECONDS)?;
        within("the seconds of warm-up", self.warm_up_seconds, 0, LONGEST_SECONDS)?;
        within("the seconds of each scenario alone", self.cost_seconds, 0, LONGEST_SECONDS)?;
        ensure!(!self.rates.is_empty(), "there are no arrival rates");
        self.rates.values().try_for_each(|rate| per_second(rate).map(|_| ()))?;
        let Some(Burst { after, seconds, rates }) = &self.burst else { return Ok(()) };
        within("the begin of the burst", *after, 0, LONGEST_SECONDS)?;
        within("the length of the burst", *seconds, 1, LONGEST_SECONDS)?;
        ensure!(
            after + seconds <= self.seconds,
            "the burst ends after the load, which has {} s",
            self.seconds
        );
        for (scenario, rate) in rates {
            ensure!(self.rates.contains_key(scenario), "the burst has {scenario}, which the load has not");
            per_second(rate)?;
        }
        Ok(())
    }

    /// The warm-up leaves the reports out: one would still run when the measured load begins.
    pub fn warm_up(&self) -> Self {
        let mut load = Self { seconds: self.warm_up_seconds, burst: None, ..self.clone() };
        load.rates.remove(&Scenario::S4);
        load
    }

    /// One scenario alone.
    pub fn alone(scenario: Scenario, rate: impl Into<String>, seconds: u64) -> Self {
        let rates = BTreeMap::from([(scenario, rate.into())]);
        Self { rates, seconds, warm_up_seconds: 0, cost_seconds: 0, burst: None }
    }

    /// How long accepted work may take to end after the load: all reports one after the other on half the cores
    /// that are there, and some.
    pub fn drain_limit_seconds(&self) -> u64 {
        let reports = self.rates.get(&Scenario::S4).and_then(|rate| per_second(rate).ok()).unwrap_or(0.0);
        60 + (reports * self.seconds as f64 * 2.0).ceil() as u64
    }
}

/// The services' delays and S3's kind of calls, the same in all variants, also given to k6. The contract's values, unless the
/// caller's environment sets others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delays(pub BTreeMap<String, String>);

impl Delays {
    pub fn from_environment() -> Self {
        const DEFAULTS: [(&str, &str); 10] = [
            ("EMAIL_DELAY_MS", "500"),
            ("PAYMENT_DELAY_MS", "2000"),
            ("SAGA_PAYMENT_DELAY_MS", "0"),
            ("SAGA_PAYMENT_FAILURE_RATE", "1.0"),
            ("REPORT_SECONDS", "10"),
            ("REPORT_ITERATIONS", "0"),
            ("PRODUCT_UPDATE_DELAY_MS", "0"),
            ("FANOUT_CALLS", "sequential"),
            ("FANOUT_WIDTH", "3"),
            ("CLICK_PACKING", "off"),
        ];
        let value = |name, default: &str| match std::env::var_os(name) {
            Some(value) => value.to_string_lossy().into_owned(),
            None => default.to_owned(),
        };
        Self(DEFAULTS.into_iter().map(|(name, default)| (name.to_owned(), value(name, default))).collect())
    }

    /// With what one variant sets otherwise.
    pub fn with(&self, env: &BTreeMap<String, String>) -> Self {
        let mut all = self.0.clone();
        all.extend(env.iter().map(|(name, value)| (name.clone(), value.clone())));
        Self(all)
    }

    /// Receivers of S3.
    pub fn width(&self) -> usize {
        self.0.get("FANOUT_WIDTH").and_then(|width| width.parse().ok()).unwrap_or(PRODUCT_RECEIVERS)
    }

    pub fn environment(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_warm_up_is_the_same_load_without_reports() {
        let load = find(DEFAULT).unwrap().load;
        let warm_up = load.warm_up();
        assert!(load.rates.contains_key(&Scenario::S4) && !warm_up.rates.contains_key(&Scenario::S4));
        assert_eq!((warm_up.rates.len(), warm_up.seconds), (5, load.warm_up_seconds));
    }

    #[test]
    fn every_profile_offers_all_six_scenarios_at_rates_that_k6_takes() {
        for (name, profile) in all() {
            assert_eq!(profile.load.rates.len(), 6, "{name}");
            let burst = profile.load.burst.into_iter().flat_map(|burst| burst.rates);
            for (scenario, rate) in profile.load.rates.into_iter().chain(burst) {
                assert!(per_second(&rate).is_ok(), "{name} {scenario} {rate}");
            }
        }
    }

    #[test]
    fn no_report_begins_so_late_that_the_load_waits_for_it_alone() {
        for (name, Profile { load, .. }) in all() {
            let every = per_second(&load.rates[&Scenario::S4]).unwrap().recip();
            let last = ((load.seconds as f64 - 1.0) / every).floor() * every;
            assert!(
                last + 10.5 <= load.seconds as f64,
                "{name}: the last report begins at {last} s of {}",
                load.seconds
            );
        }
    }

    #[test]
    fn from_the_standard_profile_on_there_are_five_runs() {
        assert!(find("standard").unwrap().runs >= 5 && find("full").unwrap().runs >= 5);
    }

    #[test]
    fn a_rate_is_a_number_or_so_many_in_seconds() {
        assert!((per_second("1/12s").unwrap() - 1.0 / 12.0).abs() < 1e-12);
        assert!((per_second("0.5").unwrap() - 0.5).abs() < 1e-12);
        for wrong in ["", "0", "-1", "1/0s", "five", "1/12", "inf", "1e3", "+5", ".5", "0.0001", "200000"] {
            assert!(per_second(wrong).is_err(), "{wrong}");
        }
    }
}
