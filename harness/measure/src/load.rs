//! Runs k6 with one of the project's scripts and reads its samples from its standard output while it runs.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use contract::Scenario;
use serde::Deserialize;

use super::child::wait;
use super::load_profile::{Delays, Load};
use super::progress::Phase;
use super::resource_usage::Watch;
use super::samples::{Answer, Sample, parse};
use stack::process::{KillOnDrop, on_path};
use stack::run_as::Account;
use stack::{Mode, Stack, project_root, state_folder};

/// How a load differs from the plain one.
#[derive(Clone, Copy, Default)]
pub struct Kind {
    /// Characters of a product's name in S3; 0 leaves the name out.
    pub payload: u32,
    /// So many users that wait for their answers, instead of arrivals at a fixed rate.
    pub closed: Option<u32>,
    /// Milliseconds that each of these users pauses after an answer.
    pub pause_ms: u32,
    /// Milliseconds without answers that the users of an open load are enough for, if not k6's usual.
    pub hiccup_ms: Option<u32>,
}

/// k6's records of one run.
#[derive(Debug, Default)]
pub struct Samples {
    pub answers: Vec<Answer>,
    /// Workflow -> the first check that its answer failed.
    pub failed_checks: HashMap<String, String>,
    pub dropped: BTreeMap<Scenario, u64>,
}

pub struct K6 {
    program: PathBuf,
    pub version: String,
}

/// One load to offer.
pub struct Offer<'a> {
    pub mode: Mode,
    pub load: &'a Load,
    pub delays: &'a Delays,
    pub port_offset: u16,
    pub seed: u64,
    pub kind: Kind,
    /// How the ids of its workflows begin.
    pub id: &'a str,
    /// Where its log and summary go.
    pub folder: &'a Path,
    pub name: &'a str,
}

impl K6 {
    /// The one that `./study` installed, else the one on PATH.
    pub fn find() -> Result<Self> {
        let own = state_folder()?.join("venv/bin/k6");
        let program = if own.is_file() { Some(own) } else { on_path("k6") };
        let program =
            program.context("k6 is not installed: run ./study, which gets it, or put k6 on PATH")?;
        let output = Command::new(&program).arg("version").output();
        let output = output.with_context(|| format!("{} does not run", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_whitespace().nth(1).unwrap_or("unknown").to_owned();
        if !is_new_enough(&version) {
            bail!("{} is k6 {version}: k6 1.1 or newer is needed", program.display());
        }
        Ok(Self { program, version })
    }

    fn command(&self, offer: &Offer<'_>) -> Result<Command> {
        let script = project_root()?.join(format!("k6-tests/script-{}.js", offer.mode));
        // All settings of the script are arguments: nothing comes from the environment.
        let mut command = Account::CALLER.server(&self.program, "KILL");
        // Samples to standard output: no file of gigabytes, and the counts can be shown while it runs.
        command.args([
            "run",
            "--quiet",
            "--no-color",
            "--no-usage-report",
            "--address",
            "",
            "--out",
            "json=-",
        ]);
        let rates = serde_json::to_string(&offer.load.rates)?;
        let summary = offer.summary().to_string_lossy().into_owned();
        let burst = offer.load.burst.as_ref().map_or(Ok(String::new()), serde_json::to_string)?;
        let own = [
            ("LOAD", if offer.kind.closed.is_some() { "busy" } else { "open" }.to_owned()),
            ("USERS", offer.kind.closed.map_or(String::new(), |users| users.to_string())),
            ("PAUSE_MS", offer.kind.pause_ms.to_string()),
            ("HICCUP_MS", offer.kind.hiccup_ms.map_or(String::new(), |hiccup| hiccup.to_string())),
            ("BURST", burst),
            ("SEED", offer.seed.to_string()),
            ("PAYLOAD", offer.kind.payload.to_string()),
            ("RATES", rates),
            ("DURATION", format!("{}s", offer.load.seconds)),
            ("RUN_ID", offer.id.to_owned()),
            ("BASE_URL", "http://127.0.0.1".to_owned()),
            ("PORT_OFFSET", offer.port_offset.to_string()),
            ("PROFILE", String::new()),
            ("SUMMARY_FILE", summary),
        ];
        let delays = offer.delays.0.iter().map(|(name, value)| (name.as_str(), value.clone()));
        for (name, value) in own.into_iter().chain(delays) {
            command.arg("-e").arg(format!("{name}={value}"));
        }
        command.arg(script);
        Ok(command)
    }

    /// Loads the stack until the load's time is over and every answer is there.
    pub fn run(
        &self,
        offer: &Offer<'_>,
        stack: &mut Stack,
        watch: &mut Watch,
        phase: &mut Phase,
    ) -> Result<Samples> {
        let log = offer.log();
        let file = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        // k6 ends with 0 even if it cannot write its summary: one that is there afterwards is of this run.
        fs::remove_file(offer.summary()).ok();
        let mut command = self.command(offer)?;
        // A process group of its own: Ctrl-C reaches us, and we end it.
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file).process_group(0).spawn();
        let mut child = KillOnDrop(child.context("cannot start k6")?);
        let samples = Arc::new(Mutex::new(Samples::default()));
        let reader = read(&mut child.0, &samples)?;
        let status = wait(&mut child, Duration::from_millis(200), || {
            stack.check()?;
            watch.tick();
            phase.tick(&lock(&samples).progress());
            Ok(())
        })?;
        if reader.join().is_err() {
            bail!("the thread that reads k6's samples panicked");
        }
        let samples = std::mem::take(&mut *lock(&samples));
        // 99: a check failed. The table says which, with more detail.
        if !matches!(status.code(), Some(0 | 99)) {
            bail!("k6 ended with {status}: {} (log: {})", last_complaint(&log), log.display());
        }
        offer.compare_with_summary(&samples)?;
        Ok(samples)
    }
}

/// Whether a k6 that calls itself `v1.2.3` has the options that are used here.
fn is_new_enough(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (1, 1)
}

impl Offer<'_> {
    fn summary(&self) -> PathBuf {
        self.folder.join(format!("k6-{}-summary.json", self.name))
    }

