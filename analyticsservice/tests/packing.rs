//! CLICK_PACKING=on in both modes, against real servers: what goes together is stored as if each click had gone alone.
#![cfg(all(feature = "sync", feature = "async"))]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use analyticsservice::{ABOUT, Settings, messaging, sync};
use common::context::REQUEST_ID;
use common::events::{self, BatchedClick, ClickTracked, Clicks};
use common::testing::{Client, Method, Reply, Sandbox, TestApp, closed_port, effects_of, eventually};
use common::{Context, Deps, Mode, Service};
use futures_util::future::{join, join_all};
use serde_json::{Value, json};
use sqlx::Executor;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

const CLICKS: &str = "click_tracked_queue";
const DEAD: &str = "click_tracked_queue.dlq";
const ON: &str = "--click-packing=on";

fn service(mode: Mode) -> impl FnOnce(Deps, Settings) -> Service {
    move |deps, own| match mode {
        Mode::Sync => sync::service(&deps, &own),
        Mode::Async | Mode::Stream => messaging::service(&deps, &own),
    }
}

async fn start(sandbox: &Sandbox, mode: Mode) -> TestApp {
    sandbox.start(ABOUT, mode, &[ON], service(mode)).await
}

async fn start_unready(sandbox: &Sandbox, mode: Mode, setting: &str) -> TestApp {
    sandbox.start_unready(ABOUT, mode, &[ON, setting], service(mode)).await
}

/// Tracks clicks and stores none.
async fn start_without_database(sandbox: &Sandbox) -> TestApp {
    let nowhere = format!("--database-url={}/none", closed_port().await.replace("http", "postgres"));
    let app = start_unready(sandbox, Mode::Async, &nowhere).await;
    let connected =
        async || app.get("/ready").await.body["detail"].as_str().is_some_and(|d| !d.contains("broker"));
    eventually("the broker is connected", connected).await;
    app
}

/// The queue exists and has no consumer.
async fn declare(sandbox: &Sandbox) {
    start_without_database(sandbox).await.stop().await;
}

fn pages(kind: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("/{kind}/{n}")).collect()
}

/// A click on each page, all at once, each in a workflow named after its page: page and answer.
async fn track(app: &Client, pages: &[String]) -> Vec<(String, Option<Reply>)> {
    let one = async |page: &String| {
        let body = json!({"user_id": 1, "page": page}).to_string();
        let reply = app.try_request(Method::POST, "/track_click", &[(REQUEST_ID, page)], Some(body)).await;
        (page.clone(), reply)
    };
    join_all(pages.iter().map(one)).await
}

async fn track_all(app: &Client, pages: &[String]) {
    for (page, reply) in track(app, pages).await {
        let reply = reply.expect("an answer");
        assert_eq!(
            (reply.status, &reply.body),
            (200, &json!({"status": "tracked"})),
            "{page}: {}",
            reply.text
        );
    }
}

/// How often a click on each page is stored.
async fn stored(sandbox: &Sandbox) -> BTreeMap<String, i64> {
    let select = sqlx::query_as("SELECT page, count(*) FROM clicks GROUP BY page");
    select.fetch_all(&sandbox.pool().await).await.unwrap_or_default().into_iter().collect()
}

fn once(pages: &[String]) -> BTreeMap<String, i64> {
    pages.iter().map(|page| (page.clone(), 1)).collect()
}

async fn assert_stored_once(sandbox: &Sandbox, pages: &[String]) {
    eventually("all are stored", async || stored(sandbox).await.len() >= pages.len()).await;
    assert_eq!(stored(sandbox).await, once(pages));
}

fn packed(page: &str) -> BatchedClick {
    let event = json!({"event_id": uuid::Uuid::now_v7(), "user_id": 1, "page": page});
    let click: ClickTracked = serde_json::from_value(event).expect("a click");
    BatchedClick { context: Context { workflow: page.to_owned(), ..Context::fresh() }, click }
}

fn body(pages: &[String]) -> String {
    let clicks: Vec<BatchedClick> = pages.iter().map(|page| packed(page)).collect();
    String::from_utf8(events::batch(&clicks).expect("JSON")).expect("text")
}

