//! A way to the broker that can turn into a black hole: packets vanish, and neither end learns that the connection is lost. Or it
//! delivers what is not the broker's protocol, or closes connections.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    state: watch::Sender<State>,
    target: watch::Sender<String>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Dark,
    Garbled,
    Cut,
}

impl Proxy {
    /// Listens on a free port. Connections are forwarded after [`Proxy::lead_to`].
    pub(crate) async fn new() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (state, watched) = watch::channel(State::Open);
        let (target, mut known) = watch::channel(String::new());
        let accept = async move {
            let target = known.wait_for(|target| !target.is_empty()).await.expect("a target").clone();
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
                tokio::spawn(forward(client, target.clone(), watched.clone()));
            }
        };
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(accept);
        Proxy { address, state, target }
    }

    pub(crate) fn lead_to(&self, target: String) {
        self.target.send_replace(target);
    }

    /// Closes every connection, to both ends.
    pub(crate) async fn cut(&self) {
        self.state.send_replace(State::Cut);
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.state.send_replace(State::Open);
    }

    /// Nothing comes through any more, neither on connections that are open nor on new ones.
    pub(crate) fn go_dark(&self) {
        self.state.send_replace(State::Dark);
    }

    /// What comes next from the broker ends with bytes that no client understands; the connections stay open.
    pub(crate) fn garble(&self) {
        self.state.send_replace(State::Garbled);
    }

    /// New connections come through; the others stay as they are.
    pub(crate) fn let_new_ones_through(&self) {
        self.state.send_replace(State::Open);
    }
}

async fn forward(mut client: TcpStream, target: String, mut state: watch::Receiver<State>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let broken = async { state.wait_for(|state| *state != State::Open).await.map(|state| *state) };
    tokio::select! {
        biased;
        broken = broken => {
            let broken = broken.expect("the proxy is there");
            if broken == State::Garbled {
                let mut bytes = vec![0; 64 * 1024];
                let read = server.read(&mut bytes).await.expect("the broker");
                // Together, so that the client reads both at once.
                let garbled = [&bytes[..read], b"nonsense"].concat();
                client.write_all(&garbled).await.ok();
                // Until the client gives up; then the broker learns of it.
                tokio::io::copy(&mut client, &mut tokio::io::sink()).await.ok();
                return;
            }
            if broken == State::Dark {
                std::future::pending::<()>().await;
            }
        }
        copied = tokio::io::copy_bidirectional(&mut client, &mut server) => drop(copied),
    }
}
