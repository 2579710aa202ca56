//! campus-order as a process.

use std::process::ExitCode;

use common::Service;
use common::config::NoSettings;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    common::service::main(campus::ORDER, |_, _, NoSettings {}| Service::new(Default::default())).await
}
