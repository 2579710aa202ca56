//! Which causes of an outage are logged. What retries several times a second must not log every failure, but an outage that
//! begins with one cause may go on with another.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Causes of one outage that are logged; for those whose text is different each time.
const MOST_CAUSES: usize = 20;

/// An outage of something that is used again and again. Each cause is logged once until the outage ends.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    logged: Mutex<BTreeSet<String>>,
}

impl Outage {
    /// Whether to log this cause.
    pub(crate) fn is_new(&self, cause: impl Display) -> bool {
        let mut logged = self.logged();
        logged.len() < MOST_CAUSES && logged.insert(cause.to_string())
    }

    /// The outage has ended; whether a cause of it was logged.
    pub(crate) fn end(&self) -> bool {
        !std::mem::take(&mut *self.logged()).is_empty()
    }

    fn logged(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.logged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_logged_once_an_outage() {
        let outage = Outage::default();
        assert!(!outage.end());
        for _ in 0..2 {
            assert_eq!(
                ["a", "a", "b", "a", "b"].map(|cause| outage.is_new(cause)),
                [true, false, true, false, false]
            );
            assert!(outage.end());
        }
        assert_eq!((0..100).filter(|number| outage.is_new(number)).count(), MOST_CAUSES);
    }
}
