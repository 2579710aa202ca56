//! campus-order as a process: settings, then the stack's wiring, then serve.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(campus::ORDER, |mode, deps, settings| campus::order(mode, &deps, &settings)).await
}
