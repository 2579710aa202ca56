//! The services in a build that can be made to fail, apart from the programs that are measured.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use contract::Service;

use crate::local::{process, state_folder};

/// Builds them, and copies them to where the next ordinary build does not overwrite them; that folder.
pub fn build(root: &Path) -> Result<PathBuf> {
    let mut command = process::cargo(root);
    command.args(["build", "--release", "--locked", "--workspace"]);
    command.args(["--exclude", "runner", "--exclude", "ceilings", "--features", "common/failpoints"]);
    let status = process::run_to_end(&mut command)?;
    if !status.success() {
        bail!("the services could not be built ({status}): see above");
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
    let folder = state_folder()?.join("faults").join("programs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    for service in Service::ALL {
        let (from, new) = (target.join("release").join(service.name()), folder.join("new"));
        // Renamed: another run may have the old one open.
        fs::copy(&from, &new)
            .and_then(|_| fs::rename(&new, folder.join(service.name())))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(folder)
}
