//! campus-analytics as a process: settings, then the stack's wiring, then serve.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(campus::ANALYTICS, |mode, deps, settings| campus::analytics(mode, &deps, &settings))
        .await
}
