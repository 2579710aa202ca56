//! Pages are templates over a view.

use anyhow::{Context, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{Environment, Error, context};
use serde::Serialize;

use crate::report::costs::Span;
use crate::report::numbers::{self, unit};

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
    environment.add_filter("figure", numbers::digits);
    environment.add_filter("span", span);
    environment.add_filter("taken", taken);
    environment.add_filter("parts", parts);
    environment.add_template(name, template).with_context(|| format!("the template {name} is broken"))?;
    let text = environment
        .get_template(name)?
        .render(context! { view => Serde(view), style => include_str!("report/style.css") });
    text.with_context(|| format!("cannot render {name}"))
}

/// Of a [`Span`]; see [`unit`].
fn span(span: &Value, of: Option<&str>) -> Result<String, Error> {
    let part = |name| f64::try_from(span.get_attr(name)?);
    let span = Span { mean: part("mean")?, low: part("low")?, high: part("high")? };
    Ok(numbers::span(&span, unit(of.unwrap_or_default())))
}

const PARTS: [&str; 3] = ["services", "broker", "database"];

/// The total of a `Taken`, then its parts.
fn taken(taken: &Value, of: &str) -> Result<Vec<String>, Error> {
    let part = |name| Ok(unit(of)(f64::try_from(taken.get_attr("parts")?.get_attr(name)?)?));
    let total = span(&taken.get_attr("total")?, Some(of));
    [total].into_iter().chain(PARTS.map(part)).collect()
}

/// The same as one text; `-` where nothing was measured.
fn parts(all: &Value, of: &str) -> Result<String, Error> {
    if all.is_none() {
        return Ok("-".into());
    }
    let shown = taken(all, of)?;
    let parts: Vec<String> =
        PARTS.iter().zip(&shown[1..]).map(|(name, part)| format!("{name} {part}")).collect();
    Ok(format!("{}: {}", shown[0], parts.join(", ")))
}
