//! Logs contain no address, body, key or password. The tests provoke every kind of line, by requests that succeed and that fail,
//! then search all logs.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use contract::events::queues;
use serde_json::json;
use stack::{Mode, Stack, http, signals};
use study::dlq::describe;

use crate::client::{eventually, execute, get, post, select};
use crate::fixture;

/// Part of every text that a client sends, except ids, which may be logged.
const MARK: &str = "tell.nobody";
/// Every number that a client sends, except ids.
const NUMBER: i64 = 8_800_555_035;

/// The lines of all logs that contain a mark.
fn leaks(logs: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for file in fs::read_dir(logs).unwrap().flatten() {
        let text = fs::read_to_string(file.path()).unwrap();
        let name = file.file_name().into_string().unwrap();
        assert!(!text.is_empty(), "{name} is empty: nothing was looked at");
        let number = NUMBER.to_string();
        let leaks = |line: &&str| line.contains(MARK) || line.contains(&number) || holds_a_login(line);
        found.extend(text.lines().filter(leaks).map(|line| format!("{name}: {line}")));
    }
    found
}

/// `scheme://user:password@`
fn holds_a_login(line: &str) -> bool {
    line.split("://").skip(1).any(|rest| {
        let authority = rest.split(['/', ' ', '"']).next().unwrap_or_default();
        authority.split_once('@').is_some_and(|(login, _)| login.contains(':'))
    })
}

fn send(stack: &Stack, service: &str, path: &str, body: &str) -> u16 {
    let request = http::agent(Duration::from_secs(30)).post(format!("{}{path}", stack.url(service)));
    let request = request.header("idempotency-key", format!("{MARK}/{path}/{}", body.len()));
    request.header("authorization", format!("Bearer {MARK}")).send(body).unwrap().status().as_u16()
}

/// The six scenarios with a mark in every text, valid and invalid.
fn work(stack: &Stack, round: &str) {
    let address = format!("{MARK}.{round}@example.org");
    for (service, path, body) in [
        ("userservice", "/register", json!({"email": address})),
        ("userservice", "/register", json!({"email": address.to_uppercase()})),
        ("userservice", "/register", json!({"email": format!("no address {MARK}")})),
        ("userservice", "/register", json!({"email": NUMBER})),
        ("paymentservice", "/process_payment", json!({"amount": NUMBER, "currency": "EUR"})),
        ("paymentservice", "/process_payment", json!({"amount": 1, "currency": MARK})),
        ("paymentservice", "/process_payment_fail", json!({})),
        ("productservice", "/products", json!({"name": format!("{MARK} {round}"), "stock": 5})),
        ("reportservice", "/generate_report", json!({"report_type": format!("{MARK} {round}")})),
        ("orderservice", "/create_order", json!({"product_id": 1, "quantity": 1})),
        ("orderservice", "/create_order", json!({"product_id": 1, "quantity": MARK})),
        (
            "analyticsservice",
            "/track_click",
            json!({"user_id": NUMBER, "page": format!("/{MARK}"), "session_id": MARK}),
        ),
        ("analyticsservice", "/track_click", json!({"user_id": 1, "page": "/", MARK: MARK})),
    ] {
        assert!(send(stack, service, path, &body.to_string()) < 600, "{path}");
        send(stack, service, path, &format!("{{\"{MARK}"));
    }
    let change = json!({"name": format!("{MARK} {round}")});
    post(stack, "productservice", "/products/2", &format!("put-{round}"), &change);
    for (service, path) in [
        ("searchservice", format!("/search?q={MARK}")),
        ("userservice", format!("/users/{MARK}?{MARK}={MARK}")),
        ("paymentservice", format!("/payments/{MARK}")),
        ("cacheservice", format!("/{MARK}")),
    ] {
        // The service may be stopped.
        http::get(&http::agent(Duration::from_secs(30)), &format!("{}{path}", stack.url(service))).ok();
    }
}

/// Rows with a mark break a constraint, and PostgreSQL's error contains the whole row.
const REFUSE_ROWS: &str = "\
    ALTER TABLE userservice.users ADD CONSTRAINT no_mark CHECK (email NOT LIKE 'tell.nobody%') NOT VALID; \
    ALTER TABLE emailservice.emails ADD CONSTRAINT no_mark CHECK (email NOT LIKE 'tell.nobody%') NOT VALID; \
    ALTER TABLE analyticsservice.clicks ADD CONSTRAINT no_mark CHECK (page NOT LIKE '%tell.nobody%') NOT VALID;";
