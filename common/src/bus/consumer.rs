//! How the deliveries of one queue are handled: each in its own task, or in batches, as its subscription says. A delivery is
//! acknowledged when its event is applied, or stored again for a retry or in the dead-letter queue. Until then the broker
//! delivers it again after a failure.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures_util::stream::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::backoff::pause;
use super::policy::{Attempts, Disposition, Failure};
use super::subscription::{Delivery, Subscription};
use super::{Address, Bus, Message, PublishError};
use crate::context::now_us;
use crate::failpoint::{self, Failpoint, Protection, disabled};
use crate::metrics;
use crate::outage::Outage;
use crate::throttle::Throttle;

/// Where the deliveries of one queue come from: the part that a transport provides.
pub(crate) trait Source: Sized + Send + Sync + 'static {
    /// Identifies a delivery to the broker.
    type Receipt: Send + Sync + 'static;

    /// Acknowledges these deliveries. `cumulative`: no earlier delivery of this source is unacknowledged.
    fn acknowledge(
        &self,
        batch: &[(Delivery, Self::Receipt)],
        cumulative: bool,
    ) -> impl Future<Output = anyhow::Result<()>> + Send;

    /// Delivers this one again after the delay, with its attempts. `Some` gives it back: the broker keeps what is delayed, so a
    /// copy is published to [`Address::Retry`] instead.
    fn delay(&self, delivery: Received<Self>, _delay: Duration) -> Option<Received<Self>> {
        Some(delivery)
    }

    /// Whether deliveries can still be acknowledged.
    fn is_open(&self) -> bool;

    /// Ends the stream of deliveries. Those that were delivered can still be acknowledged.
    fn cancel(&self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// A delivery with what acknowledges it.
pub(crate) type Received<S> = (Delivery, <S as Source>::Receipt);

/// Runs the consumers of a connection. The first failure ends all: a service with some of its consumers must not look healthy.
/// When stopping, the others finish first.
pub(crate) async fn run_all<F>(
    consumers: impl Iterator<Item = F>,
    stop: &CancellationToken,
) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut running: JoinSet<_> = consumers.collect();
    let mut consumed = Ok(());
    while (consumed.is_ok() || stop.is_cancelled())
        && let Some(ended) = running.join_next().await
    {
        consumed = consumed.and(ended.context("a consumer panicked").flatten());
    }
    consumed
}

/// Handles the deliveries of one subscription.
pub(crate) struct ConsumerTask<S> {
    subscription: Subscription,
    source: S,
    bus: Bus,
    stop: CancellationToken,
    /// Of what handlers depend on.
    handling: Outage,
    /// Of the publisher.
    storing: Outage,
}

impl<S: Source> ConsumerTask<S> {
    pub(crate) fn new(subscription: Subscription, source: S, bus: Bus, stop: CancellationToken) -> Self {
        let (handling, storing) = (Outage::default(), Outage::default());
        ConsumerTask { subscription, source, bus, stop, handling, storing }
    }

    /// Handles `deliveries` until `stop`; then finishes those that it has begun. Those that wait stay unacknowledged, and the
    /// broker delivers them again.
    pub(crate) async fn run(
        self,
        deliveries: impl Stream<Item = anyhow::Result<Received<S>>> + Send + Unpin,
    ) -> anyhow::Result<()> {
        let this = Arc::new(self);
        let (queue, size) = (this.subscription.queue, this.subscription.batch);
        let mut batches = deliveries.ready_chunks(size);
        let mut running = JoinSet::new();
        let (ready, waiting) = mpsc::channel(size);
        running.spawn(Arc::clone(&this).handle_ready(waiting));
        let mut throttle = Throttle::new();
        loop {
            tokio::select! {
                () = this.stop.cancelled() => break,
                batch = batches.next() => {
                    let batch = batch.with_context(|| format!("{queue}: the broker cancelled the consumer"))?;
                    let batch: Vec<Received<S>> = batch.into_iter().collect::<anyhow::Result<_>>()?;
                    if disabled(Protection::AckAfterCommit) {
                        this.acknowledge(&batch, false).await?;
                    }
                    if this.subscription.has_first {
                        for delivery in batch {
                            running.spawn(Arc::clone(&this).prepare(delivery, ready.clone()));
                        }
                    } else if size > 1 {
                        let full = batch.len() == size;
                        this.handle(batch, true).await?;
                        if !full {
                            throttle.cycle().await;
                        }
                    } else {
                        let this = Arc::clone(&this);
                        running.spawn(async move { this.handle(batch, false).await });
                    }
                }
                Some(ended) = running.join_next() => ended??,
            }
        }
        drop(ready);
        // A failure ends none of the others: what they have begun, such as an e-mail, would be done again.
        let mut stopped = this.source.cancel().await;
        while let Some(ended) = running.join_next().await {
            stopped = stopped.and(ended.unwrap_or_else(|panic| Err(panic.into())));
        }
        stopped
    }

