//! What the services of the order saga (S5) share: which payments fail, and why a step is refused. The order's id alone decides
//! whether its payment fails, so both modes fail the same orders, and a repeated step gives the same result.

use crate::ApiError;

/// Shared by orderservice (sync mode) and paymentservice (async mode).
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct SagaSettings {
    /// Share of the saga's payments that fail, 0.0 to 1.0
    #[arg(long, env, default_value_t = 1.0, value_parser = share)]
    pub saga_payment_failure_rate: f64,
}

impl SagaSettings {
    /// Whether the payment of this order is refused.
    pub fn payment_fails(&self, order_id: i64) -> bool {
        // SplitMix64's finalizer spreads consecutive ids evenly.
        let mut z = order_id.cast_unsigned().wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        ((z >> 11) as f64) < self.saga_payment_failure_rate * (1_u64 << 53) as f64
    }
}

/// The reason for which a payment of the study is refused.
pub const INSUFFICIENT_FUNDS: &str = "Insufficient funds";

/// Why inventoryservice refuses a step of an order: in sync mode the `detail` of its problem, in async mode the reason of
/// `StockRejected`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StockRefusal {
    UnknownProduct,
    InsufficientStock,
    /// The stock that was held for this order was released or sold before.
    ReservationEnded,
    /// The step does not match the stored reservation.
    OtherReservation,
}

impl StockRefusal {
    const ALL: [StockRefusal; 4] = [
        StockRefusal::UnknownProduct,
        StockRefusal::InsufficientStock,
        StockRefusal::ReservationEnded,
        StockRefusal::OtherReservation,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            StockRefusal::UnknownProduct => "Unknown product",
            StockRefusal::InsufficientStock => "Insufficient stock",
            StockRefusal::ReservationEnded => "The reservation of this order has ended",
            StockRefusal::OtherReservation => {
                "The reservation of this order is for another product or quantity"
            }
        }
    }

    fn find(text: &str) -> Option<StockRefusal> {
        StockRefusal::ALL.into_iter().find(|refusal| refusal.as_str() == text)
    }

    /// The refusal that a peer's 4xx reports; `None` for other errors.
    #[cfg(feature = "http")]
    pub fn of(error: &crate::client::CallError) -> Option<StockRefusal> {
        StockRefusal::find(error.detail()?)
    }
}

impl TryFrom<String> for StockRefusal {
    type Error = String;

    fn try_from(text: String) -> Result<StockRefusal, String> {
        StockRefusal::find(&text).ok_or_else(|| format!("{text:?} is not a refusal of stock"))
    }
}

impl From<StockRefusal> for ApiError {
    fn from(refusal: StockRefusal) -> ApiError {
        match refusal {
            StockRefusal::UnknownProduct => ApiError::NotFound(refusal.as_str().into()),
            _ => ApiError::Conflict(refusal.as_str().into()),
        }
    }
}

fn share(text: &str) -> Result<f64, String> {
    let value: f64 = text.parse().map_err(|_| "must be a number".to_owned())?;
    if (0.0..=1.0).contains(&value) { Ok(value) } else { Err("must be between 0.0 and 1.0".into()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failing(rate: f64) -> usize {
        let settings = SagaSettings { saga_payment_failure_rate: rate };
        (1..=10_000).filter(|id| settings.payment_fails(*id)).count()
    }

    #[test]
    fn the_share_is_kept_and_its_ends_are_exact() {
        assert_eq!((failing(0.0), failing(1.0)), (0, 10_000));
        assert!((2_800..3_200).contains(&failing(0.3)), "{}", failing(0.3));
    }
}
