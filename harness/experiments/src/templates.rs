//! Pages are templates over a view.

use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, context};
use serde::Serialize;

/// Escapes for HTML or not at all, by the name's ending.
pub fn render(name: &'static str, template: &'static str, view: &impl Serialize) -> Result<String> {
    let mut environment = Environment::new();
    // A line with a block alone leaves nothing.
    let syntax =
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(true).build();
    environment.set_syntax(syntax?);
    // What came from outside (a processor's name, a failed check) within Markdown.
    environment.add_filter("md", |text: String| {
        text.replace('&', "&amp;").replace('<', "&lt;").replace('|', "\\|").replace('\n', " ")
    });
    environment.add_template(name, template).with_context(|| format!("the template {name} is broken"))?;
    let text = environment
        .get_template(name)?
        .render(context! { view => Serde(view), style => include_str!("report/style.css") });
    text.with_context(|| format!("cannot render {name}"))
}
