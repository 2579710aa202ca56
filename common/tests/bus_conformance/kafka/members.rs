//! Kafka's own: members of a group that come, go and die, what is committed meanwhile, and how much is fetched.

use std::collections::BTreeSet;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::Context;
use common::bus::{Bus, Consumers, HandlerError, Incoming, Message, Outcome, PublishError, consumer};
use common::config::NoSettings;
use common::events::{USER_REGISTERED_QUEUE, UserRegistered};
use common::testing::{Sandbox, TestApp, eventually};
use tokio::sync::Semaphore;

use super::broker::{MODE, sandbox};
use super::outages::{behind_proxy, stops_soon};
use super::process::bound_to_this_thread;
use super::traffic::Traffic;
use super::{
    Gated, QUEUE, Seen, at_gate, note, publish, set_aside, start, start_with, user, waiting, within,
};

/// The events of a queue that are not settled.
async fn unsettled(sandbox: &Sandbox) -> BTreeSet<i64> {
    let events = sandbox.events(QUEUE).await.into_iter();
    events.map(|event| event["user_id"].as_i64().expect("a user")).collect()
}

async fn hang(seen: Seen, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
    seen.note(&user, user.user_id);
    std::future::pending().await
}

/// Not a test: another process that reads the queue and finishes nothing, until it is killed.
#[tokio::test]
#[ignore = "runs in a process of its own"]
#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "as the other process learns and reports"
)]
async fn hanging_member() {
    let settings = std::env::var("MEMBER_SETTINGS").expect("settings of the other process");
    let settings: Vec<String> = settings.split(' ').map(str::to_owned).collect();
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let consumers = Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, hang));
    let _running = start_with(&sandbox, &settings, consumers).await;
    println!("ready");
    loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        println!("has {}", seen.numbers().len());
    }
}

/// The process with [`hanging_member`], and the file that it writes to.
struct Other(Child, std::path::PathBuf);

impl Other {
    async fn start(sandbox: &Sandbox) -> Other {
        let settings = sandbox.settings::<NoSettings>(MODE, &[]).0.broker.kafka;
        let bootstrap = settings.kafka_bootstrap.expect("an address");
        let settings = format!("--kafka-bootstrap={bootstrap} --kafka-prefix={}", settings.kafka_prefix);
        let name = format!("{}.member", sandbox.schema);
        let log = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        let output = std::fs::File::create(&log).expect("a file");
        let child = bound_to_this_thread(std::env::current_exe().expect("this test"))
            .args(["--ignored", "--exact", "members::hanging_member", "--nocapture"])
            .env("MEMBER_SETTINGS", settings)
            .stdin(Stdio::null())
            .stdout(output)
            .spawn()
            .expect("this test again");
        let other = Other(child, log);
        within(Duration::from_secs(60), "the other process is ready", async || other.says("ready")).await;
        other
    }

    fn says(&self, text: &str) -> bool {
        std::fs::read_to_string(&self.1).expect("its output").lines().any(|line| line.contains(text))
    }

    /// Events that it has.
    fn has(&self) -> usize {
        let text = std::fs::read_to_string(&self.1).expect("its output");
        let mut counts = text.lines().filter_map(|line| line.split("has ").nth(1)?.parse().ok());
        counts.next_back().unwrap_or_default()
    }

    fn kill(&mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
        std::fs::remove_file(&self.1).ok();
    }
}

