//! Results made by hand, for the tests of what is shown: three runs of each variant with plausible distributions, two
//! curves, a grid of two by two cells, a stall.

use std::collections::BTreeMap;

use contract::Scenario;

use crate::breakeven::grid::{Cell, Conditions, Grid, Taken};
use crate::compare::plan::balanced;
use crate::coordinated_omission::Omission;
use crate::rate::curve::{Curve, Point};
use crate::results::{Beside, Results};
use measure::backlog::Backlog;
use measure::crosscheck::CrossCheck;
use measure::drain::Drain;
use measure::host::{Host, Servers};
use measure::load_profile::{self, Delays};
use measure::outcomes::Outcome;
use measure::record::{Cost, Plan, PlannedRun, Run, Variant};
use measure::resource_usage::{Parts, Watched};
use measure::stored::Stored;
use measure::times::Times;
use stack::Mode;

/// Both modes, three runs each, with everything that a folder of results can hold.
pub fn results() -> Results {
    let mut results = of(&[("sync", Mode::Sync), ("async", Mode::Async)], 3);
    results.beside.curves = vec![curve("sync", 1.0), curve("async", 2.0)];
    results.beside.grid = Some(grid());
    results.beside.omission = Some(Omission {
        version: 1,
        mode: Mode::Sync,
        seconds: 20,
        stall_ms: 2000,
        rate: 50,
        users: 1,
        closed: Times::of((0..1000).map(|at| if at == 500 { 2_000_000 } else { 3_000 + at })),
        open: Times::of((0..1000).map(|at| if at < 100 { 20_000 * (at + 1) } else { 3_000 + at })),
    });
    results
}

pub fn of(variants: &[(&str, Mode)], runs: u32) -> Results {
    let variant =
        |(name, mode): &(&str, Mode)| Variant { name: (*name).into(), mode: *mode, env: BTreeMap::new() };
    let plan = Plan {
        version: Plan::VERSION,
        stamp: "20260102T030405Z".into(),
        started: "2026-01-02 03:04 UTC".into(),
        profile: "quick".into(),
        load: load_profile::find("quick").unwrap().load,
        seed: 1,
        variants: variants.iter().map(variant).collect(),
        order: balanced(variants.len(), runs, 1),
        settings: Delays(BTreeMap::from([("EMAIL_DELAY_MS".into(), "500".into())])),
        host: host(),
        docker: false,
    };
    let runs = plan.planned_runs().map(run).collect();
    Results { plan, runs, beside: Beside::default() }
}

fn host() -> Host {
    Host {
        cores: 2,
        cpu: "Example <CPU>".into(),
        memory_gib: 23.5,
        kernel: "6.1".into(),
        revision: "abc1234".into(),
        build: "release".into(),
        engine: None,
        k6: "v1.1.0".into(),
    }
}

fn run(PlannedRun { index, variant }: PlannedRun<'_>) -> Run {
    let sync = variant.mode == Mode::Sync;
    let parts =
        |services, broker, database| Parts { services, broker: if sync { 0.0 } else { broker }, database };
    let cost = Cost {
        workflows: 160,
        cpu: parts(1.5, 2.5, 1.0 + index as f64 / 10.0),
        bytes: Some(parts(2_000_000.0, 3_000_000.0, 4_000_000.0)),
    };
    Run {
        index,
        variant: variant.name.clone(),
        mode: variant.mode,
        started: "2026-01-02 03:04:05 UTC".into(),
        servers: Servers { postgresql: "15.8".into(), rabbitmq: (!sync).then(|| "4.0.5".into()) },
        scenarios: Scenario::ALL
            .map(|scenario| (scenario, outcome(variant.mode, scenario, index as u64)))
            .into(),
        drain: Drain { seconds: 1.23, ..Drain::default() },
        cross_checks: vec![CrossCheck {
            what: "clicks stored".into(),
            expected: "5".into(),
            found: "5".into(),
            ok: true,
        }],
        unreadable_journal_lines: 0,
        watched: Watched {
            seconds: 38.0,
            cpu: Some(parts(6.0, 9.0, 5.0)),
            k6_cpu: 12.0,
            bytes: None,
            memory: Some(parts(40.0, 180.0, 90.0)),
            others: Some(0.02),
        },
        costs: Scenario::ALL.map(|scenario| (scenario, cost.clone())).into(),
        in_progress: BTreeMap::from([(Scenario::S1, 2.6), (Scenario::S2, 10.2), (Scenario::S4, 0.8)]),
    }
}

