//! The consuming end: a member of a group for each subscription. librdkafka's consumer is polled on a thread of its own, which hands
//! records to the runtime and commits what is settled.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use contract::headers::properties::{CORRELATION_ID, MESSAGE_ID};
use futures_util::future::join_all;
use futures_util::stream::{self, BoxStream, StreamExt};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::offsets::{Offsets, Place};
use super::{Kafka, Reports};
use crate::bus::Bus;
use crate::bus::consumer::{ConsumerTask, Received, Source, run_all};
use crate::bus::rewind::{Rewind, Rewound};
use crate::bus::subscription::{Delivery, Subscription};
use crate::context::REQUEST_ID;

/// Records of a partition that may be unsettled. No more are fetched then.
const WINDOW: usize = 1000;
/// The longest wait for a record, and so for anything else that the thread does.
const POLL: Duration = Duration::from_millis(100);
/// [`POLL`] while a partition is paused.
const POLL_PAUSED: Duration = Duration::from_millis(5);
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// Until every member has its partitions. A member that leaves may wait for its handlers first.
const SUBSCRIBE_TIMEOUT: Duration = Duration::from_secs(30);
/// For handlers to end when their partition is assigned to another member. What is still at work then is done there again.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(15);
/// For one step of going back to the first record.
const REWIND_TIMEOUT: Duration = Duration::from_secs(5);
/// For the last commit and the leave of the group. The thread goes on if they last longer.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

type Deliveries = BoxStream<'static, anyhow::Result<Received<Member>>>;
/// A record that no handler has.
type Waiting = (Delivery, Place);

impl Kafka {
    /// Runs the subscriptions until `stop`, or until the broker is lost.
    pub(super) async fn consume_until_lost(
        &self,
        bus: &Bus,
        connected: &watch::Sender<bool>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let reports = Reports::default();
        let mut threads = Threads(Vec::new());
        let ended = tokio::select! {
            biased;
            ended = self.consume_with(&reports, &mut threads, bus, connected, stop) => ended,
            cause = reports.cause() => Err(cause),
        };
        threads.end().await;
        ended
    }

    async fn consume_with(
        &self,
        reports: &Reports,
        threads: &mut Threads,
        bus: &Bus,
        connected: &watch::Sender<bool>,
        stop: &CancellationToken,
    ) -> anyhow::Result<()> {
        let mut consumers = Vec::with_capacity(self.endpoint.subscriptions.len());
        for subscription in self.endpoint.subscriptions.iter() {
            let (member, deliveries) = self.subscribe(subscription, reports, threads)?;
            let consumer = ConsumerTask::new(subscription.clone(), member, bus.clone(), stop.clone());
            consumers.push(consumer.run(deliveries));
        }
        let assigned = tokio::time::timeout(SUBSCRIBE_TIMEOUT, threads.assigned());
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            assigned = assigned => assigned.context("the consumers have no partitions in time")?,
        }
        connected.send_replace(true);
        tracing::info!(queues = consumers.len(), "consumers are connected to Kafka");
        run_all(consumers.into_iter(), stop).await
    }

    /// Starts a member of the subscription's group.
    fn subscribe(
        &self,
        subscription: &Subscription,
        reports: &Reports,
        threads: &mut Threads,
    ) -> anyhow::Result<(Member, Deliveries)> {
        let (group, topic) =
            (self.names.group(subscription.queue), self.names.destination(subscription.destination));
        let mut config = self.config();
        config
            .set("group.id", &group)
            .set("partition.assignment.strategy", "range")
            // The partitions of a member that has died are assigned to others after this time.
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "2000")
            // The thread polls, whatever handlers do, except while it waits for those of a partition that leaves.
            .set("max.poll.interval.ms", "60000")
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("queued.min.messages", WINDOW.to_string())
            .set("queued.max.messages.kbytes", "8192")
            .set("fetch.queue.backoff.ms", "10")
            .set("fetch.error.backoff.ms", "100");
        let shared = Arc::new(Shared {
            topic: topic.clone(),
            reports: reports.clone(),
            offsets: Mutex::default(),
            at_work_less: Condvar::new(),
            assigned: watch::Sender::new(false),
            ending: AtomicBool::new(false),
        });
        let consumer: BaseConsumer<Group> = config.create_with_context(Group(Arc::clone(&shared)))?;
        consumer.subscribe(&[&topic])?;
        let (fresh, records) = mpsc::unbounded_channel();
        let (ended, thread) = watch::channel(());
        let rewinds = subscription.rewind.as_ref().map(Rewind::connect);
        let shared_by_thread = Arc::clone(&shared);
        let polling =
            Polling { consumer, shared: shared_by_thread, fresh, rewinds, paused: Vec::new(), ended };
        std::thread::Builder::new().name(format!("kafka {}", subscription.queue)).spawn(|| polling.run())?;
        threads.0.push((Arc::clone(&shared), thread));
        let (delayed, again) = mpsc::unbounded_channel();
        let permits = Arc::new(Semaphore::new(subscription.prefetch(self.endpoint.prefetch).into()));
        let deliveries = deliveries(Arc::clone(&shared), records, again, permits);
        Ok((Member { shared, delayed }, deliveries))
    }
}

