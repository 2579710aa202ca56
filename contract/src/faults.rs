//! Where fault runs interfere with a service: failpoints, and protections that can be disabled.

use std::fmt;

use clap::ValueEnum;
use serde::Serialize;

use crate::Mode;

/// The variable that makes a process abort at the n-th passing of a failpoint, as `before_ack:3`.
pub const FAILPOINT: &str = "FAILPOINT";
/// The variable that disables a protection of a process.
pub const DISABLED_PROTECTION: &str = "DISABLED_PROTECTION";
/// The variable that makes a process publish every message twice.
pub const DELIVER_TWICE: &str = "DELIVER_TWICE";

/// A place in the code where a process can be made to abort, in the order in which an event passes them. The doc
/// comments are the explanations that `./study faults --list` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[clap(rename_all = "snake_case")]
#[serde(rename_all = "snake_case")]
pub enum Failpoint {
    /// a peer is about to be called
    BeforeCall,
    /// a peer has answered
    AfterCall,
    /// a transaction is about to be committed
    BeforeCommit,
    /// a transaction is committed, and nothing has happened since
    AfterCommit,
    /// a request has been worked on and is not answered
    BeforeReply,
    /// half of several messages are published, or half of several are settled
    MidBatch,
    /// messages are with the broker and not confirmed
    AfterPublishBeforeConfirm,
    /// messages are confirmed and still stand in the outbox
    AfterConfirmBeforeDelete,
    /// a copy is in a delay or dead-letter queue, the original is not acknowledged
    AfterAsideBeforeAck,
    /// an event is applied and not acknowledged
    BeforeAck,
}

impl Failpoint {
    pub const ALL: [Failpoint; 10] = [
        Failpoint::BeforeCall,
        Failpoint::AfterCall,
        Failpoint::BeforeCommit,
        Failpoint::AfterCommit,
        Failpoint::BeforeReply,
        Failpoint::MidBatch,
        Failpoint::AfterPublishBeforeConfirm,
        Failpoint::AfterConfirmBeforeDelete,
        Failpoint::AfterAsideBeforeAck,
        Failpoint::BeforeAck,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Failpoint::BeforeCall => "before_call",
            Failpoint::AfterCall => "after_call",
            Failpoint::BeforeCommit => "before_commit",
            Failpoint::AfterCommit => "after_commit",
            Failpoint::BeforeReply => "before_reply",
            Failpoint::MidBatch => "mid_batch",
            Failpoint::AfterPublishBeforeConfirm => "after_publish_before_confirm",
            Failpoint::AfterConfirmBeforeDelete => "after_confirm_before_delete",
            Failpoint::AfterAsideBeforeAck => "after_aside_before_ack",
            Failpoint::BeforeAck => "before_ack",
        }
    }

    /// Whether services in this mode pass it.
    pub const fn exists_in(self, mode: Mode) -> bool {
        match self {
            Failpoint::BeforeCall | Failpoint::AfterCall => matches!(mode, Mode::Sync),
            Failpoint::BeforeCommit | Failpoint::AfterCommit | Failpoint::BeforeReply => true,
            _ => mode.has_broker(),
        }
    }
}

/// A protection that can be disabled, to see that the checker notices its absence. The doc comments are the
/// explanations that `./study faults --list` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// Without it a message counts as safe as soon as it is sent
    Confirms,
    /// Without it an event is acknowledged before it is applied
    AckAfterCommit,
    /// Without it an event is applied each time it is delivered
    Inbox,
    /// Without it an event is published after the commit, and no row remembers it
    Outbox,
    /// Without it publishers share a channel, and each takes the next confirm for its own
    OwnChannel,
    /// Without it reserved stock is not released when the payment fails
    Compensation,
    /// Without it nothing is counted or timed. No protection, but its cost is measured in the same way
    Metrics,
}

impl Protection {
    pub const ALL: [Protection; 7] = [
        Protection::Confirms,
        Protection::AckAfterCommit,
        Protection::Inbox,
        Protection::Outbox,
        Protection::OwnChannel,
        Protection::Compensation,
        Protection::Metrics,
    ];

    /// As it is typed.
    pub const fn name(self) -> &'static str {
        match self {
            Protection::Confirms => "confirms",
            Protection::AckAfterCommit => "ack-after-commit",
            Protection::Inbox => "inbox",
            Protection::Outbox => "outbox",
            Protection::OwnChannel => "own-channel",
            Protection::Compensation => "compensation",
            Protection::Metrics => "metrics",
        }
    }
}

impl fmt::Display for Failpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Protection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_those_that_the_command_line_takes() {
        for failpoint in Failpoint::value_variants() {
            assert_eq!(Failpoint::from_str(failpoint.name(), false), Ok(*failpoint));
        }
        for protection in Protection::value_variants() {
            assert_eq!(Protection::from_str(protection.name(), false), Ok(*protection));
        }
        assert_eq!(
            (Failpoint::ALL.len(), Protection::ALL.len()),
            (Failpoint::value_variants().len(), Protection::value_variants().len())
        );
    }
}
