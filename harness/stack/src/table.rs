//! Tables without lines, for a terminal.

use comfy_table::{CellAlignment, ContentArrangement, Row, Table, presets};

/// What fits a terminal window side by side with another.
pub const WIDTH: u16 = 100;

/// Each column is as wide as its content.
pub fn plain<T: Into<Row>>(header: T) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled)
        .set_header(header);
    table
}

/// At most [`WIDTH`] wide: long cells have several lines.
pub fn within_width<T: Into<Row>>(header: T) -> Table {
    let mut table = plain(header);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    table
}

/// The text, with `gap` blanks between the columns, and the columns of `figures` to the right.
pub fn text(table: &mut Table, gap: u16, figures: impl Fn(usize) -> bool) -> String {
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, gap));
        if figures(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.trim_fmt()
}