    /// Does what comes before a delivery is handled, and passes it on.
    async fn prepare(
        self: Arc<Self>,
        received: Received<S>,
        ready: mpsc::Sender<Received<S>>,
    ) -> anyhow::Result<()> {
        let mut waits = 0;
        let disposition = loop {
            match self.subscription.first(&received.0, &self.bus.spans).await {
                Some(Disposition::Wait(reason)) if self.wait(&mut waits, &reason).await => {}
                disposition => break disposition,
            }
        };
        if waits > 0 {
            self.handling.end();
        }
        match disposition {
            Some(disposition) => self.finish(vec![received], vec![disposition], false).await,
            None if self.subscription.batch == 1 => self.handle(vec![received], false).await,
            None => {
                // It fails only if `handle_ready` has failed, which ends the whole consumer.
                drop(ready.send(received).await);
                Ok(())
            }
        }
    }

    /// Handles deliveries in batches when they are prepared.
    async fn handle_ready(self: Arc<Self>, mut ready: mpsc::Receiver<Received<S>>) -> anyhow::Result<()> {
        let mut throttle = Throttle::new();
        while let Some(first) = ready.recv().await {
            throttle.cycle().await;
            let mut batch = vec![first];
            while batch.len() < self.subscription.batch
                && let Ok(next) = ready.try_recv()
            {
                batch.push(next);
            }
            // They were prepared side by side, so others may be older and unacknowledged.
            self.handle(batch, false).await?;
        }
        Ok(())
    }

    async fn handle(&self, batch: Vec<Received<S>>, cumulative: bool) -> anyhow::Result<()> {
        let dispositions = self.dispositions(&batch).await;
        self.finish(batch, dispositions, cumulative).await
    }

    /// Has a batch handled. While a dependency is unavailable, deliveries wait here and are handled again, until `stop`.
    async fn dispositions(&self, batch: &[Received<S>]) -> Vec<Disposition> {
        let deliveries: Vec<&Delivery> = batch.iter().map(|(delivery, _)| delivery).collect();
        let mut dispositions = self.subscription.handle_batch(&deliveries, &self.bus.spans).await;
        let mut waits = 0;
        loop {
            let waiting =
                dispositions.iter().enumerate().filter_map(|(place, disposition)| match disposition {
                    Disposition::Wait(reason) => Some((place, reason)),
                    _ => None,
                });
            let (places, reasons): (Vec<usize>, Vec<&String>) = waiting.unzip();
            let Some(reason) = reasons.first() else {
                if waits > 0 {
                    self.handling.end();
                }
                return dispositions;
            };
            if !self.wait(&mut waits, reason).await {
                return dispositions;
            }
            let again: Vec<&Delivery> = places.iter().map(|place| deliveries[*place]).collect();
            let decided = self.subscription.handle_batch(&again, &self.bus.spans).await;
            for (place, disposition) in places.into_iter().zip(decided) {
                dispositions[place] = disposition;
            }
        }
    }

    /// Waits before another attempt; false if there is none because of `stop`.
    async fn wait(&self, waits: &mut u32, reason: &str) -> bool {
        if self.handling.is_new(reason) {
            tracing::warn!(queue = self.subscription.queue, reason, "consumer waits");
        }
        *waits += 1;
        pause(*waits, &self.stop).await;
        !self.stop.is_cancelled()
    }

