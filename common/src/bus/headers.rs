//! The metadata of a message in headers, the same for every transport. The id of the message, the id of its workflow and the name
//! of its event travel beside them, in what a transport has for them.

use std::mem::take;
use std::str::FromStr;
use std::time::Instant;

use contract::headers::{ATTEMPT, FIRST_FAILED_AT, PUBLISHED_AT, REASON};
use uuid::Uuid;

use super::policy::{Attempts, is_plausible};
use super::subscription::Delivery;
use super::{Failure, Message};
use crate::context::{ACCEPTED_AT, Context, TRACEPARENT, now_us};

/// All headers that are read here.
#[cfg(feature = "amqp")]
pub(super) const READ: [&str; 6] =
    [TRACEPARENT, crate::context::REQUEST_ID, ACCEPTED_AT, PUBLISHED_AT, ATTEMPT, FIRST_FAILED_AT];

impl Message {
    /// Takes the headers out of the message.
    pub(super) fn take_headers(&mut self) -> impl Iterator<Item = (&'static str, String)> + use<> {
        let failure = self.failure.take().map(|Failure { attempt, reason, first_failed_us }| {
            [(ATTEMPT, attempt.to_string()), (REASON, reason), (FIRST_FAILED_AT, first_failed_us.to_string())]
        });
        let headers = [
            (TRACEPARENT, take(&mut self.context.traceparent)),
            (ACCEPTED_AT, self.context.accepted_us.to_string()),
            (PUBLISHED_AT, self.published_us.to_string()),
        ];
        headers.into_iter().chain(failure.into_iter().flatten())
    }
}

impl Delivery {
    /// A delivery with these headers, as far as they are text. [`REQUEST_ID`](crate::context::REQUEST_ID) is asked for the id of the workflow.
    pub(super) fn with_headers<'a>(
        message_id: Option<&str>,
        body: Vec<u8>,
        header: impl Fn(&'static str) -> Option<&'a str>,
    ) -> Delivery {
        fn number<T: FromStr>(header: Option<&str>) -> Option<T> {
            header?.parse().ok()
        }
        Delivery {
            received: Instant::now(),
            // Without an id the inbox cannot recognise a redelivery; the natural key of the event still does.
            message_id: message_id
                .filter(|id| !id.is_empty())
                .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned),
            published_us: number(header(PUBLISHED_AT)).filter(|us| is_plausible(*us, now_us())),
            attempts: Attempts {
                failed: number(header(ATTEMPT)).unwrap_or_default(),
                first_failed_us: number(header(FIRST_FAILED_AT)),
            },
            context: Context::received(header),
            body,
        }
    }
}
