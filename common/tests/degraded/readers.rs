//! Clients that ask for much and read little of it: a connection that is not read from is closed, and a stop does not wait
//! for it.

use std::time::Duration;

use common::testing::{DEADLINE, Sandbox, TestApp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use super::start_sync;

/// More than a megabyte, and the same in every service.
const LARGE: &str = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n";
/// Asked at once on one connection.
const PIPELINED: usize = 8;

/// A client whose kernel takes next to nothing for it.
async fn ask_for_much(app: &TestApp) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4096).expect("an option of the socket");
    let address = app.base.replace("http://", "").parse().expect("an address");
    let mut client = socket.connect(address).await.expect("it listens");
    client.write_all(LARGE.repeat(PIPELINED).as_bytes()).await.expect("it listens");
    client
}

/// Bytes that still come until the service closes the connection, however it does.
async fn rest(client: &mut TcpStream) -> usize {
    let mut bytes = 0;
    let mut buffer = vec![0; 1 << 16];
    let read = async {
        while let Ok(more @ 1..) = client.read(&mut buffer).await {
            bytes += more;
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("the service closes the connection");
    bytes
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answers_is_cut_off_after_30_s() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let whole = app.get("/docs/swagger-ui-bundle.js").await.text.len();
    let past_the_limit = tokio::time::sleep(Duration::from_secs(36));
    tokio::pin!(past_the_limit);

    let mut unread = Vec::new();
    for _ in 0..20 {
        unread.push(ask_for_much(&app).await);
    }
    let mut dribbling = ask_for_much(&app).await;
    // Takes enough to be served for as long as it lasts.
    let mut steady = ask_for_much(&app).await;
    let reading = async {
        let (mut bytes, mut buffer) = (0, vec![0; 1 << 14]);
        loop {
            dribbling.read_exact(&mut [0]).await.ok();
            bytes += steady.read(&mut buffer).await.expect("the answers go on");
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(app.get("/health").await.status, 200, "others are served meanwhile");
            assert!(bytes < PIPELINED * whole, "it is still being served when the others are cut off");
        }
    };
    tokio::select! {
        () = &mut past_the_limit => {}
        () = reading => {}
    }
    for client in unread.iter_mut().chain([&mut dribbling]) {
        let bytes = rest(client).await;
        assert!(bytes < whole, "{bytes} bytes came: the connection was not closed");
    }
    // In the middle of an answer, and served to the end now that it reads faster: keep-alive ends it.
    assert!(rest(&mut steady).await > whole);
    app.stop().await;
    sandbox.close().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_clients_that_do_not_take_their_answers() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let mut unread = Vec::new();
    for _ in 0..10 {
        let mut client = ask_for_much(&app).await;
        client.read_exact(&mut [0]).await.expect("it has begun to answer");
        unread.push(client);
    }
    tokio::time::timeout(DEADLINE, app.stop()).await.expect("the service ends");
    sandbox.close().await;
}

/// The first answer is larger than what the kernel holds: it is under way when the stop comes.
#[tokio::test]
async fn a_stop_waits_for_a_client_that_takes_its_answer() {
    let sandbox = Sandbox::new().await;
    let app = start_sync(&sandbox, &[]).await;
    let whole = app.get("/docs/swagger-ui-bundle.js").await.text.len();
    let mut client = ask_for_much(&app).await;
    client.read_exact(&mut [0]).await.expect("it has begun to answer");
    let (bytes, ()) = tokio::join!(rest(&mut client), app.stop());
    assert!(bytes >= whole, "{bytes} of {whole}");
    sandbox.close().await;
}
