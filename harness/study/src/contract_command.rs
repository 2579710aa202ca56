//! `./study contract`: prints the contract as tables, or as one JSON document for programs.

use std::fs;

use anyhow::{Context, Result};
use clap::Args;
use comfy_table::{Table, presets};
use contract::events::Destination;
use contract::{Mode, Service, calls, effects, events, scenarios_of};

use stack::output::say;
use stack::project_root;

#[derive(Args)]
pub struct ContractArgs {
    /// Print one JSON document with everything.
    #[arg(long)]
    json: bool,
    /// Write the parts of other files that follow from the contract: port lists, targets, tables
    #[arg(long, conflicts_with = "json")]
    write: bool,
}

pub fn run(args: &ContractArgs) -> Result<()> {
    if args.json {
        return say(&format!("{}\n", serde_json::to_string_pretty(&contract::document())?));
    }
    if args.write {
        return write();
    }
    for table in [services(), calls_table(), events_table(), effects_table()] {
        say(&format!("{table}\n\n"))?;
    }
    Ok(())
}

/// Writes the files that differ, and prints their names.
fn write() -> Result<()> {
    let root = project_root()?;
    for file in contract::derived_files()? {
        let path = root.join(&file.path);
        let current = fs::read_to_string(&path).with_context(|| format!("cannot read {}", file.path))?;
        let updated = file.updated(&current).map_err(anyhow::Error::msg)?;
        if updated != current {
            fs::write(&path, updated).with_context(|| format!("cannot write {}", file.path))?;
            say(&format!("{}\n", file.path))?;
        }
    }
    Ok(())
}

fn table<'a>(header: impl IntoIterator<Item = &'a str>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN).set_header(header);
    table
}

fn services() -> Table {
    let modes = Mode::ALL.map(Mode::as_str);
    let header = ["service"].into_iter().chain(modes).chain(["scenarios", "stores"]);
    let mut all = table(header);
    for service in Service::ALL {
        let scenarios: Vec<String> = scenarios_of(service).iter().map(ToString::to_string).collect();
        let mut row = vec![service.name().to_owned()];
        row.extend(Mode::ALL.map(|mode| mode.ports().service(service).to_string()));
        row.extend([scenarios.join(", "), service.stores().unwrap_or("nothing durable").to_owned()]);
        all.add_row(row);
    }
    all
}

fn calls_table() -> Table {
    let mut all = table(["call (sync)", "from", "to", "scenario"]);
    for call in calls::ALL {
        all.add_row([call.path, call.caller.name(), call.peer.name(), &call.scenario.to_string()]);
    }
    all
}

fn events_table() -> Table {
    let mut all = table(["event (async)", "from", "exchange", "queue", "to", "scenario"]);
    for event in events::ALL {
        let exchange = match event.destination {
            Destination::Queue(_) => "",
            Destination::Fanout { exchange, .. } => exchange,
            Destination::Topic(topic) => topic.topology.exchange,
            Destination::Log(log) => log.name,
        };
        for queue in event.destination.queues() {
            let scenario = event.scenario.to_string();
            all.add_row([
                event.name,
                event.writer.name(),
                exchange,
                queue.name,
                queue.reader.name(),
                &scenario,
            ]);
        }
    }
    all
}

fn effects_table() -> Table {
    let mut all = table(["final effect", "where", "outcomes", "scenario"]);
    for effect in effects::ALL {
        let outcomes = effect.outcomes.join(", ");
        all.add_row([effect.name, effect.service, &outcomes, &effect.scenario.to_uppercase()]);
    }
    all
}
