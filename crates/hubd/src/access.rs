//! Who is asking: a till with its token, or an operator with theirs.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{Method, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hub_ledger::{Fingerprint, Reach, TillAccess};
use sync_proto::{BatchRefusal, TillId};

use crate::problem::Problem;
use crate::server::Hub;

/// An operator from the configuration.
#[derive(Debug, Clone)]
pub struct OperatorAccess {
    /// Who it is, for the log.
    pub name: String,
    /// The fingerprint of their token.
    pub token: Fingerprint,
    /// The tenant that they may see; `None` is all.
    pub tenant: Option<String>,
}

/// A till that has shown the token that belongs to the name in the path.
pub(crate) struct Till(pub(crate) TillAccess);

impl FromRequestParts<Hub> for Till {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Till, Problem> {
        let not_enrolled = || Problem::from(BatchRefusal::NotEnrolled);
        let token = bearer(parts).ok_or_else(not_enrolled)?;
        let fingerprint = Fingerprint::of(token);
        let access = hub
            .books
            .read(move |books| books.till_by_token(fingerprint))
            .await?;
        let named = till_in_path(parts, hub).await.ok_or_else(not_enrolled)?;
        if let Some(access) = access {
            return if access.till == named {
                Ok(Till(access))
            } else {
                Err(not_enrolled())
            };
        }
        let revoked = hub
            .books
            .read(move |books| books.is_revoked(&named, fingerprint))
            .await?;
        Err(if revoked {
            BatchRefusal::Revoked.into()
        } else {
            not_enrolled()
        })
    }
}

async fn till_in_path(parts: &mut Parts, hub: &Hub) -> Option<TillId> {
    let params = RawPathParams::from_request_parts(parts, hub).await.ok()?;
    let (_, name) = params.iter().find(|(key, _)| *key == "till")?;
    name.parse().ok()
}

/// An operator who has shown a token.
///
/// A browser may send the token as the password of Basic authentication, for pages and other
/// reading; what changes something takes a bearer token only, since a browser sends Basic
/// credentials along with requests that other pages make.
pub(crate) struct Operator(pub(crate) Reach);

impl FromRequestParts<Hub> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, hub: &Hub) -> Result<Operator, Problem> {
        let unauthorized =
            || Problem::new("unauthorized", "show an operator's token as a bearer token");
        let reading = parts.method == Method::GET || parts.method == Method::HEAD;
        let token = match bearer(parts) {
            Some(token) => token.to_owned(),
            None if reading => basic_password(parts).ok_or_else(unauthorized)?,
            None => return Err(unauthorized()),
        };
        let token = Fingerprint::of(&token);
        let operator = hub
            .operators
            .iter()
            .find(|operator| operator.token == token)
            .ok_or_else(unauthorized)?;
        let Some(name) = operator.tenant.clone() else {
            return Ok(Operator(Reach::Everything));
        };
        match hub
            .books
            .read(move |books| books.find_tenant(&name))
            .await?
        {
            Some(tenant) => Ok(Operator(Reach::Tenant(tenant))),
            None => Err(Problem::new(
                "forbidden",
                "the token's tenant is not on this hub",
            )),
        }
    }
}

fn bearer(parts: &Parts) -> Option<&str> {
    credentials(parts, "bearer")
}

fn basic_password(parts: &Parts) -> Option<String> {
    let decoded = STANDARD.decode(credentials(parts, "basic")?).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    text.split_once(':')
        .map(|(_, password)| password.to_owned())
}

fn credentials<'a>(parts: &'a Parts, scheme: &str) -> Option<&'a str> {
    let value = parts.headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (found, rest) = value.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}