/// From now on each statement's number of clicks is noted, and a click on this page refused, as PostgreSQL refuses what it
/// cannot hold.
async fn note_statements(sandbox: &Sandbox) {
    let triggers = "
        CREATE TABLE statements (clicks bigint);
        CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN INSERT INTO statements SELECT count(*) FROM added; RETURN NULL; END $$;
        CREATE TRIGGER note AFTER INSERT ON clicks REFERENCING NEW TABLE AS added
            FOR EACH STATEMENT EXECUTE FUNCTION note();
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN RAISE 'refused' USING ERRCODE = '22023'; END $$;
        CREATE TRIGGER refuse BEFORE INSERT ON clicks FOR EACH ROW WHEN (NEW.page = '/refused')
            EXECUTE FUNCTION refuse();";
    sandbox.pool().await.execute(triggers).await.expect("triggers");
}

/// Clicks of each statement that stored any.
async fn statements(sandbox: &Sandbox) -> Vec<i64> {
    let select = sqlx::query_scalar("SELECT clicks FROM statements WHERE clicks > 0");
    select.fetch_all(&sandbox.pool().await).await.expect("statements")
}

#[tokio::test]
async fn clicks_that_wait_together_share_messages_and_each_is_stored_once_in_its_own_workflow() {
    let sandbox = Sandbox::new().await;
    let app = start_without_database(&sandbox).await;
    let pages = pages(&sandbox.schema, 300);
    track_all(&app, &pages).await;
    app.stop().await;
    // Answered means confirmed: they are there without waiting.
    let messages = sandbox.messages(CLICKS).await;
    assert!(messages.len() < pages.len() / 2, "{} messages for {} clicks", messages.len(), pages.len());
    let ids: BTreeSet<&str> =
        messages.iter().map(|m| m["properties"]["message_id"].as_str().expect("an id")).collect();
    assert_eq!(ids.len(), messages.len());
    let mut workflows = BTreeMap::new();
    for message in &messages {
        let properties = &message["properties"];
        assert_eq!((&properties["type"], &properties["delivery_mode"]), (&json!("ClickTracked"), &json!(2)));
        assert!(properties["timestamp"].is_number() && properties["headers"]["traceparent"].is_string());
        let body = message["payload"].as_str().expect("a body");
        match serde_json::from_str(body).expect("a click or a pack") {
            Clicks::One(click) => {
                let workflow = properties["correlation_id"].as_str().expect("a workflow");
                workflows.insert(click.page, workflow.to_owned());
            }
            Clicks::Batch(pack) => {
                assert!(
                    pack.len() > 1
                        && !pages.contains(&properties["correlation_id"].as_str().unwrap().to_owned())
                );
                workflows.extend(pack.into_iter().map(|packed| (packed.click.page, packed.context.workflow)));
            }
        }
    }
    assert!(
        workflows.iter().all(|(page, workflow)| page == workflow) && workflows.keys().eq(once(&pages).keys())
    );

    // A reader of batches need not publish batches itself.
    let app = sandbox.start(ABOUT, Mode::Async, &["--click-packing=off"], service(Mode::Async)).await;
    assert_stored_once(&sandbox, &pages).await;
    app.stop().await;
    assert_eq!(sandbox.messages(CLICKS).await.len(), 0);
    for page in pages.iter().step_by(10) {
        assert_eq!(effects_of(page), ["click stored"], "{page}");
    }
    sandbox.close().await;
}

#[tokio::test]
async fn a_lone_click_goes_as_it_does_without_packing() {
    let sandbox = Sandbox::new().await;
    let app = start_without_database(&sandbox).await;
    for page in ["/1", "/2"] {
        track_all(&app, &[page.to_owned()]).await;
    }
    app.stop().await;
    let pages: Vec<Value> =
        sandbox.events(CLICKS).await.into_iter().map(|event| event["page"].clone()).collect();
    assert_eq!(pages, ["/1", "/2"]);
    sandbox.close().await;
}

#[tokio::test]
async fn one_that_packs_and_one_that_does_not_share_a_queue() {
    let sandbox = Sandbox::new().await;
    let one = start(&sandbox, Mode::Async).await;
    let other = sandbox.start(ABOUT, Mode::Async, &[], service(Mode::Async)).await;
    let (packed, single) = (pages("packed", 300), pages("single", 300));
    join(track_all(&one, &packed), track_all(&other, &single)).await;
    assert_stored_once(&sandbox, &[packed, single].concat()).await;
    one.stop().await;
    other.stop().await;
    assert_eq!(sandbox.messages(CLICKS).await.len() + sandbox.messages(DEAD).await.len(), 0);
    sandbox.close().await;
}

