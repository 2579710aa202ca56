//! A way to the broker that can turn into a black hole: packets vanish, and neither end learns that the connection is lost. Or it
//! delivers what is no AMQP.

use std::net::SocketAddr;

use common::Mode;
use common::config::NoSettings;
use common::testing::Sandbox;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone)]
pub(crate) struct Proxy {
    address: SocketAddr,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Open,
    Dark,
    Garbled,
}

impl Proxy {
    /// A proxy to the sandbox's broker, and the setting that leads through it.
    pub(crate) async fn to_broker(sandbox: &Sandbox) -> (Proxy, String) {
        let direct = sandbox.settings::<NoSettings>(Mode::Async, &[]).0.broker.amqp.amqp_url.expect("a URL");
        let (before, rest) = direct.split_once('@').expect("a login");
        let (target, vhost) = rest.split_once('/').expect("a virtual host");
        let proxy = Proxy::to(target.to_owned()).await;
        let url = format!("--amqp-url={before}@{}/{vhost}", proxy.address);
        (proxy, url)
    }

    /// Listens on a free port and forwards to `target`.
    async fn to(target: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (state, watched) = watch::channel(State::Open);
        let accept = async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
                tokio::spawn(forward(client, target.clone(), watched.clone()));
            }
        };
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(accept);
        Proxy { address, state }
    }

    /// Nothing comes through any more, neither on connections that are open nor on new ones.
    pub(crate) fn go_dark(&self) {
        self.state.send_replace(State::Dark);
    }

    /// What comes next from the broker ends with bytes that are no AMQP; the connections stay open.
    pub(crate) fn garble(&self) {
        self.state.send_replace(State::Garbled);
    }

    /// New connections come through; the others stay as they are.
    pub(crate) fn let_new_ones_through(&self) {
        self.state.send_replace(State::Open);
    }
}

async fn forward(mut client: TcpStream, target: String, mut state: watch::Receiver<State>) {
    let mut server = TcpStream::connect(target).await.expect("the broker");
    let broken = async { state.wait_for(|state| *state != State::Open).await.map(|state| *state) };
    tokio::select! {
        biased;
        broken = broken => {
            if broken.is_ok_and(|state| state == State::Garbled) {
                let mut bytes = vec![0; 64 * 1024];
                let read = server.read(&mut bytes).await.expect("the broker");
                // Together, so that the client reads both at once.
                let garbled = [&bytes[..read], b"no AMQP"].concat();
                client.write_all(&garbled).await.ok();
                // Until the client gives up; then the broker learns of it.
                tokio::io::copy(&mut client, &mut tokio::io::sink()).await.ok();
                return;
            }
            std::future::pending::<()>().await;
        }
        copied = tokio::io::copy_bidirectional(&mut client, &mut server) => drop(copied),
    }
}
