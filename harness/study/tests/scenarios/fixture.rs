//! Ten services for one test: own database and broker namespace on shared servers, free ports, short delays.

use std::path::{Path, PathBuf};

use stack::broker::Address;
use stack::{Given, Mode, Stack, StackOptions, kafka};

/// Removed with everything in it when the test ends.
pub(crate) struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // The logs tell why a test failed.
        if !std::thread::panicking() {
            std::fs::remove_dir_all(&self.0).ok();
        }
    }
}

/// A stack of its own, with more environment for its services, and the folder with its journal.
pub(crate) fn start(name: &str, mode: Mode, more: &[(&str, &str)]) -> (Stack, Folder) {
    let folder = Folder::new(name);
    let delays = [("EMAIL_DELAY_MS", "50"), ("PAYMENT_DELAY_MS", "50"), ("REPORT_ITERATIONS", "20000")];
    let env = delays.iter().chain(more).map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    let options = StackOptions {
        env: env.collect(),
        journal: Some(folder.path().to_owned()),
        dir: Some(folder.path().join("stack")),
        given: Some(given(mode)),
        // This test lies in target/<profile>/deps, the services one above.
        programs: Some(std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned()),
        ..StackOptions::default()
    };
    (Stack::start(mode, &options).unwrap(), folder)
}

/// The servers of the environment, which `./study test` sets: for a stack of this mode.
fn given(mode: Mode) -> Given {
    let variable = |name: &str| {
        let value =
            std::env::var_os(name).unwrap_or_else(|| panic!("{name} is not set: call `./study test`"));
        value.into_string().unwrap()
    };
    let (client, admin, namespace) = match mode {
        Mode::Sync | Mode::Async => ("AMQP_URL", "RABBITMQ_MANAGEMENT_URL", "%2F"),
        Mode::Stream => (kafka::BOOTSTRAP, kafka::BOOTSTRAP, ""),
    };
    Given {
        database_url: variable("DATABASE_URL"),
        broker: Address {
            client_url: variable(client),
            admin_url: variable(admin),
            namespace: namespace.to_owned(),
        },
    }
}
