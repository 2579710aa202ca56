//! The six scenarios through HTTP against ten real services, once per mode: the answers depend on the mode, the final state must be
//! the same. Servers from DATABASE_URL, AMQP_URL, RABBITMQ_MANAGEMENT_URL, KAFKA_BOOTSTRAP (`./study test`).

#![expect(clippy::unwrap_used, reason = "what is not there fails the test, and the line says where")]

mod driver;
mod fixture;
mod journal;

use std::collections::BTreeMap;

use driver::Driver;
use serde_json::{Value, json};
use stack::Mode;

/// The stock of each product at the start, enough for load runs.
const STOCK: i64 = 10_000;

/// The final state, without random ids.
struct EndState {
    /// Addresses of the users, oldest first, each with the e-mails that were sent to it.
    users: Vec<(String, usize)>,
    payments: Vec<Value>,
    product: Value,
    /// What the three receivers know of it.
    searched: Value,
    cached: Value,
    recorded_versions: Vec<Value>,
    report: Value,
    orders: Vec<Value>,
    inventory: Vec<Value>,
    clicks: i64,
    /// How often each final effect happened: each must once per workflow.
    effects: BTreeMap<String, Vec<String>>,
}

#[test]
fn every_scenario_of_a_failing_saga_ends_as_promised_in_sync_mode() {
    drive(Mode::Sync, "1.0", &expected(&failing_orders()));
}

#[test]
fn every_scenario_of_a_failing_saga_ends_as_promised_in_async_mode() {
    drive(Mode::Async, "1.0", &expected(&failing_orders()));
}

#[test]
fn every_scenario_of_a_failing_saga_ends_as_promised_in_stream_mode() {
    drive(Mode::Stream, "1.0", &expected(&failing_orders()));
}

#[test]
fn every_scenario_of_a_paid_saga_ends_as_promised_in_sync_mode() {
    drive(Mode::Sync, "0.0", &expected(&paid_orders()));
}

#[test]
fn every_scenario_of_a_paid_saga_ends_as_promised_in_async_mode() {
    drive(Mode::Async, "0.0", &expected(&paid_orders()));
}

#[test]
fn every_scenario_of_a_paid_saga_ends_as_promised_in_stream_mode() {
    drive(Mode::Stream, "0.0", &expected(&paid_orders()));
}

/// Orders as they end, and the stock of the first product then.
struct Orders {
    first: Value,
    stock: i64,
}

fn failing_orders() -> Orders {
    let reason = "Insufficient funds";
    Orders {
        first: json!({"product_id": 1, "quantity": 2, "status": "failed", "reason": reason}),
        stock: STOCK,
    }
}

fn paid_orders() -> Orders {
    Orders {
        first: json!({"product_id": 1, "quantity": 2, "status": "completed", "reason": null}),
        stock: STOCK - 2,
    }
}

fn expected(orders: &Orders) -> EndState {
    let effects = [
        ("s1", vec!["email"]),
        ("s2", vec!["payment"]),
        ("s3", vec!["analytics", "cache", "search"]),
        ("s4", vec!["report"]),
        ("s5", vec!["order", "stock"]),
        ("s6", vec!["click"]),
    ];
    EndState {
        users: vec![("ada.1@example.com".into(), 1), ("bob22@example.org".into(), 1)],
        payments: vec![
            json!({"status": "success", "amount": 100.0, "currency": "USD"}),
            json!({"status": "success", "amount": 12.5, "currency": "EUR"}),
        ],
        product: json!({"id": 2, "name": "Quiet Mouse", "stock": 120}),
        searched: json!({"id": 2, "name": "Quiet Mouse", "stock": 120, "version": 3}),
        cached: json!({"id": 2, "name": "Quiet Mouse", "stock": 120, "version": 3}),
        recorded_versions: vec![json!(2), json!(3)],
        report: json!({"status": "completed", "iterations": 20_000}),
        orders: vec![
            orders.first.clone(),
            json!({"product_id": 999, "quantity": 1, "status": "failed", "reason": "some"}),
            json!({"product_id": 3, "quantity": 100_000, "status": "failed", "reason": "some"}),
        ],
        inventory: vec![
            json!({"product_id": 1, "stock": orders.stock, "reserved": 0}),
            json!({"product_id": 2, "stock": STOCK, "reserved": 0}),
            json!({"product_id": 3, "stock": STOCK, "reserved": 0}),
        ],
        clicks: 30,
        effects: effects
            .into_iter()
            .flat_map(|(scenario, effects)| {
                let times = match scenario {
                    "s6" => 30,
                    "s5" => 3,
                    "s4" => 1,
                    _ => 2,
                };
                let names: Vec<String> = effects.into_iter().map(ToOwned::to_owned).collect();
                (0..times).map(move |n| (format!("{scenario}-{n}"), names.clone()))
            })
            .collect(),
    }
}

/// Runs all scenarios against a stack, and compares the final state.
fn drive(mode: Mode, failure_rate: &str, expected: &EndState) {
    let name = format!("{mode}-{failure_rate}");
    let (running, journal) = fixture::start(&name, mode, &[("SAGA_PAYMENT_FAILURE_RATE", failure_rate)]);
    let driver = Driver::new(&running);
    let paid = failure_rate == "0.0";
    let users = driver.s1_users_get_one_mail_each();
    let payments = driver.s2_payments_are_taken();
    let (product, searched, cached, recorded_versions) = driver.s3_a_change_reaches_all_three();
    let report = driver.s4_a_report_is_computed();
    let orders = driver.s5_orders_end(paid);
    let inventory = driver.inventory_at_rest();
    let clicks = driver.s6_clicks_are_counted(30);
    if let Some(broker) = running.broker() {
        driver.nothing_waits(&*broker);
    }
    running.stop().unwrap();
    let effects = journal::effects(journal.path());
    // One assertion per part, so that a failure shows only the part that differs.
    assert_eq!(users, expected.users);
    assert_eq!(payments, expected.payments);
    assert_eq!(product, expected.product);
    assert_eq!(searched, expected.searched);
    assert_eq!(cached, expected.cached);
    assert_eq!(recorded_versions, expected.recorded_versions);
    assert_eq!(report, expected.report);
    assert_eq!(orders, expected.orders);
    assert_eq!(inventory, expected.inventory);
    assert_eq!(clicks, expected.clicks);
    assert_eq!(effects, expected.effects);
}
