//! The grid, and which of its stacks comes when: variants next to each other under the same conditions, each round in the
//! opposite order, so that a machine that gets slower or faster all the time is no advantage to any.

use std::collections::BTreeMap;
use std::fmt;

use contract::events::PRODUCT_RECEIVERS;

use super::grid::Conditions;
use measure::analysis::format::counted;
use measure::record::Variant;
use stack::Mode;

pub struct Kind {
    pub name: &'static str,
    mode: Mode,
    /// How sync mode calls the receivers; nothing in async mode.
    calls: Option<&'static str>,
}

pub const VARIANTS: [Kind; 3] = [
    Kind { name: "sync", mode: Mode::Sync, calls: Some("sequential") },
    Kind { name: "sync-concurrent", mode: Mode::Sync, calls: Some("concurrent") },
    Kind { name: "async", mode: Mode::Async, calls: None },
];

pub struct Plan {
    service_ms: Vec<u32>,
    widths: Vec<usize>,
    rates: Vec<u32>,
    payloads: Vec<u32>,
}

/// One stack.
pub struct PlannedStack {
    pub variant: Variant,
    pub round: u32,
    service_ms: u32,
    width: usize,
}

impl Plan {
    pub fn full() -> Self {
        Self {
            service_ms: vec![0, 5, 20, 100],
            widths: vec![1, PRODUCT_RECEIVERS],
            rates: vec![10, 50, 200],
            payloads: vec![100, 4000],
        }
    }

    pub fn quick() -> Self {
        Self {
            service_ms: vec![0, 20],
            widths: vec![PRODUCT_RECEIVERS],
            rates: vec![10, 100],
            payloads: vec![100],
        }
    }

    pub fn stacks(&self, rounds: u32, seed: u64) -> Vec<PlannedStack> {
        let mut stacks = Vec::new();
        for round in 0..rounds {
            let groups = self.widths.iter().flat_map(|width| self.service_ms.iter().map(|ms| (*width, *ms)));
            for (group, (width, service_ms)) in groups.enumerate() {
                // One receiver is called at the same time as no other: that is the variant `sync`.
                let mut kinds: Vec<&Kind> =
                    VARIANTS.iter().filter(|kind| width > 1 || kind.calls != Some("concurrent")).collect();
                // Another begins in each group, so that none always comes first.
                let begin = (seed + group as u64) % kinds.len() as u64;
                kinds.rotate_left(usize::try_from(begin).unwrap_or(0));
                if round % 2 == 1 {
                    kinds.reverse();
                }
                stacks.extend(kinds.into_iter().map(|kind| planned(kind, round, service_ms, width)));
            }
        }
        stacks
    }

    /// What is measured on a stack, in its round's order.
    pub fn conditions(&self, planned: &PlannedStack) -> Vec<Conditions> {
        let PlannedStack { service_ms, width, .. } = *planned;
        let of = |payload, rate| Conditions { service_ms, width, rate, payload };
        let mut all: Vec<Conditions> = self
            .payloads
            .iter()
            .flat_map(|payload| self.rates.iter().map(|rate| of(*payload, *rate)))
            .collect();
        if planned.round % 2 == 1 {
            all.reverse();
        }
        all
    }

    /// About how long a stack takes, start and end included.
    pub fn seconds(&self, planned: &PlannedStack, load: u64) -> u64 {
        let around = match planned.variant.mode {
            Mode::Sync => 9,
            Mode::Async | Mode::Stream => 15,
        };
        around + self.conditions(planned).len() as u64 * (load + 1)
    }

    /// For people.
    pub fn size(&self) -> String {
        format!("{} rates and {} on each,", self.rates.len(), counted(self.payloads.len() as u64, "payload"))
    }
}

fn planned(kind: &Kind, round: u32, service_ms: u32, width: usize) -> PlannedStack {
    let mut env = BTreeMap::from([
        ("PRODUCT_UPDATE_DELAY_MS".to_owned(), service_ms.to_string()),
        ("FANOUT_WIDTH".to_owned(), width.to_string()),
    ]);
    env.extend(kind.calls.map(|calls| ("FANOUT_CALLS".to_owned(), calls.to_owned())));
    PlannedStack {
        variant: Variant { name: kind.name.to_owned(), mode: kind.mode, env },
        round,
        service_ms,
        width,
    }
}

impl fmt::Display for PlannedStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { variant, service_ms, width, .. } = self;
        write!(f, "{}, {} of {service_ms} ms", variant.name, counted(*width as u64, "receiver"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_arm_is_measured_in_every_cell_once_a_round() {
        let plan = Plan::full();
        let stacks = plan.stacks(2, 1);
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for planned in &stacks {
            for conditions in plan.conditions(planned) {
                *counts.entry(format!("{} {conditions:?}", planned.variant.name)).or_default() += 1;
            }
        }
        // Four service times, three rates, two payloads; two variants for one receiver, three for three.
        assert_eq!(counts.len(), 4 * 3 * 2 * (2 + 3));
        assert!(counts.values().all(|count| *count == 2));
    }

    #[test]
    fn arms_of_one_condition_are_neighbours_and_each_comes_first_as_often() {
        let stacks = Plan::full().stacks(2, 1);
        let wide: Vec<&PlannedStack> = stacks.iter().filter(|planned| planned.width == 3).collect();
        for group in wide.chunks(3) {
            assert!(group.iter().all(|planned| planned.service_ms == group[0].service_ms));
        }
        let first = |name: &str| wide.chunks(3).filter(|group| group[0].variant.name == name).count();
        assert!(VARIANTS.iter().all(|variant| (2..=3).contains(&first(variant.name))));
        // ABC in one round, CBA in the next.
        let names = |stacks: &[&PlannedStack]| {
            stacks.iter().map(|planned| planned.variant.name.clone()).collect::<Vec<_>>()
        };
        let mut again = names(&wide[12..15]);
        again.reverse();
        assert_eq!(names(&wide[..3]), again);
    }

    #[test]
    fn an_arm_differs_from_the_others_in_its_calls_only() {
        let stacks = Plan::quick().stacks(1, 1);
        let of = |name: &str| {
            stacks.iter().find(|planned| planned.variant.name == name).unwrap().variant.env.clone()
        };
        assert_eq!(of("sync")["FANOUT_CALLS"], "sequential");
        assert_eq!(of("sync-concurrent")["FANOUT_CALLS"], "concurrent");
        for name in ["sync", "sync-concurrent", "async"] {
            assert_eq!(
                (of(name)["FANOUT_WIDTH"].as_str(), of(name)["PRODUCT_UPDATE_DELAY_MS"].as_str()),
                ("3", "0")
            );
        }
        assert_eq!(of("async").len(), 2);
    }
}
