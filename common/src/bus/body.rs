//! The body of a message: parsed and validated, or the reason why it can never be applied.

use crate::events::Event;

/// Parses and validates the body of a message. The error is the reason why the event can never be applied: the syntax error, or
/// the rules that it violates. The call that takes the event's place in sync mode obeys the same rules.
pub(super) fn read<E: Event>(body: &[u8]) -> Result<E, String> {
    let does_not_parse = |why: &str| format!("does not parse as {}: {why}", E::NAME);
    if !E::MAY_BE_ARRAY && body.trim_ascii_start().first() == Some(&b'[') {
        return Err(does_not_parse("it is an array"));
    }
    let event: E =
        serde_json::from_slice(body).map_err(|error| does_not_parse(&without_values(&error.to_string())))?;
    event.validate().map_err(|report| {
        let broken: Vec<String> = report
            .iter()
            .map(|(path, error)| {
                let path = path.to_string();
                // The only field of an enum's variant has no name.
                format!("{}: {error}", path.strip_prefix("[0].").unwrap_or(&path))
            })
            .collect();
        format!("is no valid {}: {}", E::NAME, broken.join("; "))
    })?;
    Ok(event)
}

/// Removes the value that a parser's message quotes: reasons are logged, bodies are not.
fn without_values(message: &str) -> String {
    // These messages quote only a field's name.
    let named = ["missing field", "duplicate field"].iter().any(|kind| message.starts_with(kind));
    let Some(value) = message.find(['"', '`']).filter(|_| !named) else { return message.to_owned() };
    let expected = message.rfind(", expected ").or_else(|| message.rfind(" at line "));
    let rest = expected.filter(|at| *at > value).map_or("", |at| &message[at..]);
    format!("{}…{rest}", &message[..value])
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::Context;
    use crate::events::*;

    /// Whether the reason for which a body is refused names `field`; a body without a defect is taken.
    fn refused<E: Event>(body: serde_json::Value, field: &str) -> bool {
        let refusal = read::<E>(body.to_string().as_bytes()).err();
        refusal.is_some_and(|reason| reason.starts_with(&format!("is no valid {}: {field}: ", E::NAME)))
    }

    #[test]
    fn every_rule_of_every_event_is_kept() {
        let order = |change: serde_json::Value| {
            let mut order = json!({"order_id": 1, "product_id": 1, "quantity": 1, "reason": "r", "payment_id": "p",
                                   "transaction_id": "t"});
            order.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            order
        };
        let (long, nul) = ("x".repeat(5000), "a\u{0}b");
        assert!(read::<OrderCreated>(order(json!({})).to_string().as_bytes()).is_ok());
        for id in [0, -5] {
            let of = |field: &str| order(json!({ field: id }));
            assert!(refused::<OrderCreated>(of("order_id"), "order_id"));
            assert!(refused::<OrderCreated>(of("product_id"), "product_id"));
            assert!(refused::<OrderCreated>(of("quantity"), "quantity"));
            assert!(refused::<StockReserved>(of("order_id"), "order_id"));
            assert!(refused::<StockReserved>(of("product_id"), "product_id"));
            assert!(refused::<StockReserved>(of("quantity"), "quantity"));
            assert!(refused::<StockRejected>(of("order_id"), "order_id"));
            assert!(refused::<PaymentFailed>(of("order_id"), "order_id"));
            assert!(refused::<PaymentSucceeded>(of("order_id"), "order_id"));
            assert!(refused::<OrderCancelled>(of("order_id"), "order_id"));
        }
        assert!(refused::<OrderCreated>(order(json!({"quantity": 2_147_483_648_i64})), "quantity"));
        for text in ["", nul, &long] {
            let of = |field: &str| order(json!({ field: text }));
            assert!(refused::<StockRejected>(of("reason"), "reason"));
            assert!(refused::<PaymentFailed>(of("reason"), "reason"));
            assert!(refused::<PaymentFailed>(of("payment_id"), "payment_id"));
            assert!(refused::<OrderCancelled>(of("reason"), "reason"));
            assert!(refused::<PaymentSucceeded>(of("payment_id"), "payment_id"));
            assert!(refused::<PaymentSucceeded>(of("transaction_id"), "transaction_id"));
            let job = json!({"job_id": text, "report_type": "t"});
            assert!(refused::<GenerateReportJob>(job, "job_id"));
            let job = json!({"job_id": "j", "report_type": text});
            assert!(refused::<GenerateReportJob>(job, "report_type"));
            let product = json!({"product_id": 1, "name": text, "stock": 0, "version": 1});
            assert!(refused::<ProductUpdated>(product, "name"));
            let click = json!({"event_id": Uuid::nil(), "user_id": 0, "page": text});
            assert!(refused::<Clicks>(click, "page"));
            let payment = json!({"payment_id": text, "amount": 1.0, "currency": "USD"});
            assert!(refused::<PaymentInitiated>(payment, "payment_id"));
            let payment = json!({"payment_id": "p", "transaction_id": "t", "status": text});
            assert!(refused::<PaymentCompleted>(payment, "status"));
        }
        for address in ["no address", "", "a@x.org\r\nBcc: b@x.org", "a@x..org"] {
            assert!(refused::<UserRegistered>(json!({"user_id": 1, "email": address}), "email"), "{address}");
        }
        assert!(refused::<UserRegistered>(json!({"user_id": 0, "email": "a@x.org"}), "user_id"));
        for (amount, currency, field) in
            [(0.0, "USD", "amount"), (1e10, "USD", "amount"), (1.0, "usd", "currency")]
        {
            let payment = json!({"payment_id": "p", "amount": amount, "currency": currency});
            assert!(refused::<PaymentInitiated>(payment, field));
        }
        for (stock, version, field) in [(-1, 1, "stock"), (1, 0, "version")] {
            let product = json!({"product_id": 1, "name": "n", "stock": stock, "version": version});
            assert!(refused::<ProductUpdated>(product, field));
        }
    }

    #[test]
    fn an_array_is_no_event_but_a_batch_of_clicks_is() {
        assert!(read::<UserRegistered>(br#"[1, "a@x.org"]"#).is_err());
        let click = json!({"event_id": Uuid::nil(), "user_id": 0, "page": "/"});
        let batch =
            |click: &serde_json::Value| json!([{"context": Context::fresh(), "click": click}]).to_string();
        assert!(read::<Clicks>(batch(&click).as_bytes()).is_ok());
        let bad = json!({"event_id": Uuid::nil(), "user_id": -1, "page": "/"});
        assert!(read::<Clicks>(batch(&bad).as_bytes()).is_err_and(|reason| reason.contains("user_id")));
    }

    #[test]
    fn a_reason_does_not_quote_the_body() {
        let of = |error: serde_json::Error| without_values(&error.to_string());
        let text = serde_json::from_str::<i64>(r#""ada, expected \"x\"@example.org""#).unwrap_err();
        assert!(text.to_string().contains("ada"), "{text}");
        assert_eq!(of(text), "invalid type: string …, expected i64 at line 1 column 33");
        let number = serde_json::from_str::<String>("4930123456").unwrap_err();
        assert_eq!(of(number), "invalid type: integer …, expected a string at line 1 column 10");
        let id = serde_json::from_str::<uuid::Uuid>(r#""ada@example.org""#).unwrap_err();
        assert!(!of(id).contains('`'));
        assert_eq!(without_values("missing field `user_id`"), "missing field `user_id`");
    }
}
