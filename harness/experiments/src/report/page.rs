//! The page and the Markdown: templates over the same view. The page is one file with everything in it, charts as
//! inline SVG, nothing loaded from anywhere.

use anyhow::Result;

use super::view::View;
use crate::templates::render;

pub fn html(view: &View) -> Result<String> {
    render("report.html", include_str!("page.html"), view)
}

pub fn markdown(view: &View) -> Result<String> {
    render("report.md", include_str!("page.md"), view)
}

#[cfg(test)]
#[path = "page_tests.rs"]
mod tests;