/// Records from the thread and those that were delayed, as many at once as there are permits.
fn deliveries(
    shared: Arc<Shared>,
    mut fresh: mpsc::UnboundedReceiver<Waiting>,
    mut delayed: mpsc::UnboundedReceiver<(tokio::time::Instant, Waiting)>,
    permits: Arc<Semaphore>,
) -> Deliveries {
    let fresh = stream::poll_fn(move |context| fresh.poll_recv(context));
    let delayed = stream::poll_fn(move |context| delayed.poll_recv(context));
    let delayed = delayed.map(|(due, waiting)| async move {
        tokio::time::sleep_until(due).await;
        waiting
    });
    let all = stream::select(fresh, delayed.buffer_unordered(usize::MAX));
    let begun = all.filter_map(move |(delivery, place)| {
        let (shared, permits) = (Arc::clone(&shared), Arc::clone(&permits));
        async move {
            let permit = permits.acquire_owned().await.ok()?;
            let receipt = shared.begin(place, permit)?;
            Some(Ok((Delivery { received: Instant::now(), ..delivery }, receipt)))
        }
    });
    begun.boxed()
}

/// The threads of a connection.
struct Threads(Vec<(Arc<Shared>, watch::Receiver<()>)>);

impl Threads {
    /// Returns when each member has its first assignment, which may be empty.
    async fn assigned(&self) {
        for (shared, _) in &self.0 {
            drop(shared.assigned.subscribe().wait_for(|assigned| *assigned).await);
        }
    }

    /// Commits and leaves the groups.
    async fn end(mut self) {
        self.ask_to_end();
        // The sender goes with its thread.
        let ended = join_all(self.0.iter_mut().map(|(_, thread)| thread.changed()));
        if tokio::time::timeout(CLOSE_TIMEOUT, ended).await.is_err() {
            tracing::warn!("a consumer does not leave its group in time");
        }
    }

    fn ask_to_end(&self) {
        for (shared, _) in &self.0 {
            shared.ending.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.ask_to_end();
    }
}

/// What the thread of a subscription and its handlers share.
struct Shared {
    topic: String,
    reports: Reports,
    offsets: Mutex<Offsets>,
    /// Notified when a handler has done with a record.
    at_work_less: Condvar,
    /// Whether the group has assigned partitions, or none.
    assigned: watch::Sender<bool>,
    /// The thread is to commit, to leave the group and to end.
    ending: AtomicBool,
}

impl Shared {
    fn offsets(&self) -> MutexGuard<'_, Offsets> {
        self.offsets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands the record to a handler, unless its partition is assigned to another member by now.
    fn begin(self: &Arc<Self>, place: Place, permit: OwnedSemaphorePermit) -> Option<Receipt> {
        let begun = self.offsets().begin(place);
        begun.then(|| Receipt { place, shared: Arc::clone(self), _permit: permit })
    }