    fn log(&self) -> PathBuf {
        self.folder.join(format!("k6-{}.log", self.name))
    }

    /// k6 counts its answers itself: a sample that got lost on the way to us would be a hole in the results.
    fn compare_with_summary(&self, samples: &Samples) -> Result<()> {
        let path = self.summary();
        let text = fs::read_to_string(&path)
            .with_context(|| format!("k6 wrote no summary to {}", path.display()))?;
        let summary: Summary =
            serde_json::from_str(&text).with_context(|| format!("cannot read {}", path.display()))?;
        for row in summary.scenarios {
            let read = samples.answers.iter().filter(|answer| answer.scenario == row.scenario).count() as u64;
            if read != row.requests {
                bail!(
                    "k6 counted {} answers in {}, but {read} samples came through",
                    row.requests,
                    row.scenario
                );
            }
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Summary {
    scenarios: Vec<SummaryRow>,
}

#[derive(Deserialize)]
struct SummaryRow {
    scenario: Scenario,
    requests: u64,
}

fn read(child: &mut Child, samples: &Arc<Mutex<Samples>>) -> Result<JoinHandle<()>> {
    let output = child.stdout.take().context("k6 has no standard output")?;
    let samples = Arc::clone(samples);
    let read = move || {
        for line in BufReader::with_capacity(1 << 16, output).lines() {
            match line {
                Ok(line) => lock(&samples).take(parse(&line)),
                Err(_) => break,
            }
        }
    };
    Ok(std::thread::Builder::new().name("k6".into()).spawn(read)?)
}

/// A reader that panicked is reported where it is joined.
fn lock(samples: &Mutex<Samples>) -> std::sync::MutexGuard<'_, Samples> {
    samples.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Samples {
    fn take(&mut self, sample: Option<Sample>) {
        match sample {
            Some(Sample::Answer(answer)) => self.answers.push(answer),
            Some(Sample::FailedCheck { workflow, check }) => {
                self.failed_checks.entry(workflow).or_insert(check);
            }
            Some(Sample::Dropped { scenario, count }) => *self.dropped.entry(scenario).or_default() += count,
            None => {}
        }
    }

    pub fn progress(&self) -> String {
        let unexpected = self.answers.iter().filter(|answer| !answer.expected).count();
        let dropped: u64 = self.dropped.values().sum();
        let mut text = format!("{} answers", self.answers.len());
        for (count, what) in [(unexpected as u64, "unexpected"), (dropped, "not offered in time")] {
            if count > 0 {
                text += &format!(", {count} {what}");
            }
        }
        text
    }
}

/// k6's last message at level error, without its time and level.
fn last_complaint(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let last = text.lines().rfind(|line| line.contains("level=error")).or(text.lines().next_back());
    let line = last.unwrap_or("no message");
    let message = line.split_once("msg=").map_or(line, |(_, message)| message);
    message.trim_matches('"').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_k6_that_is_too_old_is_known_by_its_version() {
        for good in ["v1.1.0", "1.1.0", "v1.10.2", "v2.0.0-rc1"] {
            assert!(is_new_enough(good), "{good}");
        }
        for bad in ["v0.46.0", "v1.0.9", "unknown", ""] {
            assert!(!is_new_enough(bad), "{bad}");
        }
    }
}
