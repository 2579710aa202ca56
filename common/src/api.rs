//! THE SYNC CONTRACT: one type per request from one service to another, with its path and its reply.
//! Its twin is [`events`](crate::events): a call there is an event here.

use contract::calls;
use garde::Validate;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::rules::{self, is_email, no_nul, no_nul_opt};

/// A request to a peer: `POST` of this type as JSON.
pub trait Call: Serialize + Sync {
    const CALL: calls::Call;
    const PATH: &'static str = Self::CALL.path;
    type Reply: DeserializeOwned;
}

/// The reply of a peer that only confirms the call.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Done {
    #[schema(example = "ok")]
    pub status: String,
}

impl Done {
    pub fn ok() -> Done {
        Done { status: "ok".into() }
    }
}

/// S1. userservice asks emailservice for the welcome mail and waits.
#[derive(Debug, Serialize, Deserialize, Validate, ToSchema)]
pub struct SendWelcomeEmail {
    #[garde(custom(is_email))]
    #[schema(format = Email, max_length = 254)]
    pub email: String,
    #[garde(range(min = 1))]
    #[schema(minimum = 1)]
    pub user_id: i64,
}
impl Call for SendWelcomeEmail {
    const CALL: calls::Call = calls::SEND_WELCOME_EMAIL;
    type Reply = Done;
}

/// S3. A change that productservice sends to its three receivers. Absent fields stay unchanged. A change without a
/// version is applied and keeps the stored version: the next change of productservice is newer.
#[derive(Clone, Debug, Serialize, Deserialize, Validate, ToSchema)]
pub struct ProductChange {
    #[garde(range(min = 1))]
    #[schema(minimum = 1)]
    pub product_id: i64,
    #[serde(default)]
    #[garde(length(chars, min = 1, max = rules::MAX_NAME), custom(no_nul_opt))]
    #[schema(min_length = 1, max_length = 4096)]
    pub name: Option<String>,
    #[serde(default)]
    #[garde(range(min = 0))]
    #[schema(minimum = 0)]
    pub stock: Option<i64>,
    #[serde(default)]
    #[garde(range(min = 1))]
    #[schema(minimum = 1)]
    pub version: Option<i64>,
}

/// S3. productservice asks searchservice to index a product.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct Reindex(pub ProductChange);
impl Call for Reindex {
    const CALL: calls::Call = calls::REINDEX;
    type Reply = Done;
}

/// S3. productservice asks cacheservice to replace what it holds of a product.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct InvalidateCache(pub ProductChange);
impl Call for InvalidateCache {
    const CALL: calls::Call = calls::INVALIDATE_CACHE;
    type Reply = Done;
}

/// S3. productservice asks analyticsservice to record a change.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct LogUpdate(pub ProductChange);
impl Call for LogUpdate {
    const CALL: calls::Call = calls::LOG_UPDATE;
    type Reply = Done;
}

/// S5. A quantity of a product, for an order; without an order, two equal requests cannot be distinguished.
#[derive(Clone, Debug, Serialize, Deserialize, Validate, ToSchema)]
pub struct StockRequest {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[garde(range(min = 1))]
    #[schema(minimum = 1)]
    pub order_id: Option<i64>,
    #[garde(range(min = 1))]
    #[schema(minimum = 1)]
    pub product_id: i64,
    #[garde(range(min = 1, max = rules::MAX_QUANTITY))]
    #[schema(minimum = 1, maximum = 2_147_483_647_i64)]
    pub quantity: i64,
}

/// What inventoryservice answers about a product's stock.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct StockReply {
    #[schema(example = "ok")]
    pub status: String,
    pub product_id: i64,
    pub quantity: i64,
    /// Reserved of this product now, over all orders.
    pub total_reserved: i64,
}

/// S5. orderservice asks inventoryservice to hold stock. Idempotent by order.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct ReserveStock(pub StockRequest);
impl Call for ReserveStock {
    const CALL: calls::Call = calls::RESERVE_STOCK;
    type Reply = StockReply;
}

/// S5. orderservice asks inventoryservice to give held stock back: the compensation. Idempotent by order.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct CompensateStock(pub StockRequest);
impl Call for CompensateStock {
    const CALL: calls::Call = calls::COMPENSATE_STOCK;
    type Reply = StockReply;
}

/// S5. orderservice reports to inventoryservice that held stock was sold. Idempotent by order.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub struct CommitStock(pub StockRequest);
impl Call for CommitStock {
    const CALL: calls::Call = calls::COMMIT_STOCK;
    type Reply = StockReply;
}

/// S5. orderservice asks paymentservice for the saga's payment, which is refused: always 400.
#[derive(Debug, Serialize)]
pub struct RefusePayment {
    pub order_id: i64,
}
impl Call for RefusePayment {
    const CALL: calls::Call = calls::REFUSE_PAYMENT;
    type Reply = Done;
}

/// S5. orderservice asks paymentservice for the saga's payment, which succeeds. At most one per order.
#[derive(Debug, Serialize, Deserialize, Validate, ToSchema)]
pub struct PayOrder {
    #[garde(range(min = 1))]
    #[schema(minimum = 1)]
    pub order_id: i64,
}
impl Call for PayOrder {
    const CALL: calls::Call = calls::PAY_ORDER;
    type Reply = OrderPaid;
}

/// What paymentservice answers when an order is paid.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OrderPaid {
    pub payment_id: String,
    pub transaction_id: String,
}

/// S5. orderservice gives an order up: no payment for it from now on, and one that was taken is given back.
#[derive(Debug, Serialize, Deserialize, Validate, ToSchema)]
pub struct CancelPayment {
    #[garde(range(min = 1))]
    #[schema(minimum = 1)]
    pub order_id: i64,
    #[garde(length(chars, min = 1, max = rules::MAX_REASON), custom(no_nul))]
    #[schema(min_length = 1, max_length = 200)]
    pub reason: String,
}
impl Call for CancelPayment {
    const CALL: calls::Call = calls::CANCEL_PAYMENT;
    type Reply = Done;
}
