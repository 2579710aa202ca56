//! The options of `./study compare`, and the plan that follows from them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use clap::builder::PossibleValuesParser;
use contract::Scenario;

use super::plan::balanced;
use measure::host::Host;
use measure::load_profile::{self, Delays, per_second};
use measure::output_dir::OutputDir;
use measure::record::{Plan, Variant};
use measure::stored::{LARGEST_NUMBER, Stored};
use stack::{Mode, compared_mode, given_path};

#[derive(Args)]
pub struct CompareArgs {
    /// How long, how hard, how often.
    #[arg(long, value_parser = PossibleValuesParser::new(load_profile::possible()), default_value = load_profile::DEFAULT)]
    profile: String,

    /// Which modes; one alone is measured without comparison.
    #[arg(long, value_parser = compared_mode(), value_delimiter = ',', default_values_t = Mode::COMPARED)]
    modes: Vec<Mode>,

    /// Only these scenarios, such as `s1,s5`.
    #[arg(long, value_delimiter = ',', value_name = "SN", value_parser = scenario)]
    scenarios: Vec<Scenario>,

    /// Runs of each variant, instead of the profile's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: Option<u32>,

    /// Arrival rates instead of the profile's: `s6=200,s4=1/20s`.
    #[arg(long, value_delimiter = ',', value_name = "SN=RATE", value_parser = rate)]
    rate: Vec<(Scenario, String)>,

    /// Seconds of load in each run, instead of the profile's.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: Option<u64>,

    /// Decides which mode begins, what is ordered and looked at, and what the bootstrap draws.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=LARGEST_NUMBER))]
    seed: u64,

    /// One mode (`--modes`, async by default) against itself, as A and B: the comparison must find no difference.
    #[arg(long = "self")]
    against_itself: bool,

    /// With `--self`: a setting that only B has, such as EMAIL_DELAY_MS=520.
    #[arg(long, value_name = "NAME=VALUE", value_parser = setting, requires = "against_itself")]
    with: Vec<(String, String)>,

    /// In containers of the project's compose files, made for this run (their images, too, which takes its own time)
    /// and removed after it.
    #[arg(long)]
    pub docker: bool,

    /// Where the results go; `results/<UTC time>` by default.
    #[arg(long, value_parser = given_path(), value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Go on with a comparison that was cut off: its finished runs are kept, its options are its own.
    #[arg(long, value_parser = given_path(), value_name = "DIR", conflicts_with_all = ["out", "profile", "modes", "scenarios", "runs", "rate", "seconds", "seed", "against_itself", "with", "docker"])]
    pub resume: Option<PathBuf>,
}

impl CompareArgs {
    pub fn plan(&self, host: Host, output: &OutputDir) -> Result<Plan> {
        let profile = load_profile::find(&self.profile)?;
        let mut load = profile.load;
        for (scenario, rate) in &self.rate {
            load.rates.insert(*scenario, rate.clone());
        }
        if !self.scenarios.is_empty() {
            load.rates.retain(|scenario, _| self.scenarios.contains(scenario));
            if let Some(burst) = &mut load.burst {
                burst.rates.retain(|scenario, _| self.scenarios.contains(scenario));
            }
            load.burst = load.burst.filter(|burst| !burst.rates.is_empty());
        }
        if let Some((scenario, _)) = self.rate.iter().find(|(scenario, _)| !load.rates.contains_key(scenario))
        {
            bail!("--rate names {scenario}, which --scenarios leaves out");
        }
        load.seconds = self.seconds.unwrap_or(load.seconds);
        let variants = self.variants()?;
        let plan = Plan {
            version: Plan::VERSION,
            stamp: output.stamp.clone(),
            started: output.started.clone(),
            profile: self.profile.clone(),
            order: balanced(variants.len(), self.runs.unwrap_or(profile.runs), self.seed),
            load,
            seed: self.seed,
            variants,
            settings: Delays::from_environment(),
            host,
            docker: self.docker,
        };
        // What is begun can be read back.
        plan.check()?;
        Ok(plan)
    }

    fn variants(&self) -> Result<Vec<Variant>> {
        if self.against_itself {
            let mode = match self.modes[..] {
                [mode] => mode,
                _ => Mode::Async,
            };
            let variant = |name: &str, env| Variant { name: name.to_owned(), mode, env };
            return Ok(vec![
                variant("A", BTreeMap::new()),
                variant("B", self.with.iter().cloned().collect()),
            ]);
        }
        match self.modes[..] {
            [first, second] if first == second => {
                bail!("--modes names {first} twice: --self compares a mode with itself")
            }
            [_] | [_, _] => Ok(self.modes.iter().map(|mode| Variant::of(*mode)).collect()),
            _ => bail!("--modes takes one mode or two"),
        }
    }
}

pub fn scenario(text: &str) -> Result<Scenario> {
    Scenario::find(&text.to_lowercase()).with_context(|| format!("there is no scenario {text}: s1 to s6"))
}

fn rate(text: &str) -> Result<(Scenario, String)> {
    let (name, rate) = text.split_once('=').context("say it like s6=200")?;
    per_second(rate)?;
    Ok((scenario(name)?, rate.to_owned()))
}

fn setting(text: &str) -> Result<(String, String)> {
    let (name, value) = text.split_once('=').context("say it like EMAIL_DELAY_MS=520")?;
    Ok((name.to_owned(), value.to_owned()))
}
