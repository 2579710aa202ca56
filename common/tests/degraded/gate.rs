//! A server's address that can be taken away and given back: what connects there is passed on while the gate is open, and
//! refused while it is shut.

use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;

pub(crate) struct Gate {
    address: SocketAddr,
    target: String,
    /// Holds the port while it has no listener.
    held: Option<TcpSocket>,
    serving: JoinSet<()>,
}

impl Gate {
    /// A gate to the server of this URL, shut; and the URL that leads through it.
    pub(crate) fn to(url: &str) -> (Gate, String) {
        let authority = url.split("://").nth(1).and_then(|rest| rest.split('/').next()).expect("a URL");
        let target = authority.rsplit('@').next().expect("a host").to_owned();
        let socket = bound("127.0.0.1:0".parse().expect("an address"));
        let address = socket.local_addr().expect("an address");
        let through = url.replace(&target, &address.to_string());
        (Gate { address, target, held: Some(socket), serving: JoinSet::new() }, through)
    }

    pub(crate) fn open(&mut self) {
        let socket = self.held.take().unwrap_or_else(|| bound(self.address));
        let listener = socket.listen(64).expect("the port is ours");
        self.serving.spawn(pass_on(listener, self.target.clone()));
    }

    /// Cuts every connection.
    pub(crate) async fn shut(&mut self) {
        self.serving.shutdown().await;
    }
}

fn bound(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_reuseaddr(true).expect("an option of the socket");
    socket.bind(address).expect("a free port");
    socket
}

async fn pass_on(listener: TcpListener, target: String) {
    let mut connections = JoinSet::new();
    while let Ok((mut inside, _)) = listener.accept().await {
        let target = target.clone();
        connections.spawn(async move {
            if let Ok(mut outside) = TcpStream::connect(target).await {
                // However it ends, both ends are closed.
                tokio::io::copy_bidirectional(&mut inside, &mut outside).await.ok();
            }
        });
    }
}
