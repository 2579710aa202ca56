//! userservice as a process: settings, then the mode's wiring, then serve.

use std::process::ExitCode;

use common::Mode;
use common::config::NoSettings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(userservice::ABOUT, |mode, deps, NoSettings {}| match mode {
        #[cfg(feature = "sync")]
        Mode::Sync => userservice::sync::service(&deps),
        #[cfg(any(feature = "async", feature = "stream"))]
        Mode::Async | Mode::Stream => userservice::messaging::service(&deps),
        #[cfg(not(all(feature = "sync", any(feature = "async", feature = "stream"))))]
        other => unreachable!("built without {other}"),
    })
    .await
}
