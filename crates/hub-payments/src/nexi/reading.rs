//! Reading what Nexi Checkout answers; no input or output here.

use std::time::Duration;

use canteen::Money;
use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::is_ours;
use crate::gateway::{Decline, GatewayError, Outcome};
use crate::identity::{AttemptReference, CardAgreement, TransactionId};

/// An HTTP answer, whole.
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Vec<u8>,
}

/// The two names that the gateway gives a charge.
#[derive(Debug)]
pub(super) struct ChargeNames {
    pub(super) payment: TransactionId,
    pub(super) charge: TransactionId,
}

/// A charge's status.
#[derive(Debug)]
pub(super) struct ChargeStatus {
    pub(super) names: ChargeNames,
    pub(super) completed: bool,
}

/// A payment as the gateway tells it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Payment {
    #[serde(default)]
    summary: Summary,
    order_details: Option<OrderDetails>,
    my_reference: Option<String>,
    #[serde(default)]
    refunds: Vec<RefundEntry>,
}

impl Reply {
    pub(super) fn charge_names(&self) -> Result<ChargeNames, GatewayError> {
        let names: ChargeNamesBody = self.read()?;
        names.parse()
    }

    pub(super) fn charge_status(&self) -> Result<ChargeStatus, GatewayError> {
        let status: ChargeStatusBody = self.read()?;
        Ok(ChargeStatus {
            names: status.names.parse()?,
            completed: status.completed,
        })
    }

    pub(super) fn payment(&self) -> Result<Payment, GatewayError> {
        let body: PaymentBody = self.read()?;
        Ok(body.payment)
    }

    pub(super) fn refund_name(&self) -> Result<String, GatewayError> {
        let body: RefundBody = self.read()?;
        Ok(body.refund_id)
    }

    /// Checks that the gateway speaks of the agreement that it was asked about, so that a friendly
    /// page from some other server is not taken for the gateway.
    pub(super) fn names_agreement(&self, agreement: &CardAgreement) -> Result<(), GatewayError> {
        let body: AgreementBody = self.read()?;
        if same_id(&body.unscheduled_subscription_id, agreement.as_str()) {
            Ok(())
        } else {
            Err(GatewayError::unknown(
                "the answer is about another agreement",
            ))
        }
    }

    /// A refused payment. The status alone says that no money moved, so a body that cannot be read
    /// costs the reason and nothing else.
    pub(super) fn decline(&self) -> Outcome {
        let body: ErrorBody = serde_json::from_slice(&self.body).unwrap_or_default();
        let code = body.code.map(CodeText::into_text).unwrap_or_default();
        Outcome::Declined {
            decline: read_decline_code(&code),
            code,
            text: body.message.unwrap_or_default(),
        }
    }

    /// An answer that is neither success nor decline.
    pub(super) fn refusal(&self) -> GatewayError {
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => GatewayError::Busy {
                retry_after: self.retry_after,
            },
            StatusCode::BAD_REQUEST
            | StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::NOT_FOUND
            | StatusCode::UNPROCESSABLE_ENTITY => GatewayError::Invalid {
                status: Some(self.status.as_u16()),
                reason: self.said(),
            },
            // Among them 409, which the gateway gives while it works on the same key, and every
            // status that a proxy on the way may have made up.
            other => GatewayError::unknown(format!("HTTP status {}", other.as_u16())),
        }
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, GatewayError> {
        serde_json::from_slice(&self.body).map_err(|error| GatewayError::Unknown {
            reason: "the answer is not what the gateway promises".to_owned(),
            source: Some(Box::new(error)),
        })
    }

    fn said(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        let short: String = text.chars().take(MAX_SAID).collect();
        let printable = short.replace(char::is_control, " ");
        format!("HTTP status {}: {}", self.status.as_u16(), printable.trim())
    }
}

