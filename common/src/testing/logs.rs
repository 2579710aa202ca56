//! What a test's thread logs.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::fmt;

/// Log lines of this thread, from [`Logs::capture`] until it is dropped. `#[tokio::test]` runs services on the same thread.
pub struct Logs {
    lines: Lines,
    _current: tracing::subscriber::DefaultGuard,
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Logs {
    pub fn capture() -> Logs {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
        Logs { lines, _current: tracing::subscriber::set_default(subscriber) }
    }

    /// The number of lines that contain all of `parts`.
    pub fn count(&self, parts: &[&str]) -> usize {
        let text = self.lines.0.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&text);
        text.lines().filter(|line| parts.iter().all(|part| line.contains(part))).count()
    }
}
