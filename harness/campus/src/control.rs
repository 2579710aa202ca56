//! Start and end the stacks of the lab, and single services of them.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use contract::campus::{Service, Stack};
use stack::request::{self, Action};
use stack::state::State;
use stack::supervise::Launch;
use stack::{Layout, StackOptions, commands, state_folder};

use crate::UpArgs;

pub(crate) fn up(args: &UpArgs, port_offset: u16) -> Result<()> {
    let mut command = vec!["campus".to_owned(), "up".to_owned(), args.which.to_string()];
    command.extend(args.lab_ports.then(|| "--lab-ports".to_owned()));
    command.extend(args.monitoring.then(|| "--monitoring".to_owned()));
    let launch = Launch {
        layouts: vec![Layout::campus(args.which, args.lab_ports)],
        // As with the containers' anonymous volumes: a new stack has the seed stock.
        options: StackOptions {
            port_offset,
            fresh: true,
            monitoring: args.monitoring,
            ..StackOptions::default()
        },
        command,
        detach: args.detach,
        supervisor: args.supervisor,
        examples,
    };
    launch.run()
}

/// An order to try.
fn examples(states: &[State]) -> String {
    let mut text = "\nTry:\n".to_owned();
    for state in states {
        let Some(stack) = Stack::ALL.into_iter().find(|stack| Layout::campus_name(*stack) == state.name)
        else {
            continue;
        };
        let order = stack.container(Service::Order);
        let port = state.services().into_iter().find(|(name, _)| *name == order).map_or(0, |(_, port)| port);
        let quantity = stack.quantity_field();
        text += &format!(
            "  curl -i http://127.0.0.1:{port}/order -H 'content-type: application/json' \
             -d '{{\"item\":\"burger\",\"{quantity}\":2}}'   # {}\n",
            state.name
        );
    }
    text + "Logs: ./study logs --campus STACK; one order: ./study trace ORDER_ID\n"
}

pub(crate) fn service(action: Action, stack: Option<Stack>, service: &str) -> Result<()> {
    let (dir, state) = running(stack)?;
    request::send(&dir, state.supervisor, action, service)
}

/// The stack that is meant: `stack`, or the only one that runs.
fn running(stack: Option<Stack>) -> Result<(PathBuf, State)> {
    let candidates = stack.map_or_else(|| Stack::ALL.to_vec(), |stack| vec![stack]);
    let mut found = Vec::new();
    for stack in candidates {
        let dir = state_folder()?.join(Layout::campus_name(stack));
        found.extend(State::read(&dir)?.filter(|state| state.supervisor.alive()).map(|state| (dir, state)));
    }
    if found.len() > 1 {
        bail!("several stacks of the lab run: name one with --stack");
    }
    found.pop().context("no such stack of the lab runs: `./study campus up rest` starts one")
}

pub(crate) fn down() -> Result<()> {
    commands::down_in(&state_folder()?.join("campus"))
}
