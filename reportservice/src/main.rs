//! reportservice as a process: settings, then the mode's wiring, then serve.

use std::process::ExitCode;

use common::Mode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(reportservice::ABOUT, |mode, deps, settings: reportservice::hashing::Settings| {
        match mode {
            #[cfg(feature = "sync")]
            Mode::Sync => reportservice::sync::service(&deps, &settings),
            #[cfg(any(feature = "async", feature = "stream"))]
            Mode::Async | Mode::Stream => reportservice::messaging::service(&deps, &settings),
            #[cfg(not(all(feature = "sync", any(feature = "async", feature = "stream"))))]
            other => unreachable!("built without {other}"),
        }
    })
    .await
}
