//! Tests of the checker: each invariant is broken on purpose, and the checker must name it.

use serde_json::json;

use super::example::{Example, answered, operation, run};
use super::invariants::*;
use super::judge;
use super::stores::{Payment, User};
use crate::catalogue::checked_protections;
use crate::operation_log::{Kind, Line, Outcome};
use stack::Mode;

/// The invariants that break when this is done to a run in which all hold.
fn after(change: impl FnOnce(&mut Example)) -> Vec<&'static str> {
    let mut example = run();
    change(&mut example);
    example.broken()
}

#[test]
fn a_run_in_which_everything_happened_once_holds_in_every_invariant_and_looks_at_something_in_each() {
    let example = run();
    assert_eq!(example.broken(), [""; 0]);
    let blind: Vec<_> =
        judge(&example.case()).into_iter().filter(|f| f.n == 0).map(|f| f.invariant).collect();
    assert_eq!(blind, [UNKNOWN_ONCE]);
}

#[test]
fn what_was_accepted_and_is_not_there_is_lost_and_missing_in_the_sum() {
    assert_eq!(after(|run| run.stores.emails.clear()), [LOST[0], CONSERVED]);
    assert_eq!(after(|run| run.stores.product_updates[1].2 = 4), [LOST[2], CONSERVED, UNASKED, LAST_VERSION]);
    assert_eq!(after(|run| run.stores.jobs[0].hashed = false), [LOST[3], CONSERVED]);
    assert_eq!(after(|run| run.stores.clicks.clear()), [LOST[5], CONSERVED]);
    let unpaid = after(|run| run.stores.payments[0].status = "failed".into());
    assert_eq!(unpaid, [LOST[1], CONSERVED, AUDIT]);
    let pending = after(|run| run.stores.orders[1].status = "pending".into());
    assert_eq!(pending, [LOST[4], CONSERVED, ORDERS_END, ORDERS_IN_TIME]);
}

#[test]
fn what_is_dead_lettered_is_not_missing_in_the_sum_but_is_no_poison() {
    let broken = after(|run| {
        run.stores.emails.clear();
        run.stores.dead_letters.push(("user_registered_queue".into(), "m1".into()));
    });
    assert_eq!(broken, [LOST[0], DEAD_LETTERS]);
}

#[test]
fn two_rows_with_one_natural_key_are_twice() {
    assert_eq!(after(|run| run.stores.clicks.push("/p7".into())), [ROWS_TWICE]);
    assert_eq!(after(|run| run.stores.emails.push(1)), [ROWS_TWICE]);
    assert_eq!(after(|run| run.stores.product_updates.push((4, 2, 3))), [ROWS_TWICE]);
    let in_other_letters = User { id: 2, email: "ADA@x.org".into() };
    assert_eq!(after(|run| run.stores.users.push(in_other_letters)), [ROWS_TWICE, UNASKED]);
}

#[test]
fn witnesses_show_a_repetition_that_a_unique_key_hides() {
    let event = after(|run| run.witness("applied:user_registered_queue", "m1").times = 2);
    assert_eq!(event, [EVENTS_TWICE]);
    assert_eq!(after(|run| run.witness("effect:email", "1").times = 2), [EFFECTS_TWICE]);
}

#[test]
fn an_event_that_one_of_its_readers_never_got_is_missed_unless_it_is_dead() {
    let lose =
        |run: &mut Example| run.stores.witnesses.retain(|w| w.kind != "applied:search_product_updates_queue");
    assert_eq!(after(lose), [EVENTS_APPLIED]);
    let dead = after(|run| {
        lose(run);
        run.poison.push(("search_product_updates_queue".into(), "m2".into()));
        run.stores.dead_letters.push(("search_product_updates_queue".into(), "m2".into()));
    });
    assert_eq!(dead, [""; 0]);
}

#[test]
fn poison_that_is_not_set_aside_is_missed_and_twice_set_aside_is_fine() {
    assert_eq!(after(|run| run.stores.dead_letters.clear()), [DEAD_LETTERS]);
    assert_eq!(after(|run| run.stores.dead_letters.push(run.poison[0].clone())), [""; 0]);
}

#[test]
fn an_unknown_outcome_must_become_one_effect_by_asking_again() {
    let again = |run: &mut Example, last| {
        run.history.records.get_mut(&1).unwrap().unknown = true;
        run.answer(1, 2, last);
    };
    assert_eq!(after(|run| again(run, answered(202, json!({"id": 1})))), [""; 0]);
    // The first attempt took effect, and the second did not know.
    let conflict = answered(409, json!({"detail": "registered already"}));
    assert_eq!(after(|run| again(run, conflict)), [UNKNOWN_ONCE, VALID_TAKEN]);
    assert_eq!(after(|run| again(run, Outcome::Timeout)), [DEFINITE]);
}

