//! What an event handler receives and returns.

use std::any::Any;
use std::ops::Deref;

use contract::Effect;

use crate::context::Context;
use crate::tasks::panic_text;
use crate::{ApiError, db};

/// A received event, with the metadata of its message.
#[derive(Clone, Debug)]
pub struct Incoming<E> {
    pub event: E,
    pub queue: &'static str,
    pub message_id: String,
    pub context: Context,
}

impl<E> Deref for Incoming<E> {
    type Target = E;
    fn deref(&self) -> &E {
        &self.event
    }
}

/// What an event did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Applied,
    /// Applied, and a final effect of its workflow, which is reported with this outcome.
    Completed(Effect, &'static str),
    /// The event had been applied before; nothing changed.
    Duplicate,
}

impl Outcome {
    /// The label in metrics and logs.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Outcome::Applied | Outcome::Completed(..) => "ok",
            Outcome::Duplicate => "duplicate",
        }
    }
}

/// Why an event could not be applied.
#[derive(Debug)]
pub enum HandlerError {
    /// The failure may be temporary: retried after 1, 10, 60 and 60 s, then dead-lettered.
    Retry(anyhow::Error),
    /// The event can never be applied: dead-lettered at once.
    Reject(anyhow::Error),
    /// A dependency such as the database is unavailable: the event waits, and no attempt is counted.
    Unavailable(anyhow::Error),
}

impl HandlerError {
    pub fn retry(error: impl Into<anyhow::Error>) -> HandlerError {
        HandlerError::Retry(error.into())
    }

    pub fn reject(error: impl Into<anyhow::Error>) -> HandlerError {
        HandlerError::Reject(error.into())
    }

    pub(super) fn panicked(panic: &(dyn Any + Send)) -> HandlerError {
        HandlerError::Retry(anyhow::anyhow!("the handler panicked: {}", panic_text(panic)))
    }

    /// Clones the error for another event of the batch.
    pub(super) fn replicate(&self) -> HandlerError {
        let clone = |error: &anyhow::Error| anyhow::anyhow!("{error:#}");
        match self {
            HandlerError::Retry(error) => HandlerError::Retry(clone(error)),
            HandlerError::Reject(error) => HandlerError::Reject(clone(error)),
            HandlerError::Unavailable(error) => HandlerError::Unavailable(clone(error)),
        }
    }

    /// The outcome in logs and spans.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            HandlerError::Retry(_) => "failed",
            HandlerError::Reject(_) => "rejected",
            HandlerError::Unavailable(_) => "waiting",
        }
    }

    pub(super) fn reason(&self) -> String {
        let (HandlerError::Retry(error) | HandlerError::Reject(error) | HandlerError::Unavailable(error)) =
            self;
        format!("{error:#}")
    }
}

impl From<sqlx::Error> for HandlerError {
    fn from(error: sqlx::Error) -> HandlerError {
        if db::is_outage(&error) {
            HandlerError::Unavailable(error.into())
        } else if db::refuses_data(&error) {
            HandlerError::Reject(error.into())
        } else {
            HandlerError::Retry(error.into())
        }
    }
}

impl From<ApiError> for HandlerError {
    fn from(error: ApiError) -> HandlerError {
        match error {
            ApiError::Unavailable(_) => HandlerError::Unavailable(error.into()),
            ApiError::NotFound(_) | ApiError::Invalid(_) | ApiError::Conflict(_) => {
                HandlerError::Reject(error.into())
            }
            // A database error inside an internal error is classified like one that was not wrapped.
            ApiError::Internal(cause) => match cause.downcast::<sqlx::Error>() {
                Ok(error) => error.into(),
                Err(cause) => HandlerError::Retry(cause),
            },
            _ => HandlerError::Retry(error.into()),
        }
    }
}
