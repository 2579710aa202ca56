//! Order, times and targets of the faults, as a function of seed, mode and chosen faults, so that a seed repeats a run. The clock
//! decides only how much of the schedule takes place.

use std::collections::VecDeque;

use contract::events::queues;
use contract::{Failpoint, Mode, Service};

use super::catalogue::{Choice, Fault};
use super::generator::Random;
use super::topology::{self, Link, Queue};

/// One fault, drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Planned {
    pub fault: Fault,
    /// Seconds of rest before it.
    pub rest: f64,
    pub action: Action,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    Kill {
        service: &'static str,
        down: f64,
    },
    Failpoint {
        service: &'static str,
        point: Failpoint,
        passing: u64,
    },
    Pause {
        service: &'static str,
        seconds: f64,
    },
    Restart {
        service: &'static str,
    },
    BrokerKill {
        down: f64,
    },
    BrokerMemory {
        seconds: f64,
    },
    BrokerDisk {
        seconds: f64,
    },
    ConnectionsClosed,
    MissingQueue {
        queue: Queue,
        seconds: f64,
    },
    QueueDeleted {
        queue: Queue,
    },
    DatabaseKill,
    /// Of all services if none is named.
    BackendsTerminated {
        service: Option<&'static str>,
    },
    NetCut {
        link: Link,
        seconds: f64,
    },
    NetReset {
        link: Link,
        seconds: f64,
    },
    NetDelay {
        link: Link,
        seconds: f64,
        ms: u64,
    },
    NetBlackhole {
        link: Link,
        seconds: f64,
    },
    Duplicates {
        seconds: f64,
    },
    Poison,
    Backlog {
        queue: Queue,
        seconds: f64,
    },
    None {
        seconds: f64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Length {
    /// Each chosen fault this often.
    Runs(u32),
    /// Endless rounds of all chosen faults; the caller stops after these minutes.
    Minutes(f64),
}

impl Length {
    /// Whether there is time for the long faults.
    fn is_long(self) -> bool {
        matches!(self, Self::Minutes(minutes) if minutes >= 5.0)
    }
}

pub struct Schedule {
    random: Random,
    mode: Mode,
    choices: Vec<Choice>,
    length: Length,
    waiting: VecDeque<Choice>,
    /// For `Runs`: the only round has been drawn.
    drawn: bool,
    /// The next services and failpoints, which are chosen evenly.
    services: VecDeque<&'static str>,
    points: VecDeque<Failpoint>,
    /// Queues that were planned to be missing.
    missing: u32,
}

impl Schedule {
    pub fn new(seed: u64, mode: Mode, choices: &[Choice], length: Length) -> Self {
        Self {
            random: Random::new(seed, 0),
            mode,
            choices: choices.to_vec(),
            length,
            waiting: VecDeque::new(),
            drawn: false,
            services: VecDeque::new(),
            points: VecDeque::new(),
            missing: 0,
        }
    }

    fn round(&mut self) -> Vec<Choice> {
        let mut round = Vec::new();
        for choice in &self.choices {
            let times = match (self.length, choice) {
                (Length::Runs(runs), Choice { fault: Fault::Failpoint, point: None }) => {
                    topology::failpoints(self.mode).len() * runs as usize
                }
                (Length::Runs(runs), _) => runs as usize,
                // One chosen failpoint occurs as often as one of all would.
                (Length::Minutes(_), Choice { point: Some(_), .. }) => 1,
                (Length::Minutes(_), _) => choice.fault.weight(self.mode).max(1),
            };
            round.extend(std::iter::repeat_n(*choice, times));
        }
        if let Length::Minutes(_) = self.length {
            shuffle(&mut self.random, &mut round);
        }
        round
    }

    fn seconds(&mut self, from: f64, to: f64) -> f64 {
        from + (to - from) * self.random.below(1001) as f64 / 1000.0
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.below(all.len() as u64) as usize]
    }

    /// Each of the ten services once before any of them again.
    fn service(&mut self) -> &'static str {
        if self.services.is_empty() {
            let mut names = Service::ALL.map(Service::name);
            shuffle(&mut self.random, &mut names);
            self.services.extend(names);
        }
        self.services.pop_front().unwrap_or(Service::ALL[0].name())
    }

    fn point(&mut self) -> Failpoint {
        if self.points.is_empty() {
            self.points.extend(topology::failpoints(self.mode));
        }
        self.points.pop_front().unwrap_or(Failpoint::BeforeCommit)
    }

    fn link(&mut self) -> Link {
        self.one_of(&topology::links(self.mode))
    }

    /// Every second time a queue whose writer also publishes events that find their queue, which is the harder case.
    fn missing_queue(&mut self) -> Queue {
        self.missing += 1;
        let beside =
            topology::can_be_missing().into_iter().find(|queue| queue.name == queues::STOCK_REJECTED.name);
        let any = self.one_of(&topology::can_be_missing());
        beside.filter(|_| self.missing % 2 == 1).unwrap_or(any)
    }

    fn action(&mut self, choice: Choice) -> Action {
        let long = self.length.is_long();
        match choice.fault {
            Fault::Kill => Action::Kill { service: self.service(), down: self.seconds(0.0, 2.0) },
            Fault::Failpoint => {
                let point = choice.point.unwrap_or_else(|| self.point());
                let service = self.one_of(&topology::passing(self.mode, point));
                // Rare places must be reached soon.
                let rare = service == Service::Report.name()
                    || matches!(point, Failpoint::MidBatch | Failpoint::AfterAsideBeforeAck);
                let passing = if rare { 1 } else { 1 + self.random.below(6) };
                Action::Failpoint { service, point, passing }
            }
            Fault::Pause => {
                let most = if long { 30.0 } else { 10.0 };
                Action::Pause { service: self.service(), seconds: self.seconds(5.0, most) }
            }
            Fault::Restart => Action::Restart { service: self.service() },
            Fault::BrokerKill => Action::BrokerKill { down: self.seconds(0.0, 3.0) },
            Fault::BrokerMemory => Action::BrokerMemory { seconds: self.seconds(5.0, 15.0) },
            Fault::BrokerDisk => Action::BrokerDisk { seconds: self.seconds(5.0, 15.0) },
            Fault::ConnectionsClosed => Action::ConnectionsClosed,
            Fault::MissingQueue => {
                let queue = self.missing_queue();
                Action::MissingQueue { queue, seconds: self.seconds(2.0, 5.0) }
            }
            Fault::QueueDeleted => Action::QueueDeleted { queue: self.one_of(&topology::deletable()) },
            Fault::DatabaseKill => Action::DatabaseKill,
            Fault::BackendsTerminated => {
                let all = self.random.below(3) == 0;
                let with_database: Vec<_> = topology::with_database().map(Service::name).collect();
                let service = (!all).then(|| self.one_of(&with_database));
                Action::BackendsTerminated { service }
            }
            Fault::NetCut => Action::NetCut { link: self.link(), seconds: self.seconds(2.0, 15.0) },
            Fault::NetReset => Action::NetReset { link: self.link(), seconds: self.seconds(2.0, 15.0) },
            Fault::NetDelay => {
                let ms = 20 + self.random.below(381);
                Action::NetDelay { link: self.link(), seconds: self.seconds(2.0, 15.0), ms }
            }
            Fault::NetBlackhole => {
                Action::NetBlackhole { link: self.link(), seconds: self.seconds(2.0, 15.0) }
            }
            Fault::Duplicates => Action::Duplicates { seconds: self.seconds(5.0, 10.0) },
            Fault::Poison => Action::Poison,
            Fault::Backlog => {
                let queue = self.one_of(&topology::backlog_targets());
                Action::Backlog { queue, seconds: if long { 60.0 } else { 10.0 } }
            }
            Fault::None => Action::None { seconds: 20.0 },
        }
    }
}

