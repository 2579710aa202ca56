//! `./study breakeven`: under which conditions which architecture wins.
//!
//! In reading order: `plan` (which stack comes when), `session` (all rates and payloads on one), `grid` (what is written
//! down), `winner` (who is best in a cell), `table` (for the terminal).

pub mod grid;
pub mod plan;
pub mod session;
pub mod table;
pub mod winner;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use clap::Args;

use grid::{Cell, Conditions, Grid, Taken};
use measure::host::Host;
use measure::load::K6;
use measure::output_dir::OutputDir;
use measure::progress;
use measure::stored::{LARGEST_NUMBER, Stored, read, write};
use plan::{Plan, PlannedStack};
use stack::output::say;
use stack::{Mode, given_path};

#[derive(Args)]
pub struct BreakevenArgs {
    /// How often each cell is measured, each time on a stack of its own; one round alone cannot tell a difference
    /// from noise.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=20))]
    rounds: u32,

    /// Load in each cell, in each round.
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,

    /// Two service times, two rates, one payload, three receivers: about 3 minutes instead of 20.
    #[arg(long)]
    quick: bool,

    /// Where `breakeven.json` goes, such as the folder of a comparison, whose report then shows it;
    /// `results/breakeven-<UTC time>` by default.
    #[arg(long, value_parser = given_path(), value_name = "DIR")]
    out: Option<PathBuf>,

    /// Decides which variant begins, and which products are changed.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u64).range(..=LARGEST_NUMBER))]
    seed: u64,
}

pub fn run(args: &BreakevenArgs, port_offset: u16) -> Result<()> {
    let output = OutputDir::new("breakeven-", args.out.as_deref())?;
    let path = Grid::path(&output.dir);
    // An earlier one is replaced, something else is not.
    read::<Grid>(&path)?;
    let k6 = K6::find()?;
    output.check(&Mode::COMPARED, port_offset)?;
    let host = Host::read(&k6.version, None);
    let environment = output.environment(k6, port_offset, args.seed);
    let plan = if args.quick { Plan::quick() } else { Plan::full() };
    let stacks = plan.stacks(args.rounds, args.seed);
    eprintln!("{} stacks, {} on {}", stacks.len(), plan.size(), host.line());
    let mut grid = Grid {
        version: Grid::VERSION,
        started: output.started.clone(),
        host,
        seconds: args.seconds,
        variants: plan::VARIANTS.map(|variant| variant.name.to_owned()).into(),
        cells: Vec::new(),
    };
    let begun = Instant::now();
    for (done, planned) in stacks.iter().enumerate() {
        let left = left(&plan, &stacks, done, args.seconds, begun);
        eprintln!("stack {} of {}, {planned}: {}", done + 1, stacks.len(), progress::left(left));
        for (conditions, taken) in session::measure(&environment, &output, &plan, planned, args.seconds)? {
            add(&mut grid, conditions, &planned.variant.name, taken);
        }
        // After each: a run that is cut off later loses nothing.
        write(&path, &grid)?;
    }
    let text = format!("\n{}\nResults: {}\n", table::text(&grid), path.display());
    say(&text)
}

fn add(grid: &mut Grid, conditions: Conditions, variant: &str, taken: Taken) {
    let cells = &mut grid.cells;
    let known = cells.iter().position(|cell| cell.conditions == conditions);
    let index = known.unwrap_or_else(|| {
        cells.push(Cell { conditions, taken: std::collections::BTreeMap::new() });
        cells.len() - 1
    });
    cells[index].taken.entry(variant.to_owned()).or_default().push(taken);
}

/// Seconds, as planned, or in proportion to how long it took so far.
fn left(plan: &Plan, stacks: &[PlannedStack], done: usize, seconds: u64, begun: Instant) -> u64 {
    let planned =
        |stacks: &[PlannedStack]| stacks.iter().map(|planned| plan.seconds(planned, seconds)).sum::<u64>();
    let (before, after) = (planned(&stacks[..done]), planned(&stacks[done..]));
    (after * begun.elapsed().as_secs()).checked_div(before).unwrap_or(after)
}
