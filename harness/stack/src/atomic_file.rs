//! Files that other programs may read while they are replaced.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// Replaces the file atomically: readers never see an incomplete file.
pub fn write_whole(path: &Path, text: &str) -> Result<()> {
    let unfinished = path.with_added_extension("unfinished");
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
