//! Progress on stderr: a spinner on a terminal, plain lines in a pipe. NO_COLOR is respected.

use std::io::{IsTerminal, stderr};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A running step; its last line stays.
pub struct Step {
    bar: Option<ProgressBar>,
    started: std::time::Instant,
    text: String,
}

impl Step {
    pub fn start(text: impl Into<String>) -> Self {
        let text = text.into();
        let bar = stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner().with_message(text.clone());
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { bar, started: std::time::Instant::now(), text }
    }

    /// For a step in which another program shows its progress.
    pub fn beside(text: impl Into<String>) -> Self {
        Self { bar: None, started: std::time::Instant::now(), text: text.into() }
    }

    pub fn done(mut self) {
        self.clear();
        eprintln!("  {} ({:.1} s)", self.text, self.started.elapsed().as_secs_f64());
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// A step that failed leaves no spinner under the error.
impl Drop for Step {
    fn drop(&mut self) {
        self.clear();
    }
}