    /// Waits for the handlers of partitions that leave.
    fn wait_for_handlers(&self) {
        let begun = Instant::now();
        let mut offsets = self.offsets();
        while offsets.leaving_at_work() && !self.ending.load(Ordering::Relaxed) {
            if begun.elapsed() > LEAVE_TIMEOUT {
                tracing::warn!(topic = self.topic, "handlers are still at work on partitions that leave");
                return;
            }
            let waited = self.at_work_less.wait_timeout(offsets, POLL);
            offsets = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// A record that a handler has.
pub(crate) struct Receipt {
    place: Place,
    shared: Arc<Shared>,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Receipt {
    fn drop(&mut self) {
        self.shared.offsets().end(self.place);
        self.shared.at_work_less.notify_one();
    }
}

/// A member of the group of a subscription.
struct Member {
    shared: Arc<Shared>,
    delayed: mpsc::UnboundedSender<(tokio::time::Instant, Waiting)>,
}

impl Source for Member {
    type Receipt = Receipt;

    async fn acknowledge(&self, batch: &[Received<Self>], _cumulative: bool) -> anyhow::Result<()> {
        let mut offsets = self.shared.offsets();
        batch.iter().for_each(|(_, receipt)| offsets.settle(receipt.place));
        Ok(())
    }

    fn delay(&self, (delivery, receipt): Received<Self>, delay: Duration) -> Option<Received<Self>> {
        // The record stays unsettled. The receipt ends here, so that other records are handled meanwhile.
        let due = tokio::time::Instant::now() + delay;
        drop(self.delayed.send((due, (delivery, receipt.place))));
        None
    }

    fn is_open(&self) -> bool {
        !self.shared.reports.is_lost()
    }

    async fn cancel(&self) -> anyhow::Result<()> {
        Ok(())
    }
}

/// What the thread of a subscription works with.
struct Polling {
    consumer: BaseConsumer<Group>,
    shared: Arc<Shared>,
    fresh: mpsc::UnboundedSender<Waiting>,
    /// Requests to go back to the first record.
    rewinds: Option<mpsc::UnboundedReceiver<Rewound>>,
    paused: Vec<i32>,
    /// Dropped when the thread ends.
    ended: watch::Sender<()>,
}

impl Polling {
    fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        // After a panic the service must not look healthy.
        if catch_unwind(AssertUnwindSafe(|| self.poll_until_ending())).is_err() {
            shared.reports.lose("the thread of a consumer panicked");
        }
        self.consumer.context().commit(&self.consumer, CommitMode::Sync);
        self.consumer.unsubscribe();
        drop(self.consumer);
        drop(self.ended);
    }

    fn poll_until_ending(&mut self) {
        let mut committed = Instant::now();
        while !self.shared.ending.load(Ordering::Relaxed) && !self.shared.reports.is_lost() {
            let longest = if self.paused.is_empty() { POLL } else { POLL_PAUSED };
            let full = match self.consumer.poll(longest) {
                Some(Ok(record)) => self.receive(&record),
                Some(Err(error)) => {
                    self.failed(&error);
                    None
                }
                None => None,
            };
            full.into_iter().for_each(|partition| self.pause(partition));
            self.resume();
            while let Some(rewound) = self.rewinds.as_mut().and_then(|requests| requests.try_recv().ok()) {
                let done = self.rewind().map_err(|error| format!("{error:#}"));
                // The next connection begins at what is committed.
                done.as_ref().err().inspect(|cause| self.shared.reports.lose(cause));
                drop(rewound.send(done));
            }
            if committed.elapsed() > COMMIT_EVERY {
                self.consumer.context().commit(&self.consumer, CommitMode::Async);
                committed = Instant::now();
            }
        }
    }

    /// Takes a record; its partition, if that has as many unsettled records as it may have.
    fn receive(&self, record: &BorrowedMessage<'_>) -> Option<i32> {
        let (partition, offset) = (record.partition(), record.offset());
        let mut offsets = self.shared.offsets();
        let Some(place) = offsets.receive(partition, offset) else {
            self.shared.reports.lose(format!("{}: offset {offset} comes again", self.shared.topic));
            return None;
        };
        let full = offsets.unsettled().any(|(number, unsettled)| number == partition && unsettled >= WINDOW);
        drop(offsets);
        drop(self.fresh.send((delivery(record), place)));
        full.then_some(partition)
    }

    fn pause(&mut self, partition: i32) {
        if self.paused.contains(&partition) {
            return;
        }
        match self.consumer.pause(&self.shared.list([(partition, Offset::Invalid)])) {
            Ok(()) => self.paused.push(partition),
            Err(error) => tracing::warn!(%error, partition, "a partition is not paused"),
        }
    }

    /// Fetches from paused partitions again when half of their records are settled. Librdkafka resumes a partition itself when it
    /// is revoked.
    fn resume(&mut self) {
        if self.paused.is_empty() {
            return;
        }
        let full: Vec<i32> = self
            .shared
            .offsets()
            .unsettled()
            .filter_map(|(partition, unsettled)| (unsettled > WINDOW / 2).then_some(partition))
            .collect();
        let (shared, consumer) = (&self.shared, &self.consumer);
        self.paused.retain(|partition| {
            full.contains(partition)
                || consumer.resume(&shared.list([(*partition, Offset::Invalid)])).is_err()
        });
    }

    /// Goes back to the first record of each partition. Its offset is committed before it is read again: a restart must not
    /// continue at the old one.
    fn rewind(&self) -> anyhow::Result<()> {
        let mut first = Vec::new();
        for partition in partitions(&self.consumer.assignment()?) {
            let (low, _) = self.consumer.fetch_watermarks(&self.shared.topic, partition, REWIND_TIMEOUT)?;
            first.push((partition, Offset::Offset(low)));
        }
        ensure!(!first.is_empty(), "no partitions are assigned");
        // What handlers still have belongs to the time before: it is not settled any more, and comes again.
        self.shared.offsets().assign(first.iter().map(|(partition, _)| *partition));
        let first = self.shared.list(first);
        self.consumer.commit(&first, CommitMode::Sync)?;
        for element in self.consumer.seek_partitions(first, REWIND_TIMEOUT)?.elements() {
            element.error()?;
        }
        Ok(())
    }

    fn failed(&self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        match error.rdkafka_error_code() {
            // The topic was deleted: it is created again before the next connection reads it.
            Some(
                Code::UnknownTopic
                | Code::UnknownTopicOrPartition
                | Code::UnknownPartition
                | Code::UnknownTopicId
                | Code::Fatal,
            ) => self.shared.reports.lose(format!("{}: {error}", self.shared.topic)),
            _ => tracing::debug!(%error, topic = self.shared.topic, "librdkafka"),
        }
    }
}

/// The headers of a record whose names are text. rdkafka panics at any other name, and any publisher can write one.
pub(super) fn headers<'a>(record: &'a BorrowedMessage<'_>) -> Vec<(&'a str, &'a [u8])> {
    let Some(headers) = record.headers() else { return Vec::new() };
    let header = |number| {
        let header = catch_unwind(AssertUnwindSafe(|| headers.try_get(number))).ok().flatten()?;
        Some((header.key, header.value?))
    };
    (0..headers.count()).filter_map(header).collect()
}

/// The record in the terms of the bus.
fn delivery(record: &BorrowedMessage<'_>) -> Delivery {
    let headers = headers(record);
    let header = |name: &str| {
        let (_, value) = headers.iter().find(|(key, _)| *key == name)?;
        std::str::from_utf8(value).ok()
    };
    let body = record.payload().unwrap_or_default().to_vec();
    Delivery::with_headers(header(MESSAGE_ID), body, |name| match name {
        REQUEST_ID => header(CORRELATION_ID).or_else(|| header(name)),
        name => header(name),
    })
}

/// What librdkafka calls from the thread that polls.
struct Group(Arc<Shared>);

impl Group {
    /// Commits what has changed. Not when the broker is lost: the offsets may be those of a topic that was deleted.
    fn commit(&self, consumer: &BaseConsumer<Group>, mode: CommitMode) {
        let offsets = self.0.offsets().committable();
        if offsets.is_empty() || self.0.reports.is_lost() {
            return;
        }
        let offsets = offsets.into_iter().map(|(partition, offset)| (partition, Offset::Offset(offset)));
        if let Err(error) = consumer.commit(&self.0.list(offsets), mode) {
            tracing::debug!(%error, topic = self.0.topic, "offsets are not committed");
        }
    }
}

impl Shared {
    fn list(&self, partitions: impl IntoIterator<Item = (i32, Offset)>) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in partitions {
            if let Err(error) = list.add_partition_offset(&self.topic, partition, offset) {
                tracing::error!(%error, partition, "no offset");
            }
        }
        list
    }
}

fn partitions(list: &TopicPartitionList) -> Vec<i32> {
    list.elements().iter().map(|element| element.partition()).collect()
}

impl ClientContext for Group {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.reports.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.reports.error(error, reason);
    }
}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Group>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(list) => self.0.offsets().assign(partitions(list)),
            Rebalance::Revoke(list) => {
                let partitions = partitions(list);
                if consumer.assignment_lost() {
                    // Others have its partitions already. Heartbeats also stop where each new connection fails at once, which
                    // librdkafka does not report as the loss of the broker.
                    self.0.reports.lose(format!("{}: the group has excluded this member", self.0.topic));
                } else {
                    self.0.offsets().leave(&partitions);
                    self.0.wait_for_handlers();
                    self.commit(consumer, CommitMode::Sync);
                }
                self.0.offsets().forget(&partitions);
            }
            Rebalance::Error(error) => tracing::warn!(%error, topic = self.0.topic, "rebalance failed"),
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Group>, rebalance: &Rebalance<'_>) {
        if let Rebalance::Assign(_) = rebalance {
            self.0.assigned.send_replace(true);
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, list: &TopicPartitionList) {
        if let Err(error) = result {
            tracing::debug!(%error, topic = self.0.topic, "offsets are not committed");
            return;
        }
        for element in list.elements() {
            if let (Offset::Offset(offset), Ok(())) = (element.offset(), element.error()) {
                self.0.offsets().committed(element.partition(), offset);
            }
        }
    }
}
