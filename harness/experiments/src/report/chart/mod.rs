//! Charts as SVG to stand inside the page: a small canvas, so that their text is readable on a phone too. Their
//! colours are names for the page's style sheet, which knows light and dark.
//!
//! `axis` chooses ticks; `lines` draws curves, `bars` rows of bars, `heat` a grid of cells.

pub mod axis;
pub mod bars;
pub mod heat;
pub mod lines;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use measure::record::Variant;
use stack::Mode;

/// The style sheet replaces exactly these.
pub const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
pub const GRID: RGBColor = RGBColor(0xd8, 0xdc, 0xe0);
pub const SYNC: RGBColor = RGBColor(0x1d, 0x5f, 0xa8);
pub const ASYNC: RGBColor = RGBColor(0xc2, 0x57, 0x0c);
pub const THIRD: RGBColor = RGBColor(0x1a, 0x7f, 0x5a);

pub const WIDTH: u32 = 420;
pub const HEIGHT: u32 = 250;
/// Plotters writes it as 13 px: it divides by 1.24.
const FONT: u32 = 16;
/// Of a letter of the font, about.
const LETTER: f64 = 6.7;

pub type Drawn = std::result::Result<(), Box<dyn std::error::Error>>;
pub type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Of the two modes always the same; a second variant of the same mode differs from the first.
pub fn colours(variants: &[Variant]) -> Vec<RGBColor> {
    let mode = |mode| if mode == Mode::Sync { SYNC } else { ASYNC };
    let repeated = |at: usize| variants[..at].iter().any(|before| before.mode == variants[at].mode);
    (0..variants.len()).map(|at| if repeated(at) { THIRD } else { mode(variants[at].mode) }).collect()
}

/// Of a variant of which only the name is known.
pub fn colour(name: &str) -> RGBColor {
    match name {
        "sync" => SYNC,
        "async" => ASYNC,
        _ => THIRD,
    }
}

/// The style sheet's name of a colour.
pub fn class(color: RGBColor) -> &'static str {
    match color {
        SYNC => "sync",
        ASYNC => "async",
        _ => "third",
    }
}

/// `label`: for those who do not see it.
fn canvas(height: u32, label: &str, paint: impl FnOnce(&Area<'_>) -> Drawn) -> Result<String> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        paint(&root).map_err(|error| anyhow!("cannot draw {label}: {error}"))?;
        root.present().map_err(|error| anyhow!("cannot draw {label}: {error}"))?;
    }
    let label = escaped(label);
    Ok(svg.replacen("<svg ", &format!("<svg role=\"img\" aria-label=\"{label}\" "), 1))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn style(color: &RGBColor, at: HPos) -> TextStyle<'_> {
    ("sans-serif", FONT).into_font().color(color).pos(Pos::new(at, VPos::Center))
}

/// Centred vertically at `y`.
fn write(root: &Area<'_>, text: &str, (x, y): (i32, i32), at: HPos) -> Drawn {
    Ok(root.draw(&Text::new(text.to_owned(), (x, y), style(&INK, at)))?)
}

/// Of the legend, and of what the canvas grows by for each row after the first.
const LEGEND_ROW: i32 = 18;
const LEGEND_LEFT: i32 = 8;
const DASH: i32 = 24;

/// Where each name of the legend begins, `(x, y)`: as many rows as the width of the canvas needs.
fn legend_places(names: &[(String, RGBColor, bool)]) -> Vec<(i32, i32)> {
    let (mut x, mut y) = (LEGEND_LEFT, 10);
    let mut places = Vec::new();
    for (name, ..) in names {
        let length = DASH + width(name);
        if x > LEGEND_LEFT && x + length > WIDTH.cast_signed() {
            (x, y) = (LEGEND_LEFT, y + LEGEND_ROW);
        }
        places.push((x, y));
        x += length + 14;
    }
    places
}

/// By how much the legend is higher than one row.
fn legend_growth(names: &[(String, RGBColor, bool)]) -> i32 {
    legend_places(names).last().map_or(0, |(_, y)| y - 10)
}

/// At the top: a dash of each colour and its name.
fn legend(root: &Area<'_>, names: &[(String, RGBColor, bool)]) -> Drawn {
    for ((name, color, dashed), (x, y)) in names.iter().zip(legend_places(names)) {
        dash(root, (x, y), *color, *dashed)?;
        write(root, name, (x + DASH, y), HPos::Left)?;
    }
    Ok(())
}

fn dash(root: &Area<'_>, (x, y): (i32, i32), color: RGBColor, dashed: bool) -> Drawn {
    let parts: &[(i32, i32)] = if dashed { &[(0, 5), (8, 13), (16, 20)] } else { &[(0, 20)] };
    for (from, to) in parts {
        root.draw(&PathElement::new(vec![(x + from, y), (x + to, y)], color.stroke_width(3)))?;
    }
    Ok(())
}

#[expect(clippy::cast_possible_truncation, reason = "of a short text")]
fn width(text: &str) -> i32 {
    (text.chars().count() as f64 * LETTER) as i32
}
