//! One mode's curve: a stack, and one rate after the other against it.

use std::time::Duration;

use anyhow::Result;
use contract::Scenario;

use super::Question;
use super::curve::{Curve, Point};
use super::judge::judge;
use super::search::{Ended, Verdict, search};
use measure::load::Kind;
use measure::load_profile::Load;
use measure::output_dir::{Environment, OutputDir, Scratch};
use measure::record::Variant;
use measure::resource_usage::{Watch, Watched};
use measure::session::Session;
use measure::stored::Stored;
use measure::times::short;
use stack::{Mode, signals};

const WARM_UP_SECONDS: u64 = 3;
const WARM_UP_RATE: f64 = 200.0;
/// Of all processors: what others may take without being named.
const NOTABLE: f64 = 0.1;
/// Share of one core: a stack that takes less is idle.
const AT_REST: f64 = 0.15;
/// What clients gave up on may go on for so long after everything that was accepted has ended.
const SETTLED_WITHIN: Duration = Duration::from_secs(30);

pub fn curve(
    environment: &Environment,
    output: &OutputDir,
    question: &Question,
    mode: Mode,
) -> Result<Curve> {
    let variant = Variant::of(mode);
    let scratch = Scratch::new(output, &format!("rate-{}-{mode}", question.scenario.key()))?;
    let mut session = Session::start(environment, &variant, &scratch.0)?;
    // A report would still run when the first rate begins.
    if question.scenario != Scenario::S4 {
        let rate = question.range.start.min(WARM_UP_RATE);
        session.offer(&load(question, rate, WARM_UP_SECONDS), "warm-up", Kind::default())?;
    }
    let kind = Kind { hiccup_ms: Some(whole(question.hiccup_ms)), ..Kind::default() };
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let mut points: Vec<Point> = Vec::new();
    let found = search(question.range, |rate| {
        let name = format!("{rate}-per-s").replace('.', "_");
        let measured = session.offer(&load(question, rate, question.seconds), &name, kind)?;
        let (point, verdict) = judge(question, rate, &measured, cores);
        say(mode, &point, &measured.watched);
        points.push(point);
        if verdict != Verdict::Sustained {
            settle(&session)?;
        }
        Ok(verdict)
    })?;
    session.stack.stop()?;
    scratch.remove();
    points.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    let limited_by = match found.ended {
        Ended::Knee => None,
        Ended::NotOffered => Some("k6 was at its end before the services were".to_owned()),
        Ended::Highest => Some("no higher rate was asked for (--max)".to_owned()),
        Ended::Stuck => Some("what was accepted at the last rate did not end in time".to_owned()),
    };
    Ok(Curve {
        version: Curve::VERSION,
        scenario: question.scenario,
        variant: variant.name,
        bound_ms: question.bound_ms,
        seconds: question.seconds,
        points,
        sustainable: found.sustainable,
        limited_by,
    })
}

fn load(question: &Question, rate: f64, seconds: u64) -> Load {
    Load::alone(question.scenario, rate.to_string(), seconds)
}

fn say(mode: Mode, point: &Point, watched: &Watched) {
    let times = |share| short(point.complete.quantile(share));
    let how = point.why_not.as_ref().map_or("sustained".to_owned(), |why| format!("not sustained: {why}"));
    // Printed, not stored: the reader may want to measure again.
    let others = watched.others.filter(|share| *share > NOTABLE);
    let others = others.map_or(String::new(), |share| {
        format!(" (other programs took {:.0} % of the processors)", 100.0 * share)
    });
    eprintln!("{mode} at {}/s: complete p50 {}, p99 {}: {how}{others}", point.rate, times(0.5), times(0.99));
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "milliseconds of a wait")]
fn whole(ms: f64) -> u32 {
    ms.ceil() as u32
}

/// Waits until the stack is idle: abandoned work would slow the next rate.
fn settle(session: &Session<'_>) -> Result<()> {
    signals::poll(Duration::ZERO, SETTLED_WITHIN, || {
        let watch = Watch::start(&session.stack, None);
        signals::pause(Duration::from_millis(500))?;
        let (watched, _) = watch.end();
        let at_rest = watched.cpu.is_none_or(|cpu| cpu.total() < AT_REST * watched.seconds);
        Ok(at_rest.then_some(()))
    })?;
    Ok(())
}
