//! An answer of the hub: read with bounds, unpacked, and believed only when it is signed.

use std::io::Read;
use std::time::Duration;

use reqwest::header::{CONTENT_ENCODING, RETRY_AFTER};
use reqwest::{Client, RequestBuilder, Response, StatusCode};
use rustls::CertificateError;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use sync_proto::{ANSWER_SIGNATURE, HubPublicKey, HubSignature, TillId, answer_message};

use crate::certificate::CertificateDates;
use crate::hub::HubError;

/// What came back.
pub(crate) struct Answer {
    /// How it went.
    pub(crate) status: StatusCode,
    /// The body, unpacked.
    pub(crate) body: Vec<u8>,
    /// The whole address that was asked.
    asked: String,
    retry_after: Option<u64>,
    signature: Option<HubSignature>,
}

/// Sends a request and reads the answer to its end.
pub(crate) async fn ask(http: &Client, request: RequestBuilder) -> Result<Answer, HubError> {
    let request = request.build().map_err(unreachable)?;
    let asked = request.url().to_string();
    let response = http.execute(request).await.map_err(unreachable)?;
    let header = |name: &str| {
        let value = response.headers().get(name)?;
        value.to_str().ok()
    };
    let retry_after = header(RETRY_AFTER.as_str()).and_then(|text| text.parse().ok());
    let signature = header(ANSWER_SIGNATURE).and_then(|text| text.parse().ok());
    Ok(Answer {
        status: response.status(),
        body: read_body(response).await?,
        asked,
        retry_after,
        signature,
    })
}

impl Answer {
    /// The same answer, if the hub has given it to this till and to this question.
    ///
    /// That the hub is not to be reached, wants to wait or takes no more bytes, a machine in between
    /// may say as well: nothing follows from it but another attempt.
    pub(crate) fn check(self, till: &TillId, key: &HubPublicKey) -> Result<Answer, HubError> {
        let only_delays = self.status.is_server_error()
            || self.status == StatusCode::TOO_MANY_REQUESTS
            || self.status == StatusCode::PAYLOAD_TOO_LARGE;
        // What stands before it, a proxy takes away.
        let begin = self.asked.find("/v1/tills/").unwrap_or(0);
        let question = self.asked.get(begin..).unwrap_or_default();
        let message = answer_message(till, self.status.as_u16(), question, &self.body);
        let signed = self
            .signature
            .is_some_and(|signature| key.verifies(&message, &signature));
        if signed || only_delays {
            Ok(self)
        } else {
            Err(HubError::NotSigned)
        }
    }

    /// What it says.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, HubError> {
        serde_json::from_slice(&self.body).map_err(|error| HubError::Garbled(error.to_string()))
    }

    /// A refusal that the protocol knows, or a failure that it does not.
    pub(crate) fn refusal<T, R: DeserializeOwned>(
        &self,
        known: impl Fn(R) -> HubError,
    ) -> Result<T, HubError> {
        let status = self.status;
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(self.failure());
        }
        match serde_json::from_slice(&self.body) {
            Ok(refusal) => Err(known(refusal)),
            Err(_) if status == StatusCode::UNAUTHORIZED || status == StatusCode::FORBIDDEN => {
                Err(HubError::NotEnrolled)
            }
            Err(_) => Err(HubError::Garbled(format!("status {status}"))),
        }
    }

    /// What a failure of the hub means.
    pub(crate) fn failure(&self) -> HubError {
        let status = self.status;
        if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
            return HubError::Busy {
                retry_after: Duration::from_secs(self.retry_after.unwrap_or(BUSY_WAIT)),
            };
        }
        // What stands before a hub says 502 and 504 of it; 500 is its own.
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            return HubError::Failed(format!("status {status}"));
        }
        HubError::Unreachable(format!("status {status}"))
    }

    /// What a refused enrolment means: only a hub names the problem, and a hub knows the path.
    pub(crate) fn enrolment_refusal(&self) -> HubError {
        #[derive(Deserialize)]
        struct Problem {
            title: String,
        }
        match self.json::<Problem>() {
            Ok(problem) if self.status != StatusCode::NOT_FOUND => {
                HubError::EnrolmentRefused(problem.title)
            }
            Ok(_) | Err(_) => HubError::NoHub(self.status),
        }
    }
}

