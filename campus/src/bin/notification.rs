//! campus-notification as a process: settings, then the stack's wiring, then serve.

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(campus::NOTIFICATION, |mode, deps, settings| {
        campus::notification(mode, &deps, &settings)
    })
    .await
}
