//! Polls health and memory of every service during the faults, and measures how long the affected services are not ready.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use stack::{http, signals, state};

const EVERY: Duration = Duration::from_millis(500);
/// A health check must be answered by then.
const LIMIT: Duration = Duration::from_secs(2);
/// After a start or a pause, a process is not checked for this long.
const START: Duration = Duration::from_secs(3);
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// Health and memory of the ten services.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Probes {
    /// Health checks of services that were expected to answer.
    pub health_checks: u64,
    /// Those not answered with 200 within 2 seconds: when, which service, why.
    pub missed: Vec<String>,
    /// Largest resident memory of each service, in KiB.
    pub max_rss: BTreeMap<String, u64>,
}

/// One thread per service, so that a hanging service does not delay the others.
pub struct Prober {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    began: Instant,
    stop: AtomicBool,
    /// Since when a service is expected to answer, and its pid.
    meant: Mutex<BTreeMap<String, (Instant, u32)>>,
    seen: Mutex<Probes>,
}

impl Prober {
    /// Takes the name and the URL of each service. Call [`Prober::up`] for those that run.
    pub fn start(services: impl IntoIterator<Item = (&'static str, String)>, began: Instant) -> Self {
        let shared = Arc::new(Shared {
            began,
            stop: AtomicBool::new(false),
            meant: Mutex::default(),
            seen: Mutex::default(),
        });
        let threads = services.into_iter().map(|(name, url)| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.probe(name, &url))
        });
        Self { threads: threads.collect(), shared: Arc::clone(&shared) }
    }

    /// From now on this service is expected to answer.
    pub fn up(&self, service: &str, pid: u32) {
        held(&self.shared.meant).insert(service.to_owned(), (Instant::now(), pid));
    }

    /// This service is about to be stopped or paused.
    pub fn down(&self, service: &str) {
        held(&self.shared.meant).remove(service);
    }

    pub fn finish(mut self) -> Result<Probes> {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok().context("a probe panicked")?;
        }
        Ok(std::mem::take(&mut held(&self.shared.seen)))
    }
}

/// After an error the threads end soon.
impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn probe(&self, name: &'static str, url: &str) {
        let agent = http::agent(LIMIT);
        while !self.stop.load(Ordering::Relaxed) {
            let before = held(&self.meant).get(name).copied();
            if let Some((since, pid)) = before {
                self.remember(name, pid);
                if since.elapsed() > START {
                    let answer = http::get_once(&agent, &format!("{url}/health"));
                    // A service that was stopped or paused meanwhile need not answer.
                    if held(&self.meant).get(name).copied() == before {
                        self.judge(name, answer);
                    }
                }
            }
            signals::rest(EVERY);
        }
    }

    fn remember(&self, name: &str, pid: u32) {
        let Some(mib) = state::resident(pid) else { return };
        let kib = (mib * 1024.0) as u64;
        let mut seen = held(&self.seen);
        let most = seen.max_rss.entry(name.to_owned()).or_default();
        *most = kib.max(*most);
    }

    fn judge(&self, name: &str, answer: Result<(u16, String)>) {
        let mut seen = held(&self.seen);
        seen.health_checks += 1;
        let why = match answer {
            Ok((200, _)) => return,
            Ok((status, _)) => format!("answered {status}"),
            Err(error) => format!("{error:#}"),
        };
        seen.missed.push(format!("{:.1} s: {name}: {why}", self.began.elapsed().as_secs_f64()));
    }
}

/// Polls whether the affected services are ready, from the beginning of a fault until they are ready again.
pub struct Watch {
    shared: Arc<Readiness>,
}

#[derive(Default)]
struct Readiness {
    stop: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// The first and the last time at which a service was not ready.
    away: Option<(Instant, Instant)>,
    /// When the last poll began in which all were ready.
    ready: Option<Instant>,
}

impl Watch {
    pub fn start(urls: Vec<String>) -> Self {
        let shared = Arc::new(Readiness::default());
        let watched = Arc::clone(&shared);
        std::thread::spawn(move || watched.watch(&urls));
        Self { shared }
    }

    /// Whether all were ready in the last poll, and it began after `since`.
    pub fn ready_since(&self, since: Instant) -> bool {
        held(&self.shared.seen).ready.is_some_and(|asked| asked > since)
    }

    /// Seconds from the first to the last time at which a service was not ready.
    pub fn unavailable_seconds(&self) -> f64 {
        let away = held(&self.shared.seen).away;
        away.map_or(0.0, |(first, last)| (last + WATCH_EVERY - first).as_secs_f64())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Readiness {
    fn watch(&self, urls: &[String]) {
        let agent = http::agent(Duration::from_secs(1));
        while !self.stop.load(Ordering::Relaxed) {
            let asked = Instant::now();
            let ready =
                |url: &String| matches!(http::get_once(&agent, &format!("{url}/ready")), Ok((200, _)));
            let all = urls.iter().all(ready);
            let mut seen = held(&self.seen);
            match (all, &mut seen.away) {
                (true, _) => seen.ready = Some(asked),
                (false, Some((_, last))) => *last = asked,
                (false, away) => *away = Some((asked, asked)),
            }
            drop(seen);
            signals::rest(WATCH_EVERY);
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    fn eventually(condition: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !condition() {
            assert!(Instant::now() < deadline, "not within 30 s");
            signals::rest(Duration::from_millis(20));
        }
    }

    /// A service that answers `status` to every request.
    fn answering(status: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                assert!(client.read(&mut [0; 1024]).unwrap() > 0);
                let head = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                client.write_all(head.as_bytes()).unwrap();
            }
        });
        url
    }

    #[test]
    fn only_a_service_that_is_meant_to_answer_can_miss_a_question() {
        let services =
            [("good", answering("200 OK")), ("bad", answering("500 Oh")), ("held", answering("500 Oh"))];
        let prober = Prober::start(services, Instant::now());
        let long_ago = Instant::now() - START * 2;
        for name in ["good", "bad"] {
            held(&prober.shared.meant).insert(name.to_owned(), (long_ago, std::process::id()));
        }
        eventually(|| held(&prober.shared.seen).health_checks >= 4);
        let probes = prober.finish().unwrap();
        assert!(!probes.missed.is_empty());
        assert!(probes.missed.iter().all(|missed| missed.contains("bad: answered 500")), "{probes:?}");
        assert!(probes.max_rss["good"] > 100 && !probes.max_rss.contains_key("held"), "{probes:?}");
    }

    #[test]
    fn all_that_a_fault_aims_at_must_be_ready() {
        let began = Instant::now();
        let watch = Watch::start(vec![answering("200 OK"), answering("503 Away")]);
        let ready = Watch::start(vec![answering("200 OK")]);
        eventually(|| watch.unavailable_seconds() >= 0.2 && ready.ready_since(began));
        assert!(!watch.ready_since(began));
        assert_eq!(ready.unavailable_seconds(), 0.0);
    }
}
