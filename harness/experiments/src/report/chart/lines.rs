//! Curves over a common pair of axes: cumulative distributions, backlogs, latency against rate.

use anyhow::Result;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::axis::Axis;
use super::axis::time;
use super::{Drawn, FONT, GRID, HEIGHT, INK, canvas, legend, legend_growth};
use measure::times::Times;

pub struct Series {
    pub name: String,
    pub color: RGBColor,
    pub dashed: bool,
    /// A dot at each point: it was measured there and not between.
    pub dots: bool,
    pub points: Vec<(f64, f64)>,
}

impl Series {
    pub fn solid(name: &str, color: RGBColor, points: Vec<(f64, f64)>) -> Self {
        Self { name: name.to_owned(), color, dashed: false, dots: false, points }
    }

    /// On the vertical axis.
    pub fn values(all: &[Self]) -> impl Iterator<Item = f64> {
        all.iter().flat_map(|line| line.points.iter().map(|(_, value)| *value))
    }
}

/// A value on the horizontal axis that matters.
pub struct Mark {
    pub at: f64,
    pub color: RGBColor,
}

pub struct Lines {
    pub label: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    pub marks: Vec<Mark>,
    /// A value on the vertical axis that must not be passed.
    pub bound: Option<f64>,
}

type Plane<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

const LEFT: u32 = 58;

impl Lines {
    pub fn new(label: String, x: Axis, y: Axis, series: Vec<Series>) -> Self {
        Self { label, x, y, series, marks: Vec::new(), bound: None }
    }

    pub fn draw(&self) -> Result<String> {
        let names: Vec<_> =
            self.series.iter().map(|line| (line.name.clone(), line.color, line.dashed)).collect();
        let growth = legend_growth(&names).unsigned_abs();
        canvas(HEIGHT + growth, &self.label, |root| {
            legend(root, &names)?;
            let mut chart: Plane<'_, '_> = ChartBuilder::on(root)
                .margin_top(26 + growth)
                .margin_right(24)
                .margin_bottom(4)
                .x_label_area_size(26)
                .y_label_area_size(LEFT)
                .build_cartesian_2d(self.x.clone(), self.y.clone())?;
            let text = |at| ("sans-serif", FONT).into_font().color(&INK).pos(at);
            chart
                .configure_mesh()
                .bold_line_style(GRID)
                .light_line_style(TRANSPARENT)
                .axis_style(GRID)
                .x_label_formatter(&|at| (self.x.label)(*at))
                .y_label_formatter(&|at| (self.y.label)(*at))
                .x_label_style(text(Pos::new(HPos::Center, VPos::Top)))
                .y_label_style(text(Pos::new(HPos::Right, VPos::Center)))
                .draw()?;
            self.lines(&mut chart)
        })
    }

    fn lines(&self, chart: &mut Plane<'_, '_>) -> Drawn {
        let (x, y) = (&self.x, &self.y);
        if let Some(bound) = self.bound.filter(|bound| (y.low..=y.high).contains(bound)) {
            let ends = [(x.low, bound), (x.high, bound)];
            chart.draw_series([DashedPathElement::new(ends, 2, 4, INK.stroke_width(1))])?;
        }
        for mark in &self.marks {
            let ends = [(mark.at, y.low), (mark.at, y.high)];
            chart.draw_series([DashedPathElement::new(ends, 6, 4, mark.color.stroke_width(1))])?;
        }
        for line in &self.series {
            let points = &line.points;
            let style = line.color.stroke_width(2);
            if line.dashed {
                chart.draw_series([DashedPathElement::new(points.iter().copied(), 5, 3, style)])?;
            } else {
                chart.draw_series([PathElement::new(points.clone(), style)])?;
            }
            if line.dots {
                chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, line.color.filled())))?;
            }
        }
        Ok(())
    }
}

/// Cumulative distributions; `None` without a single time.
pub fn distributions<'a>(
    label: String,
    all: impl Iterator<Item = (&'a str, RGBColor, &'a Times)>,
) -> Result<Option<String>> {
    let line =
        |(name, color, times): (_, _, &Times)| Series::solid(name, color, steps(&times.distribution()));
    let series: Vec<Series> = all.map(line).collect();
    let times = series.iter().flat_map(|line| line.points.iter().map(|(ms, _)| *ms));
    let Some(x) = Axis::log(times, time) else { return Ok(None) };
    Lines::new(label, x, Axis::shares(), series).draw().map(Some)
}

/// A cumulative distribution as steps, without what cannot be seen at this size.
fn steps(distribution: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut points: Vec<(f64, f64)> = Vec::new();
    let mut before = 0.0;
    for (at, (value, share)) in distribution.iter().enumerate() {
        let seen = points.last().is_none_or(|(x, y)| value / x > 1.004 || share - y > 0.004);
        if seen || at + 1 == distribution.len() {
            points.extend([(*value, before), (*value, *share)]);
            before = *share;
        }
    }
    points
}
