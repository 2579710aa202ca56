//! One picture per scenario, as SVG to stand inside the page: both times in both modes on a logarithmic axis, from
//! the median (dot) over p95 (tick) to p99 (end). Its colours are names for the page's style sheet, which knows
//! light and dark.

use anyhow::{Result, anyhow};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::figures::{Figures, short};
use super::result::Comparison;
use super::scenario::Scenario;
use crate::local::Mode;

/// The style sheet replaces exactly these.
const INK: RGBColor = RGBColor(0x1f, 0x23, 0x28);
const GRID: RGBColor = RGBColor(0xd8, 0xdc, 0xe0);
const SYNC: RGBColor = RGBColor(0x1d, 0x5f, 0xa8);
const ASYNC: RGBColor = RGBColor(0xc2, 0x57, 0x0c);

const SIZE: (u32, u32) = (720, 190);

struct Row<'a> {
    label: String,
    color: RGBColor,
    figures: &'a Figures,
}

type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<LogCoord<f64>, RangedCoordf64>>;

/// `None` if nothing was measured in this scenario.
pub fn draw(comparison: &Comparison, scenario: Scenario, (low, high): (f64, f64)) -> Result<Option<String>> {
    let rows = rows(comparison, scenario);
    if rows.is_empty() {
        return Ok(None);
    }
    let mut svg = String::new();
    paint(&mut svg, &rows, low, high)
        .map_err(|error| anyhow!("cannot draw the chart of {scenario}: {error}"))?;
    let described =
        format!("<svg role=\"img\" aria-label=\"{scenario}: time to acknowledge and to complete\" ");
    Ok(Some(svg.replacen("<svg ", &described, 1)))
}

fn rows(comparison: &Comparison, scenario: Scenario) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    for (what, pick) in [
        ("acknowledge", (|outcome| &outcome.acknowledge) as fn(&super::join::Outcome) -> &Figures),
        ("complete", |outcome| &outcome.complete),
    ] {
        for result in &comparison.modes {
            let Some(outcome) = result.scenarios.get(&scenario) else { continue };
            let color = if result.mode == Mode::Sync { SYNC } else { ASYNC };
            rows.push(Row { label: format!("{what}, {}", result.mode), color, figures: pick(outcome) });
        }
    }
    rows.retain(|row| row.figures.count > 0);
    rows
}

/// Whole powers of ten around everything that is drawn, so that all charts of a page share one axis.
pub fn axis(comparison: &Comparison) -> (f64, f64) {
    let (mut low, mut high) = (f64::MAX, f64::MIN);
    for row in Scenario::ALL.into_iter().flat_map(|scenario| rows(comparison, scenario)) {
        low = low.min(row.figures.p50.unwrap_or(low));
        high = high.max(row.figures.p99.unwrap_or(high));
    }
    if low > high {
        return (1.0, 10.0);
    }
    let ten = |exponent: f64| 10f64.powf(exponent);
    // The figure stands left of its dot: room for it there.
    (ten((low.max(0.001) / 4.5).log10().floor()), ten((high * 1.05).log10().ceil()))
}

fn paint(svg: &mut String, rows: &[Row<'_>], low: f64, high: f64) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    let mut chart: Plane<'_, '_> = ChartBuilder::on(&root)
        .margin(6)
        .margin_right(24)
        .x_label_area_size(26)
        .y_label_area_size(132)
        .build_cartesian_2d((low..high).log_scale(), 0.0..f64::from(u32::try_from(rows.len())?))?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(GRID)
        .x_labels(9)
        .x_label_formatter(&|ms| power(*ms))
        .label_style(("sans-serif", 13).into_font().color(&INK))
        .draw()?;
    for (index, row) in (0u32..).zip(rows.iter().rev()) {
        row.draw(&mut chart, f64::from(index) + 0.5, low)?;
    }
    root.present()?;
    drop(chart);
    drop(root);
    Ok(())
}

/// `10 ms`, `1 s`: the axis has whole powers of ten only.
fn power(ms: f64) -> String {
    if ms < 1000.0 { format!("{ms} ms") } else { format!("{} s", ms / 1000.0) }
}

impl Row<'_> {
    fn draw(&self, chart: &mut Plane<'_, '_>, y: f64, low: f64) -> Result<(), Box<dyn std::error::Error>> {
        let Figures { p50: Some(p50), p95: Some(p95), p99: Some(p99), .. } = *self.figures else {
            return Ok(());
        };
        let text = |h| ("sans-serif", 13).into_font().color(&INK).pos(Pos::new(h, VPos::Center));
        let label = EmptyElement::at((low, y)) + Text::new(self.label.clone(), (-8, 0), text(HPos::Right));
        chart.draw_series([label])?;
        chart.draw_series([PathElement::new(vec![(p50, y), (p99, y)], self.color.stroke_width(3))])?;
        for (at, height) in [(p95, 0.16), (p99, 0.24)] {
            chart.draw_series([PathElement::new(
                vec![(at, y - height), (at, y + height)],
                self.color.stroke_width(2),
            )])?;
        }
        chart.draw_series([Circle::new((p50, y), 5, self.color.filled())])?;
        let value = EmptyElement::at((p50, y)) + Text::new(short(Some(p50)), (-10, 0), text(HPos::Right));
        chart.draw_series([value])?;
        Ok(())
    }
}
