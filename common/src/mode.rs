//! Which modes a service was built with: only its own features say so.

/// The modes that the calling crate was built with, by its features `sync`, `async` and `stream`.
#[macro_export]
macro_rules! modes {
    () => {{
        #[cfg(not(any(feature = "sync", feature = "async", feature = "stream")))]
        compile_error!("enable one of the features `sync`, `async` and `stream`, or several");
        &[
            #[cfg(feature = "sync")]
            $crate::Mode::Sync,
            #[cfg(feature = "async")]
            $crate::Mode::Async,
            #[cfg(feature = "stream")]
            $crate::Mode::Stream,
        ]
    }};
}
