//! The load against a server that drops every fifth request without an answer.

use std::collections::{HashMap, HashSet};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::*;
use crate::checker::history::{FinalOutcome, History};

/// Key and body of each request that carried a key, in the order in which they came.
type Seen = Arc<Mutex<Vec<(String, String)>>>;

fn server() -> (String, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    std::thread::spawn(move || {
        for (n, stream) in (1_u64..).zip(listener.incoming()) {
            answer(stream.unwrap(), n, &noted);
        }
    });
    (url, seen)
}

fn answer(mut stream: TcpStream, n: u64, seen: &Seen) {
    let (mut request, mut part) = (String::new(), [0; 4096]);
    let body = loop {
        let read = stream.read(&mut part).unwrap();
        request += &String::from_utf8_lossy(&part[..read]);
        if let Some((_, body)) = request.split_once("\r\n\r\n").filter(|(_, body)| body.ends_with('}')) {
            break body.to_owned();
        }
    };
    if let Some((_, rest)) = request.split_once("idempotency-key: ") {
        let key = rest.lines().next().unwrap_or_default().to_owned();
        seen.lock().unwrap().push((key, body));
    }
    // What prepares the load is answered, so that it begins.
    if n.is_multiple_of(5) && n > 20 {
        return;
    }
    let body = format!("{{\"id\": {n}}}");
    let head = format!("HTTP/1.1 201 Created\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all((head + &body).as_bytes()).unwrap();
}

#[test]
fn what_was_not_answered_is_asked_again_with_its_key_and_body_until_it_is_and_a_click_is_not() {
    let (url, seen) = server();
    let urls: HashMap<&'static str, String> =
        Service::ALL.iter().map(|service| (service.name(), url.clone())).collect();
    let path = std::env::temp_dir().join(format!("faults-operations-{}", std::process::id()));
    let load = Load::start(Targets { mode: Mode::Sync, urls }, 7, 200.0, &path).unwrap();
    load.note_fault("none");
    let deadline = Instant::now() + Duration::from_secs(30);
    while load.progress().unknown < 20 && Instant::now() < deadline {
        signals::rest(Duration::from_millis(20));
    }
    let progress = load.finish().unwrap();
    let history = History::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();

    assert!(progress.unknown >= 20 && progress.open == 0, "{progress:?}");
    assert_eq!(progress.offered, history.records.len() as u64);
    let keyed = history.records.values().filter(|record| record.operation.repeatable());
    assert!(keyed.clone().all(|record| matches!(record.outcome, FinalOutcome::Accepted(_))));
    assert!(keyed.clone().any(|record| record.unknown && record.attempts > 1));
    assert!(history.of(Kind::Click).all(|record| record.attempts == 1));
    assert!(history.of(Kind::Click).any(|record| record.outcome == FinalOutcome::Unknown));

    let seen = seen.lock().unwrap();
    let (keys, pairs): (HashSet<_>, HashSet<_>) =
        (seen.iter().map(|(key, _)| key).collect(), seen.iter().collect());
    let reused = pairs.iter().filter(|(key, _)| key == plan::KNOWN_KEY).count() - 1;
    assert_eq!(keys.len(), pairs.len() - reused, "a key came with two bodies");
    assert!(seen.len() > keys.len());
}
