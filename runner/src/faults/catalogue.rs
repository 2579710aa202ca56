//! What can be broken, and what can be taken away: names as they are typed, and one line on each for `--list`.

use std::fmt;
use std::str::FromStr;

use clap::ValueEnum;

use super::topology;
use crate::local::Mode;

/// The doc comments are the explanations that are printed.
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
        let help = self.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        help.unwrap_or_default()
    }

    /// Where it can happen: without a broker there are no queues.
    pub fn modes(self) -> &'static [Mode] {
        match self {
            Self::Kill
            | Self::Failpoint
            | Self::Pause
            | Self::Restart
            | Self::DatabaseKill
            | Self::BackendsTerminated
            | Self::NetCut
            | Self::NetReset
            | Self::NetDelay
            | Self::NetBlackhole
            | Self::None => &[Mode::Sync, Mode::Async],
            Self::BrokerKill
            | Self::BrokerMemory
            | Self::BrokerDisk
            | Self::ConnectionsClosed
            | Self::MissingQueue
            | Self::QueueDeleted
            | Self::Duplicates
            | Self::Poison
            | Self::Backlog => &[Mode::Async],
        }
    }

    /// How often it comes in a round of all faults.
    pub fn weight(self, mode: Mode) -> usize {
        match self {
            Self::Kill => 8,
            Self::Failpoint => topology::points(mode).len(),
            Self::None => 0,
            _ => 1,
        }
    }
}

/// A fault to choose from; of failpoints perhaps only one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    pub fault: Fault,
    pub point: Option<&'static str>,
}

impl Choice {
    pub fn all(mode: Mode) -> Vec<Self> {
        let faults = Fault::value_variants().iter().filter(|fault| fault.modes().contains(&mode));
        let chosen = faults.filter(|fault| fault.weight(mode) > 0);
        chosen.map(|fault| Self { fault: *fault, point: None }).collect()
    }

    /// Whether this mode has it.
    pub fn exists_in(&self, mode: Mode) -> bool {
        self.fault.modes().contains(&mode)
            && self.point.is_none_or(|point| topology::points(mode).contains(&point))
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
        let all = [Mode::Sync, Mode::Async].map(topology::points).concat();
        match all.iter().find(|known| **known == point) {
            Some(point) if fault == Fault::Failpoint => Ok(Self { fault, point: Some(point) }),
            _ => Err(format!("{name} has no {point}: see --list")),
        }
    }
}

/// A protection that is taken away from all services, to see that the checker finds out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sabotage {
    /// A message counts as safe as soon as it is sent
    NoConfirms,
    /// An event is acknowledged before it is applied
    AckBeforeCommit,
    /// An event is applied each time it is delivered
    NoInbox,
    /// An event is published after the commit, without a row that remembers it
    NoOutbox,
    /// Publishers share a channel, and each believes the confirm that it gets
    SharedChannel,
    /// Reserved stock is not released when the payment fails
    NoCompensation,
}

impl Sabotage {
    pub fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// The faults that bring it to light.
    pub fn faults(self) -> Vec<Choice> {
        let names: &[&str] = match self {
            Self::NoConfirms => &["broker-kill", "missing-queue"],
            Self::AckBeforeCommit => &["kill", "failpoint:before_commit"],
            Self::NoInbox => &["duplicates", "failpoint:before_ack"],
            Self::NoOutbox => &["failpoint:after_commit", "broker-kill"],
            Self::SharedChannel => &["missing-queue"],
            Self::NoCompensation => &["none"],
        };
        names.iter().filter_map(|name| name.parse().ok()).collect()
    }
}

/// The text of `--list`.
pub fn list() -> String {
    let mut text = String::from("Faults (modes):\n");
    for fault in Fault::value_variants() {
        let modes: Vec<String> = fault.modes().iter().map(Mode::to_string).collect();
        text += &format!("  {:<20} {} ({})\n", fault.name(), fault.explanation(), modes.join(", "));
    }
    text += "\nPlaces of failpoint:NAME (modes):\n";
    for (point, explanation) in topology::POINTS {
        let modes =
            [Mode::Sync, Mode::Async].into_iter().filter(|mode| topology::points(*mode).contains(&point));
        let modes: Vec<String> = modes.map(|mode| mode.to_string()).collect();
        text += &format!("  {point:<28} {explanation} ({})\n", modes.join(", "));
    }
    text += "\nProtections that --sabotage takes away, and the faults that show it:\n";
    for sabotage in Sabotage::value_variants() {
        let help = sabotage.to_possible_value().and_then(|value| value.get_help().map(ToString::to_string));
        let faults: Vec<String> = sabotage.faults().iter().map(ToString::to_string).collect();
        text += &format!("  {:<20} {} ({})\n", sabotage.name(), help.unwrap_or_default(), faults.join(", "));
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
    fn every_sabotage_has_faults_of_async_mode_that_show_it() {
        for sabotage in Sabotage::value_variants() {
            let faults = sabotage.faults();
            assert!(
                !faults.is_empty() && faults.iter().all(|choice| choice.exists_in(Mode::Async)),
                "{sabotage:?}"
            );
        }
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
