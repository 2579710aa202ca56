//! Rows of horizontal bars in groups, each with its value in words; a bar may have parts.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::{GRID, WIDTH, canvas, legend, legend_growth, width, write};

pub struct Group {
    pub title: String,
    pub bars: Vec<Bar>,
}

pub struct Bar {
    pub color: RGBColor,
    /// One after the other, the first darkest; as shares of the longest bar.
    pub parts: Vec<f64>,
    pub value: String,
}

const ROW: i32 = 16;
const GAP: i32 = 8;
const TOP: i32 = 28;
const SHADES: [f64; 3] = [1.0, 0.6, 0.3];

/// `names`: the legend. `None` without a single bar.
pub fn draw(label: &str, names: &[(String, RGBColor)], mut groups: Vec<Group>) -> Result<Option<String>> {
    groups.retain(|group| !group.bars.is_empty());
    if groups.is_empty() {
        return Ok(None);
    }
    let rows: usize = groups.iter().map(|group| group.bars.len()).sum();
    let names: Vec<_> = names.iter().map(|(name, color)| (name.clone(), *color, false)).collect();
    let top = TOP + legend_growth(&names);
    let height = top + i32::try_from(rows)? * ROW + i32::try_from(groups.len())? * GAP + 4;
    let left = groups.iter().map(|group| width(&group.title)).max().unwrap_or(0) + 14;
    let values = groups.iter().flat_map(|group| &group.bars).map(|bar| width(&bar.value)).max().unwrap_or(0);
    let room = f64::from(i32::try_from(WIDTH)? - left - values - 16);
    let svg = canvas(height.unsigned_abs(), label, |root| {
        legend(root, &names)?;
        let mut y = top;
        for group in &groups {
            let tall = ROW * i32::try_from(group.bars.len())?;
            write(root, &group.title, (left - 8, y + tall / 2), HPos::Right)?;
            root.draw(&PathElement::new(vec![(left, y - 2), (left, y + tall)], GRID))?;
            for bar in &group.bars {
                let mut x = left;
                for (part, shade) in bar.parts.iter().zip(SHADES.iter().cycle()) {
                    // Of parts with both signs, one can be far longer than their sum.
                    let end = x + pixels(part.clamp(-1.0, 1.0) * room);
                    let fill = bar.color.mix(*shade).filled();
                    root.draw(&Rectangle::new([(x, y + 1), (end, y + ROW - 3)], fill))?;
                    x = end;
                }
                write(root, &bar.value, (x + 6, y + ROW / 2 - 1), HPos::Left)?;
                y += ROW;
            }
            y += GAP;
        }
        Ok(())
    })?;
    Ok(Some(svg))
}

#[expect(clippy::cast_possible_truncation, reason = "on a canvas of a few hundred")]
fn pixels(length: f64) -> i32 {
    length.round() as i32
}
