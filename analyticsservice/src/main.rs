//! analyticsservice as a process: settings, then the mode's wiring, then serve.

use std::process::ExitCode;

use analyticsservice::Settings;
use common::Mode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(analyticsservice::ABOUT, |mode, deps, settings: Settings| match mode {
        #[cfg(feature = "sync")]
        Mode::Sync => analyticsservice::sync::service(&deps, &settings),
        #[cfg(any(feature = "async", feature = "stream"))]
        Mode::Async | Mode::Stream => analyticsservice::messaging::service(&deps, &settings),
        #[cfg(not(all(feature = "sync", any(feature = "async", feature = "stream"))))]
        other => unreachable!("built without {other}"),
    })
    .await
}
