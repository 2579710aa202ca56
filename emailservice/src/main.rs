//! emailservice as a process: settings, then the mode's wiring, then serve.

use std::process::ExitCode;

use common::Mode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(emailservice::ABOUT, |mode, deps, settings: emailservice::emails::Settings| {
        match mode {
            #[cfg(feature = "sync")]
            Mode::Sync => emailservice::sync::service(&deps, &settings),
            #[cfg(any(feature = "async", feature = "stream"))]
            Mode::Async | Mode::Stream => emailservice::messaging::service(&deps, &settings),
            #[cfg(not(all(feature = "sync", any(feature = "async", feature = "stream"))))]
            other => unreachable!("built without {other}"),
        }
    })
    .await
}