const ACCEPT_ROWS: &str = "\
    ALTER TABLE userservice.users DROP CONSTRAINT no_mark; \
    ALTER TABLE emailservice.emails DROP CONSTRAINT no_mark; \
    ALTER TABLE analyticsservice.clicks DROP CONSTRAINT no_mark;";
const TAKE_TABLES: &str =
    "ALTER TABLE emailservice.emails RENAME TO gone; ALTER TABLE searchservice.product_index RENAME TO gone;";
const GIVE_TABLES: &str =
    "ALTER TABLE emailservice.gone RENAME TO emails; ALTER TABLE searchservice.gone RENAME TO product_index;";
/// Also ends open connections. Only for this database: others use the same logins.
const REFUSE_LOGINS: &str = "\
    DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$; \
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
    WHERE datname = current_database() AND pid <> pg_backend_pid();";
const ACCEPT_LOGINS: &str = "\
    DO $$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO PUBLIC', current_database()); END $$;";

fn ready(stack: &Stack, service: &str, status: u16) {
    eventually(&format!("{service} says {status}"), || get(stack, service, "/ready").0 == status);
}

fn breakages(stack: &mut Stack) {
    for (number, (breaks, mends)) in
        [(REFUSE_ROWS, ACCEPT_ROWS), (TAKE_TABLES, GIVE_TABLES)].into_iter().enumerate()
    {
        execute(stack, breaks);
        work(stack, &format!("break-{number}"));
        if stack.mode().has_broker() {
            // Long enough for the published events to be handled, and to fail.
            signals::rest(Duration::from_millis(700));
        }
        execute(stack, mends);
    }
    execute(stack, REFUSE_LOGINS);
    ready(stack, "userservice", 503);
    work(stack, "logins");
    execute(stack, ACCEPT_LOGINS);
    for service in ["userservice", "analyticsservice", "orderservice", "paymentservice"] {
        ready(stack, service, 200);
    }
    for peer in ["emailservice", "searchservice", "inventoryservice"] {
        stack.kill_service(peer).unwrap();
    }
    work(stack, "peers");
}

