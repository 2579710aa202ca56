//! A plain client of a stack: requests to its services, commands to its broker, statements for its database.

use std::time::{Duration, Instant};

use serde_json::Value;
use sqlx::{Connection, Executor, PgConnection};
use stack::{Stack, http, signals};

/// Far more than any step takes, so that only a hang exceeds it.
const DEADLINE: Duration = Duration::from_secs(30);

/// Status and body.
pub(crate) type Answer = (u16, Value);

pub(crate) fn post(stack: &Stack, service: &str, path: &str, id: &str, body: &Value) -> Answer {
    let url = format!("{}{path}", stack.url(service));
    let agent = http::agent(DEADLINE);
    let request = match path.starts_with("/products/") {
        true => agent.put(url),
        false => agent.post(url),
    };
    let mut response = request.header("x-request-id", id).send_json(body).unwrap();
    (response.status().as_u16(), response.body_mut().read_json().unwrap())
}

pub(crate) fn get(stack: &Stack, service: &str, path: &str) -> Answer {
    let (status, body) = http::get(&http::agent(DEADLINE), &format!("{}{path}", stack.url(service))).unwrap();
    (status, serde_json::from_str(&body).unwrap_or(Value::String(body)))
}

/// A command to RabbitMQ's management API, in the stack's vhost; `{}` in the path is its name.
pub(crate) fn manage(stack: &Stack, method: &str, path: &str, body: &Value) -> Value {
    let broker = stack.broker_address().unwrap();
    let url = format!("{}/api/{}", broker.admin_url, path.replacen("{}", &broker.namespace, 1));
    let agent = http::agent(DEADLINE);
    let mut response = match method {
        "GET" => agent.get(url).call(),
        "DELETE" => agent.delete(url).call(),
        "PUT" => agent.put(url).send_json(body),
        _ => agent.post(url).send_json(body),
    }
    .unwrap();
    assert!(response.status().is_success(), "{method} {path}: {}", response.status());
    response.body_mut().read_json().unwrap_or_default()
}

/// As the superuser.
pub(crate) fn execute(stack: &Stack, sql: &'static str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(&stack.database_url()).await.unwrap();
        connection.execute(sqlx::raw_sql(sql)).await.unwrap();
        connection.close().await.unwrap();
    });
}

/// One text from the database, as the superuser.
pub(crate) fn select(stack: &Stack, sql: &'static str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut connection = PgConnection::connect(&stack.database_url()).await.unwrap();
        sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
    })
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        signals::rest(Duration::from_millis(30));
    }
}
