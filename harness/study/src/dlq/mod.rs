//! `./study dlq`: the dead letters of the running async stack, for an operator. Bodies hold personal data: they are shown only on
//! request.

mod letter;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use comfy_table::presets::UTF8_FULL_CONDENSED as STYLE;
use comfy_table::{CellAlignment, Table};
use contract::events::{UNROUTED_QUEUE, dead_letters, of_dead_letters};

use stack::broker::{Broker, Redriven};
use stack::modes;
use stack::output::say;
use stack::state::State;
use stack::{Mode, state_folder};

pub use letter::describe;
use letter::{first_failed_at, printable, reason};

/// Messages that `list` and `show` read; the oldest are first.
const SHOWN: usize = 100;

#[derive(Args)]
pub struct DlqArgs {
    #[command(subcommand)]
    action: Action,
}

/// QUEUE is the working queue's name or that of its dead-letter queue, or `unrouted_queue`.
#[derive(Subcommand)]
enum Action {
    /// Each dead-letter queue that is not empty.
    List,
    /// The messages of one queue: what failed, why, when first, after how many attempts.
    Show {
        queue: String,
        /// Print the bodies too: personal data.
        #[arg(long)]
        body: bool,
    },
    /// Put messages back into the working queue as if they were new. A second redrive has no effect.
    Redrive {
        queue: String,
        /// Only the message with this message id.
        #[arg(long)]
        id: Option<String>,
    },
    /// Delete all messages of a queue.
    Purge {
        queue: String,
        /// They are lost for good.
        #[arg(long)]
        yes: bool,
    },
}

pub fn run(args: &DlqArgs) -> Result<ExitCode> {
    let Some(broker) = running()? else {
        eprintln!("study: no async stack is running: `./study up async` starts one");
        return Ok(ExitCode::from(3));
    };
    match &args.action {
        Action::List => list(&*broker)?,
        Action::Show { queue, body } => show(&*broker, &dead_letter_queue(queue), *body)?,
        Action::Redrive { queue, id } => {
            let queue = dead_letter_queue(queue);
            let Redriven { moved, put_back } = broker.redrive(&queue, id.as_deref())?;
            say(&match (moved, id) {
                (0, Some(id)) => format!("{queue} holds no message {id}.\n"),
                (0, None) => format!("{queue} is empty.\n"),
                _ => format!(
                    "{moved} of {queue} redriven; `./study dlq list` tells whether any fails again.\n"
                ),
            })?;
            if put_back > 0 {
                say(&format!("{put_back} that came meanwhile stay there.\n"))?;
            }
        }
        Action::Purge { queue, yes } => {
            let queue = dead_letter_queue(queue);
            let letters = broker.depth(&queue)?;
            if !yes {
                bail!("{queue} holds {letters}: `--yes` deletes them");
            }
            broker.purge(&queue)?;
            say(&format!("{letters} of {queue} deleted.\n"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The broker of the stack that `./study up` started.
fn running() -> Result<Option<Box<dyn Broker>>> {
    for mode in Mode::ALL {
        let Some(server) = modes::broker(mode) else { continue };
        let state = State::read(&state_folder()?.join(mode.to_string()))?.filter(State::alive);
        if let Some(address) = state.and_then(|state| state.broker) {
            return Ok(Some(server.connect(&address)));
        }
    }
    Ok(None)
}

/// The dead-letter queue that an argument means: never a working queue.
fn dead_letter_queue(name: &str) -> String {
    if name == UNROUTED_QUEUE || of_dead_letters(name).is_some() {
        name.to_owned()
    } else {
        dead_letters(name)
    }
}

fn list(broker: &dyn Broker) -> Result<()> {
    let mut table = Table::new();
    table.load_style(STYLE).set_header(["queue", "messages", "oldest first failure", "reason"]);
    if let Some(column) = table.column_mut(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for queue in broker.dead_letter_queues()? {
        let seen = broker.peek(&queue, SHOWN)?;
        let Some(last) = seen.messages.last() else { continue };
        // A message that the broker dead-lettered by itself has no time.
        let timed = seen.messages.iter().filter(|letter| letter.first_failed_us.is_some());
        let oldest = timed.min_by_key(|letter| letter.first_failed_us).unwrap_or(last);
        let reason = printable(reason(oldest)).chars().take(60).collect();
        table.add_row([queue, seen.total.to_string(), first_failed_at(oldest), reason]);
    }
    match table.row_count() {
        0 => say("No dead-lettered messages.\n"),
        _ => say(&format!("{table}\n")),
    }
}

fn show(broker: &dyn Broker, queue: &str, body: bool) -> Result<()> {
    let seen = broker.peek(queue, SHOWN)?;
    say(&format!("{queue}: {}\n", seen.total))?;
    for letter in &seen.messages {
        say(&describe(letter, body))?;
    }
    let more = seen.total - seen.messages.len();
    if more > 0 { say(&format!("\nand {more} more\n")) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_always_means_a_dead_letter_queue() {
        assert_eq!(dead_letter_queue("order_created_queue"), "order_created_queue.dlq");
        assert_eq!(dead_letter_queue("order_created_queue.dlq"), "order_created_queue.dlq");
        assert_eq!(dead_letter_queue("unrouted_queue"), "unrouted_queue");
    }
}
