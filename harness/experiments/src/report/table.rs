//! What a comparison prints, at most 100 columns wide: the figures of each variant, their differences, a sentence per
//! scenario, and what is wrong.

use super::model::{ALL_GOOD, Model};
use measure::analysis::format;
use measure::analysis::statistics::Percentile;
use measure::times::short;
use stack::table::{self, WIDTH};

pub fn text(model: &Model<'_>) -> String {
    let mut text = format!("{}\n\n", figures(model));
    if model.analysis.judged().next().is_some() {
        text += &format!("{}\n", differences(model));
        text += &format!("{}\n", wrap("A difference is called one where its 99 % interval excludes 0."));
    } else if let Some(unjudged) = model.unjudged {
        text += &wrap(unjudged);
        text.push('\n');
    }
    text += &wrap(
        "ackn.: time to acknowledge, the HTTP answer; compl.: time to complete, the end of the last effect.",
    );
    text.push('\n');
    for of in &model.scenarios {
        if let Some(sentence) = &of.sentence {
            text += &wrap(&format!("{} {}: {sentence}", of.name, of.title));
        }
    }
    text.push('\n');
    if let Some(line) = &model.against_itself {
        text += &format!("{}\n", wrap(line));
    }
    text += &model.left_out.iter().map(|run| wrap(run)).collect::<String>();
    if model.problems.is_empty() {
        text += &wrap(ALL_GOOD);
    }
    text + &model.problems.iter().map(|problem| wrap(problem)).collect::<String>()
}

fn figures(model: &Model<'_>) -> String {
    let mut table = table::plain([
        "",
        "",
        "re-\nquests",
        "ackn.\np50",
        "\np95",
        "\np99",
        "compl.\np50",
        "\np95",
        "\np99",
        "ex-\npected",
        "unex-\npected",
        "\nlost",
        "dupli-\ncated",
    ]);
    for of in &model.scenarios {
        for variant in &of.variants {
            let totals = &variant.totals;
            let mut row = vec![of.name.clone(), variant.name.clone(), totals.requests.to_string()];
            for times in [&totals.acknowledge, &totals.complete] {
                row.extend(Percentile::ALL.map(|percentile| short(times.quantile(percentile.share()))));
            }
            let counts = [totals.expected, totals.unexpected_total(), totals.open, totals.twice];
            row.extend(counts.map(|count| count.to_string()));
            table.add_row(row);
        }
    }
    table::text(&mut table, 1, |column| column >= 2)
}

/// Medians with their 95 % intervals.
fn differences(model: &Model<'_>) -> String {
    let variants = model.variants.iter().map(|variant| variant.name.as_str());
    let second = model.variants.last().map_or("", |variant| &variant.name);
    let header: Vec<&str> =
        ["median", "(95 %)"].into_iter().chain(variants).chain(["difference", second]).collect();
    let mut table = table::plain(header);
    for cell in model.analysis.cells.iter().filter(|cell| cell.percentile == Percentile::P50) {
        let row = format::row(cell, |quantity, _| format::short_quantity(quantity).to_owned());
        let difference = row.difference.map(|difference| [difference, row.verdict.to_owned()]);
        let all = [row.scenario, row.what].into_iter().chain(row.variants);
        table.add_row(all.chain(difference.into_iter().flatten()));
    }
    table::text(&mut table, 1, |column| column >= 2)
}

/// Lines of at most [`WIDTH`] characters, the second and further ones indented.
fn wrap(paragraph: &str) -> String {
    let (mut text, mut width) = (String::new(), 0);
    for word in paragraph.split(' ') {
        let length = word.chars().count();
        if width + 1 + length > usize::from(WIDTH) {
            text += "\n  ";
            width = 2;
        } else if width > 0 {
            text.push(' ');
            width += 1;
        }
        text += word;
        width += length;
    }
    text.replace('\u{a0}', " ") + "\n"
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