/// In microseconds: what the work takes, and what telling takes.
fn outcome(mode: Mode, scenario: Scenario, index: u64) -> Outcome {
    let work = match scenario {
        Scenario::S1 => 500_000,
        Scenario::S2 => 2_000_000,
        Scenario::S4 => 10_000_000,
        _ => 3_000,
    };
    let count = if scenario == Scenario::S4 { 3 } else { 150 };
    let spread = |from: u64| Times::of((0..count).map(|at| from + 7 * index + at * at / 10));
    let requests = if scenario == Scenario::S4 { 3 } else { 1_234_567 };
    Outcome {
        requests,
        expected: requests,
        acknowledge: spread(if mode == Mode::Sync { work } else { 2_000 }),
        complete: spread(if mode == Mode::Sync { work } else { work + 9_000 }),
        backlog: Backlog {
            step_ms: 150,
            at: (0..240_u32).map(|at| at.min(240 - at) / 20).collect(),
            peak: 12,
            drain_seconds: 0.4,
        },
        effects: BTreeMap::from([("email: sent".into(), requests)]),
        ..Outcome::default()
    }
}

fn curve(variant: &str, slow: f64) -> Curve {
    let point = |rate: u32| {
        let load = f64::from(rate) * slow;
        let late = load > 1500.0;
        let base = if late { 400_000 } else { 2_000 + u64::from(rate) };
        let times = Times::of((0..300).map(|at| base + at * 20));
        Point {
            rate: f64::from(rate),
            acknowledge: times.clone(),
            complete: times,
            completed_per_second: load.min(1500.0) / slow,
            unexpected: 0,
            dropped: 0,
            peak_backlog: rate / 10,
            backlog_growth: if late { 30.0 } else { 0.0 },
            why_not: late.then(|| "the backlog grows".into()),
        }
    };
    let points: Vec<Point> = [200, 400, 800, 1600].map(point).into();
    let sustained = points.iter().filter(|point| point.why_not.is_none()).map(|point| point.rate);
    Curve {
        version: 1,
        scenario: Scenario::S6,
        variant: variant.into(),
        bound_ms: 100.0,
        seconds: 10,
        sustainable: sustained.fold(None, |most, rate| Some(most.map_or(rate, |most: f64| most.max(rate)))),
        limited_by: None,
        points,
    }
}

fn grid() -> Grid {
    let mut cells = Vec::new();
    for width in [1, 3] {
        for service_ms in [0, 20] {
            for rate in [5, 50] {
                let conditions = Conditions { service_ms, width, rate, payload: 100 };
                let told = |steps: u64, extra: u64| {
                    (0..3)
                        .map(|round| taken(steps * u64::from(service_ms) * 1000 + extra + round * 10))
                        .collect()
                };
                let taken = BTreeMap::from([
                    ("sync".to_owned(), told(width as u64, 3_000)),
                    ("sync-concurrent".to_owned(), told(1, 3_100)),
                    ("async".to_owned(), told(0, 2_000)),
                ]);
                cells.push(Cell { conditions, taken });
            }
        }
    }
    let variants = ["sync", "sync-concurrent", "async"].map(str::to_owned).into();
    Grid { version: 1, started: "2026-01-02 05:00 UTC".into(), host: host(), seconds: 6, variants, cells }
}

fn taken(us: u64) -> Taken {
    let times = Times::of((0..50).map(|at| us + at * 3));
    Taken { acknowledge: times.clone(), complete: times, cpu_ms_per_workflow: 4.0, problems: Vec::new() }
}
