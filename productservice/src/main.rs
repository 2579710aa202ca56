//! productservice as a process: settings, then the mode's wiring, then serve.

use std::process::ExitCode;

use common::Mode;
use productservice::Settings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(productservice::ABOUT, |mode, deps, settings: Settings| match mode {
        #[cfg(feature = "sync")]
        Mode::Sync => productservice::sync::service(&deps, &settings),
        #[cfg(any(feature = "async", feature = "stream"))]
        Mode::Async | Mode::Stream => productservice::messaging::service(&deps, &settings),
        #[cfg(not(all(feature = "sync", any(feature = "async", feature = "stream"))))]
        other => unreachable!("built without {other}"),
    })
    .await
}