impl Payment {
    /// What the payment says of our attempt.
    pub(super) fn outcome(
        &self,
        reference: &AttemptReference,
        names: &ChargeNames,
    ) -> Result<Outcome, GatewayError> {
        if !self.is_of(reference) {
            return Ok(Outcome::Declined {
                decline: Decline::Duplicate,
                code: String::new(),
                text: "answered with the payment of an earlier charge".to_owned(),
            });
        }
        if let Some(order) = self.order_details.as_ref()
            && order.currency != "DKK"
        {
            return Err(GatewayError::unknown("the payment is in another currency"));
        }
        Ok(self.decided(names))
    }

    fn decided(&self, names: &ChargeNames) -> Outcome {
        let Summary {
            charged_amount,
            cancelled_amount,
            ..
        } = self.summary;
        if charged_amount > 0 && self.refunded() >= charged_amount {
            return Outcome::Refunded {
                transaction: names.charge.clone(),
            };
        }
        if charged_amount > 0 {
            return Outcome::Paid {
                transaction: names.charge.clone(),
                amount: Money::from_ore(charged_amount),
            };
        }
        if cancelled_amount > 0 {
            return Outcome::Declined {
                decline: Decline::Soft,
                code: String::new(),
                text: "the reservation was cancelled".to_owned(),
            };
        }
        Outcome::Pending
    }

    /// A payment without any reference cannot be told from ours, and was asked for by our key.
    fn is_of(&self, reference: &AttemptReference) -> bool {
        let order = self.order_details.as_ref();
        let said = order.and_then(|order| order.reference.as_deref());
        match said.or(self.my_reference.as_deref()) {
            Some(said) => is_ours(reference, said),
            None => true,
        }
    }

    /// What is or will be sent back. The summary may leave out a refund that is accepted but not
    /// done. A state that is not known counts for nothing: then the summary decides, and asking
    /// again for a refund under the same key does no harm.
    fn refunded(&self) -> i64 {
        let accepted = |refund: &&RefundEntry| {
            matches!(refund.state.as_deref(), Some("Pending" | "Completed"))
        };
        let accepted = self
            .refunds
            .iter()
            .filter(accepted)
            .fold(0_i64, |sum, refund| sum.saturating_add(refund.amount));
        self.summary.refunded_amount.max(accepted)
    }
}

/// The card schemes' response codes (ISO 8583 field 39, with Visa's `R0`, `R1`, `R3` and `1A`), as
/// a gateway passes them on.
///
/// An unknown code is soft: no money moved, the card may still be good, and soft declines are
/// spaced by days and end after three, so no scheme's retry rule is broken by it. `65` is among the
/// soft ones, since one scheme means the cardholder by it and the other a limit.
fn read_decline_code(code: &str) -> Decline {
    match code {
        // Pick up, invalid transaction, card or issuer, lost, stolen, closed, expired, not
        // permitted, restricted, payments stopped by the cardholder.
        "04" | "07" | "12" | "14" | "15" | "41" | "43" | "46" | "54" | "57" | "62" | "R0"
        | "R1" | "R3" => Decline::Hard,
        "1A" => Decline::NeedsCardholder,
        "94" => Decline::Duplicate,
        _ => Decline::Soft,
    }
}

/// UUIDs are written with and without hyphens in the API's own examples.
fn same_id(left: &str, right: &str) -> bool {
    let plain = |text: &str| text.replace('-', "").to_ascii_lowercase();
    plain(left) == plain(right)
}

/// The most characters of a refusal that are kept.
const MAX_SAID: usize = 200;

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Summary {
    charged_amount: i64,
    refunded_amount: i64,
    cancelled_amount: i64,
}

#[derive(Debug, Deserialize)]
struct OrderDetails {
    currency: String,
    reference: Option<String>,
}

#[derive(Debug, Deserialize)]
struct RefundEntry {
    #[serde(default)]
    amount: i64,
    state: Option<String>,
}

