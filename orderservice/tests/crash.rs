//! Wherever the process dies on the way of an order: it ends, once, and what was held for it is asked back.
#![cfg(all(feature = "sync", feature = "async"))]

use common::Mode;
use common::events::PaymentFailed;
use common::testing::{Peer, Sandbox, eventually};
use serde_json::{Value, json};

const BIN: &str = env!("CARGO_BIN_EXE_orderservice");
const CREATED: &str = "order_created_queue";
const REFUSALS: &str = "order_payment_failed_queue";

fn order() -> Value {
    json!({"product_id": 1, "quantity": 2})
}

#[tokio::test]
async fn an_accepted_order_is_announced_wherever_the_process_dies() {
    for point in ["before_reply", "after_publish_before_confirm", "after_confirm_before_delete"] {
        let sandbox = Sandbox::new().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[("FAILPOINT", point)]).await;
        let accepted = program.try_post("/create_order", Some("key"), order()).await;
        program.died().await;
        let program = sandbox.spawn(BIN, Mode::Async, &[]).await;
        let again = program.try_post("/create_order", Some("key"), order()).await.expect("an answer");
        assert!(accepted.is_none_or(|accepted| accepted.body == again.body), "{point}: {}", again.text);
        sandbox.relayed().await;
        assert_eq!(program.get("/orders").await.body.as_array().unwrap().len(), 1, "{point}");
        assert_eq!(sandbox.message_ids(CREATED).await.len(), 1, "{point}");
        sandbox.close().await;
    }
}

#[tokio::test]
async fn an_order_ends_once_though_its_end_is_told_again() {
    let sandbox = Sandbox::new().await;
    let program = sandbox.spawn(BIN, Mode::Async, &[("FAILPOINT", "before_ack")]).await;
    let id = program.post("/create_order", order()).await.body["id"].as_i64().unwrap();
    let failed = PaymentFailed { order_id: id, payment_id: None, reason: "Insufficient funds".into() };
    sandbox.publish_to(REFUSALS, &failed, "the-refusal").await;
    program.died().await;
    let program = sandbox.spawn(BIN, Mode::Async, &[]).await;
    assert_eq!(program.settled(REFUSALS, 1).await, ["duplicate"]);
    assert_eq!(program.get(&format!("/orders/{id}")).await.body["status"], "failed");
    assert_eq!(sandbox.witnessed("effect:order").await, [(id.to_string(), 1)]);
    sandbox.close().await;
}

/// The steps of a saga whose payment fails are three calls: reserve, pay, compensate.
#[tokio::test]
async fn in_sync_mode_the_saga_ends_by_the_sweeper_or_by_a_repetition_wherever_it_was_cut_off() {
    for point in [
        "before_call",
        "after_call",
        "before_call:2",
        "after_call:2",
        "before_call:3",
        "after_call:3",
        "before_reply",
    ] {
        for repeats in [false, true] {
            let sandbox = Sandbox::new().await;
            let peer = Peer::start(|path, body| async move {
                match path.as_str() {
                    "/process_payment_fail" => {
                        (400, json!({"status": "failed", "reason": "Insufficient funds"}))
                    }
                    "/cancel_payment" => (200, json!({"status": "ok"})),
                    _ => (
                        200,
                        json!({"status": "ok", "product_id": body["product_id"], "quantity": body["quantity"],
                                      "total_reserved": 0}),
                    ),
                }
            })
            .await;
            let peers =
                [("INVENTORY_SERVICE_URL", peer.url.as_str()), ("PAYMENT_SERVICE_URL", peer.url.as_str())];
            let program =
                sandbox.spawn(BIN, Mode::Sync, &[&peers[..], &[("FAILPOINT", point)]].concat()).await;
            assert!(program.try_post("/create_order", Some("key"), order()).await.is_none(), "{point}");
            program.died().await;

            // The sweeper takes the order at its first cycle only if no client repeats the request.
            let patience = ("SAGA_RETRY_SECONDS", if repeats { "600" } else { "0" });
            let program = sandbox.spawn(BIN, Mode::Sync, &[&peers[..], &[patience]].concat()).await;
            if repeats {
                sandbox.lease_ends().await;
                let again = program.try_post("/create_order", Some("key"), order()).await.expect("an answer");
                assert_eq!(again.status, 400, "{point}: {}", again.text);
                assert_eq!(again.body["detail"]["compensation_executed"], true, "{point}: {}", again.text);
            }
            let orders = async || program.get("/orders").await.body;
            eventually("the order ends", async || orders().await[0]["status"] == "failed").await;
            assert_eq!(orders().await.as_array().unwrap().len(), 1, "{point}");
            assert_eq!(peer.paths().last().unwrap(), "/compensate_stock", "{point}: {:?}", peer.paths());
            assert_eq!(sandbox.witnessed("effect:order").await.len(), 1, "{point}");
            sandbox.close().await;
        }
    }
}
