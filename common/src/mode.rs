//! The two architectures that are compared. Never behind a cargo feature: features of `common` are
//! unified over ten crates, so only a service's own `match` says what it was built with.

use std::fmt;

/// How a service talks to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// Blocking HTTP calls.
    Sync,
    /// RabbitMQ events.
    Async,
}

impl Mode {
    /// The word in `COMM_MODE`, `/health` and `build_info`.
    pub fn as_str(self) -> &'static str {
        match self {
            Mode::Sync => "sync",
            Mode::Async => "async",
        }
    }

    /// The mode to run in: what `COMM_MODE` says, or the only one that was compiled in.
    ///
    /// # Errors
    /// One line that names the setting, when it is missing where both were compiled or asks for what was not.
    pub fn choose(asked: Option<Mode>, compiled: &[Mode]) -> Result<Mode, String> {
        match (asked, compiled) {
            (None, [only]) => Ok(*only),
            (None, _) => Err("COMM_MODE is missing: set it to sync or async".into()),
            (Some(mode), _) if compiled.contains(&mode) => Ok(mode),
            (Some(mode), _) => {
                Err(format!("COMM_MODE={mode}: this binary was built without the feature `{mode}`"))
            }
        }
    }
}

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

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_with_one_mode_needs_no_setting_and_refuses_the_other() {
        assert_eq!(Mode::choose(None, &[Mode::Sync]), Ok(Mode::Sync));
        assert!(Mode::choose(Some(Mode::Async), &[Mode::Sync]).is_err_and(|e| e.contains("COMM_MODE=async")));
    }

    #[test]
    fn a_binary_with_both_modes_must_be_told() {
        let both = [Mode::Sync, Mode::Async];
        assert!(Mode::choose(None, &both).is_err_and(|e| e.contains("COMM_MODE")));
        assert_eq!(Mode::choose(Some(Mode::Async), &both), Ok(Mode::Async));
    }
}
