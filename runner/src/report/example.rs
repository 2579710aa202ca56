//! A comparison made by hand, for the tests of what is shown: large counts, and one thing wrong.

use std::collections::BTreeMap;

use super::crosscheck::CrossCheck;
use super::drain::Drain;
use super::figures::Figures;
use super::host::{Host, Servers};
use super::join::Outcome;
use super::profile::{Delays, Profile};
use super::result::{Comparison, ModeResult};
use super::scenario::Scenario;
use crate::local::Mode;

pub(super) fn comparison() -> Comparison {
    let modes = [Mode::Sync, Mode::Async].map(mode).into();
    Comparison {
        started: "2026-01-02 03:04 UTC".into(),
        profile: Profile::Smoke,
        load: Profile::Smoke.load(),
        settings: Delays(BTreeMap::from([("EMAIL_DELAY_MS", "500".to_owned())])),
        host: Host {
            cores: 2,
            cpu: "Example".into(),
            memory_gib: 23.5,
            kernel: "6.1".into(),
            revision: "abc1234".into(),
            build: "release",
            engine: None,
            k6: "v1.1.0".into(),
        },
        problems: vec!["S2 sync: 1 applied twice".into()],
        modes,
    }
}

fn mode(mode: Mode) -> ModeResult {
    ModeResult {
        mode,
        servers: Servers { postgresql: "15.8".into(), rabbitmq: None },
        scenarios: Scenario::ALL.map(|scenario| (scenario, outcome(mode, scenario))).into(),
        drain: Drain { seconds: 1.23, ..Drain::default() },
        cross_checks: vec![CrossCheck {
            what: "clicks stored",
            expected: "5".into(),
            found: "5".into(),
            ok: true,
        }],
        unreadable_journal_lines: 0,
    }
}

fn outcome(mode: Mode, scenario: Scenario) -> Outcome {
    let slow = if mode == Mode::Sync { 2_000_000 } else { 4_000 };
    Outcome {
        requests: 1_234_567,
        expected: 1_234_567,
        twice: u64::from(mode == Mode::Sync && scenario == Scenario::S2),
        acknowledge: Figures::of((1..200).map(|step| slow + 100 * step)).unwrap(),
        complete: Figures::of((1..200).map(|step| 2_000_000 + 100_000 * step)).unwrap(),
        ..Outcome::default()
    }
}
