//! How a click reaches the broker or the database: directly, or in a batch with the clicks that wait at the same time
//! (`CLICK_PACKING=on`). A batch is one message in async mode and one statement in sync mode.

use common::ApiError;
use common::batcher::{Batcher, Limits, Worker, replicate};

use crate::Packing;

/// A batch at most. A consumer that is behind holds 400 batches in memory; with more bytes they would need over 64 MiB.
const LIMITS: Limits = Limits { items: 512, bytes: 48 * 1024 };

/// Where a request sends its click.
#[derive(Clone)]
pub(crate) enum ClickSink<D, T> {
    Direct(D),
    Batched(Batcher<T>),
}

impl<D, T> ClickSink<D, T> {
    /// The sink, and the worker of its batches if there are any.
    pub(crate) fn new(packing: Packing, direct: D, weigh: fn(&T) -> usize) -> (Self, Option<Worker<T>>) {
        match packing {
            Packing::Off => (ClickSink::Direct(direct), None),
            Packing::On => {
                let (batcher, worker) = Batcher::new(LIMITS, weigh);
                (ClickSink::Batched(batcher), Some(worker))
            }
        }
    }
}

#[cfg(any(feature = "async", feature = "stream"))]
pub(crate) mod publishing {
    use common::Context;
    use common::bus::{Bus, Message};
    use common::events::{self, BatchedClick, ClickTracked};

    use super::{ApiError, replicate};

    /// One message and one confirm for all clicks. A click alone is published as without batching.
    pub(crate) async fn publish(bus: Bus, batch: Vec<BatchedClick>) -> Vec<Result<(), ApiError>> {
        let published = match &batch[..] {
            [BatchedClick { context, click }] => context.clone().scope(bus.publish(click)).await,
            batch => publish_batch(&bus, batch).await,
        };
        replicate(&published, batch.len())
    }

    /// The message has a workflow of its own; the workflows of the clicks travel in its body.
    async fn publish_batch(bus: &Bus, batch: &[BatchedClick]) -> Result<(), ApiError> {
        let message = Message::with_body::<ClickTracked>(events::batch(batch)?, Context::fresh());
        bus.send(message).await.map_err(|error| ApiError::Unavailable(error.to_string().into()))
    }
}

#[cfg(feature = "sync")]
pub(crate) mod storing {
    use std::time::Duration;

    use common::events::ClickTracked;
    use common::{Db, db};

    use super::{ApiError, replicate};
    use crate::analytics;

    /// Longer than `statement_timeout`: the database does not answer at all, and other clicks may wait behind these.
    const TIMEOUT: Duration = Duration::from_secs(12);

    /// Stores these clicks in one statement.
    pub(crate) async fn store(db: &Db, clicks: &[&ClickTracked]) -> Result<(), sqlx::Error> {
        let mut connection = db.acquire().await?;
        let storing = async {
            match clicks {
                [click] => analytics::store_one(&mut connection, click).await,
                several => analytics::store(&mut connection, several).await.map(drop),
            }
        };
        tokio::time::timeout(TIMEOUT, storing).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    /// Stores a batch in one statement. If the database refuses its data, each click is stored alone, so that one click does not
    /// affect the others.
    pub(crate) async fn store_batch(db: Db, batch: Vec<ClickTracked>) -> Vec<Result<(), ApiError>> {
        let clicks: Vec<&ClickTracked> = batch.iter().collect();
        match store(&db, &clicks).await {
            Err(error) if db::refuses_data(&error) && batch.len() > 1 => store_each(&db, &clicks).await,
            stored => replicate(&stored.map_err(ApiError::from), batch.len()),
        }
    }

    async fn store_each(db: &Db, clicks: &[&ClickTracked]) -> Vec<Result<(), ApiError>> {
        let mut outcomes = Vec::with_capacity(clicks.len());
        for click in clicks {
            let stored = store(db, &[click]).await;
            let unavailable = stored.as_ref().is_err_and(db::is_outage);
            outcomes.push(stored.map_err(ApiError::from));
            if unavailable {
                let rest = clicks.len() - outcomes.len();
                outcomes.extend(replicate(&Err(sqlx::Error::PoolClosed.into()), rest));
                break;
            }
        }
        outcomes
    }
}
