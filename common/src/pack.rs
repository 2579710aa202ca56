//! Requests that wait at the same time go together: each hands in an item and waits for what becomes of it; one worker takes
//! all that wait and has them handled as a pack, while the next pack gathers. Nobody waits for company: a lone item goes at
//! once.

use std::future::Future;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::ApiError;

/// What one pack may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub items: usize,
    /// The sum of what the items weigh. One that is heavier goes alone.
    pub bytes: usize,
}

/// Where requests hand in their items. Cheap to clone.
pub struct Packer<T> {
    waiting: mpsc::Sender<Waiting<T>>,
}

impl<T> Clone for Packer<T> {
    fn clone(&self) -> Packer<T> {
        Packer { waiting: self.waiting.clone() }
    }
}

/// An item and where its outcome goes.
struct Waiting<T> {
    item: T,
    outcome: oneshot::Sender<Result<(), ApiError>>,
}

impl<T> Packer<T> {
    /// A packer and its worker. Twice as many items may wait as a pack holds; who comes then waits to hand in.
    pub fn new(limits: Limits, weigh: fn(&T) -> usize) -> (Packer<T>, Worker<T>) {
        let (sender, waiting) = mpsc::channel(2 * limits.items);
        (Packer { waiting: sender }, Worker { waiting, limits, weigh })
    }

    /// Hands an item in and waits for its outcome.
    ///
    /// # Errors
    /// What the handler of packs says of this item; 503 when the worker has ended.
    pub async fn send(&self, item: T) -> Result<(), ApiError> {
        let (outcome, settled) = oneshot::channel();
        self.waiting.send(Waiting { item, outcome }).await.map_err(|_| stopping())?;
        settled.await.map_err(|_| stopping())?
    }
}

fn stopping() -> ApiError {
    ApiError::Unavailable("the service is stopping".into())
}

/// Takes what waits and has it handled, one pack after the other.
pub struct Worker<T> {
    waiting: mpsc::Receiver<Waiting<T>>,
    limits: Limits,
    weigh: fn(&T) -> usize,
}

impl<T> Worker<T> {
    /// Runs until `stop`, then handles what was handed in before. `handle` says of each item, in order, what became of it; it
    /// must end by itself, because everybody waits for it.
    pub async fn run<F>(mut self, stop: CancellationToken, mut handle: impl FnMut(Vec<T>) -> F)
    where
        F: Future<Output = Vec<Result<(), ApiError>>>,
    {
        let mut too_much = None;
        while let Some(first) = self.first(too_much.take(), &stop).await {
            // Requests that can run now come along: one turn of the runtime.
            tokio::task::yield_now().await;
            let mut bytes = (self.weigh)(&first.item);
            let (mut pack, mut outcomes) = (vec![first.item], vec![first.outcome]);
            while pack.len() < self.limits.items {
                let Ok(next) = self.waiting.try_recv() else { break };
                bytes += (self.weigh)(&next.item);
                if bytes > self.limits.bytes {
                    too_much = Some(next);
                    break;
                }
                pack.push(next.item);
                outcomes.push(next.outcome);
            }
            for (waiting, outcome) in outcomes.into_iter().zip(handle(pack).await) {
                // Whoever asked may have given up.
                waiting.send(outcome).ok();
            }
        }
    }

    /// The item with which the next pack begins; `None` when there will be no more.
    async fn first(&mut self, too_much: Option<Waiting<T>>, stop: &CancellationToken) -> Option<Waiting<T>> {
        if too_much.is_some() {
            return too_much;
        }
        tokio::select! {
            // What waits comes before the stop.
            biased;
            next = self.waiting.recv() => next,
            () = stop.cancelled() => None,
        }
    }
}

