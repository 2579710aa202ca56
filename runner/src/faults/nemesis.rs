//! Breaks what the schedule says, and notes how long that was felt.

use serde::Serialize;

/// One fault as it took place. Times are seconds since the load began.
#[derive(Clone, Debug, Default, Serialize)]
pub struct FaultRecord {
    /// As in the catalogue.
    pub name: String,
    /// A service, a server, a link or a queue.
    pub target: String,
    /// What was drawn, and what came of it.
    pub detail: String,
    pub began: f64,
    /// When it was lifted: the process runs again, the network flows again.
    pub ended: f64,
    /// How long `/ready` of one of the affected services was not 200, from the first to the last time it was asked.
    pub unavailable_seconds: f64,
    /// From `ended` until every affected service is ready and a request has been accepted; `None` if that did not
    /// come within the limit.
    pub recovered_after_seconds: Option<f64>,
    /// Processes of services that were ended by force, or aborted at a failpoint.
    pub kills: u32,
    /// Of a backlog: events that were applied per second once the consumer ran again.
    pub drained_per_second: Option<f64>,
}
