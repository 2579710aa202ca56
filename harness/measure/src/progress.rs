//! How far the comparison is, on stderr: a bar with the seconds left where someone watches a terminal, else a plain
//! line now and then. No colours, so there is nothing for NO_COLOR to take away.

use std::io::{IsTerminal, stderr};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const PLAIN_EVERY: Duration = Duration::from_secs(10);

/// One phase of known or unknown length; a line of how it ended stays.
pub struct Phase {
    text: String,
    /// As long as it should take, if that is known.
    seconds: Option<u64>,
    started: Instant,
    bar: Option<ProgressBar>,
    said: Instant,
}

impl Phase {
    pub fn start(text: impl Into<String>, seconds: Option<u64>) -> Self {
        let (text, now) = (text.into(), Instant::now());
        let bar = stderr().is_terminal().then(|| bar(seconds).with_prefix(text.clone()));
        if let (None, Some(seconds)) = (&bar, seconds) {
            eprintln!("  {text}, {seconds} s");
        }
        Self { text, seconds, started: now, bar, said: now }
    }

    /// Call it often; it decides what to show.
    pub fn tick(&mut self, note: &str) {
        let gone = self.started.elapsed().as_secs();
        match &self.bar {
            Some(bar) => {
                bar.set_position(self.seconds.map_or(gone, |seconds| gone.min(seconds)));
                bar.set_message(format!("{}{note}", self.left(gone)));
            }
            None if self.said.elapsed() >= PLAIN_EVERY => {
                self.said = Instant::now();
                eprintln!("  {}: {}{note}", self.text, self.left(gone));
            }
            None => {}
        }
    }

    fn left(&self, gone: u64) -> String {
        match self.seconds {
            Some(seconds) if gone <= seconds => format!("{} s left, ", seconds - gone),
            Some(_) => "waiting for the last answers, ".to_owned(),
            None => String::new(),
        }
    }

    pub fn done(mut self, note: &str) {
        self.clear();
        eprintln!("  {}: {note} ({:.1} s)", self.text, self.started.elapsed().as_secs_f64());
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// Of something that takes minutes.
pub fn left(seconds: u64) -> String {
    format!("about {} min {:02} s left", seconds / 60, seconds % 60)
}

fn bar(seconds: Option<u64>) -> ProgressBar {
    let (bar, template) = match seconds {
        Some(seconds) => (ProgressBar::new(seconds), "  {prefix} [{bar:20}] {msg}"),
        None => (ProgressBar::new_spinner(), "  {prefix} {spinner} {elapsed} {msg}"),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// A phase that failed leaves no bar under the error.
impl Drop for Phase {
    fn drop(&mut self) {
        self.clear();
    }
}
