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
            #[cfg(feature = "async")]
            Mode::Async => paymentservice::messaging::service(&deps, &settings),
            other => unreachable!("built without {other}"),
        },
    )
    .await
}
