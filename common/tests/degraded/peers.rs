//! Peers that answer a call without end, or with something else than an answer: the call fails, and nothing waits longer for
//! it than its time limit.

use std::time::Duration;

use common::Mode;
use common::api::SendWelcomeEmail;
use common::client::{CallError, Http};
use common::config::NoSettings;
use common::service::{Deps, Service};
use common::testing::{DEADLINE, Peer, Sandbox, TestApp};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use utoipa_axum::router::OpenApiRouter;

use super::ABOUT;

/// A service whose peer is at `url`, and the client with which it calls.
async fn start(sandbox: &Sandbox, url: &str, timeout_ms: u32) -> (TestApp, Http) {
    let mut http = None;
    let build = |deps: Deps, NoSettings {}| {
        http = Some(deps.http);
        Service::new(OpenApiRouter::new())
    };
    let (url, timeout) = (format!("--email-service-url={url}"), format!("--call-timeout-ms={timeout_ms}"));
    let app = sandbox.start_unready(ABOUT, Mode::Sync, &[&url, &timeout], build).await;
    (app, http.expect("the service was built"))
}

/// A peer that reads a request, answers with `head`, and then with `piece` again and again; its URL.
async fn endless(head: &'static str, piece: String, pause: Duration) -> String {
    async fn answer(mut caller: TcpStream, head: &str, piece: &str, pause: Duration) -> std::io::Result<()> {
        caller.read_exact(&mut [0]).await?;
        caller.write_all(head.as_bytes()).await?;
        loop {
            caller.write_all(piece.as_bytes()).await?;
            tokio::time::sleep(pause).await;
        }
    }
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
    tokio::spawn(async move {
        while let Ok((caller, _)) = listener.accept().await {
            // Until the caller leaves.
            answer(caller, head, &piece, pause).await.ok();
        }
    });
    url
}

async fn call(http: &Http) -> CallError {
    let request = SendWelcomeEmail { email: "a@example.org".into(), user_id: 1 };
    let reply = tokio::time::timeout(DEADLINE, http.call(&request)).await.expect("the call ends");
    reply.expect_err("there is no answer")
}

#[tokio::test]
async fn a_reply_that_dribbles_in_is_given_up_when_the_call_has_lasted_too_long() {
    let sandbox = Sandbox::new().await;
    let often = Duration::from_millis(20);
    for (head, piece) in [
        ("HTTP/1.1 200 OK\r\n", "x-more: 1\r\n"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n", " "),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\n \r\n"),
        ("HTTP/1.1 409 Conflict\r\ntransfer-encoding: chunked\r\n\r\n", "1\r\n \r\n"),
        ("", "HTTP/1.1 102 Processing\r\n\r\n"),
    ] {
        let url = endless(head, piece.into(), often).await;
        let (app, http) = start(&sandbox, &url, 500).await;
        match call(&http).await {
            CallError::Timeout { .. } => {}
            // The refusal itself has come.
            CallError::Refused { status, .. } => assert_eq!(status.as_u16(), 409),
            // A head of a hundred lines is too large, should they come sooner.
            CallError::Failed { cause, .. } => assert!(head.ends_with("OK\r\n"), "{head:?}: {cause}"),
        }
        app.stop().await;
    }
    sandbox.close().await;
}

#[tokio::test]
async fn a_reply_without_end_does_not_fill_the_memory() {
    let sandbox = Sandbox::new().await;
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let url = endless(head, chunk, Duration::from_millis(5)).await;
    let (app, http) = start(&sandbox, &url, 60_000).await;
    let error = call(&http).await;
    assert!(matches!(&error, CallError::Failed { cause, .. } if cause.contains("64 KB")), "{error}");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_reply_that_sends_the_call_elsewhere_is_a_failure() {
    let sandbox = Sandbox::new().await;
    let elsewhere = Peer::start(async |_, _| (200, json!({"status": "ok"}))).await;
    let head: &'static str =
        format!("HTTP/1.1 302 Found\r\nlocation: {}/\r\ncontent-length: 0\r\n\r\n", elsewhere.url).leak();
    let url = endless(head, String::new(), Duration::from_secs(1)).await;
    let (app, http) = start(&sandbox, &url, 5_000).await;
    let error = call(&http).await;
    assert!(matches!(&error, CallError::Failed { cause, .. } if cause.contains("302")), "{error}");
    assert!(elsewhere.calls().is_empty());
    app.stop().await;
    sandbox.close().await;
}
