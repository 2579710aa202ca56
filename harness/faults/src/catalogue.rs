//! The faults, and the protections that can be disabled: their names on the command line, and a line on each for `--list`.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;
use contract::{Failpoint, Mode, Protection};

use super::topology;

/// `--list` prints the doc comments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Fault {
    /// SIGKILL to a service at a random moment, started again after 0 to 2 s
    Kill,
    /// A service aborts at one exact place in its code; failpoint:NAME for one place
    Failpoint,
    /// SIGSTOP to a service for 5 to 30 s: it keeps its connections and does nothing
    Pause,
    /// SIGTERM to a service under load, started again when it has ended
    Restart,
    /// SIGKILL to RabbitMQ, started again after 0 to 3 s
    BrokerKill,
    /// RabbitMQ's memory alarm for 5 to 15 s: it takes no more messages
    BrokerMemory,
    /// RabbitMQ's disk alarm for 5 to 15 s: it takes no more messages
    BrokerDisk,
    /// Every connection to RabbitMQ is closed from its side
    ConnectionsClosed,
    /// Events are published to a queue that is gone, until its reader declares it again
    MissingQueue,
    /// An empty queue is deleted under its living consumer
    QueueDeleted,
    /// SIGKILL to all processes of PostgreSQL, started again at once
    DatabaseKill,
    /// PostgreSQL ends the connections of one service or of all
    BackendsTerminated,
    /// One connection between two processes is closed and refused for 2 to 15 s
    NetCut,
    /// One connection between two processes is reset again and again for 2 to 15 s
    NetReset,
    /// Everything between two processes takes 20 to 400 ms longer each way for 2 to 15 s
    NetDelay,
    /// What is sent between two processes is held for 2 to 15 s, with the connections open
    NetBlackhole,
    /// Every message is published twice for 5 to 10 s
    Duplicates,
    /// Messages that no consumer can read arrive in every queue
    Poison,
    /// A consumer does nothing for 60 s (10 s in short runs) at full load, then works off what waited
    Backlog,
    /// Nothing is broken
    None,
}

impl Fault {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    pub fn explanation(self) -> String {
        help(self)
    }

    fn needs_broker(self) -> bool {
        matches!(
            self,
            Self::BrokerKill
                | Self::BrokerMemory
                | Self::BrokerDisk
                | Self::ConnectionsClosed
                | Self::MissingQueue
                | Self::QueueDeleted
                | Self::Duplicates
                | Self::Poison
                | Self::Backlog
        )
    }

    pub fn exists_in(self, mode: Mode) -> bool {
        mode.has_broker() || !self.needs_broker()
    }

    /// How often it occurs in a round of all faults.
    pub fn weight(self, mode: Mode) -> usize {
        match self {
            Self::Kill => 8,
            Self::Failpoint => topology::failpoints(mode).len(),
            Self::None => 0,
            _ => 1,
        }
    }
}

/// A chosen fault, or one failpoint of [`Fault::Failpoint`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub fault: Fault,
    pub point: Option<Failpoint>,
}

impl Choice {
    pub fn all(mode: Mode) -> Vec<Self> {
        let faults = Fault::value_variants().iter().filter(|fault| fault.exists_in(mode));
        let chosen = faults.filter(|fault| fault.weight(mode) > 0);
        chosen.map(|fault| Self { fault: *fault, point: None }).collect()
    }

    /// Whether this mode has it.
    pub fn exists_in(&self, mode: Mode) -> bool {
        self.fault.exists_in(mode) && self.point.is_none_or(|point| point.exists_in(mode))
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.point {
            Some(point) => write!(f, "{}:{point}", self.fault.name()),
            None => f.write_str(&self.fault.name()),
        }
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, point) = text.split_once(':').map_or((text, None), |(name, point)| (name, Some(point)));
        let fault = Fault::from_str(name, false).map_err(|_| format!("no fault {name}: see --list"))?;
        let Some(point) = point else { return Ok(Self { fault, point: None }) };
        match Failpoint::from_str(point, false) {
            Ok(point) if fault == Fault::Failpoint => Ok(Self { fault, point: Some(point) }),
            _ => Err(format!("{name} has no {point}: see --list")),
        }
    }
}

/// The faults that expose the absence of a protection.
pub fn faults_without(protection: Protection) -> Vec<Choice> {
    let names: &[&str] = match protection {
        Protection::Confirms => &["broker-kill", "missing-queue"],
        Protection::AckAfterCommit => &["kill", "failpoint:before_commit"],
        Protection::Inbox => &["duplicates", "failpoint:before_ack"],
        Protection::Outbox => &["failpoint:after_commit", "broker-kill"],
        Protection::OwnChannel => &["missing-queue"],
        Protection::Compensation => &["none"],
        // Its absence breaks nothing.
        Protection::Metrics => &[],
    };
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// The protections whose absence breaks an invariant.
pub fn checked_protections() -> impl Iterator<Item = Protection> {
    Protection::ALL.into_iter().filter(|protection| !faults_without(*protection).is_empty())
}

/// The doc comment of a value.
fn help(value: impl ValueEnum) -> String {
    let help = value.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
    help.unwrap_or_default()
}

fn modes(exists_in: impl Fn(Mode) -> bool) -> String {
    let modes = Mode::COMPARED.into_iter().filter(|mode| exists_in(*mode));
    modes.map(Mode::as_str).collect::<Vec<_>>().join(", ")
}

/// The text of `--list`.
pub fn list() -> String {
    let mut text = String::from("Faults (modes):\n");
    for fault in Fault::value_variants() {
        let modes = modes(|mode| fault.exists_in(mode));
        text += &format!("  {:<20} {} ({modes})\n", fault.name(), fault.explanation());
    }
    text += "\nPlaces of failpoint:NAME (modes):\n";
    for point in Failpoint::ALL {
        text += &format!("  {point:<28} {} ({})\n", help(point), modes(|mode| point.exists_in(mode)));
    }
    text += "\nProtections that --disable takes away, and the faults that show it:\n";
    for protection in checked_protections() {
        let faults: Vec<String> = faults_without(protection).iter().map(ToString::to_string).collect();
        text += &format!("  {protection:<20} {} ({})\n", help(protection), faults.join(", "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_chosen_by_its_name_and_explained() {
        for fault in Fault::value_variants() {
            assert_eq!(fault.name().parse(), Ok(Choice { fault: *fault, point: None }));
            assert!(list().contains(&format!("\n  {:<20} {}", fault.name(), fault.explanation())));
        }
    }

    #[test]
    fn the_faults_that_show_the_absence_of_a_protection_exist_in_async_mode() {
        for protection in checked_protections() {
            let faults = faults_without(protection);
            assert!(faults.iter().all(|choice| choice.exists_in(Mode::Async)), "{protection}");
        }
        assert_eq!(checked_protections().count(), 6);
    }

    #[test]
    fn one_place_of_failpoint_can_be_chosen_and_only_one_that_exists() {
        let choice: Choice = "failpoint:before_ack".parse().unwrap();
        assert_eq!(choice.to_string(), "failpoint:before_ack");
        assert!(choice.exists_in(Mode::Async) && !choice.exists_in(Mode::Sync));
        assert!("failpoint:nowhere".parse::<Choice>().is_err());
        assert!("kill:before_ack".parse::<Choice>().is_err());
    }
}
