//! campus-inventory as a process: settings, then the stack's wiring, then serve.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(campus::INVENTORY, |mode, deps, settings| campus::inventory(mode, &deps, &settings))
        .await
}
