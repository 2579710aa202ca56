//! Clients that ask for what is not there, send too much or too slowly, and a handler that fails them.

use std::sync::Arc;

use common::Mode;
use common::config::NoSettings;
use common::service::{Deps, Service};
use common::testing::{DEADLINE, Method, Sandbox, TestApp, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::{ABOUT, ready, routes, start_sync};

#[tokio::test]
async fn a_handler_that_panics_is_a_500_and_the_service_lives() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    ready(&app).await;
    for _ in 0..3 {
        let reply = app.get("/panic").await;
        reply.assert_problem(500, None);
        assert!(!reply.text.contains("on purpose"), "causes are not shown: {}", reply.text);
    }
    assert_eq!(app.get("/select").await.status, 200);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn unknown_paths_wrong_methods_and_large_bodies_are_problems() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    for path in ["/nothing", "/select/", "/%00", "/%ff", "//", "/../etc/passwd", "/select%2f"] {
        app.get(path).await.assert_problem(404, None);
    }
    for method in [Method::POST, Method::DELETE, Method::PATCH, Method::from_bytes(b"BREW").unwrap()] {
        app.request(method, "/select", &[], None).await.assert_problem(405, None);
    }
    let body = |size: usize| Some(format!("{{\"_text\":\"{}\"}}", "x".repeat(size - 12)));
    assert_eq!(app.request(Method::POST, "/take", &[], body(64 * 1024)).await.status, 200);
    app.request(Method::POST, "/take", &[], body(64 * 1024 + 1)).await.assert_problem(413, None);
    app.request(Method::POST, "/take", &[], body(5_000_000)).await.assert_problem(413, None);

    // One that does not say beforehand how long it is.
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let head = "POST /take HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";
    let answer = raw(&app, &format!("{head}{chunk}{chunk}{chunk}0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_head_is_cut_off() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let answer = raw(&app, "GET /health HTTP/1.1\r\nhost: x\r\nx-slow: ").await;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert_eq!(app.get("/health").await.status, 200);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_request_id_is_kept_if_it_can_be_and_made_if_not() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let id_for = async |sent: &str| {
        let reply = app.request(Method::GET, "/nothing", &[("x-request-id", sent)], None).await;
        reply.headers["x-request-id"].to_str().unwrap().to_owned()
    };
    for kept in ["a", "k6-1_2:3/4", &"x".repeat(128)] {
        assert_eq!(id_for(kept).await, kept);
    }
    for replaced in ["", "has blank", &"x".repeat(129)] {
        let made = id_for(replaced).await;
        assert!(made != replaced && made.len() == 36, "{made}");
    }
    app.stop().await;
    sandbox.close().await;
}

/// A service, where it listens, and the gate at which `/wait` waits there.
async fn start_gated(sandbox: &Sandbox) -> (TestApp, String, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(0));
    let build = |deps: Deps, NoSettings {}| Service::new(routes(&deps, None, Arc::clone(&gate)));
    let app = sandbox.start(ABOUT, Mode::Sync, &[], build).await;
    let address = app.base.replace("http://", "");
    (app, address, gate)
}

/// The client of a request that waits at the gate.
async fn begin(address: &str) -> TcpStream {
    let mut client = TcpStream::connect(address).await.expect("the service listens");
    client.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("the service reads");
    client
}

#[tokio::test]
async fn a_stop_answers_what_runs_and_takes_nothing_new() {
    let sandbox = Sandbox::new().await;
    let (app, address, gate) = start_gated(&sandbox).await;
    let in_progress = async || app.metric("http_requests_in_progress", &[r#"handler="/wait""#]).await == 1.0;
    let mut running = begin(&address).await;
    eventually("it runs", in_progress).await;

    let stopping = app.stop();
    let meanwhile = async {
        eventually("the listener is closed", async || TcpStream::connect(&address).await.is_err()).await;
        gate.add_permits(1);
        let mut answer = String::new();
        running.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("waited"), "{answer}");
    };
    tokio::join!(stopping, meanwhile);
    sandbox.close().await;
}

#[tokio::test]
async fn work_that_was_begun_ends_though_its_client_has_left() {
    let sandbox = Sandbox::new().await;
    let (app, address, gate) = start_gated(&sandbox).await;
    let in_progress = async || app.metric("http_requests_in_progress", &[r#"handler="/wait""#]).await;
    let counted =
        async || app.metric("http_requests_total", &[r#"handler="/wait""#, r#"status="499""#]).await;
    let begin_and_leave = async |before: f64| {
        let client = begin(&address).await;
        eventually("it runs", async || in_progress().await == 1.0).await;
        drop(client);
        eventually("the client's end is seen", async || counted().await == before + 1.0).await;
        assert_eq!(in_progress().await, 1.0, "the work goes on");
    };
    let before = counted().await;
    begin_and_leave(before).await;
    gate.add_permits(1);
    eventually("it has ended", async || in_progress().await == 0.0).await;
    assert_eq!(gate.available_permits(), 0, "the work was done");

    // A stop waits for it, too.
    begin_and_leave(before + 1.0).await;
    let meanwhile = async {
        eventually("the listener is closed", async || TcpStream::connect(&address).await.is_err()).await;
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        gate.add_permits(1);
    };
    tokio::join!(app.stop(), meanwhile);
    assert_eq!(gate.available_permits(), 0, "the work was cut off");
    sandbox.close().await;
}

/// The kernel connects clients before the service gets to know of them.
#[tokio::test]
async fn a_stop_answers_those_whom_the_service_has_not_met_yet() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let address = app.base.replace("http://", "");
    // Without a pause in which the service, on this same thread, could accept them.
    let connected = (0..20).map(|_| {
        let mut stream = std::net::TcpStream::connect(&address).unwrap();
        std::io::Write::write_all(&mut stream, b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
        stream.set_nonblocking(true).unwrap();
        TcpStream::from_std(stream).unwrap()
    });
    let connected: Vec<TcpStream> = connected.collect();
    let answered = futures_util::future::join_all(connected.into_iter().map(|mut stream| async move {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map(|_| answer.starts_with("HTTP/1.1 200"))
    }));
    let ((), answered) = tokio::join!(app.stop(), answered);
    assert_eq!(answered.iter().filter(|answer| matches!(answer, Ok(true))).count(), 20, "{answered:?}");
    sandbox.close().await;
}

/// Sends this and reads until the service closes the connection, however it does.
async fn raw(app: &TestApp, text: &str) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(app.base.replace("http://", "")).await.expect("it listens");
        stream.write_all(text.as_bytes()).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(DEADLINE, talk).await.expect("the service closes the connection")
}