impl Iterator for Schedule {
    type Item = Planned;

    fn next(&mut self) -> Option<Planned> {
        if self.waiting.is_empty() && !(self.drawn && matches!(self.length, Length::Runs(_))) {
            self.drawn = true;
            let round = self.round();
            self.waiting.extend(round);
        }
        let choice = self.waiting.pop_front()?;
        let rest = self.seconds(0.5, 3.0);
        Some(Planned { fault: choice.fault, rest, action: self.action(choice) })
    }
}

/// The Fisher-Yates shuffle.
fn shuffle<T>(random: &mut Random, all: &mut [T]) {
    for last in (1..all.len()).rev() {
        all.swap(last, random.below(last as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(seed: u64, mode: Mode, count: usize) -> Vec<Planned> {
        Schedule::new(seed, mode, &Choice::all(mode), Length::Minutes(10.0)).take(count).collect()
    }

    #[test]
    fn a_seed_repeats_its_schedule_and_another_one_does_not() {
        for mode in Mode::COMPARED {
            assert_eq!(plan(7, mode, 200), plan(7, mode, 200));
            assert_ne!(plan(7, mode, 20), plan(8, mode, 20));
        }
    }

    #[test]
    fn a_round_holds_every_fault_of_its_mode_and_every_failpoint() {
        for mode in Mode::COMPARED {
            let all = Choice::all(mode);
            let round: usize = all.iter().map(|choice| choice.fault.weight(mode)).sum();
            let planned = plan(3, mode, round);
            for Choice { fault, .. } in all {
                assert_eq!(
                    planned.iter().filter(|p| p.fault == fault).count(),
                    fault.weight(mode),
                    "{fault:?}"
                );
            }
            for wanted in topology::failpoints(mode) {
                let met =
                    |p: &Planned| matches!(p.action, Action::Failpoint { point, .. } if point == wanted);
                assert_eq!(planned.iter().filter(|p| met(p)).count(), 1, "{wanted}");
            }
            assert!(planned.iter().all(|p| p.fault.exists_in(mode)));
        }
    }

    #[test]
    fn runs_are_counted_and_failpoints_count_each_for_itself() {
        let choices = ["kill", "failpoint", "failpoint:before_ack"].map(|name| name.parse().unwrap());
        let planned: Vec<Planned> = Schedule::new(1, Mode::Async, &choices, Length::Runs(3)).collect();
        assert_eq!(planned.len(), 3 + 3 * 8 + 3);
        let met = |p: &&Planned| matches!(p.action, Action::Failpoint { point, .. } if point == Failpoint::BeforeAck);
        assert_eq!(planned.iter().filter(met).count(), 6);
    }

    #[test]
    fn kills_reach_every_service_before_one_is_killed_again() {
        let choices = ["kill".parse().unwrap()];
        let planned = Schedule::new(5, Mode::Sync, &choices, Length::Minutes(1.0)).take(10);
        let killed = planned.filter_map(|p| match p.action {
            Action::Kill { service, .. } => Some(service),
            _ => None,
        });
        assert_eq!(killed.collect::<std::collections::HashSet<_>>().len(), 10);
    }
}
