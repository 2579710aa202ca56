//! A timeline as text: a summary of the workflow, a table of its hops with a bar for the time of each, and the missing effects.

use comfy_table::presets::NOTHING as STYLE;
use comfy_table::{CellAlignment, ContentArrangement, Table};

use super::timeline::{Hop, Timeline, What};
use measure::times::short;

/// Characters of the bar.
const BAR: usize = 30;
/// Width of a hop's description; the rest of it is printed below the table.
const WHAT: usize = 60;

/// `width` of the terminal: bars that do not fit are left out.
pub(super) fn text(timeline: &Timeline, width: Option<usize>) -> String {
    let with_bars = table(timeline, true);
    let fits = with_bars.lines().all(|line| width.is_none_or(|width| line.chars().count() <= width));
    let table = if fits { with_bars } else { table(timeline, false) };
    let foot = foot(timeline);
    let between = if foot.is_empty() { "" } else { "\n" };
    format!("{}\n{table}\n{between}{foot}", head(timeline))
}

/// Without terminal codes: clients wrote some of it.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn time(micros: i64) -> String {
    short(Some(micros as f64 / 1000.0))
}

fn head(timeline: &Timeline) -> String {
    let about = match &timeline.subjects[..] {
        [] => format!("request {}", printable(&timeline.workflow)),
        subjects => printable(&subjects.join(", ")),
    };
    let mut text = format!("{about}, {}\n", timeline.stack);
    let mut tell = |name: &str, value: &str| text += &format!("  {name:<12}{value}\n");
    tell("request id", &printable(&timeline.workflow));
    if let Some(trace) = &timeline.trace {
        tell("trace id", &printable(trace));
    }
    tell("accepted", &timeline.accepted_at());
    if let Some(hop) = timeline.last_effect() {
        let (after, idle) = (time(hop.end), timeline.idle(hop.end));
        // A shorter one would be invisible.
        let idle =
            if idle < 5 { String::new() } else { format!(", nothing at work for {} of that", time(idle)) };
        tell("last effect", &format!("{} after {after}{idle}", what(hop).trim_start_matches("effect ")));
    }
    text
}

fn table(timeline: &Timeline, bars: bool) -> String {
    let mut table = Table::new();
    table.load_style(STYLE).set_content_arrangement(ContentArrangement::Disabled);
    let mut header = vec!["since".to_owned(), "gap".into(), "took".into(), "service".into(), "hop".into()];
    let whole = timeline.whole();
    if bars {
        header.push(format!("0 {:>1$}", time(whole), BAR - 2));
    }
    table.set_header(header);
    for hop in &timeline.hops {
        let took = if hop.what.is_work() { time(hop.end - hop.start) } else { String::new() };
        let mut row = vec![
            time(hop.start),
            hop.gap.map(time).unwrap_or_default(),
            took,
            hop.service.clone(),
            cut(&indented(hop)),
        ];
        if bars {
            row.push(bar(hop, whole));
        }
        table.add_row(row);
    }
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        if index < 3 {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}

fn indented(hop: &Hop) -> String {
    // The table would trim a blank at the beginning of a cell.
    let inside = if hop.depth == 0 { String::new() } else { "\u{2514} ".to_owned() };
    format!("{}{inside}{}", "\u{a0}\u{a0}".repeat(hop.depth.saturating_sub(1)), what(hop))
}

fn what(hop: &Hop) -> String {
    printable(&match &hop.what {
        What::Request { method, handler, status } => format!("{method} {handler} -> {status}"),
        What::Published { event } => {
            format!("{event} published ({} in the outbox)", time(hop.end - hop.start))
        }
        What::Handled { queue, outcome } => format!("handled from {queue}: {outcome}"),
        What::Effect { effect, outcome, .. } => format!("effect {effect}: {outcome}"),
        What::Said { level, message, fields } => {
            let value = |value: &serde_json::Value| value.as_str().map_or(value.to_string(), str::to_owned);
            let fields = fields.iter().map(|(name, of)| format!(" {name}={}", value(of)));
            format!("{level} {message}{}", fields.collect::<String>())
        }
    })
}

fn cut(text: &str) -> String {
    if text.chars().count() <= WHAT {
        return text.to_owned();
    }
    text.chars().take(WHAT - 1).chain(['\u{2026}']).collect()
}

/// Its time within the whole; a mark for an instant.
fn bar(hop: &Hop, whole: i64) -> String {
    let place = |at: i64| at as f64 / whole.max(1) as f64 * BAR as f64;
    let first = (place(hop.start) as usize).min(BAR - 1);
    let mark = match &hop.what {
        What::Effect { .. } => "\u{25c6}".to_owned(),
        What::Said { .. } => "!".to_owned(),
        _ => "\u{2588}".repeat((place(hop.end).ceil() as usize).clamp(first + 1, BAR) - first),
    };
    format!("{}{mark}", "\u{b7}".repeat(first))
}

fn foot(timeline: &Timeline) -> String {
    let mut text = String::new();
    for hop in &timeline.hops {
        if indented(hop).chars().count() > WHAT {
            text += &format!("at {}, {}: {}\n", time(hop.start), hop.service, what(hop));
        }
    }
    let missing = timeline.missing();
    if !missing.is_empty() {
        let why = match timeline.set_aside() {
            true => "an event was set aside (`./study dlq list`)",
            false => "not ended yet, or its logs are gone",
        };
        text += &format!("No effect {}: {why}.\n", missing.join(", "));
    }
    if !timeline.unanswered.is_empty() {
        let requests = printable(&timeline.unanswered.join(", "));
        text += &format!("Begun and not answered: {requests}; it is still at work, or was cut off.\n");
    }
    if timeline.older > 0 {
        let (n, s) = (timeline.older, if timeline.older == 1 { "" } else { "s" });
        text += &format!("The newest of its name: {n} older workflow{s} in these logs had it, too.\n");
    }
    text
}
