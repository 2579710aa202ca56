//! Validation rules for values, shared by requests, calls and events: an event obeys the rules of the call that takes its
//! place in sync mode.

use crate::email;

/// Units in one order.
pub const MAX_QUANTITY: i64 = i32::MAX as i64;
/// Units of one product.
pub const MAX_STOCK: i64 = 1_000_000_000;
/// Characters of a product's name.
pub const MAX_NAME: usize = 4096;
/// Characters of the reason of a failure.
pub const MAX_REASON: usize = 200;
/// Characters of the address of a page.
pub const MAX_PAGE: usize = 2048;
/// Characters of the id of a browser's session.
pub const MAX_SESSION_ID: usize = 255;
/// Characters of the type of a report.
pub const MAX_REPORT_TYPE: usize = 100;
/// Characters of an id that is text: a payment, a transaction, a job.
pub const MAX_TEXT_ID: usize = 100;
/// Of one payment, in its currency.
pub const MIN_AMOUNT: f64 = 0.01;
pub const MAX_AMOUNT: f64 = 1e9;

/// An ISO 4217 code.
///
/// # Errors
/// When the text is not three capital letters.
pub fn is_currency(text: &str, _: &()) -> garde::Result {
    let valid = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_uppercase());
    if valid { Ok(()) } else { Err(garde::Error::new("must be three capital letters")) }
}

/// An e-mail address, as [`email`] defines it.
///
/// # Errors
/// When the text is not an e-mail address.
pub fn is_email(text: &str, _: &()) -> garde::Result {
    email::check(text).map_err(|defect| garde::Error::new(format!("is no e-mail address: it {defect}")))
}

/// PostgreSQL's type `text` cannot hold the character NUL, so input must not contain it.
///
/// # Errors
/// When the text contains NUL.
pub fn no_nul(text: &str, _: &()) -> garde::Result {
    if text.contains('\0') { Err(garde::Error::new("must not contain the character NUL")) } else { Ok(()) }
}

/// [`no_nul`] for an optional text.
///
/// # Errors
/// When the text contains NUL.
pub fn no_nul_opt(text: &Option<String>, context: &()) -> garde::Result {
    text.as_deref().map_or(Ok(()), |text| no_nul(text, context))
}
