//! `./study rate`: the highest arrival rate that a mode sustains.
//!
//! In reading order: `options` (the command line), `search` (the next rate), `trial` (one rate),
//! `judge` (whether it was sustained), `table` (for the terminal), `curve` (what is written down).

pub mod curve;
pub mod judge;
pub mod options;
pub mod search;
pub mod table;
pub mod trial;

use anyhow::Result;
use contract::Scenario;

use curve::Curve;
use measure::host::Host;
use measure::load::K6;
use measure::output_dir::OutputDir;
use measure::stored::write;
pub use options::RateArgs;
use stack::output::say;

pub fn run(args: &RateArgs, port_offset: u16) -> Result<()> {
    let output = OutputDir::new("rate-", args.out.as_deref())?;
    let path = Curve::path(&output.dir, args.scenario);
    let mut curves = Curve::read_all(&output.dir, args.scenario)?;
    let k6 = K6::find()?;
    let host = Host::read(&k6.version, None);
    let environment = output.environment(k6, port_offset, args.seed);
    let question = args.question(&environment.delays)?;
    output.check(&args.modes, port_offset)?;
    eprintln!("looking for the highest rate of {} on {}", question.scenario, host.line());
    for mode in &args.modes {
        let curve = trial::curve(&environment, &output, &question, *mode)?;
        // What the file says of the other mode stays.
        curves.retain(|known| known.variant != curve.variant);
        curves.push(curve);
        // After each: a search that is cut off later loses nothing.
        write(&path, &curves)?;
    }
    let text = format!("\n{}\nResults: {}\n", table::text(&curves), path.display());
    say(&text)
}

/// What is asked of each mode.
pub struct Question {
    pub scenario: Scenario,
    pub bound_ms: f64,
    /// k6 has users for all that arrives while no answer comes for so long.
    pub hiccup_ms: f64,
    pub seconds: u64,
    pub range: search::Range,
}