#[test]
fn a_request_that_was_refused_must_have_left_neither_row_nor_key() {
    let row = after(|run| run.stores.users.push(User { id: 2, email: "none".into() }));
    assert_eq!(row, [NO_TRACE, UNASKED]);
    assert_eq!(after(|run| run.stores.idempotency_keys.extend(["key-8".into()])), [NO_TRACE]);
    assert_eq!(after(|run| run.answer(8, 2, answered(202, json!({"id": 9})))), [NO_TRACE]);
}

#[test]
fn what_nobody_asked_for_or_what_was_never_sent_must_not_be_there() {
    assert_eq!(after(|run| run.stores.clicks.push("/other".into())), [UNASKED]);
    let never_sent = after(|run| {
        let operation = Some(operation(9, Kind::Click, "/track_click", json!({"page": "/p9"})));
        run.history.add(Line::Requested { at_ms: 0, id: 9, attempt: 1, operation });
        run.answer(9, 1, Outcome::ConnectionRefused);
        run.stores.clicks.push("/p9".into());
    });
    assert_eq!(never_sent, [UNASKED]);
}

#[test]
fn an_order_that_ends_later_than_a_minute_after_the_last_fault_is_late() {
    assert_eq!(after(|run| run.witness("effect:order", "2").last_ms = 160_001), [ORDERS_IN_TIME]);
    let made_later = after(|run| {
        run.witness("effect:order", "2").last_ms = 160_001;
        run.stores.orders[1].created_ms = 110_000;
    });
    assert_eq!(made_later, [""; 0]);
    let unwitnessed = after(|run| {
        run.stores.witnesses.retain(|w| w.kind != "effect:order");
        run.settled.orders_ended_ms = Some(170_000);
    });
    assert_eq!(unwitnessed, [ORDERS_IN_TIME]);
}

#[test]
fn stock_and_payments_must_say_what_the_orders_say() {
    assert_eq!(after(|run| run.stores.inventory[0].reserved = 1), [RESERVED]);
    assert_eq!(after(|run| run.stores.inventory[0].stock = 10), [STOCK]);
    let not_released = after(|run| run.stores.reservations[1].state = "reserved".into());
    assert_eq!(not_released, [RESERVED, RESERVATIONS_AGREE]);
    assert_eq!(after(|run| run.stores.payments[1].status = "refunded".into()), [PAYMENTS_AGREE]);
    let pay = |order| Payment {
        payment_id: "p".into(),
        status: "success".into(),
        order_id: Some(order),
        saga: true,
    };
    assert_eq!(after(|run| run.stores.payments.push(pay(1))), [ONE_PAYMENT, PAYMENTS_AGREE]);
    assert_eq!(after(|run| run.stores.payments.push(pay(2))), [PAYMENTS_AGREE]);
}

#[test]
fn a_receiver_with_an_older_version_or_without_the_product_is_behind() {
    assert_eq!(after(|run| run.stores.index.get_mut(&4).unwrap().version = 1), [LAST_VERSION]);
    assert_eq!(after(|run| run.stores.cache.clear()), [LAST_VERSION]);
}

#[test]
fn the_audit_has_each_payment_that_was_taken_and_no_other() {
    assert_eq!(after(|run| run.stores.audit.clear()), [AUDIT]);
    assert_eq!(after(|run| run.stores.audit.extend(["pay_x".into()])), [AUDIT]);
}

#[test]
fn what_waits_at_the_end_is_not_done() {
    assert_eq!(after(|run| run.settled.left.push("1 reports not computed".into())), [AT_REST]);
    assert_eq!(after(|run| run.stores.outboxes[0].1 = 1), [EMPTY]);
    assert_eq!(after(|run| run.stores.queues[0].1 = 1), [EMPTY]);
}

#[test]
fn silence_an_internal_error_and_growth_are_seen() {
    assert_eq!(after(|run| run.probes.missed.push("userservice: timeout".into())), [HEALTH]);
    assert_eq!(after(|run| run.probes.max_rss.extend([("userservice".into(), 70_000)])), [MEMORY]);
    let failed = after(|run| {
        run.answer(7, 2, answered(500, json!({})));
        run.answer(7, 3, answered(200, json!({})));
    });
    assert_eq!(failed, [NO_500]);
}

#[test]
fn in_sync_mode_a_missing_effect_that_the_answer_admits_is_counted_and_not_hidden() {
    let mut run = run();
    run.mode = Mode::Sync;
    run.stores.emails.clear();
    assert_eq!(run.broken(), [LOST[0], CONSERVED]);
    run.answer(1, 2, answered(201, json!({"id": 1, "warnings": ["the e-mail"]})));
    assert_eq!(run.broken(), [""; 0]);
    for name in [WARNED, STILL_MISSING] {
        let counted = judge(&run.case()).into_iter().find(|finding| finding.invariant == name).unwrap();
        assert_eq!((counted.broken, counted.held), (1, true), "{name}");
    }
}

#[test]
fn the_absence_of_every_checked_protection_breaks_an_invariant() {
    for protection in checked_protections() {
        assert!(!broken_without(protection).is_empty(), "{protection}");
    }
}