fn unreachable(error: reqwest::Error) -> HubError {
    let error = error.without_url();
    let mut cause: &dyn std::error::Error = &error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    match tls_error(cause) {
        Some(error) => refused_by_tls(error),
        None => HubError::Unreachable(cause.to_string()),
    }
}

/// What TLS says stands inside I/O errors, which do not call it their source.
fn tls_error<'a>(cause: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(error) = cause.downcast_ref() {
        return Some(error);
    }
    let inside = cause.downcast_ref::<std::io::Error>()?.get_ref()?;
    tls_error(inside)
}

fn refused_by_tls(error: &rustls::Error) -> HubError {
    if let Some(dates) = CertificateDates::of(error) {
        return HubError::Certificate(dates);
    }
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            HubError::Untrusted("an authority that this machine does not know has made it".into())
        }
        rustls::Error::InvalidCertificate(CertificateError::NotValidForName) => {
            HubError::Untrusted("it is made out to another name".into())
        }
        rustls::Error::InvalidCertificate(why) => HubError::Untrusted(why.to_string()),
        rustls::Error::InvalidMessage(_) => HubError::Unreachable(
            "what is there does not speak TLS; see that hub.url and its port are right".into(),
        ),
        other => HubError::Unreachable(other.to_string()),
    }
}

/// The body, unpacked, never more than [`BODY_MAX`].
async fn read_body(mut response: Response) -> Result<Vec<u8>, HubError> {
    let encoding = response
        .headers()
        .get(CONTENT_ENCODING)
        .map(|value| value.as_bytes().to_vec());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
        if body.len() + chunk.len() > BODY_MAX {
            return Err(HubError::Garbled(format!(
                "an answer of more than {BODY_MAX} bytes"
            )));
        }
        body.extend_from_slice(&chunk);
    }
    match encoding.as_deref() {
        None | Some(b"identity") => Ok(body),
        Some(b"zstd") => unpack(&body),
        Some(other) => Err(HubError::Garbled(format!(
            "an answer packed by {}",
            String::from_utf8_lossy(other)
        ))),
    }
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, HubError> {
    let garbled = |error: std::io::Error| HubError::Garbled(error.to_string());
    let decoder = zstd::Decoder::new(packed).map_err(garbled)?;
    let mut body = Vec::new();
    decoder
        .take(BODY_MAX as u64 + 1)
        .read_to_end(&mut body)
        .map_err(garbled)?;
    if body.len() > BODY_MAX {
        return Err(HubError::Garbled(format!(
            "an answer that unpacks to more than {BODY_MAX} bytes"
        )));
    }
    Ok(body)
}

