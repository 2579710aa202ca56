//! Where background work lives. A task started here is counted, stopped and awaited at shutdown, and one that ends
//! before it was told to ends the process: a service that lost its consumer must not look alive.

use std::future::Future;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The long-running tasks of a process.
#[derive(Default)]
pub struct Tasks {
    running: JoinSet<&'static str>,
}

impl Tasks {
    /// Starts `work`, which should run until it is stopped.
    pub fn start(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(async move {
            work.await;
            name
        });
    }

    /// Returns when one of them ends: with its name, or with how it panicked.
    pub async fn first_to_end(&mut self) -> String {
        match self.running.join_next().await {
            Some(Ok(name)) => format!("{name} ended"),
            Some(Err(panic)) => format!("a background task panicked: {panic}"),
            None => std::future::pending().await,
        }
    }

    /// Waits for all of them to end.
    pub async fn finish(&mut self) {
        while let Some(ended) = self.running.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "background task failed while stopping");
            }
        }
    }
}

/// Runs `work` every `period` until `stop`; a failure is logged and the next turn comes all the same.
pub async fn every<F, E>(
    period: std::time::Duration,
    name: &'static str,
    stop: CancellationToken,
    mut work: impl FnMut() -> F,
) where
    F: Future<Output = Result<(), E>>,
    E: std::fmt::Display,
{
    let mut turns = tokio::time::interval(period);
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = turns.tick() => {}
        }
        // Cut off at the end of the process: a turn may wait for a server that is away. The next process goes on.
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = work() => ended,
        };
        if let Err(error) = ended {
            tracing::warn!(%error, task = name, "periodic task failed; it will run again");
        }
    }
}

/// The message of a panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