#[tokio::test]
async fn a_pack_that_comes_again_stores_nothing_twice() {
    let sandbox = Sandbox::new().await;
    declare(&sandbox).await;
    let name = &sandbox.schema;
    let [first, second, third] = ["a", "b", "c"].map(|page| packed(&format!("/{name}/{page}")));
    let text = |clicks: &[BatchedClick]| String::from_utf8(events::batch(clicks).unwrap()).unwrap();
    let pack = text(&[first.clone(), second.clone()]);
    for (body, id) in [
        (&pack, "pack"),
        (&pack, "pack"),
        (&pack, "under another id"),
        (&serde_json::to_string(&second.click).unwrap(), "one of it alone"),
        (&text(&[second.clone(), third.clone(), third.clone()]), "overlapping"),
    ] {
        sandbox.publish_raw("", CLICKS, body, id).await;
    }
    let app = start(&sandbox, Mode::Async).await;
    let pages = [first, second, third].map(|packed| packed.click.page);
    assert_stored_once(&sandbox, &pages).await;
    app.settled(CLICKS, 5).await;
    app.stop().await;
    assert_eq!(sandbox.messages(CLICKS).await.len() + sandbox.messages(DEAD).await.len(), 0);
    assert_eq!(stored(&sandbox).await, once(&pages));
    for page in &pages {
        assert_eq!(effects_of(page), ["click stored"], "{page}");
    }
    sandbox.close().await;
}