#[tokio::test]
async fn a_member_that_is_killed_is_replaced_within_ten_seconds_and_what_it_had_comes_again() {
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let mut other = Other::start(&sandbox).await;
    let (app, bus) =
        start(&sandbox, Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, note))).await;
    publish(&bus, 1..=60).await;
    eventually("both have some", async || seen.numbers().len() + other.has() == 60).await;
    assert!(other.has() > 0 && other.has() < 60, "each member has partitions");
    // Longer than the time between commits.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    other.kill();
    publish(&bus, 61..=100).await;
    let all = async || seen.numbers().iter().copied().collect::<BTreeSet<_>>().len() == 100;
    within(Duration::from_secs(10), "the events of the dead member are handled", all).await;
    assert_eq!(seen.numbers().len(), 100, "none of them twice");
    eventually("all is settled", async || waiting(&sandbox, QUEUE).await == 0).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn members_that_come_and_go_under_traffic_lose_nothing_and_settle_everything() {
    let (sandbox, traffic) = (sandbox().await, Traffic::default());
    let (app, bus) = start(&sandbox, traffic.consumers()).await;
    let trouble = async {
        traffic.goes_on().await;
        let (second, _) = start(&sandbox, traffic.consumers()).await;
        traffic.goes_on().await;
        let (third, _) = start(&sandbox, traffic.consumers()).await;
        traffic.goes_on().await;
        second.stop().await;
        traffic.goes_on().await;
        third.stop().await;
        traffic.goes_on().await;
    };
    traffic.run(&bus, trouble).await;
    traffic.settle().await;
    eventually("all is settled", async || waiting(&sandbox, QUEUE).await == 0).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn partitions_are_given_up_only_when_their_handlers_have_ended() {
    let (sandbox, seen, gate) = (sandbox().await, Seen::default(), Arc::new(Semaphore::new(0)));
    let consumers = || {
        Consumers::of(Gated(seen.clone(), Arc::clone(&gate))).with(consumer(USER_REGISTERED_QUEUE, at_gate))
    };
    let (first, bus) = start(&sandbox, consumers()).await;
    publish(&bus, 1..=30).await;
    eventually("all are at work", async || seen.numbers().len() == 30).await;
    let release = async {
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(seen.numbers().len(), 30, "the second member has none of them");
        gate.add_permits(1000);
    };
    let ((second, _), ()) = tokio::join!(start(&sandbox, consumers()), release);
    eventually("all is settled", async || waiting(&sandbox, QUEUE).await == 0).await;
    assert_eq!(seen.numbers().len(), 30, "none of them twice");
    first.stop().await;
    second.stop().await;
    sandbox.close().await;
}

/// An event in a hundred hangs, in all partitions. The others go on, and after a stop those that hang are still there.
#[tokio::test]
async fn no_offset_is_committed_before_the_record_is_settled() {
    async fn hang_some(
        Gated(seen, gate): Gated,
        user: Incoming<UserRegistered>,
    ) -> Result<Outcome, HandlerError> {
        if user.user_id % 100 == 0 {
            gate.acquire().await.map_err(HandlerError::retry)?.forget();
        }
        seen.note(&user, user.user_id);
        Ok(Outcome::Applied)
    }
    let (sandbox, seen, gate) = (sandbox().await, Seen::default(), Arc::new(Semaphore::new(0)));
    let work = Gated(seen.clone(), Arc::clone(&gate));
    let (app, bus): (TestApp, Bus) =
        start(&sandbox, Consumers::of(work).with(consumer(USER_REGISTERED_QUEUE, hang_some))).await;
    publish(&bus, 1..=1500).await;
    eventually("the others are handled", async || seen.numbers().len() == 1485).await;
    for _ in 0..3 {
        // Longer than the time between commits.
        tokio::time::sleep(Duration::from_millis(700)).await;
        let unsettled = unsettled(&sandbox).await;
        assert!((1..=15).all(|number| unsettled.contains(&(100 * number))), "{unsettled:?}");
    }
    gate.add_permits(15);
    eventually("all is settled", async || waiting(&sandbox, QUEUE).await == 0).await;
    assert_eq!(seen.numbers().len(), 1500, "each once");
    app.stop().await;
    sandbox.close().await;
}

/// More events than may be unsettled at once.
#[tokio::test]
async fn a_backlog_is_fetched_as_fast_as_it_is_handled() {
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let (app, bus) = start(&sandbox, Consumers::of(())).await;
    for first in (1..20_000).step_by(2000) {
        publish(&bus, first..first + 2000).await;
    }
    app.stop().await;
    let consumers = Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, note).batch(64));
    let (app, _) = start(&sandbox, consumers).await;
    eventually("all are handled", async || seen.numbers().len() >= 20_000).await;
    eventually("all is settled", async || waiting(&sandbox, QUEUE).await == 0).await;
    app.stop().await;
    let numbers: BTreeSet<i64> = seen.numbers().into_iter().collect();
    assert_eq!((numbers.len(), seen.numbers().len()), (20_000, 20_000), "each once");
    sandbox.close().await;
}

