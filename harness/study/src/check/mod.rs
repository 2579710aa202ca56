//! `./study check`: the checks of a change. All steps run; the failed ones are listed at the end.

mod cycles;

use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use anyhow::{Context, Result};
use contract::Service;

use stack::process::{cargo, run_to_end};
use stack::signals;

pub fn run(root: &Path) -> Result<ExitCode> {
    let mut failed = Vec::new();
    let ended = |ok: bool| if ok { Verdict::Ok } else { Verdict::Failed };
    for (name, args) in cargo_steps() {
        let mut command = cargo(root);
        command.args(&args);
        if name == "documentation" {
            command.env("RUSTDOCFLAGS", "-D warnings");
        }
        step(&name, &mut failed, || Ok(ended(run_to_end(&mut command)?.success())))?;
    }
    step("modules without cycles", &mut failed, || {
        let mut found = Vec::new();
        let harness =
            ["stack", "measure", "experiments", "faults", "study"].map(|name| format!("harness/{name}"));
        let services = Service::ALL.map(|service| service.name().to_owned());
        for name in ["common", "contract"].map(str::to_owned).into_iter().chain(harness).chain(services) {
            found.extend(cycles::find(&name, &root.join(&name).join("src"))?);
        }
        found.iter().for_each(|cycle| eprintln!("these modules need each other: {cycle}"));
        Ok(ended(found.is_empty()))
    })?;
    step("dependencies: bans, licences, sources", &mut failed, || {
        let args = ["deny", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
        Ok(ended(run_to_end(cargo(root).args(args))?.success()))
    })?;
    step("dependencies: advisories", &mut failed, || advisories(root))?;
    if failed.is_empty() {
        eprintln!("study check: all is well");
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("study check: FAILED: {}", failed.join("; "));
    Ok(ExitCode::FAILURE)
}

fn cargo_steps() -> Vec<(String, Vec<&'static str>)> {
    let lint = ["--all-targets", "--locked", "--", "-D", "warnings"];
    let mut steps = vec![("formatting".to_owned(), vec!["fmt", "--all", "--check"])];
    let all = [["clippy", "--workspace", "--all-features"].as_slice(), &lint].concat();
    steps.push(("lints, all features".to_owned(), all));
    // `otel` with one mode only: code for the other mode must be neither needed nor unused.
    for features in ["sync", "async", "async,otel", "stream"] {
        // Only the ten services have these features.
        let mut args = vec!["clippy", "--no-default-features", "--features", features];
        args.extend(Service::ALL.iter().flat_map(|service| ["-p", service.name()]));
        args.extend(lint);
        steps.push((format!("lints, {features} alone"), args));
    }
    let doc = vec!["doc", "--workspace", "--no-deps", "--all-features", "--locked"];
    steps.push(("documentation".to_owned(), doc));
    steps
}

/// How a step ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Ok,
    Failed,
    NotChecked,
}

fn step(name: &str, failed: &mut Vec<String>, run: impl FnOnce() -> Result<Verdict>) -> Result<()> {
    eprintln!("study check: {name} ...");
    let started = Instant::now();
    let verdict = run()?;
    let end = match verdict {
        Verdict::Ok => "ok",
        Verdict::Failed => "FAILED",
        Verdict::NotChecked => "NOT CHECKED",
    };
    eprintln!("study check: {name}: {end} ({:.1} s)", started.elapsed().as_secs_f64());
    if verdict == Verdict::Failed {
        failed.push(name.to_owned());
    }
    if signals::interrupted() { Err(signals::Interrupted.into()) } else { Ok(()) }
}

/// Fetches the list of known vulnerabilities. If it cannot be reached, an older copy is used; without a copy the step prints that
/// and does not fail. A vulnerability that is found always fails it.
fn advisories(root: &Path) -> Result<Verdict> {
    let verdict = |ok: bool| if ok { Verdict::Ok } else { Verdict::Failed };
    let (ok, said) = ask(root, &[])?;
    if ok || !said.contains("failed to fetch advisory database") {
        eprint!("{said}");
        return Ok(verdict(ok));
    }
    let (ok, said) = ask(root, &["--offline"])?;
    // This message appears only with a copy.
    if !["advisories ok", "advisories FAILED"].iter().any(|verdict| said.contains(verdict)) {
        eprintln!("the advisory database cannot be reached from here, and there is no older copy");
        return Ok(Verdict::NotChecked);
    }
    eprint!("{said}");
    eprintln!("the advisory database cannot be reached from here: an older copy was asked");
    Ok(verdict(ok))
}

fn ask(root: &Path, args: &[&str]) -> Result<(bool, String)> {
    let mut command = Command::new("cargo");
    command.arg("deny").args(args).args(["check", "--hide-inclusion-graph", "advisories"]);
    let output = command.current_dir(root).stdin(Stdio::null()).output().context("cannot run cargo deny")?;
    let said = [output.stdout, output.stderr].concat();
    Ok((output.status.success(), String::from_utf8_lossy(&said).into_owned()))
}
