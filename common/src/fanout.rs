//! What a change of a product costs those that are told of it (S3): the same in both modes.

use std::time::Duration;

use crate::ApiError;
use crate::api::ProductChange;

/// 409: a receiver has this very version of the product, with another name or stock.
pub fn other_contents(change: &ProductChange) -> ApiError {
    let version = change.version.unwrap_or_default();
    let text = format!("version {version} of product {} is stored with other contents", change.product_id);
    ApiError::Conflict(text.into())
}

/// Shared by searchservice, cacheservice and analyticsservice.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct ReceiverSettings {
    /// How long a receiver takes for a change of a product before it applies it
    #[arg(long, env, default_value_t = 0)]
    pub product_update_delay_ms: u64,
}

impl ReceiverSettings {
    /// What is waited for before an update is applied.
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.product_update_delay_ms)
    }

    /// Before the transaction is opened, so that what waits holds no connection.
    pub async fn take_time(&self) {
        // Even a sleep of 0 ms would wait for the timer's next tick.
        if !self.delay().is_zero() {
            tokio::time::sleep(self.delay()).await;
        }
    }
}
