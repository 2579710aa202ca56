//! Where log lines go: standard error, with one write for all lines of one turn of the runtime. A write for each line cost a
//! click of S6 four system calls.

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::fmt::MakeWriter;

/// Bytes that wait at most, however long the turn.
const FULL: usize = 16 * 1024;

static WAITING: Mutex<Vec<u8>> = Mutex::new(Vec::new());
static ANY: Notify = Notify::const_new();
/// Whether a task looks after what waits; without one, each line is written at once.
static KEPT: AtomicBool = AtomicBool::new(false);

#[derive(Clone, Copy)]
pub(super) struct Lines;

impl MakeWriter<'_> for Lines {
    type Writer = Lines;
    fn make_writer(&self) -> Lines {
        Lines
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut waiting = waiting();
        waiting.extend_from_slice(line);
        if waiting.len() >= FULL || !KEPT.load(Ordering::Relaxed) {
            write_out(&mut waiting);
        } else if waiting.len() == line.len() {
            ANY.notify_one();
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes what waits whenever the tasks that were ready have had their turn; until `stop`.
pub(crate) async fn keep(stop: CancellationToken) {
    KEPT.store(true, Ordering::Relaxed);
    while stop.run_until_cancelled(ANY.notified()).await.is_some() {
        write_out(&mut waiting());
    }
    KEPT.store(false, Ordering::Relaxed);
    write_out(&mut waiting());
}

fn waiting() -> MutexGuard<'static, Vec<u8>> {
    WAITING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A failure cannot be reported anywhere.
fn write_out(waiting: &mut Vec<u8>) {
    io::stderr().write_all(waiting).ok();
    waiting.clear();
}
