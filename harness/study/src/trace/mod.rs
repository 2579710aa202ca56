//! `./study trace`: one workflow through all services, from the log lines of its hops (`common`'s `telemetry.rs` lists them). Logs
//! may be large: each is read twice, line by line, and only lines with the id are parsed.

mod show;
mod timeline;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Args;
use comfy_table::Table;
use rustix::process::Signal;
use uuid::Uuid;

pub use timeline::{Hop, Line, Timeline, What};

use stack::compose::{Compose, plain};
use stack::logs::{self, Logs, Source, Which};
use stack::output::say;
use stack::process::signal_group;
use stack::signals::{self, Interrupted};

/// More lines than any workflow has: an id on so many lines does not name a workflow.
const MOST: usize = 5_000;

/// A field of every hop's line.
const WORKFLOW: &str = r#""target":"workflow""#;

#[derive(Args)]
pub struct TraceArgs {
    /// An order (17; of the campus lab its UUID), a payment (pay_...), a report's job (job_...), or the `x-request-id` of any request.
    id: String,

    #[command(flatten)]
    of: Which,

    /// One JSON object for each workflow, on a line of its own.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &TraceArgs) -> Result<ExitCode> {
    let (mut timelines, mut looked, mut unreadable) = (Vec::new(), Vec::new(), Vec::new());
    let mut any_workflow = false;
    let mut all = logs::of_services(&args.of)?;
    // Those without a broker first.
    all.sort_by_key(|logs| logs.mode.has_broker());
    for logs in all {
        let found = look(&logs, &args.id)?;
        looked.push(place(&logs));
        any_workflow |= found.any_workflow;
        unreadable.extend(found.unreadable.iter().map(|service| format!("{} {service}", logs.name)));
        timelines.extend(found.timelines);
    }
    let mut caution = String::new();
    if !unreadable.is_empty() {
        let of = if unreadable.len() > 3 {
            format!("{} services", unreadable.len())
        } else {
            unreadable.join(", ")
        };
        caution = format!(
            "lines of LOG_FORMAT=pretty ({of}) cannot be read here: start the stack with `LOG_FORMAT=json ./study up`"
        );
    }
    if caution.is_empty() && !any_workflow {
        caution = "no workflow at all stands there: none has ended yet, or RUST_LOG hides them (their lines have level info)"
            .to_owned();
    }
    if timelines.is_empty() {
        let caution = if caution.is_empty() { caution } else { format!("; {caution}") };
        bail!("nothing about {} in {}{caution}", show::printable(&args.id), looked.join(", "));
    }
    let width = Table::new().width().map(usize::from);
    let shown = timelines.iter().map(|timeline| match args.json {
        true => format!("{}\n", timeline.to_json()),
        false => show::text(timeline, width),
    });
    say(&shown.collect::<Vec<_>>().join(if args.json { "" } else { "\n" }))?;
    if !caution.is_empty() {
        eprintln!("study: {caution}");
    }
    Ok(ExitCode::SUCCESS)
}

/// The workflows of an id in one stack.
#[derive(Default)]
pub struct Found {
    /// More than one if the id names both an order and a request.
    pub timelines: Vec<Timeline>,
    /// Services with lines that are not JSON.
    pub unreadable: BTreeSet<String>,
    /// Whether there is a line of any workflow.
    pub any_workflow: bool,
}

/// The result of the first reading.
#[derive(Default)]
struct Hits {
    /// Request ids of the requests that created the entity, with the time.
    of_subject: BTreeMap<String, i64>,
    is_request: bool,
    unreadable: BTreeSet<String>,
    any_workflow: bool,
}

fn place(logs: &Logs) -> String {
    match &logs.source {
        Source::Files(files) => {
            let folder = files.first().and_then(|(_, file)| file.parent());
            let folder = folder.unwrap_or(Path::new("?"));
            let here = std::env::current_dir().unwrap_or_default();
            folder.strip_prefix(here).unwrap_or(folder).display().to_string()
        }
        Source::Containers(compose) => format!("docker compose logs of {}", compose.project),
    }
}

/// The workflows of `id`.
///
/// # Errors
/// When a log cannot be read to its end, or so many lines have the id that it names no workflow.
pub fn look(logs: &Logs, id: &str) -> Result<Found> {
    let Hits { of_subject, is_request, unreadable, any_workflow } = find(logs, id)?;
    let order = subject(id).filter(|subject| subject.starts_with(ORDER)).map(|_| id);
    let newest = of_subject.iter().max_by_key(|(_, at)| **at).map(|(request, _)| request.clone());
    let mut timelines = Vec::new();
    if let Some(request) = &newest {
        let timeline = Timeline::of(&logs.name, logs.mode, request, &gather(logs, request, order)?);
        timelines.extend(timeline.map(|found| Timeline { older: of_subject.len() - 1, ..found }));
    }
    if is_request && newest.as_deref() != Some(id) {
        timelines.extend(Timeline::of(&logs.name, logs.mode, id, &gather(logs, id, None)?));
    }
    Ok(Found { timelines, unreadable, any_workflow })
}

