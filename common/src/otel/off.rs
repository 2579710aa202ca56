//! [`on`](super) without the feature: empty functions.

#[cfg(feature = "messaging")]
use std::time::Instant;

use axum::extract::Request;

use crate::Mode;
use crate::config::Settings;
use crate::context::Context;

#[derive(Clone, Default)]
pub(crate) struct Spans;

#[must_use]
pub(crate) struct Span;

impl Spans {
    #[inline]
    pub(crate) fn start(
        _service: &str,
        _version: &'static str,
        _: Mode,
        _: &Settings,
    ) -> Result<Spans, String> {
        Ok(Spans)
    }

    #[inline]
    pub(crate) async fn close(self) {}

    #[inline]
    pub(crate) fn serving(&self, _: &Request, _method: &str, _handler: &str, _: &Context) -> Span {
        Span
    }

    #[cfg(feature = "http")]
    #[inline]
    pub(crate) fn calling(&self, _url: &str, _path: &'static str, _: &mut Context) -> Span {
        Span
    }

    #[cfg(feature = "messaging")]
    #[inline]
    pub(crate) fn publishing(
        &self,
        _destination: &str,
        _event: &str,
        _message_id: &str,
        _: &mut Context,
    ) -> Span {
        Span
    }

    #[cfg(feature = "messaging")]
    #[inline]
    pub(crate) fn handling(
        &self,
        _queue: &'static str,
        _message_id: &str,
        _: &Context,
        _since: Instant,
    ) -> Span {
        Span
    }
}

impl Span {
    #[cfg(feature = "messaging")]
    #[inline]
    pub(crate) fn none() -> Span {
        Span
    }

    #[inline]
    pub(crate) fn answered(self, _status: u16) {}

    #[cfg(feature = "http")]
    #[inline]
    pub(crate) fn called(self, _: Result<u16, &'static str>) {}

    #[cfg(feature = "messaging")]
    #[inline]
    pub(crate) fn published(self) {}

    #[cfg(feature = "messaging")]
    #[inline]
    pub(crate) fn handled(self, _outcome: &'static str, _failure: Option<&str>) {}
}
