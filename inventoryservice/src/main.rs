//! inventoryservice as a process: settings, then the mode's wiring, then serve.

use std::process::ExitCode;

use common::Mode;
use common::config::NoSettings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(inventoryservice::ABOUT, |mode, deps, NoSettings {}| match mode {
        #[cfg(feature = "sync")]
        Mode::Sync => inventoryservice::sync::service(&deps),
        #[cfg(feature = "async")]
        Mode::Async => inventoryservice::messaging::service(&deps),
        other => unreachable!("built without {other}"),
    })
    .await
}
