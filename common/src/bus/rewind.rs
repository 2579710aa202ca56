//! How a consumer goes back to the first event of its destination: to apply all of them again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::try_join_all;
use tokio::sync::{mpsc, oneshot};

use crate::ApiError;

/// For all consumers to go back.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Where a consumer answers that it has gone back.
pub(crate) type Rewound = oneshot::Sender<Result<(), String>>;

/// Moves the consumers that have it back to their first event. The clones are one. Only logs keep their events.
#[derive(Clone, Default)]
pub struct Rewind {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    consumers: usize,
    /// Those that are connected.
    connected: Vec<mpsc::UnboundedSender<Rewound>>,
}

impl Rewind {
    fn with<T>(&self, work: impl FnOnce(&mut Shared) -> T) -> T {
        work(&mut self.shared.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// One more consumer has it.
    pub(super) fn expect(&self) {
        self.with(|shared| shared.consumers += 1);
    }

    /// A consumer is connected until it drops the receiver.
    #[cfg(feature = "kafka")]
    pub(super) fn connect(&self) -> mpsc::UnboundedReceiver<Rewound> {
        let (sender, requests) = mpsc::unbounded_channel();
        self.with(|shared| shared.connected.push(sender));
        requests
    }

    /// Returns when every consumer has gone back durably: its next event is the first one, also after a restart. Events that
    /// handlers have meanwhile come again, too.
    ///
    /// # Errors
    /// [`ApiError::Unavailable`] when a consumer is not connected, or loses its connection. Some may have gone back then.
    pub async fn all(&self) -> Result<(), ApiError> {
        let unavailable = |why: String| ApiError::Unavailable(format!("no replay: {why}").into());
        let requests = self.with(|shared| {
            shared.connected.retain(|consumer| !consumer.is_closed());
            (shared.connected.len() == shared.consumers).then(|| shared.connected.clone())
        });
        let Some(requests) = requests else {
            return Err(unavailable("the consumers are not connected".into()));
        };
        let rewinding = requests.into_iter().map(|consumer| async move {
            let (rewound, answer) = oneshot::channel();
            drop(consumer.send(rewound));
            answer.await.unwrap_or_else(|_| Err("a consumer lost its connection".into()))
        });
        match tokio::time::timeout(TIMEOUT, try_join_all(rewinding)).await {
            Ok(rewound) => rewound.map(|_| ()).map_err(unavailable),
            Err(_) => Err(unavailable("the broker does not answer in time".into())),
        }
    }
}
