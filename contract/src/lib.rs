//! What the system is, as typed data: services, ports, modes, scenarios and their final effects, headers, failpoints,
//! protections. Services, `common`, the tools and the tests read these facts here; files that are not Rust
//! contain parts that are derived from them. This crate knows no HTTP server, no database and no broker client.

mod derived;
mod document;
mod faults;
mod mode;
mod scenario;
mod service;

pub mod calls;
pub mod campus;
pub mod events;
pub mod headers;

pub use derived::{DerivedFile, campus_prometheus, derived_files};
pub use document::{Document, document, scenarios_of};
pub use faults::{DELIVER_TWICE, DISABLED_PROTECTION, FAILPOINT, Failpoint, Protection};
pub use mode::{BrokerPorts, Mode, Monitoring, Ports};
pub use scenario::{Effect, Scenario, effects};
pub use service::{Service, schema_of};