#[tokio::test]
async fn a_pack_that_does_not_parse_is_set_aside_whole_and_its_neighbours_are_stored() {
    let sandbox = Sandbox::new().await;
    declare(&sandbox).await;
    let good = body(&pages("good", 2));
    sandbox.publish_raw("", CLICKS, &good, "before").await;
    let mut lacking: Value = serde_json::from_str(&body(&pages("bad", 3))).unwrap();
    lacking[2]["click"].as_object_mut().unwrap().remove("event_id");
    let bad =
        [lacking.to_string(), "[]".into(), good[..good.len() - 1].to_owned(), r#"[{"page":"/"}]"#.into()];
    for bad in &bad {
        sandbox.publish_raw("", CLICKS, bad, "bad").await;
    }
    let after = packed("/after");
    sandbox.publish_raw("", CLICKS, &serde_json::to_string(&after.click).unwrap(), "after").await;
    let app = start(&sandbox, Mode::Async).await;
    eventually("they are set aside", async || sandbox.messages(DEAD).await.len() == bad.len()).await;
    assert_stored_once(&sandbox, &[pages("good", 2), vec!["/after".into()]].concat()).await;
    for message in sandbox.messages(DEAD).await {
        let reason = message["properties"]["headers"]["x-reason"].as_str().expect("a reason");
        assert!(reason.contains("does not parse as ClickTracked"), "{reason}");
        assert!(bad.iter().any(|bad| message["payload"] == **bad), "as it came: {message}");
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_pack_with_a_click_that_cannot_be_stored_is_set_aside_whole_and_stored_once_when_put_back() {
    let sandbox = Sandbox::new().await;
    start(&sandbox, Mode::Async).await.stop().await;
    note_statements(&sandbox).await;
    let with_refused = [pages("rest", 3), vec!["/refused".into()]].concat();
    sandbox.publish_raw("", CLICKS, &body(&pages("before", 3)), "before").await;
    sandbox.publish_raw("", CLICKS, &body(&with_refused), "refused").await;
    sandbox.publish_raw("", CLICKS, &body(&pages("after", 3)), "after").await;
    let app = start(&sandbox, Mode::Async).await;
    let neighbours = [pages("before", 3), pages("after", 3)].concat();
    eventually("the neighbours are stored", async || stored(&sandbox).await.len() >= neighbours.len()).await;
    // No attempt can heal it.
    eventually("it is set aside", async || sandbox.messages(DEAD).await.len() == 1).await;
    let dead = sandbox.messages(DEAD).await.remove(0);
    assert_eq!(dead["properties"]["message_id"], "refused");

    sandbox.pool().await.execute("DROP TRIGGER refuse ON clicks").await.expect("repaired");
    for _ in 0..2 {
        sandbox.publish_raw("", CLICKS, dead["payload"].as_str().unwrap(), "refused").await;
    }
    assert_stored_once(&sandbox, &[neighbours, with_refused].concat()).await;
    app.stop().await;
    assert_eq!(sandbox.messages(CLICKS).await.len(), 0);
    sandbox.close().await;
}

#[tokio::test]
async fn however_many_packs_wait_a_statement_stores_so_many_clicks_and_no_more() {
    let sandbox = Sandbox::new().await;
    start(&sandbox, Mode::Async).await.stop().await;
    note_statements(&sandbox).await;
    let all = pages("p", 5000);
    for (n, pages) in all.chunks(500).enumerate() {
        sandbox.publish_raw("", CLICKS, &body(pages), &n.to_string()).await;
    }
    let app = start(&sandbox, Mode::Async).await;
    assert_stored_once(&sandbox, &all).await;
    app.stop().await;
    let statements = statements(&sandbox).await;
    assert!(statements.iter().all(|clicks| *clicks <= 1000), "{statements:?}");
    sandbox.close().await;
}

#[tokio::test]
async fn without_a_broker_all_are_refused_at_once() {
    let sandbox = Sandbox::new().await;
    let nowhere = format!("--amqp-url={}/%2f", closed_port().await.replace("http", "amqp"));
    let app = start_unready(&sandbox, Mode::Async, &nowhere).await;
    eventually("the database is there", async || app.get("/clicks/count").await.status == 200).await;
    assert_refuses_all_at_once(&app).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn without_a_database_all_are_refused_at_once() {
    let sandbox = Sandbox::new().await;
    let nowhere = format!("--database-url={}/none", closed_port().await.replace("http", "postgres"));
    let app = start_unready(&sandbox, Mode::Sync, &nowhere).await;
    assert_refuses_all_at_once(&app).await;
    app.stop().await;
    sandbox.close().await;
}

async fn assert_refuses_all_at_once(app: &TestApp) {
    let begun = Instant::now();
    let replies = track(app, &pages("p", 300)).await;
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    for (_, reply) in replies {
        let reply = reply.expect("an answer");
        reply.assert_problem(503, None);
        assert_eq!(reply.headers["retry-after"], "1");
    }
}

#[tokio::test]
async fn what_was_answered_is_stored_though_the_service_stops_meanwhile() {
    for mode in [Mode::Async, Mode::Sync] {
        let sandbox = Sandbox::new().await;
        let app = start(&sandbox, mode).await;
        let client = Client::clone(&app);
        let all = pages("p", 2000);
        let some = Semaphore::new(0);
        let one = async |page: &String| {
            let body = json!({"user_id": 1, "page": page}).to_string();
            let reply = client.try_request(Method::POST, "/track_click", &[], Some(body)).await;
            some.add_permits(1);
            (page.clone(), reply)
        };
        // Some are answered, some are on their way, some have not come.
        let stop = async {
            drop(some.acquire_many(50).await);
            app.stop().await;
        };
        let (replies, ()) = join(join_all(all.iter().map(one)), stop).await;
        let mut answered = Vec::new();
        for (page, reply) in replies {
            let Some(reply) = reply else { continue };
            assert_eq!(reply.status, 200, "{mode}: {}", reply.text);
            answered.push(page);
        }
        assert!(!answered.is_empty(), "{mode}");
        if mode == Mode::Async {
            let app = start(&sandbox, mode).await;
            let there = async || {
                let stored = stored(&sandbox).await;
                answered.iter().all(|page| stored.contains_key(page))
            };
            eventually("what was answered is stored", there).await;
            app.stop().await;
        }
        let stored = stored(&sandbox).await;
        assert!(stored.values().all(|times| *times == 1), "{mode}");
        let lost: Vec<_> = answered.iter().filter(|page| !stored.contains_key(*page)).collect();
        assert!(lost.is_empty(), "{mode}: {} of {} lost", lost.len(), answered.len());
        sandbox.close().await;
    }
}

#[tokio::test]
async fn who_is_connected_when_the_service_stops_is_answered_until_the_end() {
    for mode in [Mode::Async, Mode::Sync] {
        let sandbox = Sandbox::new().await;
        let app = start(&sandbox, mode).await;
        let client = Client::clone(&app);
        let before = pages("before", 1);
        track_all(&client, &before).await;
        // One at a time, so that between them nothing waits.
        let one_by_one = async {
            let mut answered = Vec::new();
            for page in pages("late", 10_000) {
                let (page, reply) = track(&client, &[page]).await.remove(0);
                let Some(reply) = reply else { break };
                assert_eq!(reply.status, 200, "{mode}: {}", reply.text);
                answered.push(page);
            }
            answered
        };
        let (answered, ()) = join(one_by_one, app.stop()).await;
        assert!(!answered.is_empty(), "{mode}: its connection was open");
        let app = start(&sandbox, mode).await;
        assert_stored_once(&sandbox, &[before, answered].concat()).await;
        app.stop().await;
        sandbox.close().await;
    }
}

#[tokio::test]
async fn in_sync_mode_clicks_that_wait_together_share_statements_and_each_is_stored_when_answered() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, Mode::Sync).await;
    note_statements(&sandbox).await;
    let pages = pages(&sandbox.schema, 300);
    track_all(&app, &pages).await;
    assert_eq!(stored(&sandbox).await, once(&pages));
    let statements = statements(&sandbox).await;
    assert!(statements.len() < pages.len() / 2, "{statements:?}");
    app.stop().await;
    for page in pages.iter().step_by(10) {
        assert_eq!(effects_of(page), ["click stored"], "{page}");
    }
    sandbox.close().await;
}

#[tokio::test]
async fn in_sync_mode_a_click_that_the_database_refuses_does_not_cost_its_neighbours() {
    let sandbox = Sandbox::new().await;
    let app = start(&sandbox, Mode::Sync).await;
    note_statements(&sandbox).await;
    let neighbours = pages("p", 100);
    let mut all = neighbours.clone();
    all.insert(50, "/refused".into());
    for (page, reply) in track(&app, &all).await {
        let expected = if page == "/refused" { 500 } else { 200 };
        assert_eq!(reply.expect("an answer").status, expected, "{page}");
    }
    assert_eq!(stored(&sandbox).await, once(&neighbours));
    app.stop().await;
    sandbox.close().await;
}

/// One pack at a time: while its statement hangs all others wait. Not stopped in order, because the pools wait for
/// connections that hang.
#[tokio::test]
async fn in_sync_mode_a_database_that_falls_silent_keeps_nobody_waiting_for_ever() {
    let sandbox = Sandbox::new().await;
    let (silent, is_silent) = watch::channel(false);
    let url = format!("--database-url={}", way_to_database(sandbox.database_url(), is_silent).await);
    let app = sandbox.start(ABOUT, Mode::Sync, &[ON, &url], service(Mode::Sync)).await;
    track_all(&app, &pages("before", 10)).await;
    silent.send_replace(true);
    let begun = Instant::now();
    for (_, reply) in track(&app, &pages("p", 50)).await {
        reply.expect("an answer").assert_problem(503, None);
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
    silent.send_replace(false);
    eventually("it stores again", async || app.get("/ready").await.status == 200).await;
    track_all(&app, &pages("after", 10)).await;
    sandbox.close().await;
}

/// A way that can fall silent: what is open then stays open, and nothing comes through it any more.
async fn way_to_database(url: &str, silent: watch::Receiver<bool>) -> String {
    async fn forward(mut client: TcpStream, target: String, mut silent: watch::Receiver<bool>) {
        let mut server = TcpStream::connect(target).await.expect("the database");
        let silence = async { silent.wait_for(|silent| *silent).await.is_ok() };
        tokio::select! {
            biased;
            _ = silence => std::future::pending().await,
            copied = tokio::io::copy_bidirectional(&mut client, &mut server) => drop(copied),
        }
    }
    let target =
        url.rsplit_once('@').and_then(|(_, rest)| rest.split_once('/')).expect("an address").0.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    let url = url.replace(&target, &address);
    let accept = async move {
        loop {
            let (client, _) = listener.accept().await.expect("a connection");
            #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
            tokio::spawn(forward(client, target.clone(), silent.clone()));
        }
    };
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(accept);
    url
}

#[tokio::test]
async fn a_bad_click_is_refused_before_it_is_packed() {
    for mode in [Mode::Async, Mode::Sync] {
        let sandbox = Sandbox::new().await;
        let app = start(&sandbox, mode).await;
        let good = pages("p", 50);
        let bad = async || {
            for bad in [json!({"user_id": -1, "page": "/"}), json!({"user_id": 1, "page": "a\u{0}b"})] {
                app.post("/track_click", bad).await.assert_problem(422, None);
            }
        };
        join(track_all(&app, &good), bad()).await;
        assert_stored_once(&sandbox, &good).await;
        app.stop().await;
        sandbox.close().await;
    }
}
