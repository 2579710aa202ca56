//! S5: every order ends in time, its payment and its stock agree with it, and nothing stays reserved.

use std::collections::HashMap;

use super::CheckInput;
use super::finding::Finding;
use super::invariants::*;
use super::stores::{Order, counted};

/// Counted from the last fault, or from the order's creation if that was later.
const ENDS_WITHIN_MS: u64 = 60_000;

pub fn orders(input: &CheckInput<'_>) -> Vec<Finding> {
    let (mut ended, mut in_time) = (Finding::of(ORDERS_END), Finding::of(ORDERS_IN_TIME));
    let witnessed = input.stores.witnessed("effect:order");
    for order in &input.stores.orders {
        let name = || format!("order {} ({})", order.id, order.workflow);
        let terminal = order.status != "pending";
        ended.look(terminal, || format!("{} is {}", name(), order.status));
        let noted = witnessed.get(order.id.to_string().as_str()).map(|witness| witness.last_ms);
        // Without a witness: the time from which no order was pending.
        let at = if terminal { noted.or(input.settled.orders_ended_ms) } else { None };
        let limit = order.created_ms.max(input.last_fault_ms) + ENDS_WITHIN_MS;
        in_time.look(at.is_some_and(|at| at <= limit), || match at {
            Some(at) => format!("{} ended {} s too late", name(), (at.saturating_sub(limit)) / 1000),
            None => format!("{} has not ended", name()),
        });
    }
    vec![ended, in_time]
}

pub fn stock(input: &CheckInput<'_>) -> Vec<Finding> {
    let (mut reserved, mut stock) = (Finding::of(RESERVED), Finding::of(STOCK));
    for product in &input.stores.inventory {
        let of_state = |state: &str| -> i64 {
            let all = input.stores.reservations.iter();
            let own = all.filter(|r| r.product_id == Some(product.product_id) && r.state == state);
            own.map(|reservation| reservation.quantity).sum()
        };
        let (open, sold) = (of_state("reserved"), of_state("committed"));
        let id = product.product_id;
        reserved.look(product.reserved == 0 && open == 0, || {
            format!("product {id}: {} reserved, open reservations of {open}", product.reserved)
        });
        stock.look(product.stock == product.seed_stock - sold, || {
            format!("product {id}: {} of {} with {sold} sold", product.stock, product.seed_stock)
        });
    }
    // Count the reservations too, not only the products.
    reserved.n += input.stores.reservations.len() as u64;
    stock.n += input.stores.reservations.len() as u64;
    vec![reserved, stock]
}

pub fn agreement(input: &CheckInput<'_>) -> Vec<Finding> {
    let mut once = Finding::of(ONE_PAYMENT);
    let (mut paid, mut held) = (Finding::of(PAYMENTS_AGREE), Finding::of(RESERVATIONS_AGREE));
    let saga = || input.stores.payments.iter().filter(|payment| payment.saga);
    let payments = counted(saga().map(|payment| payment.order_id));
    let standing = counted(saga().filter(|p| p.status == "success").map(|payment| payment.order_id));
    let reservations: HashMap<Option<i64>, _> =
        input.stores.reservations.iter().map(|reservation| (reservation.order_id, reservation)).collect();
    for order in &input.stores.orders {
        let id = Some(order.id);
        let (all, stand) = [&payments, &standing].map(|of| of.get(&id).copied().unwrap_or(0)).into();
        once.look(all <= 1, || format!("order {}: {all} payments", order.id));
        let wanted = u64::from(order.status == "completed");
        paid.look(order.status == "pending" || stand == wanted, || {
            format!("{}: {stand} payments that stand", described(order))
        });
        let reservation = reservations.get(&id);
        let state = reservation.map_or("none", |reservation| reservation.state.as_str());
        let fine = match order.status.as_str() {
            "completed" => reservation.is_some_and(|r| {
                r.state == "committed"
                    && r.product_id == Some(order.product_id)
                    && r.quantity == order.quantity
            }),
            "failed" => ["none", "released", "rejected"].contains(&state),
            _ => true,
        };
        held.look(fine, || format!("{}: its reservation is {state}", described(order)));
    }
    vec![once, paid, held]
}

fn described(order: &Order) -> String {
    format!("order {} {} ({})", order.id, order.status, order.reason.as_deref().unwrap_or("-"))
}
