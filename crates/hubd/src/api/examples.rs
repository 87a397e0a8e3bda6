//! A request of each kind that has a body, as an operator's program may send it.
//!
//! What tills send is signed over its bytes; the crate sync-proto has examples of that.

use serde_json::Value;

/// The example for an operation.
pub(super) fn example(method: &str, path: &str) -> Option<Value> {
    let found = EXAMPLES
        .iter()
        .find(|(of_method, of_path, _)| *of_method == method && *of_path == path);
    found.and_then(|(_, _, json)| serde_json::from_str(json).ok())
}

#[cfg(test)]
pub(super) fn count() -> usize {
    EXAMPLES.len()
}

const EXAMPLES: [(&str, &str, &str); 21] = [
    (
        "post",
        "/v1/accounts",
        r#"{"canteen": 1, "holder": {"name": "Elev Demo", "school": "Demoskolen", "class": "5.B"},
            "limits": {"day": 5000, "mode": "strict"}}"#,
    ),
    (
        "patch",
        "/v1/accounts/{id}",
        r#"{"limits": {"day": 2500, "month": null}}"#,
    ),
    (
        "post",
        "/v1/accounts/{id}/chip-keys",
        r#"{"chip": "04958CAA5C5E80", "kind": "ntag424"}"#,
    ),
    (
        "post",
        "/v1/accounts/{id}/chips",
        r#"{"chip": "72BF9961", "card": "12345678901234"}"#,
    ),
    (
        "post",
        "/v1/accounts/{id}/corrections",
        r#"{"amount": -2200, "currency": "DKK", "reason": "Slået ind to gange"}"#,
    ),
    (
        "post",
        "/v1/accounts/{id}/deposits",
        r#"{"amount": 10000, "currency": "DKK", "card": {"reference": "portal-4711",
            "transaction": "demo-transaction-1", "charged_at": "2026-11-20T11:02:07Z"}}"#,
    ),
    (
        "post",
        "/v1/accounts/{id}/deposits/{booking}/reversal",
        r#"{"reason": "indsigelse"}"#,
    ),
    (
        "post",
        "/v1/accounts/{id}/orders",
        r#"{"currency": "DKK", "lines": [{"quantity": 1, "name": "Dagens ret", "unit_price": 2200}]}"#,
    ),
    (
        "post",
        "/v1/accounts/{id}/payouts",
        r#"{"amount": 14950, "currency": "DKK", "message": "Udmeldt"}"#,
    ),
    (
        "post",
        "/v1/accounts/{id}/top-up-agreement",
        r#"{"amount": 30000, "currency": "DKK", "card_agreement": "demo-card-1"}"#,
    ),
    (
        "post",
        "/v1/accounts/{id}/transfers",
        r#"{"amount": 5000, "currency": "DKK", "to": 1002}"#,
    ),
    (
        "post",
        "/v1/canteens/{id}/products",
        r#"{"name": "Dagens ret", "category": "Varm mad", "price": 2200, "currency": "DKK", "position": 1}"#,
    ),
    (
        "post",
        "/v1/chips/{number}/replace",
        r#"{"chip": "A10A7E6E", "card": "23456789012345"}"#,
    ),
    (
        "put",
        "/v1/products/{id}",
        r#"{"name": "Dagens ret", "category": "Varm mad", "price": 2400, "currency": "DKK", "position": 1}"#,
    ),
    ("post", "/v1/sales/{booking}/assign", r#"{"account": 1001}"#),
    (
        "post",
        "/v1/sales/{booking}/refunds",
        r#"{"reason": "Udsolgt", "lines": [{"line": 0, "quantity": 1}]}"#,
    ),
    (
        "post",
        "/v1/settlements",
        r#"{"charges": [{"reference": "portal-4711", "transaction": "demo-transaction-1",
              "amount": 10000, "state": "settled"}],
            "covers": {"from": "2026-11-19T23:00:00Z", "through": "2026-11-20T23:00:00Z"}}"#,
    ),
    ("post", "/v1/tills", r#"{"id": "kasse-3", "canteen": 1}"#),
    (
        "post",
        "/v1/tills/{till}/resend",
        r#"{"from_seq": 1, "to_seq": 500}"#,
    ),
    (
        "post",
        "/v1/top-ups/import",
        r#"{"charges": [{"reference": "topup-1-1", "transaction": "demo-transaction-2",
            "card": "demo-card-1", "amount": 20000, "charged_at": "2026-11-20T11:02:07Z"}]}"#,
    ),
    (
        "post",
        "/v1/top-ups/unmatched/{id}/take-in",
        r#"{"account": 10001}"#,
    ),
];
