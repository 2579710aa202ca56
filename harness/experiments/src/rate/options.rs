//! The options of `./study rate`, with defaults that depend on the scenario.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use contract::Scenario;

use super::Question;
use super::search::{Range, neat};
use crate::compare::options::scenario;
use measure::load_profile::{Delays, per_second};
use measure::stored::LARGEST_NUMBER;
use stack::{Mode, compared_mode, given_path};

/// What a workflow may wait, beyond its own work, before a rate counts as too high.
const PATIENCE_MS: f64 = 250.0;
const SECONDS: u64 = 8;
/// Of service times that a load must last: a backlog is looked at when as much ends as begins.
const SERVICE_TIMES: f64 = 4.0;

#[derive(Args)]
pub struct RateArgs {
    /// Which scenario, such as `s6`; it is loaded alone.
    #[arg(long, value_name = "SN", value_parser = scenario)]
    pub scenario: Scenario,

    /// Which modes, one after the other.
    #[arg(long, value_parser = compared_mode(), value_delimiter = ',', default_values_t = Mode::COMPARED)]
    pub modes: Vec<Mode>,

    /// Load at each rate; at least four times what the scenario's work takes. 8 if that is enough.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(4..=600))]
    seconds: Option<u64>,

    /// The p99 of the time to complete may be no longer. Default: what the scenario's work takes, and 250 ms
    /// (S4: one more report).
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u32).range(1..=3_600_000))]
    bound: Option<u32>,

    /// The first rate, per second or such as `1/20s`, instead of the scenario's (S6 200, S4 1/20s, the others 20).
    #[arg(long, value_name = "RATE", value_parser = per_second)]
    start: Option<f64>,

    /// No higher rate is tried.
    #[arg(long, value_name = "RATE", value_parser = per_second, default_value = "10000")]
    max: f64,

    /// Where `rate-sN.json` goes, such as the folder of a comparison, whose report then shows it;
    /// `results/rate-<UTC time>` by default.
    #[arg(long, value_parser = given_path(), value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Decides what is ordered and looked at.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=LARGEST_NUMBER))]
    pub seed: u64,
}

impl RateArgs {
    pub fn question(&self, delays: &Delays) -> Result<Question> {
        if let [first, second, ..] = self.modes[..]
            && (first == second || self.modes.len() > 2)
        {
            bail!("--modes names {first} twice");
        }
        let service_ms = service_ms(self.scenario, delays);
        let least = whole_seconds(SERVICE_TIMES * service_ms / 1000.0);
        let seconds = self.seconds.unwrap_or(SECONDS.max(least));
        if seconds < least {
            bail!(
                "--seconds {seconds} is too short: {} takes {} s, so {least} are needed to see whether work \
                   piles up",
                self.scenario,
                service_ms / 1000.0
            );
        }
        let start = self.start.unwrap_or(match self.scenario {
            // One while two could be computed, one after the other.
            Scenario::S4 => neat((500.0 / service_ms).min(20.0)),
            Scenario::S6 => 200.0,
            _ => 20.0,
        });
        if start > self.max {
            bail!("--max {} is below the first rate, {start}: say --start too", self.max);
        }
        if start * (seconds as f64) < 1.0 {
            bail!("at {start} per second nothing arrives in {seconds} s: say a longer --seconds");
        }
        let spare = if self.scenario == Scenario::S4 { service_ms } else { 0.0 };
        let bound_ms = self.bound.map_or(service_ms + spare + PATIENCE_MS, f64::from);
        if bound_ms < service_ms {
            bail!("no rate can be sustained: the work of {} alone takes {service_ms} ms", self.scenario);
        }
        let range = Range { start, highest: self.max };
        // A pause that lasts longer breaks the bound: one request in a hundred waits for longer than that.
        let hiccup_ms = bound_ms - service_ms + seconds as f64 * 10.0;
        Ok(Question { scenario: self.scenario, bound_ms, hiccup_ms, seconds, range })
    }
}

/// How long the work of a scenario takes when nothing waits.
fn service_ms(scenario: Scenario, delays: &Delays) -> f64 {
    let Some(setting) = scenario.delay_setting() else { return 0.0 };
    let value: f64 = delays.0.get(setting).and_then(|value| value.parse().ok()).unwrap_or(0.0);
    if setting.ends_with("_SECONDS") { value * 1000.0 } else { value }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "no delay is negative or so long"
)]
fn whole_seconds(seconds: f64) -> u64 {
    seconds.ceil() as u64
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        rate: RateArgs,
    }

    fn question(args: &str) -> Result<Question> {
        let delays = [("EMAIL_DELAY_MS", "500"), ("PAYMENT_DELAY_MS", "2000"), ("REPORT_SECONDS", "10")];
        let delays = Delays(delays.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        Cli::try_parse_from(["rate"].into_iter().chain(args.split(' ')))?.rate.question(&delays)
    }

    #[test]
    fn bound_and_length_follow_from_what_the_work_takes() {
        let of = |args| {
            let question = question(args).unwrap();
            (question.bound_ms, question.seconds)
        };
        assert_eq!(of("--scenario s6"), (250.0, 8));
        assert_eq!(of("--scenario s1"), (750.0, 8));
        assert_eq!(of("--scenario s2"), (2250.0, 8));
        assert_eq!(of("--scenario s4"), (20_250.0, 40));
        assert_eq!(question("--scenario s4").unwrap().range.start, 0.05);
        assert_eq!(of("--scenario s2 --bound 5000 --seconds 12"), (5000.0, 12));
    }

    #[test]
    fn what_cannot_work_is_refused_in_one_line() {
        for (args, word) in [
            ("--scenario s4 --seconds 8", "--seconds"),
            ("--scenario s2 --bound 1000", "2000 ms"),
            ("--scenario s6 --max 100", "--max"),
            ("--scenario s6 --modes sync,sync", "twice"),
            ("--scenario s6 --start 0.1", "nothing arrives"),
        ] {
            let error = question(args).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.contains(word) && !error.contains('\n'), "{args}: {error}");
        }
    }
}
