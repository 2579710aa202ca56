//! Servers that a test starts for itself.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use uuid::Uuid;

/// Killed by the kernel when the test's thread ends, however it does.
pub(crate) fn bound_to_this_thread(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command
}

pub(crate) fn spawn(mut command: Command, log: &Path) -> Child {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
    let errors = log.try_clone().expect("a log");
    command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().expect("the broker is installed")
}

/// Below the range from which the kernel takes ports for outgoing connections: no other process gets it while the broker is down.
pub(crate) fn free_port() -> u16 {
    let random = || {
        let bytes = Uuid::new_v4().into_bytes();
        20_000 + u16::from_le_bytes([bytes[0], bytes[1]]) % 12_000
    };
    std::iter::repeat_with(random)
        .find(|port| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .expect("an endless supply")
}

pub(crate) fn signal(name: &str, process: u32) {
    let sent = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
    assert!(sent.expect("kill runs").success());
}
