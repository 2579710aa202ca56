//! Publishers that continue through faults, with a history: offered, confirmed, handled.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::bus::{Bus, Consumers, HandlerError, Incoming, Outcome, consumer};
use common::events::{USER_REGISTERED_QUEUE, UserRegistered};
use common::testing::eventually;
use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;

use super::{user, within};

const PUBLISHERS: i64 = 16;

#[derive(Clone, Default)]
pub(crate) struct Traffic {
    ledger: Arc<Mutex<Ledger>>,
    stop: CancellationToken,
}

#[derive(Default)]
struct Ledger {
    offered: BTreeSet<i64>,
    confirmed: BTreeSet<i64>,
    failures: usize,
    handled: Vec<i64>,
}

impl Traffic {
    pub(crate) fn consumers(&self) -> Consumers<Traffic> {
        async fn handle(traffic: Traffic, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
            traffic.with(|ledger| ledger.handled.push(user.user_id));
            Ok(Outcome::Applied)
        }
        Consumers::of(self.clone()).with(consumer(USER_REGISTERED_QUEUE, handle))
    }

    /// Publishes while `trouble` lasts, each event again until it is confirmed.
    pub(crate) async fn run(&self, bus: &Bus, trouble: impl Future<Output = ()>) {
        let publishers = join_all((1..=PUBLISHERS).map(|first| self.publish(bus, first)));
        let trouble = async {
            trouble.await;
            self.stop.cancel();
        };
        tokio::join!(publishers, trouble);
    }

    async fn publish(&self, bus: &Bus, first: i64) {
        for number in (first..).step_by(PUBLISHERS as usize) {
            self.with(|ledger| ledger.offered.insert(number));
            while bus.publish(&user(number)).await.is_err() {
                self.with(|ledger| ledger.failures += 1);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.with(|ledger| ledger.confirmed.insert(number));
            if self.stop.is_cancelled() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The test publishes this one itself.
    #[allow(dead_code, reason = "only RabbitMQ has alarms")]
    pub(crate) fn allow(&self, number: i64) {
        self.with(|ledger| ledger.offered.insert(number));
    }

    /// Waits until 200 more are handled than now.
    pub(crate) async fn goes_on(&self) {
        let before = self.with(|ledger| ledger.handled.len());
        let more = async || self.with(|ledger| ledger.handled.len()) >= before + 200;
        within(Duration::from_secs(60), "events are handled", more).await;
    }

    /// Waits until a publish fails that has not failed before.
    pub(crate) async fn fails(&self) {
        let before = self.with(|ledger| ledger.failures);
        eventually("a publish fails", async || self.with(|ledger| ledger.failures) > before).await;
    }

    /// All that was confirmed is handled, and nothing that was not offered.
    pub(crate) async fn settle(&self) {
        let missing = || {
            self.with(|ledger| {
                let handled: BTreeSet<i64> = ledger.handled.iter().copied().collect();
                assert!(handled.is_subset(&ledger.offered), "handled and never published");
                ledger.confirmed.difference(&handled).copied().collect::<Vec<_>>()
            })
        };
        let limit = Duration::from_secs(30);
        let arrived = async {
            while !missing().is_empty() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let arrived = tokio::time::timeout(limit, arrived).await;
        assert!(arrived.is_ok(), "confirmed and not handled within {limit:?}: {:?}", missing());
    }

    fn with<T>(&self, read: impl FnOnce(&mut Ledger) -> T) -> T {
        read(&mut self.ledger.lock().expect("no panic while it was held"))
    }
}