    /// Stores the failed events of a batch again, then acknowledges the batch, except what is left to the next process.
    async fn finish(
        &self,
        batch: Vec<Received<S>>,
        dispositions: Vec<Disposition>,
        cumulative: bool,
    ) -> anyhow::Result<()> {
        let (consumed, queue, size) = (&metrics::get().events_consumed, self.subscription.queue, batch.len());
        let mut finished = Vec::with_capacity(size);
        for (place, (received, disposition)) in batch.into_iter().zip(dispositions).enumerate() {
            if size > 1 && place == size / 2 {
                failpoint::pass(Failpoint::MidBatch);
            }
            match self.carry_out(received, disposition).await {
                Ok((outcome, received)) => {
                    if metrics::counting() {
                        consumed.with_label_values(&[queue, outcome]).inc();
                    }
                    finished.extend(received);
                }
                Err(cause) if self.stop.is_cancelled() => {
                    tracing::debug!(queue, cause = format!("{cause:#}"), "event will be delivered again");
                }
                Err(cause) => return Err(cause),
            }
        }
        failpoint::pass(Failpoint::BeforeAck);
        if disabled(Protection::AckAfterCommit) {
            return Ok(());
        }
        // When stopping, earlier deliveries may stay unacknowledged.
        self.acknowledge(&finished, cumulative && !self.stop.is_cancelled()).await
    }

    /// Does what was decided; the outcome for the metrics, and the delivery if it is to be acknowledged.
    async fn carry_out(
        &self,
        received: Received<S>,
        disposition: Disposition,
    ) -> anyhow::Result<(&'static str, Option<Received<S>>)> {
        match disposition {
            Disposition::Acknowledge(outcome) => Ok((outcome.as_str(), Some(received))),
            // Another reader of the destination keeps it.
            Disposition::StepOver => Ok(("dead", Some(received))),
            Disposition::Retry { after_seconds, failure } => {
                Ok(("retry", self.schedule_retry(received, after_seconds, failure).await?))
            }
            Disposition::DeadLetter(failure) => {
                self.dead_letter(&received.0, failure).await?;
                Ok(("dead", Some(received)))
            }
            Disposition::Wait(reason) => bail!("stopped while waiting: {reason}"),
        }
    }

    async fn acknowledge(&self, batch: &[Received<S>], cumulative: bool) -> anyhow::Result<()> {
        let queue = self.subscription.queue;
        let acknowledged = self.source.acknowledge(batch, cumulative).await;
        acknowledged.with_context(|| format!("{queue}: a delivery could not be acknowledged"))
    }

    async fn schedule_retry(
        &self,
        (mut delivery, receipt): Received<S>,
        after_seconds: u32,
        failure: Failure,
    ) -> anyhow::Result<Option<Received<S>>> {
        let Failure { attempt, reason, first_failed_us } = &failure;
        let (queue, request_id) = (self.subscription.queue, &delivery.context.workflow);
        // `./study trace` knows this message and the next.
        tracing::warn!(queue, reason, attempt, request_id, "event will be tried again");
        delivery.attempts = Attempts { failed: *attempt, first_failed_us: Some(*first_failed_us) };
        let delayed = self.source.delay((delivery, receipt), Duration::from_secs(after_seconds.into()));
        if let Some((delivery, _)) = &delayed {
            let address = Address::Retry { queue, after_seconds };
            self.store_again(delivery, address, delivery.body.clone(), failure).await?;
        }
        Ok(delayed)
    }

    async fn dead_letter(&self, delivery: &Delivery, failure: Failure) -> anyhow::Result<()> {
        let Failure { attempt, reason, .. } = &failure;
        let (queue, request_id) = (self.subscription.queue, &delivery.context.workflow);
        tracing::error!(queue, reason, attempt, request_id, "event is set aside");
        let address = Address::DeadLetter { queue, destination: self.subscription.destination };
        let body = (self.subscription.dead_letter)(&delivery.body, reason);
        self.store_again(delivery, address, body, failure).await
    }

