//! cacheservice as a process: settings, then the mode's wiring, then serve.

use std::process::ExitCode;

use common::Mode;
use common::fanout::ReceiverSettings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(cacheservice::ABOUT, |mode, deps, settings: ReceiverSettings| match mode {
        #[cfg(feature = "sync")]
        Mode::Sync => cacheservice::sync::service(&deps, &settings),
        #[cfg(any(feature = "async", feature = "stream"))]
        Mode::Async | Mode::Stream => cacheservice::messaging::service(&deps, &settings),
        #[cfg(not(all(feature = "sync", any(feature = "async", feature = "stream"))))]
        other => unreachable!("built without {other}"),
    })
    .await
}
