//! Under which conditions the figures were measured, in words.

use contract::Scenario;

use super::model::Model;
use measure::record::{Plan, Run, settings};

/// Share of all processors that other programs may take before it is mentioned.
const QUIET: f64 = 0.05;

/// One line.
pub fn what(model: &Model<'_>) -> String {
    let plan = &model.results.plan;
    let variants = model.variants.iter();
    let variants = variants.map(|variant| {
        format!("{} ({} {})", variant.name, variant.runs, if variant.runs == 1 { "run" } else { "runs" })
    });
    let variants: Vec<String> = variants.collect();
    let host = &plan.host;
    format!(
        "{}, {}: profile {}, {} s of load in each run, on {} cores ({}), {} GiB, revision {}",
        plan.started,
        variants.join(" against "),
        plan.profile,
        plan.load.seconds,
        host.cores,
        host.cpu,
        host.memory_gib,
        host.revision
    )
}

/// `None` if other programs took little processor time.
pub fn noisy(runs: &[Run]) -> Option<String> {
    let loud = |run: &&Run| run.watched.others.is_some_and(|share| share > QUIET);
    let numbers: Vec<String> = runs.iter().filter(loud).map(|run| (run.index + 1).to_string()).collect();
    let most = runs.iter().filter_map(|run| run.watched.others).fold(0.0, f64::max);
    (!numbers.is_empty()).then(|| {
        let (run, numbers) = (if numbers.len() == 1 { "run" } else { "runs" }, numbers.join(", "));
        format!("Other programs took up to {:.0} % of the processors ({run} {numbers}), which widens the intervals.", most * 100.0)
    })
}

pub fn conditions(plan: &Plan) -> Vec<(&'static str, String)> {
    let host = &plan.host;
    let rate = |(scenario, rate): (&Scenario, &String)| {
        let unit = if rate.contains('/') { "" } else { "/s" };
        format!("{scenario} {rate}{unit}")
    };
    let rates = |rates: &std::collections::BTreeMap<Scenario, String>| {
        rates.iter().map(rate).collect::<Vec<_>>().join(", ")
    };
    let burst = plan.load.burst.as_ref().map_or(String::new(), |burst| {
        format!("; after {} s, for {} s: {}", burst.after, burst.seconds, rates(&burst.rates))
    });
    let own = plan.variants.iter().filter(|variant| !variant.env.is_empty());
    let own = own.map(|variant| format!("{} has {}", variant.name, settings(&variant.env)));
    let all: Vec<String> = [settings(&plan.settings.0)].into_iter().chain(own).collect();
    let order: Vec<&str> = plan.planned_runs().map(|planned| planned.variant.name.as_str()).collect();
    let place = match &host.engine {
        Some(engine) => format!("in containers of Docker {engine}, with the limits of the compose files"),
        None => "processes on one machine".to_owned(),
    };
    let load = &plan.load;
    vec![
        (
            "Machine",
            format!(
                "{} cores ({}), {} GiB, Linux {}; load generator, services and servers share it",
                host.cores, host.cpu, host.memory_gib, host.kernel
            ),
        ),
        ("Build", format!("revision {} ({} build), {place}, k6 {}", host.revision, host.build, host.k6)),
        ("Arrivals", format!("{}{burst}", rates(&load.rates))),
        (
            "Length",
            format!(
                "{} s of warm-up (dropped), {} s of load, {} s of each scenario alone for its cost",
                load.warm_up_seconds, load.seconds, load.cost_seconds
            ),
        ),
        ("Settings", all.join(", ")),
        ("Order of runs", order.join(", ")),
        ("Seed", plan.seed.to_string()),
    ]
}
