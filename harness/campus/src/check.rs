//! What must hold once a stack has come to rest: each accepted order has ended, and stock and notifications agree with the
//! orders. What does not is lost, or was applied twice.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::Result;
use contract::Mode;
use stack::signals;

use crate::client::{Client, Order};

/// Retries, and reservations that are given back, take up to 30 s each.
const LIMIT: Duration = Duration::from_secs(90);

#[derive(Debug, Default, PartialEq)]
pub(crate) struct Tally {
    pub(crate) lost: u64,
    pub(crate) twice: u64,
    /// Count of each final status of the accepted orders.
    pub(crate) ends: BTreeMap<String, u64>,
}

/// What a stack shows of itself.
pub(crate) struct Seen {
    pub(crate) orders: Vec<Order>,
    pub(crate) stock: BTreeMap<String, i64>,
    /// The order of each notification.
    pub(crate) notified: Vec<String>,
}

/// Orders that were accepted, and reservations for orders that this stack does not have: identifier and item, one piece each.
#[derive(Clone, Copy)]
pub(crate) struct Expected<'a> {
    pub(crate) mode: Mode,
    pub(crate) seed: &'a [(&'static str, i64)],
    pub(crate) accepted: &'a [String],
    pub(crate) foreign: Option<(&'a str, &'a str)>,
}

/// Waits until everything holds; after the limit, what does not.
pub(crate) fn settle(client: &Client, accepted: &[String], foreign: Option<(&str, &str)>) -> Result<Tally> {
    let stack = client.stack;
    let expected = Expected { mode: stack.mode(), seed: stack.seed(), accepted, foreign };
    let look = || seen(client).map(|seen| expected.tally(&seen));
    let found = signals::poll(Duration::from_millis(100), LIMIT, || {
        // A service that works off a backlog may refuse to answer for a while.
        Ok(look().ok().filter(|tally| tally.lost + tally.twice == 0))
    })?;
    found.map_or_else(look, Ok)
}

fn seen(client: &Client) -> Result<Seen> {
    Ok(Seen { orders: client.orders()?, stock: client.stock()?, notified: client.notified()? })
}

impl Expected<'_> {
    fn tally(&self, seen: &Seen) -> Tally {
        let mut tally = Tally::default();
        let mut orders: HashMap<&str, &Order> = HashMap::new();
        for order in &seen.orders {
            tally.twice += u64::from(orders.insert(&order.order_id, order).is_some());
        }
        for id in self.accepted {
            match orders.get(id.as_str()).filter(|order| order.has_ended()) {
                Some(order) => *tally.ends.entry(order.status.clone()).or_default() += 1,
                None => tally.lost += 1,
            }
        }
        let reserved = || seen.orders.iter().filter(|order| order.is_reserved());
        for (item, seed) in self.seed {
            let taken = seed - seen.stock.get(*item).copied().unwrap_or(0);
            let ordered: i64 =
                reserved().filter(|order| order.item == *item).map(|order| order.quantity).sum();
            let foreign = i64::from(self.foreign.is_some_and(|(_, of)| of == *item));
            let surplus = taken - ordered - foreign;
            tally.add(surplus);
        }
        let mut notifications: HashMap<&str, i64> = HashMap::new();
        for id in &seen.notified {
            *notifications.entry(id).or_default() += 1;
        }
        for order in &seen.orders {
            let count = notifications.remove(order.order_id.as_str()).unwrap_or(0);
            let due = i64::from(order.is_reserved());
            // Over REST a notification is best effort: the status says whether it was sent.
            if self.mode.has_broker() || order.status != "reserved" || count > 1 {
                tally.add(count - due);
            }
        }
        if let Some((id, _)) = self.foreign {
            tally.add(notifications.remove(id).unwrap_or(0).saturating_sub(1).max(0));
        }
        notifications.values().for_each(|count| tally.add(*count));
        tally
    }
}

impl Tally {
    fn add(&mut self, surplus: i64) {
        *(if surplus > 0 { &mut self.twice } else { &mut self.lost }) += surplus.unsigned_abs();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(id: &str, status: &str) -> Order {
        Order { order_id: id.into(), item: "burger".into(), quantity: 1, status: status.into() }
    }

    fn tally(mode: Mode, orders: Vec<Order>, burgers: i64, notified: &[&str]) -> (u64, u64) {
        let accepted: Vec<String> = ["a", "b"].map(Into::into).into();
        let seen = Seen {
            orders,
            stock: [("burger".to_owned(), burgers)].into(),
            notified: notified.iter().map(|id| (*id).to_owned()).collect(),
        };
        let expected = Expected { mode, seed: &[("burger", 100)], accepted: &accepted, foreign: None };
        let tally = expected.tally(&seen);
        (tally.lost, tally.twice)
    }

    #[test]
    fn orders_stock_and_notifications_that_agree_leave_nothing_to_count() {
        let orders = vec![order("a", "reserved"), order("b", "failed")];
        assert_eq!(tally(Mode::Async, orders, 99, &["a"]), (0, 0));
        let orders = vec![order("a", "notified"), order("b", "reserved")];
        assert_eq!(tally(Mode::Sync, orders, 98, &["a"]), (0, 0));
    }

    #[test]
    fn what_is_missing_is_lost() {
        assert_eq!(tally(Mode::Async, vec![order("a", "reserved")], 99, &["a"]), (1, 0), "an order");
        let orders = || vec![order("a", "reserved"), order("b", "placed")];
        assert_eq!(tally(Mode::Async, orders(), 99, &["a"]), (1, 0), "an end");
        let orders = || vec![order("a", "reserved"), order("b", "failed")];
        assert_eq!(tally(Mode::Async, orders(), 100, &["a"]), (1, 0), "a reservation");
        assert_eq!(tally(Mode::Async, orders(), 99, &[]), (1, 0), "a notification");
    }

    #[test]
    fn what_is_there_too_often_was_applied_twice() {
        let orders = || vec![order("a", "reserved"), order("b", "failed")];
        assert_eq!(tally(Mode::Async, orders(), 98, &["a"]), (0, 1), "a reservation");
        assert_eq!(tally(Mode::Async, orders(), 99, &["a", "a"]), (0, 1), "a notification");
        assert_eq!(tally(Mode::Async, orders(), 99, &["a", "b"]), (0, 1), "one of a failed order");
        assert_eq!(tally(Mode::Async, orders(), 99, &["a", "x"]), (0, 1), "one of no order");
    }
}
