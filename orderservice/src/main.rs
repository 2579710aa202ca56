//! orderservice as a process: settings, then the mode's wiring, then serve.

use std::process::ExitCode;

use common::Mode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(orderservice::ABOUT, |mode, deps, settings: orderservice::orders::Settings| {
        match mode {
            #[cfg(feature = "sync")]
            Mode::Sync => orderservice::sync::service(&deps, &settings),
            #[cfg(any(feature = "async", feature = "stream"))]
            Mode::Async | Mode::Stream => orderservice::messaging::service(&deps, &settings),
            #[cfg(not(all(feature = "sync", any(feature = "async", feature = "stream"))))]
            other => unreachable!("built without {other}"),
        }
    })
    .await
}
