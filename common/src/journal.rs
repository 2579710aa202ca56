//! One line per final effect, for exact times: what histograms round, the comparison reads here. Off unless
//! `JOURNAL_DIR` is set. Lines are buffered and written by one thread, so that no request waits for the disk.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use serde::Serialize;

/// How long a line may wait in memory.
const FLUSH_EVERY: Duration = Duration::from_millis(100);

static LINES: OnceLock<Sender<Line>> = OnceLock::new();

enum Line {
    Entry(Vec<u8>),
    Flush(Sender<()>),
}

/// A final effect of a workflow; times in microseconds since the Unix epoch.
#[derive(Serialize)]
pub struct Entry<'a> {
    pub workflow: &'a str,
    pub scenario: &'a str,
    pub effect: &'a str,
    pub outcome: &'a str,
    pub accepted_us: i64,
    pub done_us: i64,
}

/// Appends to `<dir>/<service>.jsonl` from now on.
///
/// # Errors
/// When the folder or file cannot be made.
pub fn open(dir: &Path, service: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let file = File::options().create(true).append(true).open(dir.join(format!("{service}.jsonl")))?;
    let (sender, receiver) = channel();
    std::thread::Builder::new()
        .name("journal".into())
        .spawn(move || write(BufWriter::new(file), &receiver))?;
    // A second call in one process (tests) keeps the first file.
    LINES.get_or_init(|| sender);
    Ok(())
}

/// Notes an effect; does nothing when no journal is open.
pub fn record(entry: &Entry<'_>) {
    let Some(lines) = LINES.get() else { return };
    let written = serde_json::to_vec(entry).is_ok_and(|line| lines.send(Line::Entry(line)).is_ok());
    if !written {
        tracing::error!(workflow = entry.workflow, "journal line lost: its writer has ended");
    }
}

/// Waits until every effect reported so far is in the file.
pub fn flush() {
    let Some(lines) = LINES.get() else { return };
    let (done, written) = channel();
    if lines.send(Line::Flush(done)).is_ok() && written.recv_timeout(Duration::from_secs(5)).is_err() {
        tracing::error!("journal could not be flushed");
    }
}

fn write(mut file: BufWriter<File>, lines: &Receiver<Line>) {
    let mut flushed = Instant::now();
    loop {
        let mut result = match lines.recv_timeout(FLUSH_EVERY) {
            Ok(Line::Entry(line)) => file.write_all(&line).and_then(|()| file.write_all(b"\n")),
            Ok(Line::Flush(done)) => {
                let result = file.flush();
                // The waiting task may have ended.
                done.send(()).ok();
                result
            }
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if flushed.elapsed() >= FLUSH_EVERY {
            result = result.and_then(|()| file.flush());
            flushed = Instant::now();
        }
        if let Err(error) = result {
            tracing::error!(%error, "journal cannot be written");
        }
    }
}
