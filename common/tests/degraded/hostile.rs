//! Clients that mean harm, on plain sockets: heads and bodies that dribble in or never end, connections that only rest,
//! and what is no HTTP. Each is sent away, and meanwhile others are served.

use std::future::Future;
use std::time::Duration;

use common::testing::{DEADLINE, Sandbox, TestApp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::start_sync;

const DRIBBLE: Duration = Duration::from_millis(200);

async fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.base.replace("http://", "")).await.expect("it listens")
}

/// Everything until the service closes the connection, however it does.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(DEADLINE, stream.read_to_end(&mut answer));
    read.await.expect("the service closes the connection").ok();
    String::from_utf8_lossy(&answer).into_owned()
}

async fn ask(app: &TestApp, text: &str) -> String {
    let mut stream = connect(app).await;
    stream.write_all(text.as_bytes()).await.ok();
    rest(&mut stream).await
}

/// What `stream` answers before it is closed, while `piece` is sent again and again.
async fn dribble(stream: &mut TcpStream, piece: &[u8], pause: Duration) -> String {
    let (mut reader, mut writer) = stream.split();
    let mut answer = Vec::new();
    let send = async {
        while writer.write_all(piece).await.is_ok() {
            tokio::time::sleep(pause).await;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        read = tokio::time::timeout(DEADLINE, reader.read_to_end(&mut answer)) =>
        {
            // However it does.
            read.expect("the service closes the connection").ok();
        }
        () = send => {}
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Runs a test's `attack` and asks for `/health` all the while.
async fn under<F: Future>(app: &TestApp, attack: F) -> F::Output {
    let others = async {
        loop {
            assert_eq!(app.get("/health").await.status, 200);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        outcome = attack => outcome,
        () = others => unreachable!("it asks for ever"),
    }
}

#[tokio::test]
async fn heads_that_dribble_in_are_cut_off_and_others_served_meanwhile() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let slow = async |begin: &str, piece: &[u8]| {
        let mut stream = connect(&app).await;
        stream.write_all(begin.as_bytes()).await.expect("it listens");
        dribble(&mut stream, piece, DRIBBLE).await
    };
    let attack = async {
        let begin = "GET /health HTTP/1.1\r\nhost: x\r\nx-slow: ";
        tokio::join!(slow(begin, b"a"), slow("G", b"E"), slow(begin, b"a\r\nx: "), slow("POST /take HT", b""))
    };
    let answers = under(&app, attack).await;
    for answer in [answers.0, answers.1, answers.2, answers.3] {
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_body_that_dribbles_in_or_never_comes_is_given_up() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let slow = async |head: &str, piece: &[u8]| {
        let mut stream = connect(&app).await;
        stream.write_all(format!("POST /take HTTP/1.1\r\nhost: x\r\n{head}\r\n\r\n").as_bytes()).await.ok();
        dribble(&mut stream, piece, DRIBBLE).await
    };
    let attack = async {
        tokio::join!(
            slow("content-length: 60000", b" "),
            slow("transfer-encoding: chunked", b"1\r\n \r\n"),
            slow("content-length: 20", b""),
        )
    };
    let answers = under(&app, attack).await;
    for answer in [answers.0, answers.1, answers.2] {
        assert!(
            answer.starts_with("HTTP/1.1 408") && answer.contains("application/problem+json"),
            "{answer}"
        );
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_body_that_is_announced_or_turns_out_too_large_is_not_waited_for() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let head = |more: &str| format!("POST /take HTTP/1.1\r\nhost: x\r\n{more}\r\n\r\n");
    let announced = ask(&app, &head("content-length: 10000000000")).await;
    assert!(announced.starts_with("HTTP/1.1 413"), "{announced}");
    let expecting = ask(&app, &head("content-length: 10000000000\r\nexpect: 100-continue")).await;
    assert!(expecting.starts_with("HTTP/1.1 413"), "a 100 Continue is not sent: {expecting}");

    // One that never ends: the connection does.
    let mut stream = connect(&app).await;
    stream.write_all(head("transfer-encoding: chunked").as_bytes()).await.expect("it listens");
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    under(&app, dribble(&mut stream, chunk.as_bytes(), Duration::from_millis(1))).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_head_without_measure_is_refused() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    for head in [
        format!("x-large: {}\r\n", "x".repeat(1 << 20)),
        (0..1000).map(|n| format!("x-{n}: y\r\n")).collect(),
        format!("x-large: {}\r\n", "x".repeat(100_000)),
    ] {
        let answer = ask(&app, &format!("GET /health HTTP/1.1\r\nhost: x\r\n{head}\r\n")).await;
        // What it did not read may reset the connection before the answer is read.
        assert!(answer.starts_with("HTTP/1.1 431") || answer.is_empty() && head.len() > 32_768, "{answer}");
    }
    let answer = ask(&app, &format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(100_000))).await;
    assert!(!answer.contains(" 200 "), "{answer}");
    assert_eq!(app.get("/health").await.status, 200);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn connections_that_only_rest_are_closed_and_keep_nobody_out() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let mut idle = Vec::new();
    for n in 0..300 {
        let mut stream = connect(&app).await;
        if n % 2 == 0 {
            // Served once, and then kept for the next request, which never comes.
            stream.write_all(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it listens");
        }
        idle.push(stream);
    }
    let closed = async {
        for stream in &mut idle {
            rest(stream).await;
        }
    };
    under(&app, closed).await;
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_is_no_http_gets_400_also_behind_a_good_request() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let good = "GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    for garbage in [
        "\u{1}\u{2}\u{3} garbage\r\n\r\n",
        "GET /health HTTP/9.9\r\n\r\n",
        "GET /health\u{0} HTTP/1.1\r\n\r\n",
        "GET /health HTTP/1.1\r\nno colon\r\n\r\n",
        "POST /take HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}",
        "POST /take HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n{}",
        "POST /take HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip\r\n\r\n{}",
        "POST /take HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nnothing\r\n",
    ] {
        let alone = ask(&app, garbage).await;
        assert!(alone.starts_with("HTTP/1.1 400"), "{garbage:?}: {alone}");
        let behind = ask(&app, &format!("{good}{garbage}")).await;
        assert!(behind.starts_with("HTTP/1.1 200"), "{garbage:?}: {behind}");
        assert_eq!(behind.matches("HTTP/1.1 ").count(), 2, "{garbage:?}: {behind}");
        assert!(behind.contains("HTTP/1.1 400"), "{garbage:?}: {behind}");
    }
    app.stop().await;
    sandbox.close().await;
}
