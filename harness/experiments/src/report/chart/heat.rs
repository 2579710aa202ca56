//! A grid of cells, each with a colour that says which variant is better and how clearly, and with a word.

use anyhow::Result;
use plotters::prelude::*;
use plotters::style::text_anchor::HPos;

use super::{GRID, WIDTH, canvas, write};

pub struct Cell {
    pub text: String,
    /// `None`: no difference. Else of the better variant, with how much better it is, from 0 to 1.
    pub color: Option<(RGBColor, f64)>,
}

const ROW: i32 = 26;
const HEAD: i32 = 18;
const TOP: i32 = 8;
const LEFT: i32 = 40;

/// The words of a column's name stand below each other: side by side they are wider than the cells.
pub fn draw(label: &str, columns: &[String], rows: &[(String, Vec<Cell>)]) -> Result<String> {
    let count = i32::try_from(columns.len().max(1))?;
    let each = (i32::try_from(WIDTH)? - LEFT - 4) / count;
    let words = columns.iter().map(|column| column.split(' ').count()).max().unwrap_or(0);
    let top = TOP + HEAD * i32::try_from(words)?;
    let height = top + ROW * i32::try_from(rows.len())? + 4;
    canvas(height.unsigned_abs(), label, |root| {
        for (at, column) in (0..).zip(columns) {
            for (row, word) in (0..).zip(column.split(' ')) {
                write(root, word, (LEFT + each * at + each / 2, HEAD * row + HEAD / 2 + 2), HPos::Center)?;
            }
        }
        for (at, (name, cells)) in (0..).zip(rows) {
            let y = top + ROW * at;
            write(root, name, (LEFT - 8, y + ROW / 2), HPos::Right)?;
            for (at, cell) in (0..).zip(cells) {
                let x = LEFT + each * at;
                let corners = [(x + 1, y + 1), (x + each - 2, y + ROW - 2)];
                if let Some((color, strength)) = cell.color {
                    root.draw(&Rectangle::new(corners, color.mix(0.12 + 0.4 * strength).filled()))?;
                }
                root.draw(&Rectangle::new(corners, GRID.stroke_width(1)))?;
                write(root, &cell.text, (x + each / 2, y + ROW / 2), HPos::Center)?;
            }
        }
        Ok(())
    })
}
