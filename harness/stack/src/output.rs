//! Results on standard output.

use std::io::Write;

use anyhow::Result;

/// Prints; a reader that stops early (`| head`) is no error.
pub fn say(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
