//! Requests at the edges of HTTP/1.1 (RFC 9110, RFC 9112), on plain sockets.

use common::testing::{DEADLINE, Method, Sandbox, TestApp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::start_sync;

/// Sends this and reads until the service closes the connection.
async fn ask(app: &TestApp, text: impl AsRef<[u8]>) -> String {
    let talk = async {
        let mut stream = TcpStream::connect(app.base.replace("http://", "")).await.expect("it listens");
        stream.write_all(text.as_ref()).await.ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.ok();
        String::from_utf8_lossy(&answer).into_owned()
    };
    tokio::time::timeout(DEADLINE, talk).await.expect("the service closes the connection")
}

fn assert_answered(answer: &str, status: u16, request: &str) {
    assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:?}: {answer}");
    let is_problem = answer.contains("content-type: application/problem+json");
    assert_eq!(is_problem, status >= 400 && !request.starts_with("HEAD"), "{request:?}: {answer}");
}

#[tokio::test]
async fn a_request_has_one_valid_host() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    for (version, hosts, status) in [
        ("1.1", &["x"][..], 200),
        ("1.1", &[""], 200),
        ("1.1", &["my_host:8000"], 200),
        ("1.1", &["[::1]:8000"], 200),
        ("1.0", &[], 200),
        ("1.0", &["x"], 200),
        ("1.1", &[], 400),
        ("1.1", &["x", "y"], 400),
        ("1.1", &["x", "x"], 400),
        ("1.0", &["x", "y"], 400),
        ("1.1", &["x y"], 400),
        ("1.1", &["x/y"], 400),
        ("1.1", &["me@x"], 400),
        ("1.1", &["x, y"], 400),
        ("1.1", &["bücher"], 400),
    ] {
        for target in ["/health", "http://elsewhere/health"] {
            let hosts: String = hosts.iter().map(|host| format!("host: {host}\r\n")).collect();
            let request = format!("GET {target} HTTP/{version}\r\n{hosts}connection: close\r\n\r\n");
            let answer = ask(&app, &request).await.replacen("HTTP/1.0", "HTTP/1.1", 1);
            assert_answered(&answer, status, &request);
        }
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn what_http_allows_is_answered_as_it_says() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    for (request, status, shows) in [
        ("HEAD /health", 200, "content-length: "),
        ("HEAD /nothing", 404, ""),
        ("HEAD /take", 405, "allow: POST"),
        ("OPTIONS /health", 405, "allow: GET,HEAD"),
        ("OPTIONS *", 404, ""),
        ("CONNECT example.org:443", 404, ""),
        ("GET http://other.example/health", 200, "\"status\":\"ok\""),
        ("GET https://other.example:1/nothing", 404, ""),
    ] {
        let answer = ask(&app, format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {answer}");
        assert!(answer.contains(shows), "{request}: {answer}");
        assert_eq!(answer.ends_with("\r\n\r\n"), request.starts_with("HEAD"), "{request}: {answer}");
    }
    let head = "POST /take HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\nconnection: close\r\n\r\n";
    let answer = ask(&app, format!("{head}{{}}")).await;
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 "), "{answer}");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_compressed_body_is_415_and_the_answer_says_what_is_taken() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let send = async |codings: &[&str]| {
        let headers: Vec<(&str, &str)> = codings.iter().map(|coding| ("content-encoding", *coding)).collect();
        app.request(Method::POST, "/take", &headers, Some("{}".into())).await
    };
    for codings in
        [&["gzip"][..], &["GZIP"], &["br"], &["identity, gzip"], &["identity", "gzip"], &["nonsense"], &[""]]
    {
        let reply = send(codings).await;
        reply.assert_problem(415, None);
        assert_eq!(reply.headers["accept-encoding"], "identity", "{codings:?}");
    }
    for codings in [&["identity"][..], &["Identity"], &[]] {
        assert_eq!(send(codings).await.status, 200, "{codings:?}");
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_body_that_is_not_utf_8_is_malformed() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    for body in [&b"{\"_text\":\"\xe9\"}"[..], b"{\"unknown\":\"\xff\"}", b"\xff\xfe{\0}\0"] {
        let mut request = format!(
            "POST /take HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend(body);
        assert_answered(&ask(&app, request).await, 400, "POST");
    }
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn an_id_or_a_time_that_is_given_twice_is_replaced() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let twice = [("x-request-id", "a"), ("x-request-id", "b")];
    let reply = app.request(Method::GET, "/nothing", &twice, None).await;
    let id = reply.headers["x-request-id"].to_str().unwrap();
    assert!(id.len() == 36, "{id}");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn the_api_document_says_which_errors_have_no_body() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let document = app.get("/openapi.json").await.body;
    let description = document["info"]["description"].as_str().unwrap();
    assert!(description.contains("431") && description.contains("no body"), "{description}");
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_connection_whose_client_has_ended_its_side_is_closed() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let half_a_body = "POST /take HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{";
    for text in ["", "GET /hea", half_a_body] {
        let mut stream = TcpStream::connect(app.base.replace("http://", "")).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let closed = stream.read_to_end(&mut answer);
        tokio::time::timeout(DEADLINE, closed).await.expect("the service closes the connection").ok();
    }
    app.stop().await;
    sandbox.close().await;
}