#[derive(Deserialize)]
struct PaymentBody {
    payment: Payment,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChargeNamesBody {
    payment_id: String,
    charge_id: String,
}

impl ChargeNamesBody {
    fn parse(&self) -> Result<ChargeNames, GatewayError> {
        let strange = |_| GatewayError::unknown("the answer names a charge strangely");
        Ok(ChargeNames {
            payment: self.payment_id.parse().map_err(strange)?,
            charge: self.charge_id.parse().map_err(strange)?,
        })
    }
}

#[derive(Deserialize)]
struct ChargeStatusBody {
    #[serde(flatten)]
    names: ChargeNamesBody,
    completed: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RefundBody {
    refund_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AgreementBody {
    unscheduled_subscription_id: String,
}

#[derive(Default, Deserialize)]
struct ErrorBody {
    code: Option<CodeText>,
    message: Option<String>,
}

/// The API calls the code numeric and types it as a string; both have been seen in such APIs.
#[derive(Deserialize)]
#[serde(untagged)]
enum CodeText {
    Text(String),
    Number(i64),
}

impl CodeText {
    fn into_text(self) -> String {
        match self {
            Self::Text(text) => text,
            // Scheme codes have two places, so a number 5 is the code "05".
            Self::Number(number) => format!("{number:02}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str) -> Reply {
        Reply {
            status: StatusCode::from_u16(status).expect("a status"),
            retry_after: None,
            body: body.as_bytes().to_vec(),
        }
    }

    fn names() -> ChargeNames {
        ChargeNames {
            payment: "p1".parse().expect("an id"),
            charge: "c1".parse().expect("an id"),
        }
    }

    #[test]
    fn the_references_own_examples_are_read() {
        // The example bodies of the Payment API reference.
        let names = reply(
            200,
            r#"{"paymentId": "cde57b2e01814c7e835d003242a377b7",
                "chargeId": "79603769681f4acdb838cd513ff32555"}"#,
        )
        .charge_names()
        .expect("names");
        assert_eq!(names.charge.as_str(), "79603769681f4acdb838cd513ff32555");
        let status = reply(
            200,
            r#"{"paymentId": "583170b81702482e82e91b6d36311b3f",
                "chargeId": "002c8a931603436f8dbbdcbf88954818", "completed": true}"#,
        )
        .charge_status()
        .expect("a status");
        assert!(status.completed);
        assert_eq!(
            status.names.payment.as_str(),
            "583170b81702482e82e91b6d36311b3f"
        );
    }

    #[test]
    fn every_decline_has_a_class_and_unknown_codes_are_soft() {
        let check = |body: &str, expected: Decline, code: &str| {
            let Outcome::Declined {
                decline,
                code: read,
                ..
            } = reply(402, body).decline()
            else {
                panic!("a 402 that is no decline: {body}");
            };
            assert_eq!((decline, read.as_str()), (expected, code), "{body}");
        };
        check(
            r#"{"code":"51","message":"no funds","source":"issuer"}"#,
            Decline::Soft,
            "51",
        );
        check(r#"{"code":51}"#, Decline::Soft, "51");
        check(r#"{"code":4}"#, Decline::Hard, "04");
        check(r#"{"code":"54"}"#, Decline::Hard, "54");
        check(r#"{"code":"R1"}"#, Decline::Hard, "R1");
        check(r#"{"code":"1A"}"#, Decline::NeedsCardholder, "1A");
        check(r#"{"code":"94"}"#, Decline::Duplicate, "94");
        check(r#"{"code":"Q7","source":"a new one"}"#, Decline::Soft, "Q7");
        check(r#"{"code":["x"]}"#, Decline::Soft, "");
        check("<html>", Decline::Soft, "");
        check("", Decline::Soft, "");
    }

    /// Whether money may have moved in the call that gave this error.
    fn is_unknown(error: &GatewayError) -> bool {
        matches!(error, GatewayError::Unknown { .. })
    }

    #[test]
    fn only_an_answer_that_refuses_the_request_proves_that_nothing_was_done() {
        let check = |status: u16, may_have_moved: bool| {
            let error = reply(status, "").refusal();
            assert_eq!(is_unknown(&error), may_have_moved, "{status}: {error}");
        };
        for status in [400, 401, 403, 404, 422, 429] {
            check(status, false);
        }
        for status in [202, 204, 301, 307, 408, 409, 418, 500, 502, 503, 504] {
            check(status, true);
        }
    }

    #[test]
    fn a_payment_tells_the_outcome_of_our_attempt() {
        let reference = AttemptReference::from_bits(7);
        let check = |body: &str, expected: &str| {
            let body = body.replace("OURS", reference.as_str());
            let payment = reply(200, &format!(r#"{{"payment":{body}}}"#));
            let outcome = payment
                .payment()
                .and_then(|payment| payment.outcome(&reference, &names()));
            let told = match outcome {
                Ok(Outcome::Pending) => "pending".to_owned(),
                Ok(Outcome::Paid { amount, .. }) => format!("paid {}", amount.ore()),
                Ok(Outcome::Refunded { .. }) => "refunded".to_owned(),
                Ok(Outcome::Declined { decline, .. }) => format!("{decline:?}"),
                Err(error) => format!("moved? {}", is_unknown(&error)),
            };
            assert_eq!(told, expected, "{body}");
        };
        let order = r#""orderDetails":{"amount":20000,"currency":"DKK","reference":"OURS"}"#;
        check(
            &format!(r#"{{"summary":{{"chargedAmount":20000}},{order}}}"#),
            "paid 20000",
        );
        check(&format!(r#"{{"summary":{{}},{order}}}"#), "pending");
        check(&format!("{{{order}}}"), "pending");
        check(
            &format!(r#"{{"summary":{{"reservedAmount":20000}},{order}}}"#),
            "pending",
        );
        check(
            &format!(r#"{{"summary":{{"reservedAmount":200,"cancelledAmount":200}},{order}}}"#),
            "Soft",
        );
        check(
            &format!(r#"{{"summary":{{"chargedAmount":200,"refundedAmount":200}},{order}}}"#),
            "refunded",
        );
        check(
            &format!(r#"{{"summary":{{"chargedAmount":200,"refundedAmount":100}},{order}}}"#),
            "paid 200",
        );
        for (state, expected) in [
            ("Pending", "refunded"),
            ("Failed", "paid 200"),
            ("Cancelled", "paid 200"),
            ("SomethingNew", "paid 200"),
        ] {
            let refunds = format!(r#""refunds":[{{"amount":200,"state":"{state}"}}]"#);
            check(
                &format!(r#"{{"summary":{{"chargedAmount":200}},{refunds},{order}}}"#),
                expected,
            );
        }
        let other = order.replace("OURS", "00000000000000000008");
        check(
            &format!(r#"{{"summary":{{"chargedAmount":200}},{other}}}"#),
            "Duplicate",
        );
        check(
            r#"{"summary":{"chargedAmount":200},"myReference":"OURS"}"#,
            "paid 200",
        );
        let euro = order.replace("DKK", "EUR");
        check(
            &format!(r#"{{"summary":{{"chargedAmount":200}},{euro}}}"#),
            "moved? true",
        );
        check("7", "moved? true");
    }

    #[test]
    fn an_agreement_is_recognised_with_and_without_hyphens() {
        let agreement: CardAgreement = "98ad5e29-05eb-4555-80d1-34e31fd3e5c7".parse().expect("id");
        let check = |body: &str, good: bool| {
            assert_eq!(
                reply(200, body).names_agreement(&agreement).is_ok(),
                good,
                "{body}"
            );
        };
        check(
            r#"{"unscheduledSubscriptionId":"98ad5e2905eb455580d134e31fd3e5c7"}"#,
            true,
        );
        check(
            r#"{"unscheduledSubscriptionId":"00ad5e2905eb455580d134e31fd3e5c7"}"#,
            false,
        );
        check("<html>welcome</html>", false);
    }
}
