//! What searchservice does alike in both modes.

use common::testing::{TestApp, assert_limits_list};
use serde_json::{Value, json};

/// The ids that a search finds, in the order of the answer. `query` is encoded here.
pub(crate) async fn found(app: &TestApp, query: &str) -> Vec<i64> {
    let reply = app.get(&format!("/search?q={}", encoded(query))).await;
    assert_eq!(reply.status, 200, "{query:?}: {}", reply.text);
    let hits = reply.body.as_array().expect("a list");
    hits.iter().map(|hit| hit["product_id"].as_i64().expect("a number")).collect()
}

/// The only hit of a search.
pub(crate) async fn hit(app: &TestApp, query: &str) -> Value {
    let reply = app.get(&format!("/search?q={}", encoded(query))).await;
    let hits = reply.body.as_array().expect("a list");
    if let [hit] = hits.as_slice() { hit.clone() } else { Value::Null }
}

fn encoded(query: &str) -> String {
    query.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

pub(crate) async fn assert_finds_the_seed(app: &TestApp) {
    for query in
        ["Laptop", "laptop", "LAPTOP", "lap", "l", " laptop ", "laptop or mouse -mouse", "\"laptop\""]
    {
        let expected = json!({"product_id": 1, "name": "Laptop", "stock": 50, "version": 1});
        assert_eq!(hit(app, query).await, expected, "{query}");
    }
    assert_eq!(found(app, "mouse or keyboard").await, [3, 2], "newest first");
    for query in ["aptop", "laptops", "nothing", "-"] {
        assert_eq!(found(app, query).await, [0; 0], "{query}");
    }
}

/// Expects a product 10 that is called `Gaming Laptop 17`.
pub(crate) async fn assert_finds_words_of_a_name(app: &TestApp) {
    for query in ["gaming", "laptop gaming", "gaming lap", "GAMING LAPTOP 1", "\"gaming laptop\"", "17"] {
        assert_eq!(found(app, query).await, [10], "{query}");
    }
    assert_eq!(found(app, "laptop").await, [10, 1], "newest first");
    for query in ["laptop -gaming", "laptop -\"gaming laptop\""] {
        assert_eq!(found(app, query).await, [1], "{query}");
    }
    assert_eq!(found(app, "gaming keyboard").await, [0; 0], "every word counts");
    assert_limits_list(app, "/search?q=laptop").await;
}

pub(crate) async fn assert_survives_odd_queries(app: &TestApp) {
    for odd in [
        "'",
        "''",
        "'''",
        "\"",
        "\"a",
        "\\",
        "\\\\",
        "a\\",
        "\\'",
        "a\\b",
        "a'b",
        "lap'top",
        "l'",
        "%",
        "_",
        "%%%",
        "&",
        "|",
        "!",
        "!!",
        "a & b",
        "a | | b",
        ":*",
        "a:*",
        "a:b",
        ":",
        "<->",
        "a <-> b",
        "<2>",
        "(",
        ")",
        "()",
        "((a)",
        "a -\"b c\"",
        "-\"b c\"",
        "-",
        "--",
        "-a",
        "or",
        "or or",
        "and",
        "*",
        "?",
        ";",
        "'; DROP TABLE product_index; --",
        "$1",
        "$$",
        "${x}",
        "E'x'",
        " ",
        "\t\n",
        "é",
        "ß",
        "İ",
        "😀",
        "👩‍👩‍👧",
        "\u{200b}",
        "\u{feff}",
        "\u{1}",
        "\u{7f}",
        "中文",
        "ａ",
        "[",
        "{",
        "<b>",
        "../..",
        "a,b",
        "a\u{301}",
    ] {
        found(app, odd).await;
    }
    found(app, &"é".repeat(200)).await;
    found(app, &"a ".repeat(100)).await;
    found(app, &"(".repeat(200)).await;
    // Not UTF-8.
    assert_eq!(app.get("/search?q=%ff%fe").await.status, 200);
    for refused in ["", "\u{0}", "a\u{0}b", &"x".repeat(201)] {
        app.get(&format!("/search?q={}", encoded(refused))).await.assert_problem(422, Some("q"));
    }
    for path in ["/search", "/search?limit=1", "/search?q=a&q=b", "/search?Q=a"] {
        app.get(path).await.assert_problem(422, Some("q"));
    }
    assert_eq!(found(app, "laptop").await, [1], "all is as it was");
}
