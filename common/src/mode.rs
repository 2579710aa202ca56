//! Which modes a service was built with: only its own features say so.

/// The modes that the calling crate was built with, by its features `sync` and `async`.
#[macro_export]
macro_rules! modes {
    () => {{
        #[cfg(not(any(feature = "sync", feature = "async")))]
        compile_error!("enable the feature `sync`, `async`, or both");
        &[
            #[cfg(feature = "sync")]
            $crate::Mode::Sync,
            #[cfg(feature = "async")]
            $crate::Mode::Async,
        ]
    }};
}
