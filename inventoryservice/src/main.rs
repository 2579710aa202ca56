//! inventoryservice as a process: settings, then the mode's wiring, then serve.

use std::process::ExitCode;

use common::Mode;
use common::config::NoSettings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(inventoryservice::ABOUT, |mode, deps, NoSettings {}| match mode {
        #[cfg(feature = "sync")]
        Mode::Sync => inventoryservice::sync::service(&deps),
        #[cfg(any(feature = "async", feature = "stream"))]
        Mode::Async | Mode::Stream => inventoryservice::messaging::service(&deps),
        #[cfg(not(all(feature = "sync", any(feature = "async", feature = "stream"))))]
        other => unreachable!("built without {other}"),
    })
    .await
}
