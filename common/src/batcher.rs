//! A micro-batcher: each request submits an item and awaits its result; one worker handles everything that is queued as one
//! batch, while the next batch gathers. An item never waits for others: a lone item is handled at once.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::ApiError;

/// The limits of one batch.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub items: usize,
    /// The limit of the sum of the items' weights. An item that is heavier is handled alone.
    pub bytes: usize,
}

/// Takes the items of requests. Cheap to clone.
pub struct Batcher<T> {
    waiting: mpsc::Sender<Waiting<T>>,
}

impl<T> Clone for Batcher<T> {
    fn clone(&self) -> Batcher<T> {
        Batcher { waiting: self.waiting.clone() }
    }
}

/// An item and where its result goes.
struct Waiting<T> {
    item: T,
    outcome: oneshot::Sender<Result<(), ApiError>>,
}

impl<T> Batcher<T> {
    /// A batcher and its worker. Twice as many items are queued as a batch holds; then requests wait to submit.
    pub fn new(limits: Limits, weigh: fn(&T) -> usize) -> (Batcher<T>, Worker<T>) {
        let (sender, waiting) = mpsc::channel(2 * limits.items);
        (Batcher { waiting: sender }, Worker { waiting, limits, weigh })
    }

    /// Submits an item and awaits its result.
    ///
    /// # Errors
    /// The handler's error for this item; 503 when the worker has ended.
    pub async fn send(&self, item: T) -> Result<(), ApiError> {
        let (outcome, settled) = oneshot::channel();
        self.waiting.send(Waiting { item, outcome }).await.map_err(|_| stopping())?;
        settled.await.map_err(|_| stopping())?
    }
}

fn stopping() -> ApiError {
    ApiError::Unavailable("the service is stopping".into())
}

/// Handles what is queued, one batch after the other.
pub struct Worker<T> {
    waiting: mpsc::Receiver<Waiting<T>>,
    limits: Limits,
    weigh: fn(&T) -> usize,
}

impl<T> Worker<T> {
    /// Runs until `stop`, then handles what was submitted before. `handle` returns one result an item, in order. It must have a
    /// time limit, because all requests wait for it.
    pub async fn run<F>(mut self, stop: CancellationToken, mut handle: impl FnMut(Vec<T>) -> F)
    where
        F: Future<Output = Vec<Result<(), ApiError>>>,
    {
        let mut too_much = None;
        while let Some(first) = self.first(too_much.take(), &stop).await {
            // One cycle of the runtime, so that requests that can run now join the batch.
            tokio::task::yield_now().await;
            let mut bytes = (self.weigh)(&first.item);
            let (mut batch, mut outcomes) = (vec![first.item], vec![first.outcome]);
            while batch.len() < self.limits.items {
                let Ok(next) = self.waiting.try_recv() else { break };
                bytes += (self.weigh)(&next.item);
                if bytes > self.limits.bytes {
                    too_much = Some(next);
                    break;
                }
                batch.push(next.item);
                outcomes.push(next.outcome);
            }
            for (waiting, outcome) in outcomes.into_iter().zip(handle(batch).await) {
                // The request may have timed out.
                waiting.send(outcome).ok();
            }
        }
    }

    /// The first item of the next batch; `None` when there will be no more.
    async fn first(&mut self, too_much: Option<Waiting<T>>, stop: &CancellationToken) -> Option<Waiting<T>> {
        if too_much.is_some() {
            return too_much;
        }
        tokio::select! {
            // Items that are queued come before the stop.
            biased;
            next = self.waiting.recv() => next,
            () = stop.cancelled() => None,
        }
    }
}

