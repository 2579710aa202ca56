//! The network between the processes: a TCP proxy with one listener for each link, on one thread.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener as StdListener};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::topology::Link;

/// What happens to the bytes of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Condition {
    #[default]
    Pass,
    /// Connections are closed, new ones too.
    Cut,
    /// Each read is forwarded after this time.
    Delay(Duration),
    /// Connections are accepted and stay open; what is sent waits.
    Blackhole,
}

#[derive(Clone, Copy, Default)]
struct State {
    condition: Condition,
    /// Number of resets of the open connections.
    resets: u64,
}

/// Ends with the process.
pub struct Proxy {
    ports: HashMap<Link, (u16, watch::Sender<State>)>,
}

impl Proxy {
    /// Listens for every link. Each link comes with the port of its target.
    pub fn start(links: &[(Link, u16)]) -> Result<Self> {
        let mut ports = HashMap::new();
        let mut served = Vec::new();
        for (link, target) in links {
            let listener = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no port for a link")?;
            listener.set_nonblocking(true)?;
            let (sender, state) = watch::channel(State::default());
            ports.insert(*link, (listener.local_addr()?.port(), sender));
            served.push((listener, SocketAddr::from((Ipv4Addr::LOCALHOST, *target)), state));
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::spawn(move || {
            runtime.block_on(async {
                let mut links = JoinSet::new();
                for (listener, target, state) in served {
                    links.spawn(serve(listener, target, state));
                }
                while let Some(ended) = links.join_next().await {
                    if let Ok(Err(error)) = ended {
                        eprintln!("study: a link has ended: {error}");
                    }
                }
            });
        });
        Ok(Self { ports })
    }

    /// The port of the listener.
    pub fn port(&self, link: Link) -> Option<u16> {
        self.ports.get(&link).map(|(port, _)| *port)
    }

    pub fn set(&self, link: Link, condition: Condition) {
        if let Some((_, state)) = self.ports.get(&link) {
            state.send_modify(|state| state.condition = condition);
        }
    }

    /// Resets the open connections; new ones pass.
    pub fn reset(&self, link: Link) {
        if let Some((_, state)) = self.ports.get(&link) {
            state.send_modify(|state| state.resets += 1);
        }
    }
}

async fn serve(listener: StdListener, target: SocketAddr, state: watch::Receiver<State>) -> io::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (client, _) = accepted?;
                connections.spawn(carry(client, target, state.clone()));
            }
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
        }
    }
}

/// Forwards one connection until it ends. An error of one side ends the other side with an error.
async fn carry(mut client: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    let resets = state.borrow().resets;
    flows(&mut state).await;
    if state.borrow().condition == Condition::Cut {
        client.set_zero_linger().ok();
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else {
        client.set_zero_linger().ok();
        return;
    };
    client.set_nodelay(true).and_then(|()| server.set_nodelay(true)).ok();
    let broken = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let there = pump(from_client, to_server, state.clone());
        let back = pump(from_server, to_client, state.clone());
        tokio::select! {
            ended = async { tokio::try_join!(there, back) } => ended.is_err(),
            reset = disturbed(&mut state, resets) => reset,
        }
    };
    if broken {
        client.set_zero_linger().and_then(|()| server.set_zero_linger()).ok();
    }
}

/// Returns when the link is cut (false: an orderly end) or reset (true).
async fn disturbed(state: &mut watch::Receiver<State>, resets: u64) -> bool {
    let seen = state.wait_for(|state| state.condition == Condition::Cut || state.resets > resets).await;
    // Without a sender this program ends.
    seen.is_ok_and(|state| state.resets > resets)
}

/// Returns at once, unless the link is a black hole.
async fn flows(state: &mut watch::Receiver<State>) {
    state.wait_for(|state| state.condition != Condition::Blackhole).await.ok();
}

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut state: watch::Receiver<State>,
) -> io::Result<()> {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        flows(&mut state).await;
        let condition = state.borrow().condition;
        if let Condition::Delay(delay) = condition {
            tokio::time::sleep(delay).await;
        }
        if length == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..length]).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::io::{ErrorKind, Read, Write};
    use std::net::TcpStream;
    use std::time::Instant;

    use super::*;

    const LINK: Link = Link { from: "a", to: "b" };

    /// A proxy before a server that sends back what it gets.
    fn echo() -> Proxy {
        let server = StdListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = server.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for mut client in server.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut buffer = [0; 1024];
                    while let Ok(length @ 1..) = client.read(&mut buffer) {
                        client.write_all(&buffer[..length]).unwrap();
                    }
                });
            }
        });
        Proxy::start(&[(LINK, port)]).unwrap()
    }

    fn connect(proxy: &Proxy) -> TcpStream {
        let client = TcpStream::connect((Ipv4Addr::LOCALHOST, proxy.port(LINK).unwrap())).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        client
    }

    fn asks(client: &mut TcpStream) -> io::Result<[u8; 4]> {
        client.write_all(b"ping")?;
        let mut answer = [0; 4];
        client.read_exact(&mut answer).map(|()| answer)
    }

    #[test]
    fn what_is_sent_arrives_and_after_a_cut_nothing_does_until_it_is_lifted() {
        let proxy = echo();
        let mut client = connect(&proxy);
        assert_eq!(asks(&mut client).unwrap(), *b"ping");
        proxy.set(LINK, Condition::Cut);
        assert!(asks(&mut client).is_err() && asks(&mut connect(&proxy)).is_err());
        proxy.set(LINK, Condition::Pass);
        assert_eq!(asks(&mut connect(&proxy)).unwrap(), *b"ping");
    }

    #[test]
    fn a_reset_is_seen_as_one_and_the_next_connection_passes() {
        let proxy = echo();
        let mut client = connect(&proxy);
        asks(&mut client).unwrap();
        proxy.reset(LINK);
        assert_eq!(client.read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::ConnectionReset);
        assert_eq!(asks(&mut connect(&proxy)).unwrap(), *b"ping");
    }

    #[test]
    fn a_black_hole_keeps_what_it_swallowed() {
        let proxy = echo();
        let mut client = connect(&proxy);
        asks(&mut client).unwrap();
        proxy.set(LINK, Condition::Blackhole);
        client.write_all(b"held").unwrap();
        client.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert_eq!(client.read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
        proxy.set(LINK, Condition::Pass);
        client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut answer = [0; 4];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"held");
    }

    #[test]
    fn a_delay_is_felt_each_way() {
        let proxy = echo();
        let mut client = connect(&proxy);
        asks(&mut client).unwrap();
        proxy.set(LINK, Condition::Delay(Duration::from_millis(100)));
        let began = Instant::now();
        asks(&mut client).unwrap();
        assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
    }
}
