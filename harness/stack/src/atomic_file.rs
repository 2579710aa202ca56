//! Files that others may read at any moment.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// All at once or not at all: readers never see half a file, and what has its name is finished.
pub fn write_whole(path: &Path, text: &str) -> Result<()> {
    let unfinished = path.with_added_extension("unfinished");
    fs::write(&unfinished, text)
        .and_then(|()| fs::rename(&unfinished, path))
        .with_context(|| format!("cannot write {}", path.display()))
}