/// The new topic soon has more records than the reader had read of the old one.
#[tokio::test]
async fn the_records_of_a_topic_that_is_created_again_are_read_from_the_first_on() {
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let consumers = Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, note));
    let (app, bus) = start(&sandbox, consumers).await;
    // All in one partition.
    let send = async |number: i64| {
        let context = Context { workflow: "a key".into(), ..Context::fresh() };
        bus.send(Message::of(&user(number), context).expect("JSON")).await
    };
    send(1).await.expect("it is stored");
    eventually("it is handled", async || seen.times(1) == 1).await;
    sandbox.delete_queue(QUEUE).await;
    eventually("the topic takes events again", async || send(2).await.is_ok()).await;
    for number in 3..=9 {
        send(number).await.expect("it is stored");
    }
    eventually("all are handled", async || (2..=9).all(|number| seen.times(number) > 0)).await;
    eventually("all is settled", async || waiting(&sandbox, QUEUE).await == 0).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn events_that_wait_for_a_retry_keep_no_other_back() {
    async fn fail_some(seen: Seen, user: Incoming<UserRegistered>) -> Result<Outcome, HandlerError> {
        seen.note(&user, user.user_id);
        match user.user_id <= 50 && seen.times(user.user_id) == 1 {
            true => Err(HandlerError::Retry(anyhow::anyhow!("not yet"))),
            false => Ok(Outcome::Applied),
        }
    }
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let consumers =
        Consumers::of(seen.clone()).with(consumer(USER_REGISTERED_QUEUE, fail_some).concurrency(1));
    let (app, bus) = start(&sandbox, consumers).await;
    publish(&bus, 1..=200).await;
    eventually("all are tried", async || seen.numbers().len() >= 200).await;
    eventually("some again", async || seen.numbers().len() == 250).await;
    eventually("all is settled", async || waiting(&sandbox, QUEUE).await == 0).await;
    assert!(set_aside(&sandbox, QUEUE).await.is_empty());
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_alone() {
    let sandbox = sandbox().await;
    let (app, bus) = start(&sandbox, Consumers::of(())).await;
    let mut large = Message::of(&user(1), Context::fresh()).unwrap();
    large.body = vec![b'x'; 2_000_000];
    let neighbour = user(2);
    let (large, small) = tokio::join!(bus.send(large), bus.publish(&neighbour));
    assert_eq!(large, Err(PublishError::TooLarge));
    small.expect("its neighbour is stored");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_connection_that_cannot_be_read_is_not_ready_and_is_built_anew() {
    let (sandbox, seen) = (sandbox().await, Seen::default());
    let (app, ways, other, bus) = behind_proxy(&sandbox, &seen).await;
    ways.proxy.garble();
    publish(&bus, [2]).await;
    // At the latest when the group has excluded the member.
    let not_ready = async || app.get("/ready").await.status == 503;
    within(Duration::from_secs(40), "it is not ready", not_ready).await;
    ways.proxy.let_new_ones_through();
    eventually("it is ready", async || app.get("/ready").await.status == 200).await;
    publish(&bus, [3]).await;
    eventually("all are handled", async || seen.times(2) > 0 && seen.times(3) > 0).await;
    ways.proxy.garble();
    stops_soon(app).await;
    other.stop().await;
    sandbox.close().await;
}