/// The same outcome for all of a pack.
pub fn alike(outcome: &Result<(), ApiError>, items: usize) -> Vec<Result<(), ApiError>> {
    let again = || match outcome {
        Ok(()) => Ok(()),
        Err(ApiError::Unavailable(why)) => Err(ApiError::Unavailable(why.clone())),
        Err(ApiError::Internal(cause)) => Err(ApiError::Internal(anyhow::anyhow!("{cause:#}"))),
        Err(error) => Err(ApiError::Internal(anyhow::anyhow!("{error}"))),
    };
    std::iter::repeat_with(again).take(items).collect()
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

    /// Notes the packs, and lets one go for each permit of the gate.
    #[derive(Clone)]
    struct Handler {
        packs: Arc<Mutex<Vec<Vec<usize>>>>,
        gate: Arc<Semaphore>,
    }

    impl Handler {
        fn with_permits(permits: usize) -> Handler {
            Handler { packs: Arc::default(), gate: Arc::new(Semaphore::new(permits)) }
        }

        fn packs(&self) -> Vec<Vec<usize>> {
            self.packs.lock().unwrap().clone()
        }

        /// Serves while `requests` last. An item is its own weight; those that end in 7 are refused.
        async fn serve<R>(
            &self,
            limits: Limits,
            requests: impl AsyncFnOnce(Packer<usize>, CancellationToken) -> R,
        ) -> R {
            let (packer, worker) = Packer::new(limits, |item| *item);
            let stop = CancellationToken::new();
            let work = worker.run(stop.clone(), |pack: Vec<usize>| async move {
                self.packs.lock().unwrap().push(pack.clone());
                self.gate.acquire().await.unwrap().forget();
                let refuse = |item: &usize| match item % 10 {
                    7 => Err(ApiError::NotFound("refused".into())),
                    _ => Ok(()),
                };
                pack.iter().map(refuse).collect()
            });
            // The worker ends with the last handle.
            join(requests(packer, stop), work).await.0
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
            .serve(LIMITS, async |packer, _| {
                for item in 1..=3 {
                    packer.send(item).await.unwrap();
                }
            })
            .await;
        assert_eq!(handler.packs(), [[1], [2], [3]]);
    }

    #[tokio::test]
    async fn the_next_pack_gathers_while_one_is_at_work_and_only_one_is() {
        let handler = Handler::with_permits(0);
        handler
            .serve(LIMITS, async |packer, _| {
                let first = packer.send(1);
                let rest = async {
                    settle().await;
                    let rest = join_all((2..=4).map(|item| packer.send(item)));
                    let look = async {
                        settle().await;
                        assert_eq!(handler.packs(), [[1]], "one at a time");
                        handler.gate.add_permits(2);
                    };
                    assert!(join(rest, look).await.0.iter().all(Result::is_ok));
                };
                join(first, rest).await.0.unwrap();
            })
            .await;
        assert_eq!(handler.packs(), [vec![1], vec![2, 3, 4]]);
    }

    #[tokio::test]
    async fn each_is_told_what_became_of_its_own_item() {
        let handler = Handler::with_permits(9);
        let outcomes = handler
            .serve(LIMITS, async |packer, _| {
                join_all([1, 7, 3, 17].map(async |item| packer.send(item).await.is_ok())).await
            })
            .await;
        assert_eq!(outcomes, [true, false, true, false]);
        assert_eq!(handler.packs(), [[1, 7, 3, 17]]);
    }

    #[tokio::test]
    async fn a_pack_holds_no_more_items_and_no_more_bytes_than_was_said() {
        let handler = Handler::with_permits(99);
        let send = async |items: &[usize]| {
            let all = async |packer: Packer<usize>, _| {
                join_all(items.iter().map(async |item| packer.send(*item).await.unwrap())).await;
            };
            handler.serve(LIMITS, all).await;
            std::mem::take(&mut *handler.packs.lock().unwrap())
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
            .serve(LIMITS, async |packer, stop| {
                let before = join_all((1..=6).map(|item| packer.send(item)));
                let late = async {
                    settle().await;
                    stop.cancel();
                    handler.gate.add_permits(1);
                    settle().await;
                    handler.gate.add_permits(1);
                    settle().await;
                    assert!(is_stopping(packer.send(9).await));
                    // The handle is still there: it is the stop that ends the worker.
                    packer.clone()
                };
                let (before, _packer) = join(before, late).await;
                assert!(before.iter().all(Result::is_ok));
            })
            .await;
        assert_eq!(handler.packs(), [vec![1, 2, 3, 4], vec![5, 6]]);
    }

    #[tokio::test]
    async fn who_left_is_no_trouble_to_those_who_stay() {
        let handler = Handler::with_permits(1);
        handler
            .serve(LIMITS, async |packer, _| {
                assert!(packer.send(1).now_or_never().is_none(), "left before the outcome");
                packer.send(2).await.unwrap();
            })
            .await;
        assert_eq!(handler.packs(), [[1, 2]]);
    }

    #[tokio::test]
    async fn when_the_worker_is_gone_nobody_waits_for_ever() {
        let (packer, worker) = Packer::new(LIMITS, |item: &usize| *item);
        let work = async {
            let dropped = worker.run(CancellationToken::new(), |_| pending());
            assert!(dropped.now_or_never().is_none());
        };
        let (waited, ()) = join(packer.send(1), work).await;
        assert!(is_stopping(waited) && is_stopping(packer.send(2).await));
    }

    #[test]
    fn all_of_a_pack_are_answered_with_the_same_status() {
        let outcomes = [
            (Ok(()), None),
            (Err(ApiError::Unavailable("away".into())), Some((503, "away"))),
            (Err(ApiError::Internal(anyhow::anyhow!("broken"))), Some((500, "internal error"))),
        ];
        for (outcome, expected) in outcomes {
            let all = alike(&outcome, 3);
            assert_eq!(all.len(), 3);
            for one in all {
                let answer = one.err().map(|error| (error.status().as_u16(), error.to_string()));
                assert_eq!(answer, expected.map(|(status, text)| (status, text.to_owned())));
            }
        }
    }
}