/// None of them is a valid event; each has marks where a parser would quote them.
fn poison(stack: &Stack) {
    let broker = stack.broker().unwrap();
    let bodies = [
        format!("{MARK} is no JSON"),
        format!(r#"{{"email": "{MARK}"#),
        json!(MARK).to_string(),
        json!([MARK]).to_string(),
        json!({"user_id": MARK, "email": 5, "payment_id": 1, "order_id": MARK, "product_id": MARK, "job_id": 1, "event_id": MARK}).to_string(),
        json!({"user_id": 1, "email": NUMBER, "payment_id": NUMBER, "order_id": 0.5, "job_id": NUMBER, "event_id": NUMBER}).to_string(),
        json!({"user_id": 1, "email": {"a": MARK}, "amount": MARK, "name": [MARK], "reason": NUMBER}).to_string(),
        json!({"event_id": format!("{MARK}-0193fd6e"), "user_id": 1, "page": MARK, "session_id": NUMBER}).to_string(),
        json!({"email": format!("{MARK}\u{0}"), "user_id": -5, "page": format!("{MARK}\u{0}"), "event_id": "0193fd6e-0000-7000-8000-000000000001"}).to_string(),
        json!({"order_id": 1, "product_id": 1, "quantity": NUMBER}).to_string(),
        json!({"job_id": "job_unknown", "report_type": MARK}).to_string(),
        json!({"payment_id": "pay_unknown", "amount": 1.0, "currency": MARK}).to_string(),
        json!({"payment_id": "pay_unknown", "transaction_id": MARK, "status": MARK}).to_string(),
        json!({"product_id": 1, "name": format!("{MARK}\u{0}"), "stock": 1, "version": 1000}).to_string(),
    ];
    for queue in queues::ALL {
        for (n, body) in bodies.iter().enumerate() {
            broker.publish(queue.name, &format!("{}-{n}", queue.name), "", body).unwrap();
        }
    }
}

/// Without the option for bodies, `dlq show` prints nothing of a body.
fn reasons_are_clean(stack: &Stack) {
    let broker = stack.broker().unwrap();
    let mut letters = Vec::new();
    eventually("poison is set aside", || {
        let queues = broker.dead_letter_queues().unwrap();
        letters = queues.iter().flat_map(|queue| broker.peek(queue, 1000).unwrap().messages).collect();
        letters.len() > 150
    });
    for letter in &letters {
        let shown = describe(letter, false);
        assert!(!shown.contains(MARK) && !shown.contains(&NUMBER.to_string()), "{shown}");
    }
}

fn logs_contain_no_secrets(mode: Mode) {
    let (mut stack, _folder) =
        fixture::start(&format!("logs-{mode}"), mode, &[("RUST_LOG", LEVEL), ("LOG_FORMAT", "json")]);
    work(&stack, "first");
    work(&stack, "first");
    if mode.has_broker() {
        poison(&stack);
        reasons_are_clean(&stack);
    }
    breakages(&mut stack);
    // PostgreSQL's own log: the details of an error contain the row.
    assert_eq!(select(&stack, "SHOW log_error_verbosity"), "terse");
    let logs = stack.logs();
    stack.stop().unwrap();
    let leaks = leaks(&logs);
    assert!(
        leaks.is_empty(),
        "{} lines tell, such as\n{}",
        leaks.len(),
        leaks[..leaks.len().min(12)].join("\n")
    );
    let told = fs::read_to_string(logs.join("userservice.log")).unwrap();
    assert!(
        told.contains("request failed") && told.contains("waiting for PostgreSQL"),
        "nothing was provoked: {told}"
    );
}

/// More than production's `info`, without the library that logs what it sends.
const LEVEL: &str = "debug,lapin=off";

#[test]
fn logs_of_sync_mode_contain_no_address_body_key_or_password() {
    logs_contain_no_secrets(Mode::Sync);
}

#[test]
fn logs_of_async_mode_contain_no_address_body_key_or_password() {
    logs_contain_no_secrets(Mode::Async);
}

#[test]
fn logs_of_stream_mode_contain_no_address_body_key_or_password() {
    logs_contain_no_secrets(Mode::Stream);
}

/// The output of a service until it ends or has logged that it waits for both servers.
fn output(program: &Path, arguments: &[&str], env: &[(&str, String)]) -> String {
    let file = program.with_extension(format!("{}.output", std::process::id()));
    let output = fs::File::create(&file).unwrap();
    let mut command = Command::new(program);
    command.args(arguments).env_clear().env("COMM_MODE", "async").env("LISTEN_ADDR", "127.0.0.1:0");
    command
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdout(output.try_clone().unwrap())
        .stderr(output);
    let mut child = command.spawn().unwrap();
    let written = || fs::read_to_string(&file).unwrap();
    eventually("it says what is wrong", || {
        child.try_wait().unwrap().is_some()
            || written().contains("waiting for PostgreSQL") && written().contains("waiting for RabbitMQ")
    });
    child.kill().ok();
    child.wait().unwrap();
    let text = written();
    fs::remove_file(&file).unwrap();
    text
}

#[test]
fn a_failed_start_prints_no_password() {
    let programs = std::env::current_exe().unwrap();
    let program = programs.parent().unwrap().parent().unwrap().join("userservice");
    let server = |name: &str| std::env::var_os(name).unwrap().into_string().unwrap();
    let at = |url: String| url.rsplit_once('@').unwrap().1.to_owned();
    let (database, broker) = (at(server("DATABASE_URL")), at(server("AMQP_URL")));
    let good = (format!("postgres://u:{MARK}@{database}"), format!("amqp://u:{MARK}@{broker}"));
    let set = |database: &str, amqp: &str| {
        vec![
            ("DATABASE_URL", database.to_owned()),
            ("AMQP_URL", amqp.to_owned()),
            ("RUST_LOG", LEVEL.to_owned()),
        ]
    };
    let mut cases = vec![
        // Both servers refuse; the service retries.
        ("waiting for", [].as_slice(), set(&good.0, &good.1)),
        ("DATABASE_URL", &[], set(&format!("postgres://u:{MARK}@host:port/x"), &good.1)),
        ("DATABASE_URL", &[], set(&format!("nonsense {MARK}"), &good.1)),
        ("AMQP_URL", &[], set(&good.0, &format!("amqp://u:{MARK}@host:port/x"))),
        ("Usage", &["--help"], set(&good.0, &good.1)),
        ("COMM_MODE", &["--comm-mode=both"], set(&good.0, &good.1)),
    ];
    let parts = [
        "POSTGRES_HOST",
        "RABBITMQ_HOST",
        "POSTGRES_PASSWORD",
        "RABBITMQ_PASSWORD",
        "POSTGRES_PORT",
        "RABBITMQ_PORT",
    ];
    let values = ["127.0.0.1", "127.0.0.1", MARK, MARK, "1", "1"];
    cases.push(("waiting for", &[], parts.into_iter().zip(values.map(ToOwned::to_owned)).collect()));
    cases.push(("Usage", &["--help"], cases.last().unwrap().2.clone()));
    for (expected, arguments, env) in cases {
        let text = output(&program, arguments, &env);
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains(MARK), "{text}");
    }
}
