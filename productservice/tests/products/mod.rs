//! What productservice does alike in both modes.

use common::testing::{
    Method, TestApp, assert_limits_list, assert_refuses_bad_bodies, assert_refuses_fields,
};
use futures_util::future::join_all;
use serde_json::{Value, json};

pub(crate) async fn assert_seeded(app: &TestApp) {
    for (id, name, stock) in [(1, "Laptop", 50), (2, "Mouse", 100), (3, "Keyboard", 75)] {
        let product = app.get(&format!("/products/{id}")).await;
        assert_eq!(product.status, 200, "{}", product.text);
        assert_eq!(
            (&product.body["id"], &product.body["name"], &product.body["stock"]),
            (&json!(id), &json!(name), &json!(stock))
        );
    }
    let list = app.get("/products").await;
    let ids: Vec<&Value> =
        list.body.as_array().expect("a list").iter().map(|product| &product["id"]).collect();
    assert_eq!(ids, [3, 2, 1], "newest first");
    assert_limits_list(app, "/products").await;
}

pub(crate) async fn assert_updates_in_parts(app: &TestApp) {
    let fields = async |body: Value| {
        let reply = app.put("/products/1", body).await;
        assert_eq!(reply.status, 200, "{}", reply.text);
        (reply.body["name"].clone(), reply.body["stock"].clone(), reply.body["version"].clone())
    };
    assert_eq!(fields(json!({"stock": 7})).await, (json!("Laptop"), json!(7), json!(2)));
    assert_eq!(fields(json!({"name": "Ultrabook"})).await, (json!("Ultrabook"), json!(7), json!(3)));
    assert_eq!(fields(json!({"name": null, "stock": 0})).await, (json!("Ultrabook"), json!(0), json!(4)));
    assert_eq!(fields(json!({})).await, (json!("Ultrabook"), json!(0), json!(5)));
    let stored = app.get("/products/1").await.body;
    assert_eq!(
        (&stored["name"], &stored["stock"], &stored["version"]),
        (&json!("Ultrabook"), &json!(0), &json!(5))
    );
}

/// The most that is taken, of characters and of bytes.
pub(crate) fn longest_name() -> String {
    "😀".repeat(4096)
}

/// The id of the product that it made first: a `Desk`, 5 of them. The next one has the longest name.
pub(crate) async fn assert_creates(app: &TestApp) -> i64 {
    let created = app.post("/products", json!({"name": "Desk", "stock": 5})).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let id = created.body["id"].as_i64().expect("a number");
    assert_eq!((&created.body["name"], &created.body["stock"]), (&json!("Desk"), &json!(5)));
    assert_eq!(created.headers["location"], format!("/products/{id}"));
    assert_eq!(app.get(&format!("/products/{id}")).await.body["name"], "Desk");
    assert_eq!(app.get("/products").await.body[0]["id"], id, "newest first");
    for name in [longest_name(), "😀 \\ ' \" % ; DROP TABLE products; --".to_owned()] {
        let created = app.post("/products", json!({"name": name, "stock": 1_000_000_000})).await;
        assert_eq!((created.status, &created.body["name"]), (201, &json!(name)), "{}", created.text);
    }
    id
}

pub(crate) async fn assert_refuses_bad_input(app: &TestApp) {
    let before = app.get("/products").await.body;
    assert_refuses_bad_bodies(app, Method::POST, "/products").await;
    assert_refuses_bad_bodies(app, Method::PUT, "/products/1").await;
    let long = format!(r#"{{"name":"{}","stock":1}}"#, "x".repeat(4097));
    let cases = [
        ("name", r#"{"name":"","stock":1}"#),
        ("name", r#"{"name":"a\u0000b","stock":1}"#),
        ("name", r#"{"name":1,"stock":1}"#),
        ("name", r#"{"name":["x"],"stock":1}"#),
        ("name", long.as_str()),
        ("stock", r#"{"name":"x","stock":-1}"#),
        ("stock", r#"{"name":"x","stock":1000000001}"#),
        ("stock", r#"{"name":"x","stock":99999999999999999999}"#),
        ("stock", r#"{"name":"x","stock":1e999}"#),
        ("stock", r#"{"name":"x","stock":1.5}"#),
        ("stock", r#"{"name":"x","stock":"1"}"#),
        ("stock", r#"{"name":"x","stock":true}"#),
        ("colour", r#"{"name":"x","stock":1,"colour":"red"}"#),
        ("id", r#"{"id":9,"name":"x","stock":1}"#),
    ];
    assert_refuses_fields(app, Method::POST, "/products", &cases).await;
    assert_refuses_fields(app, Method::PUT, "/products/1", &cases).await;
    let missing =
        [("name", r#"{"stock":1}"#), ("stock", r#"{"name":"x"}"#), ("name", r#"{"name":null,"stock":1}"#)];
    assert_refuses_fields(app, Method::POST, "/products", &missing).await;
    app.request(Method::PUT, "/products/1", &[], None).await.assert_problem(400, None);

    for id in ["0", "-1", "4", "9223372036854775807"] {
        let path = format!("/products/{id}");
        app.get(&path).await.assert_problem(404, None);
        app.put(&path, json!({"stock": 1})).await.assert_problem(404, None);
    }
    for id in ["x", "1.5", "99999999999999999999", "%00", "%ff", "1%20OR%201=1", "'"] {
        let path = format!("/products/{id}");
        app.get(&path).await.assert_problem(422, Some("id"));
        app.put(&path, json!({"stock": 1})).await.assert_problem(422, Some("id"));
    }
    for method in [Method::DELETE, Method::POST] {
        app.request(method, "/products/1", &[], None).await.assert_problem(405, None);
    }
    assert_eq!(app.get("/products").await.body, before, "nothing is changed by what was refused");
}

pub(crate) async fn assert_counts_versions(app: &TestApp) {
    let changes = (1..=20).map(|stock| app.put("/products/2", json!({"stock": stock})));
    let mut versions: Vec<i64> =
        join_all(changes).await.iter().filter_map(|reply| reply.body["version"].as_i64()).collect();
    versions.sort_unstable();
    assert_eq!(versions, (2..=21).collect::<Vec<_>>());
}