const BUSY_WAIT: u64 = 5;
const BODY_MAX: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use sync_proto::{FeedRefusal, HubKey};

    use super::*;

    #[test]
    fn sy_32_an_answer_that_unpacks_to_too_much_is_refused() {
        let bomb = zstd::encode_all(&*vec![0; BODY_MAX + 1], 19).unwrap();
        assert!(bomb.len() < 100_000);
        assert!(matches!(unpack(&bomb), Err(HubError::Garbled(_))));
    }

    #[test]
    fn only_a_hub_refuses_a_code_and_anything_else_is_no_hub() {
        let refusal = |status, body: &str| {
            let answer = answer(status, body.as_bytes(), None);
            answer.enrolment_refusal().to_string()
        };
        let problem = "{\"type\": \"about:blank\", \"title\": \"The enrolment is refused\"}";
        assert_eq!(
            refusal(403, problem),
            "the hub refuses the enrolment (The enrolment is refused); ask the operator for a new code"
        );
        for (status, body) in [(404, "<html>"), (405, ""), (403, "<html>"), (404, problem)] {
            let words = refusal(status, body);
            assert!(words.contains("is no hub"), "{words}");
            assert!(words.contains("hub.url"), "{words}");
            assert!(!words.contains("new code"), "{words}");
        }
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_told_with_what_to_look_at() {
        use rustls::{CertificateError, Error, InvalidMessage};
        for (error, expected) in [
            (
                Error::InvalidCertificate(CertificateError::UnknownIssuer),
                "hub.ca_file",
            ),
            (
                Error::InvalidCertificate(CertificateError::NotValidForName),
                "made out to another name",
            ),
            (
                Error::InvalidMessage(InvalidMessage::InvalidContentType),
                "does not speak TLS",
            ),
        ] {
            let words = refused_by_tls(&error).to_string();
            assert!(words.contains(expected), "{words}");
            assert!(words.contains("hub.url"), "{words}");
        }
    }

    const QUESTION: &str = "/v1/tills/kasse-1/feed?cursor=1";

    fn answer(status: u16, body: &[u8], signature: Option<HubSignature>) -> Answer {
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            body: body.to_owned(),
            asked: format!("https://hub.invalid/canteen{QUESTION}"),
            retry_after: None,
            signature,
        }
    }

    fn signature(seed: u8, till: &str, status: u16, question: &str, body: &[u8]) -> HubSignature {
        let message = answer_message(&till.parse().unwrap(), status, question, body);
        HubKey::from_seed(&[seed; 32]).sign(&message)
    }

    #[track_caller]
    fn check(answer: Answer, believed: bool) {
        let key = HubKey::from_seed(&[7; 32]).public();
        let checked = answer.check(&"kasse-1".parse().unwrap(), &key);
        match checked {
            Ok(_) => assert!(believed),
            Err(HubError::NotSigned) => assert!(!believed),
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn sy_39_only_what_the_hub_signed_for_this_till_and_question_is_believed() {
        let signed = |seed, till: &str, status, question: &str, body: &[u8]| {
            answer(
                200,
                b"{}",
                Some(signature(seed, till, status, question, body)),
            )
        };
        check(signed(7, "kasse-1", 200, QUESTION, b"{}"), true);
        check(signed(8, "kasse-1", 200, QUESTION, b"{}"), false);
        check(signed(7, "kasse-2", 200, QUESTION, b"{}"), false);
        check(signed(7, "kasse-1", 410, QUESTION, b"{}"), false);
        check(signed(7, "kasse-1", 200, "/v1/tills", b"{}"), false);
        check(signed(7, "kasse-1", 200, QUESTION, b"{ }"), false);
        check(answer(200, b"{}", None), false);
    }

    #[test]
    fn a_machine_in_between_may_only_delay() {
        for (status, believed) in [(502, true), (503, true), (429, true), (413, true)] {
            check(answer(status, b"", None), believed);
        }
        for status in [200, 204, 302, 401, 403, 404, 409, 410] {
            check(answer(status, b"", None), false);
        }
    }

    #[test]
    fn a_refusal_is_told_from_a_login_page() {
        let refused = |status, body: &[u8]| {
            let answer = answer(status, body, None);
            answer
                .refusal::<(), FeedRefusal>(HubError::Feed)
                .unwrap_err()
        };
        let revoked = refused(403, br#"{"code":"revoked"}"#);
        assert!(matches!(revoked, HubError::Feed(FeedRefusal::Revoked)));
        assert!(matches!(refused(401, b"<html>"), HubError::NotEnrolled));
        assert!(matches!(refused(404, b"<html>"), HubError::Garbled(_)));
        assert!(matches!(refused(500, b"{}"), HubError::Failed(_)));
        assert!(matches!(refused(502, b"{}"), HubError::Unreachable(_)));
    }
}
