//! Processor time while something is measured, by who took it: the services that are measured, broker, database, load
//! generator, the rest of the stacks, and everybody else.

use std::process;

use serde::{Deserialize, Serialize};

use measure::resource_usage::{Machine, cpu_apart, cpu_of};
use stack::restart;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What is measured.
    Service,
    Broker,
    Database,
    /// Stands by.
    Rest,
}

/// Processor seconds of one stretch of time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    pub service: f64,
    pub broker: f64,
    pub database: f64,
    /// Of the load generator.
    pub generator: f64,
    pub rest: f64,
    /// All that the processors had to give.
    pub machine: f64,
    /// Share of it that went to others than all these and this program, or was stolen.
    pub others: f64,
}

pub struct Meter {
    processes: Vec<(Group, u32)>,
    machine: Machine,
    groups: Cpu,
    own: f64,
    children: f64,
}

impl Meter {
    /// A process that ends before [`Meter::end`] is not seen; children of this program that end count as the load
    /// generator.
    pub fn start(processes: Vec<(Group, u32)>) -> Self {
        let groups = by_group(&processes);
        let (own, children) = cpu_apart(process::id());
        Self { processes, machine: Machine::read(), groups, own, children }
    }

    /// A process that was started meanwhile: all that it took counts.
    pub fn add(&mut self, group: Group, pid: u32) {
        self.processes.push((group, pid));
    }

    pub fn end(self) -> Cpu {
        let (busy, machine) = Machine::read().since(&self.machine);
        let (now, before) = (by_group(&self.processes), self.groups);
        let (own, children) = cpu_apart(process::id());
        let mut cpu = Cpu {
            service: now.service - before.service,
            broker: now.broker - before.broker,
            database: now.database - before.database,
            generator: children - self.children,
            rest: now.rest - before.rest,
            machine,
            others: 0.0,
        };
        let ours = cpu.service + cpu.broker + cpu.database + cpu.generator + cpu.rest + own - self.own;
        cpu.others = if machine > 0.0 { ((busy - ours) / machine).clamp(0.0, 1.0) } else { 0.0 };
        cpu
    }
}

impl Cpu {
    /// Share of all processors that the load generator took.
    pub fn generator_share(&self) -> f64 {
        if self.machine > 0.0 { self.generator / self.machine } else { 0.0 }
    }
}

/// Of servers with the processes that they have made.
fn by_group(processes: &[(Group, u32)]) -> Cpu {
    let mut sum = Cpu::default();
    for (group, pid) in processes {
        let (part, with_children) = match group {
            Group::Service => (&mut sum.service, false),
            Group::Broker => (&mut sum.broker, true),
            Group::Database => (&mut sum.database, true),
            Group::Rest => (&mut sum.rest, true),
        };
        let children = if with_children { restart::children(*pid) } else { Vec::new() };
        *part += cpu_of(*pid) + children.into_iter().map(cpu_of).sum::<f64>();
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn of_a_process_that_came_later_all_counts_and_of_one_that_was_there_what_is_new() {
        let me = process::id();
        let (mut late, early) = (Meter::start(Vec::new()), Meter::start(vec![(Group::Service, me)]));
        let before = cpu_of(me);
        let mut sum = 0_u64;
        while cpu_of(me) < before + 0.05 {
            sum = sum.wrapping_add(std::hint::black_box(1));
        }
        late.add(Group::Service, me);
        let (late, early) = (late.end(), early.end());
        assert!(sum > 0 && early.service >= 0.05 && late.service >= before + 0.05, "{late:?} {early:?}");
    }

    #[test]
    fn the_time_of_a_child_that_ended_is_the_load_generators() {
        let meter = Meter::start(Vec::new());
        let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
        let cpu = meter.end();
        assert!(cpu.generator >= 0.03 && cpu.generator_share() > 0.0, "{cpu:?}");
        assert!(cpu.machine > cpu.generator && cpu.service == 0.0, "{cpu:?}");
    }
}