fn find(logs: &Logs, id: &str) -> Result<Hits> {
    let mut hits = Hits::default();
    let subject = subject(id);
    let needles = [Some(quoted(id)), subject.as_deref().map(quoted)];
    each_line(logs, &mut |service, text| {
        if text.starts_with(|first: char| first.is_ascii_digit()) && !hits.unreadable.contains(service) {
            hits.unreadable.insert(service.to_owned());
        }
        hits.any_workflow = hits.any_workflow || text.contains(WORKFLOW);
        if !needles.iter().flatten().any(|needle| text.contains(needle)) {
            return Ok(());
        }
        let Some(line) = Line::parse(service, text) else { return Ok(()) };
        hits.is_request |= line.request_id() == Some(id);
        if let Some(request) =
            line.request_id().filter(|_| subject.is_some() && line.subject() == subject.as_deref())
        {
            let newest = hits.of_subject.entry(request.to_owned()).or_insert(line.at);
            *newest = line.at.max(*newest);
        }
        Ok(())
    })?;
    Ok(hits)
}

/// All lines of a request id. The sweeper's lines have no request id, but name the order.
fn gather(logs: &Logs, request: &str, order: Option<&str>) -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    let needle = quoted(request);
    // The study's orders have numbers, the lab's have UUIDs.
    let of_order = order.map(|order| {
        let id = if order.parse::<i64>().is_ok() { order.to_owned() } else { quoted(order) };
        format!("\"order_id\":{id}")
    });
    each_line(logs, &mut |service, text| {
        if !text.contains(&needle) && !of_order.as_ref().is_some_and(|needle| text.contains(needle)) {
            return Ok(());
        }
        let Some(line) = Line::parse(service, text) else { return Ok(()) };
        let is_of = match line.request_id() {
            Some(id) => id == request,
            None => order.is_some() && line.order().as_deref() == order,
        };
        if is_of {
            lines.push(line);
        }
        if lines.len() > MOST {
            bail!(
                "more than {MOST} lines have the request id {}: it names no single workflow",
                show::printable(request)
            );
        }
        Ok(())
    })?;
    Ok(lines)
}

fn each_line(logs: &Logs, look: &mut (dyn FnMut(&str, &str) -> Result<()> + Send)) -> Result<()> {
    match &logs.source {
        Source::Files(files) => {
            for (service, path) in files {
                let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
                each_line_of(file, &mut |text| look(service, text))?;
            }
            Ok(())
        }
        Source::Containers(compose) => each_line_of_containers(compose, look),
    }
}

/// The beginning of the subject of an order.
const ORDER: &str = "order ";

/// The subject that `id` names in the request that created it, if it can be one.
fn subject(id: &str) -> Option<String> {
    if id.starts_with("pay_") {
        return Some(format!("payment {id}"));
    }
    if id.starts_with("job_") {
        return Some(format!("job {id}"));
    }
    let number = !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit());
    (number || Uuid::try_parse(id).is_ok()).then(|| format!("{ORDER}{id}"))
}

/// As it is written in a line.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn each_line_of(input: impl Read, look: &mut dyn FnMut(&str) -> Result<()>) -> Result<()> {
    let mut input = BufReader::with_capacity(1 << 17, input);
    let mut line = Vec::new();
    loop {
        line.clear();
        if input.read_until(b'\n', &mut line).context("a log cannot be read to its end")? == 0 {
            return Ok(());
        }
        if signals::interrupted() {
            return Err(Interrupted.into());
        }
        look(String::from_utf8_lossy(&line).trim_end())?;
    }
}

/// Ends `docker compose logs` when it is interrupted or has enough lines.
fn each_line_of_containers(
    compose: &Compose,
    look: &mut (dyn FnMut(&str, &str) -> Result<()> + Send),
) -> Result<()> {
    let names = contract::Service::ALL.map(contract::Service::name);
    let mut command = compose.logs(&names, None, false);
    let mut child = command.stdout(Stdio::piped()).spawn().context("cannot run docker compose logs")?;
    let output = child.stdout.take().context("docker compose logs has no standard output")?;
    let group = child.id();
    let read = std::thread::scope(|scope| {
        let reader = scope.spawn(move || {
            each_line_of(output, &mut |text| match of_container(text) {
                Some((service, text)) => look(service, text),
                None => Ok(()),
            })
        });
        while !reader.is_finished() {
            if signals::interrupted() {
                // Compose is a child of `docker`.
                signal_group(group, Signal::KILL);
            }
            signals::rest(Duration::from_millis(20));
        }
        reader.join().unwrap_or_else(|_| bail!("the logs of {} could not be read", compose.project))
    });
    if read.is_err() {
        signal_group(group, Signal::KILL);
    }
    let status = child.wait()?;
    read?;
    if !status.success() {
        bail!("docker compose logs failed: see above");
    }
    Ok(())
}

/// Service and line of `orderservice-1  | line`.
fn of_container(text: &str) -> Option<(&'static str, &str)> {
    let (name, line) = plain(text).split_once("| ")?;
    let name = name.trim_end().rsplit_once('-')?.0;
    Some((contract::Service::find(name)?.name(), line))
}

#[cfg(test)]
#[path = "read_tests.rs"]
mod tests;
