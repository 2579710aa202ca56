//! The receivers of product changes (S3): what they share in both modes.

use std::time::Duration;

use crate::ApiError;
use crate::api::ProductChange;
use crate::events::ProductUpdated;

/// Receivers store the same fields in both modes.
impl From<&ProductUpdated> for ProductChange {
    fn from(product: &ProductUpdated) -> Self {
        Self {
            product_id: product.product_id,
            name: Some(product.name.clone()),
            stock: Some(product.stock),
            version: Some(product.version),
        }
    }
}

/// 409: the receiver stores this version of the product with another name or stock.
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
    /// The time before an update is applied.
    pub fn delay(&self) -> Duration {
        Duration::from_millis(self.product_update_delay_ms)
    }

    /// Waits for [`delay`](Self::delay). Call it before the transaction begins, so that no connection is held meanwhile.
    pub async fn take_time(&self) {
        // A sleep of 0 ms still waits for the timer's next tick.
        if !self.delay().is_zero() {
            tokio::time::sleep(self.delay()).await;
        }
    }
}
