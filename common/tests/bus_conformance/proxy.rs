//! A way to the broker that can turn into a black hole: packets vanish, and nobody is told that the connection is lost.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone)]
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    dark: watch::Sender<bool>,
}

impl Proxy {
    /// Listens on a free port and forwards to `target`.
    pub(crate) async fn to(target: String) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (dark, is_dark) = watch::channel(false);
        let accept = async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
                tokio::spawn(forward(client, target.clone(), is_dark.clone()));
            }
        };
        #[expect(clippy::disallowed_methods, reason = "ends with the test's runtime")]
        tokio::spawn(accept);
        Proxy { address, dark }
    }

    /// Nothing comes through any more, neither on connections that are open nor on new ones.
    pub(crate) fn go_dark(&self) {
        self.dark.send_replace(true);
    }

    /// New connections come through; what is in the hole stays there.
    pub(crate) fn let_new_ones_through(&self) {
        self.dark.send_replace(false);
    }
}

async fn forward(mut client: TcpStream, target: String, mut dark: watch::Receiver<bool>) {
    let mut server = TcpStream::connect(target).await.expect("the broker");
    let hole = async { dark.wait_for(|dark| *dark).await.is_ok() };
    tokio::select! {
        biased;
        _ = hole => std::future::pending().await,
        copied = tokio::io::copy_bidirectional(&mut client, &mut server) => drop(copied),
    }
}