    /// Publishes a copy of a failed event. Its trace continues from the attempt that failed.
    async fn store_again(
        &self,
        delivery: &Delivery,
        address: Address,
        body: Vec<u8>,
        failure: Failure,
    ) -> anyhow::Result<()> {
        let message = Message {
            id: delivery.message_id.clone(),
            // Not the type that the message claims: other publishers must not choose labels of metrics.
            event: self.subscription.event.into(),
            address,
            context: delivery.context.clone(),
            published_us: delivery.published_us.unwrap_or_else(now_us),
            body,
            failure: Some(failure),
        };
        let queue = self.subscription.queue;
        self.publish(message)
            .await
            .with_context(|| format!("{queue}: a failed event could not be stored"))?;
        failpoint::pass(Failpoint::AfterAsideBeforeAck);
        Ok(())
    }

    /// Publishes as soon as possible. The publisher has a connection of its own; its outages must not cause redeliveries here,
    /// because the number of deliveries is limited.
    async fn publish(&self, message: Message) -> Result<(), PublishError> {
        let mut failures = 0;
        loop {
            let sent = self.bus.send(message.clone()).await;
            let in_vain = self.stop.is_cancelled() || !self.source.is_open();
            // Unroutable: the queue was deleted. The next connection declares it again.
            if in_vain || matches!(sent, Ok(()) | Err(PublishError::Unroutable)) {
                if failures > 0 {
                    self.storing.end();
                }
                return sent;
            }
            if let Err(error) = &sent
                && self.storing.is_new(error)
            {
                let queue = self.subscription.queue;
                tracing::warn!(queue, %error, "a failed event cannot be stored again, so the consumer waits");
            }
            failures += 1;
            pause(failures, &self.stop).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::sync::Mutex;
    use std::time::Instant;

    use anyhow::anyhow;
    use futures_util::stream;
    use tokio::sync::watch;

    use super::*;
    use crate::bus::{Consumers, HandlerError, Incoming, Outcome, PublisherHandle, consumer};
    use crate::context::Context;
    use crate::events::{USER_REGISTERED_QUEUE, UserRegistered};
    use crate::otel::Spans;

    const QUEUE: &str = USER_REGISTERED_QUEUE.name;
    const FAILS: i64 = 3;
    const WAITS_ONCE: i64 = 5;
    const WAITS: i64 = 6;

    /// A transport in memory: acknowledgements are noted.
    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<i64>>>);

    impl Source for Memory {
        type Receipt = i64;

        async fn acknowledge(&self, batch: &[Received<Self>], _cumulative: bool) -> anyhow::Result<()> {
            self.0.lock().unwrap().extend(batch.iter().map(|(_, receipt)| receipt));
            Ok(())
        }

        fn is_open(&self) -> bool {
            true
        }

        async fn cancel(&self) -> anyhow::Result<()> {
            Ok(())
        }
    }

    fn delivery(user_id: i64) -> anyhow::Result<Received<Memory>> {
        let user = UserRegistered { user_id, email: "a@example.org".into() };
        let delivery = Delivery {
            received: Instant::now(),
            message_id: user_id.to_string(),
            context: Context::fresh(),
            published_us: None,
            attempts: Attempts::default(),
            body: serde_json::to_vec(&user)?,
        };
        Ok((delivery, user_id))
    }

    /// The users that the handler saw, in order.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<i64>>>);

    impl Seen {
        fn note(&self, user_id: i64) -> Result<Outcome, HandlerError> {
            let mut seen = self.0.lock().unwrap();
            let first = !seen.contains(&user_id);
            seen.push(user_id);
            match user_id {
                FAILS => Err(HandlerError::Retry(anyhow!("not yet"))),
                WAITS => Err(HandlerError::Unavailable(anyhow!("away"))),
                WAITS_ONCE if first => Err(HandlerError::Unavailable(anyhow!("away"))),
                _ => Ok(Outcome::Applied),
            }
        }
    }

    async fn one(seen: Seen, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
        seen.note(user.user_id)
    }

    async fn several(seen: Seen, users: Vec<Incoming<UserRegistered>>) -> Result<Vec<Outcome>, HandlerError> {
        users.iter().map(|user| seen.note(user.user_id)).collect()
    }

    async fn slowly(seen: Seen, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
        let noted = seen.note(user.user_id);
        if noted.is_ok() {
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        noted
    }

    async fn slowly_first(
        seen: Seen,
        user: Incoming<UserRegistered>,
    ) -> Result<Option<Outcome>, HandlerError> {
        slowly(seen, user).await.map(|_| None)
    }

    async fn skip_even(_: Seen, user: Incoming<UserRegistered>) -> Result<Option<Outcome>, HandlerError> {
        Ok((user.user_id % 2 == 0).then_some(Outcome::Duplicate))
    }

    /// Runs the consumers over `users`; what was published, and what was acknowledged.
    async fn run(consumers: Consumers<Seen>, users: &[i64]) -> (Vec<Message>, Vec<i64>) {
        let (bus, connect): (Bus, watch::Sender<PublisherHandle>) = Bus::new(Spans::default());
        let (publisher, mut publishes) = mpsc::channel::<super::super::Publish>(16);
        connect.send_replace(Some(publisher));
        let (source, stop) = (Memory::default(), CancellationToken::new());
        let subscription = consumers.into_subscriptions().remove(0);
        let consumer = ConsumerTask::new(subscription, source.clone(), bus, stop.clone());
        let deliveries: Vec<_> = users.iter().map(|user| delivery(*user)).collect();
        let running = consumer.run(stream::iter(deliveries).chain(stream::pending()));
        let (mut published, all): (Vec<Message>, HashSet<i64>) =
            (Vec::new(), users.iter().copied().collect());
        let watching = async {
            while source.0.lock().unwrap().iter().copied().collect::<HashSet<_>>() != all {
                tokio::select! {
                    Some(publish) = publishes.recv() => {
                        published.push(publish.message);
                        publish.outcome.send(Ok(())).ok();
                    }
                    () = tokio::time::sleep(Duration::from_millis(5)) => {}
                }
            }
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(running, watching);
        ended.expect("it stops in order");
        let mut acknowledged = source.0.lock().unwrap().clone();
        acknowledged.sort_unstable();
        (published, acknowledged)
    }

    /// Stops the consumers when the handler has begun the last of `users`; what was acknowledged. Nothing can be published.
    async fn stop_when_seen(consumers: Consumers<Seen>, seen: &Seen, users: &[i64]) -> Vec<i64> {
        let (bus, _) = Bus::new(Spans::default());
        let (source, stop) = (Memory::default(), CancellationToken::new());
        let subscription = consumers.into_subscriptions().remove(0);
        let consumer = ConsumerTask::new(subscription, source.clone(), bus, stop.clone());
        let deliveries: Vec<_> = users.iter().map(|user| delivery(*user)).collect();
        let running = consumer.run(stream::iter(deliveries).chain(stream::pending()));
        let stopping = async {
            while seen.0.lock().unwrap().last() != users.last() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(running, stopping);
        ended.expect("it stops in order");
        source.0.lock().unwrap().clone()
    }

    /// The one that fails is stored for a retry; each delivery is acknowledged once.
    fn assert_retries_one((published, acknowledged): (Vec<Message>, Vec<i64>), users: &[i64]) {
        assert_eq!(acknowledged, users);
        let [message] = &published[..] else { panic!("not one message: {published:?}") };
        assert_eq!(message.address, Address::Retry { queue: QUEUE, after_seconds: 1 });
        let failure = message.failure.as_ref().expect("it failed");
        assert_eq!((&*message.id, failure.attempt, &*failure.reason), ("3", 1, "not yet"));
    }

    #[tokio::test]
    async fn each_event_is_handled_in_its_own_task_or_one_after_the_other() {
        for size in [1, 10] {
            let seen = Seen::default();
            let consumers =
                Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, one).batch(size));
            assert_retries_one(run(consumers, &[1, 2, 3, 4]).await, &[1, 2, 3, 4]);
            let mut seen = seen.0.lock().unwrap().clone();
            seen.sort_unstable();
            assert_eq!(seen, [1, 2, 3, 4], "batches of {size}");
        }
    }

    #[tokio::test]
    async fn events_of_a_batch_that_fails_are_handled_alone() {
        let seen = Seen::default();
        let consumers = Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, several));
        assert_retries_one(run(consumers, &[1, 2, 3, 4]).await, &[1, 2, 3, 4]);
        assert_eq!(*seen.0.lock().unwrap(), [1, 2, 3, 1, 2, 3, 4]);
    }

