//! Builds of the services with failpoints, apart from the programs that are measured, and the revision of the checkout.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use contract::Service;
use serde::Deserialize;

use crate::{not_ours, process, project_root, state_folder};

/// Builds the services, and copies them to a folder that other builds do not overwrite. Returns that folder.
pub fn programs(root: &Path) -> Result<PathBuf> {
    let folder = state_folder()?.join("faults").join("programs");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let said = folder.join("build.json");
    let mut command = process::cargo(root);
    command.args([
        "build",
        "--release",
        "--locked",
        "--package",
        "*service",
        "--features",
        "common/failpoints",
    ]);
    // The target folder depends on cargo's configuration.
    command.args(["--message-format", "json-render-diagnostics"]);
    command.stdout(File::create(&said).with_context(|| not_ours(&said))?);
    let status = process::run_to_end(&mut command)?;
    if !status.success() {
        bail!("the services could not be built ({status}): see above");
    }
    let built = built(&fs::read_to_string(&said)?);
    for service in Service::ALL {
        let from = built.get(service.name()).with_context(|| format!("cargo built no {}", service.name()))?;
        let new = folder.join("new");
        // Renamed: another run may have the old one open.
        fs::copy(from, &new)
            .and_then(|_| fs::rename(&new, folder.join(service.name())))
            .with_context(|| format!("cannot copy {}", from.display()))?;
    }
    Ok(folder)
}

/// The short hash of the revision; `+` where files differ from it.
pub fn revision() -> Option<String> {
    let root = project_root().ok()?;
    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&root).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let revision = git(&["rev-parse", "--short", "HEAD"])?;
    let clean = git(&["status", "--porcelain"])?.is_empty();
    Some(if clean { revision } else { format!("{revision}+") })
}

#[derive(Deserialize)]
struct Artifact {
    target: Target,
    executable: PathBuf,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// The programs in the messages of cargo, by name.
fn built(messages: &str) -> HashMap<String, PathBuf> {
    let artifacts = messages.lines().filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
    artifacts.map(|artifact| (artifact.target.name, artifact.executable)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_where_cargo_says_that_they_are() {
        let said = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"common"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["bin"],"name":"userservice"},"executable":"/x y/release/userservice"}"#,
            "\n",
            r#"{"reason":"build-finished","success":true}"#,
            "\n",
        );
        let built = built(said);
        assert_eq!(built.len(), 1, "{built:?}");
        assert_eq!(built["userservice"], Path::new("/x y/release/userservice"));
    }
}
