//! paymentservice as a process: settings, then the mode's wiring, then serve.

use std::process::ExitCode;

use common::Mode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(
        paymentservice::ABOUT,
        |mode, deps, settings: paymentservice::payments::Settings| match mode {
            #[cfg(feature = "sync")]
            Mode::Sync => paymentservice::sync::service(&deps, &settings),
            #[cfg(any(feature = "async", feature = "stream"))]
            Mode::Async | Mode::Stream => paymentservice::messaging::service(&deps, &settings),
            #[cfg(not(all(feature = "sync", any(feature = "async", feature = "stream"))))]
            other => unreachable!("built without {other}"),
        },
    )
    .await
}