/// The same result for each item of a batch.
pub fn replicate(outcome: &Result<(), ApiError>, items: usize) -> Vec<Result<(), ApiError>> {
    let clone = || match outcome {
        Ok(()) => Ok(()),
        Err(ApiError::Unavailable(why)) => Err(ApiError::Unavailable(why.clone())),
        Err(ApiError::Internal(cause)) => Err(ApiError::Internal(anyhow::anyhow!("{cause:#}"))),
        Err(error) => Err(ApiError::Internal(anyhow::anyhow!("{error}"))),
    };
    std::iter::repeat_with(clone).take(items).collect()
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::{Arc, Mutex};

    use futures_util::FutureExt;
    use futures_util::future::{join, join_all};
    use tokio::sync::Semaphore;

    use super::*;

    const LIMITS: Limits = Limits { items: 4, bytes: 100 };

    /// Notes the batches, and lets one go for each permit of the gate.
    #[derive(Clone)]
    struct Handler {
        batches: Arc<Mutex<Vec<Vec<usize>>>>,
        gate: Arc<Semaphore>,
    }

    impl Handler {
        fn with_permits(permits: usize) -> Handler {
            Handler { batches: Arc::default(), gate: Arc::new(Semaphore::new(permits)) }
        }

        fn batches(&self) -> Vec<Vec<usize>> {
            self.batches.lock().unwrap().clone()
        }

        /// Serves while `requests` last. An item is its own weight; those that end in 7 are refused.
        async fn serve<R>(
            &self,
            limits: Limits,
            requests: impl AsyncFnOnce(Batcher<usize>, CancellationToken) -> R,
        ) -> R {
            let (batcher, worker) = Batcher::new(limits, |item| *item);
            let stop = CancellationToken::new();
            let work = worker.run(stop.clone(), |batch: Vec<usize>| async move {
                self.batches.lock().unwrap().push(batch.clone());
                self.gate.acquire().await.unwrap().forget();
                let refuse = |item: &usize| match item % 10 {
                    7 => Err(ApiError::NotFound("refused".into())),
                    _ => Ok(()),
                };
                batch.iter().map(refuse).collect()
            });
            // The worker ends with the last handle.
            join(requests(batcher, stop), work).await.0
        }
    }

    /// Lets everything run that can.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    fn is_stopping(outcome: Result<(), ApiError>) -> bool {
        matches!(outcome, Err(ApiError::Unavailable(why)) if why.contains("stopping"))
    }

    #[tokio::test]
    async fn a_lone_item_goes_at_once() {
        let handler = Handler::with_permits(9);
        handler
            .serve(LIMITS, async |batcher, _| {
                for item in 1..=3 {
                    batcher.send(item).await.unwrap();
                }
            })
            .await;
        assert_eq!(handler.batches(), [[1], [2], [3]]);
    }

    #[tokio::test]
    async fn the_next_batch_gathers_while_one_is_at_work_and_only_one_is() {
        let handler = Handler::with_permits(0);
        handler
            .serve(LIMITS, async |batcher, _| {
                let first = batcher.send(1);
                let rest = async {
                    settle().await;
                    let rest = join_all((2..=4).map(|item| batcher.send(item)));
                    let look = async {
                        settle().await;
                        assert_eq!(handler.batches(), [[1]], "one at a time");
                        handler.gate.add_permits(2);
                    };
                    assert!(join(rest, look).await.0.iter().all(Result::is_ok));
                };
                join(first, rest).await.0.unwrap();
            })
            .await;
        assert_eq!(handler.batches(), [vec![1], vec![2, 3, 4]]);
    }

    #[tokio::test]
    async fn each_is_told_what_became_of_its_own_item() {
        let handler = Handler::with_permits(9);
        let outcomes = handler
            .serve(LIMITS, async |batcher, _| {
                join_all([1, 7, 3, 17].map(async |item| batcher.send(item).await.is_ok())).await
            })
            .await;
        assert_eq!(outcomes, [true, false, true, false]);
        assert_eq!(handler.batches(), [[1, 7, 3, 17]]);
    }

    #[tokio::test]
    async fn a_batch_holds_no_more_items_and_no_more_bytes_than_was_said() {
        let handler = Handler::with_permits(99);
        let send = async |items: &[usize]| {
            let all = async |batcher: Batcher<usize>, _| {
                join_all(items.iter().map(async |item| batcher.send(*item).await.unwrap())).await;
            };
            handler.serve(LIMITS, all).await;
            std::mem::take(&mut *handler.batches.lock().unwrap())
        };
        assert_eq!(send(&[1; 9]).await, [vec![1; 4], vec![1; 4], vec![1]]);
        assert_eq!(send(&[50, 50, 1]).await, [vec![50, 50], vec![1]]);
        assert_eq!(send(&[60, 50, 40, 11]).await, [vec![60], vec![50, 40], vec![11]]);
        assert_eq!(send(&[500, 1, 500]).await, [[500], [1], [500]], "what is too heavy goes alone");
    }

    #[tokio::test]
    async fn what_was_handed_in_before_the_stop_is_handled_and_nothing_after_it() {
        let handler = Handler::with_permits(0);
        handler
            .serve(LIMITS, async |batcher, stop| {
                let before = join_all((1..=6).map(|item| batcher.send(item)));
                let late = async {
                    settle().await;
                    stop.cancel();
                    handler.gate.add_permits(1);
                    settle().await;
                    handler.gate.add_permits(1);
                    settle().await;
                    assert!(is_stopping(batcher.send(9).await));
                    // The handle is still there: it is the stop that ends the worker.
                    batcher.clone()
                };
                let (before, _batcher) = join(before, late).await;
                assert!(before.iter().all(Result::is_ok));
            })
            .await;
        assert_eq!(handler.batches(), [vec![1, 2, 3, 4], vec![5, 6]]);
    }

    #[tokio::test]
    async fn who_left_is_no_trouble_to_those_who_stay() {
        let handler = Handler::with_permits(1);
        handler
            .serve(LIMITS, async |batcher, _| {
                assert!(batcher.send(1).now_or_never().is_none(), "left before the outcome");
                batcher.send(2).await.unwrap();
            })
            .await;
        assert_eq!(handler.batches(), [[1, 2]]);
    }

    #[tokio::test]
    async fn when_the_worker_is_gone_nobody_waits_for_ever() {
        let (batcher, worker) = Batcher::new(LIMITS, |item: &usize| *item);
        let work = async {
            let dropped = worker.run(CancellationToken::new(), |_| pending());
            assert!(dropped.now_or_never().is_none());
        };
        let (waited, ()) = join(batcher.send(1), work).await;
        assert!(is_stopping(waited) && is_stopping(batcher.send(2).await));
    }

    #[test]
    fn all_of_a_batch_are_answered_with_the_same_status() {
        let outcomes = [
            (Ok(()), None),
            (Err(ApiError::Unavailable("away".into())), Some((503, "away"))),
            (Err(ApiError::Internal(anyhow::anyhow!("broken"))), Some((500, "internal error"))),
        ];
        for (outcome, expected) in outcomes {
            let all = replicate(&outcome, 3);
            assert_eq!(all.len(), 3);
            for one in all {
                let answer = one.err().map(|error| (error.status().as_u16(), error.to_string()));
                assert_eq!(answer, expected.map(|(status, text)| (status, text.to_owned())));
            }
        }
    }
}
