//! Calls of sync mode: `POST` of a JSON body from one service to another, which the caller awaits.

use serde::Serialize;

use crate::{Scenario, Service};

/// One call. Its body and its reply are types of `common::api`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Call {
    pub scenario: Scenario,
    pub caller: Service,
    pub peer: Service,
    pub path: &'static str,
}

macro_rules! calls {
    ($($(#[$doc:meta])* $name:ident: $scenario:ident $caller:ident => $peer:ident $path:literal;)*) => {
        $($(#[$doc])*
        pub const $name: Call = Call {
            scenario: Scenario::$scenario,
            caller: Service::$caller,
            peer: Service::$peer,
            path: $path,
        };)*
        /// Every call of the system.
        pub const ALL: &[Call] = &[$($name),*];
    };
}

calls! {
    /// Send the welcome e-mail.
    SEND_WELCOME_EMAIL: S1 User => Email "/send_welcome_email";
    /// Index a product.
    REINDEX: S3 Product => Search "/reindex";
    /// Replace a product in the cache.
    INVALIDATE_CACHE: S3 Product => Cache "/invalidate_cache";
    /// Record a change of a product.
    LOG_UPDATE: S3 Product => Analytics "/log_update";
    /// Hold stock for an order.
    RESERVE_STOCK: S5 Order => Inventory "/reserve_stock";
    /// Refuse the payment of an order: always 400.
    REFUSE_PAYMENT: S5 Order => Payment "/process_payment_fail";
    /// Take the payment of an order.
    PAY_ORDER: S5 Order => Payment "/pay_order";
    /// Give up the payment of an order; a payment that was taken is given back.
    CANCEL_PAYMENT: S5 Order => Payment "/cancel_payment";
    /// Release the stock of an order: the compensation.
    COMPENSATE_STOCK: S5 Order => Inventory "/compensate_stock";
    /// Sell the stock of an order.
    COMMIT_STOCK: S5 Order => Inventory "/commit_stock";
}