    #[tokio::test]
    async fn only_an_event_that_waits_is_handled_again() {
        let seen = Seen::default();
        let consumers = Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, one).batch(10));
        let (published, acknowledged) = run(consumers, &[1, 2, 5]).await;
        assert_eq!((published.len(), &acknowledged[..]), (0, &[1, 2, 5][..]));
        assert_eq!(*seen.0.lock().unwrap(), [1, 2, 5, 5]);
    }

    #[tokio::test]
    async fn events_come_to_their_handler_after_what_comes_first() {
        for size in [1, 10] {
            let seen = Seen::default();
            let consumer = consumer(USER_REGISTERED_QUEUE, one).batch(size);
            let consumers = Consumers::of(seen.clone()).with(consumer.first(skip_even));
            assert_retries_one(run(consumers, &[1, 2, 3, 4]).await, &[1, 2, 3, 4]);
            let mut seen = seen.0.lock().unwrap().clone();
            seen.sort_unstable();
            assert_eq!(seen, [1, 3], "batches of {size}");
        }
        let begun = Instant::now();
        let delayed = consumer(USER_REGISTERED_QUEUE, one).delay(Duration::from_millis(100));
        let (_, acknowledged) = run(Consumers::of(Seen::default()).with(delayed), &[1, 2]).await;
        assert_eq!(acknowledged, [1, 2]);
        assert!(begun.elapsed() >= Duration::from_millis(100));
    }

    #[tokio::test]
    async fn a_stop_gives_back_only_events_that_wait() {
        // One that fails waits as well, because it cannot be stored for its retry.
        for waits in [WAITS, FAILS] {
            for in_first in [false, true] {
                let seen = Seen::default();
                let consumers = Consumers::of(seen.clone());
                let consumers = match in_first {
                    true => {
                        consumers.with(consumer(USER_REGISTERED_QUEUE, one).batch(10).first(slowly_first))
                    }
                    false => consumers.with(consumer(USER_REGISTERED_QUEUE, slowly)),
                };
                assert_eq!(stop_when_seen(consumers, &seen, &[1, waits]).await, [1], "{waits}, {in_first}");
            }
        }
    }

    #[tokio::test]
    async fn a_stop_gives_back_only_the_events_of_a_batch_that_wait() {
        let seen = Seen::default();
        let consumers = Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, one).batch(10));
        assert_eq!(stop_when_seen(consumers, &seen, &[1, 2, WAITS]).await, [1, 2]);
    }

    #[cfg(feature = "testing")]
    #[tokio::test]
    async fn each_cause_for_which_a_consumer_waits_is_logged_once() {
        async fn fail_six_times(seen: Seen, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
            let mut seen = seen.0.lock().unwrap();
            seen.push(user.user_id);
            let cause = match seen.len() {
                1..=3 => "refused",
                4..=6 => "timed out",
                _ => return Ok(Outcome::Applied),
            };
            Err(HandlerError::Unavailable(anyhow!(cause)))
        }
        let logs = crate::testing::Logs::capture();
        let consumers = Consumers::of(Seen::default()).with(consumer(USER_REGISTERED_QUEUE, fail_six_times));
        let (_, acknowledged) = run(consumers, &[1, 2]).await;
        assert_eq!(acknowledged, [1, 2]);
        let logged = ["refused", "timed out"].map(|cause| logs.count(&["consumer waits", QUEUE, cause]));
        assert_eq!(logged, [1, 1]);
    }
}
