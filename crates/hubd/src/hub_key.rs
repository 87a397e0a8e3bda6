//! The hub's key, and its signature over everything that tills are told.
//!
//! Networks of schools inspect TLS, so a till believes an answer only when the hub has signed it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sync_proto::{ANSWER_SIGNATURE, HubKey, TillId, answer_message};
use thiserror::Error;

use crate::problem::Problem;

/// Why the key cannot be used.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot use {}; check that it exists and belongs to the hub's user", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file holds no key.
    #[error("{} is no hub key (64 hex digits); put it back from a backup, or remove it and enrol every till anew", path.display())]
    Key {
        /// Which file.
        path: PathBuf,
    },
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    Random,
}

/// The key in the file beside a database; drawn at the first start.
pub fn open_key(database: &Path) -> Result<HubKey, KeyError> {
    let path = beside(database, "key");
    let mut seed = [0; 32];
    match fs::read_to_string(&path) {
        Ok(text) => hex::decode_to_slice(text.trim(), &mut seed)
            .map_err(|_| KeyError::Key { path: path.clone() })?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            getrandom::fill(&mut seed).map_err(|_| KeyError::Random)?;
            write_whole(&path, hex::encode(seed).as_bytes())
                .map_err(|source| KeyError::File { path, source })?;
        }
        Err(source) => return Err(KeyError::File { path, source }),
    }
    Ok(HubKey::from_seed(&seed))
}

/// A file that belongs to a database: `hub.sqlite` has `hub.sqlite.key`.
pub(crate) fn beside(database: &Path, kind: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".");
    name.push(kind);
    PathBuf::from(name)
}

/// Writes the whole file, for the hub's user alone, or leaves the old one, also through a power cut.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let fresh = beside(path, "new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&fresh)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    let directory = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(directory)?.sync_all()
}

/// Signs every answer to a till: what it was asked, the status and the body before it is packed.
pub(crate) async fn sign_answers(
    State(key): State<Arc<HubKey>>,
    request: Request,
    next: Next,
) -> Response {
    let Some((till, question)) = asked(request.uri()) else {
        return next.run(request).await;
    };
    let (mut parts, body) = next.run(request).await.into_parts();
    // Bounded by what the hub itself answers.
    let Ok(body) = to_bytes(body, usize::MAX).await else {
        return Problem::new("internal", "the answer could not be made").into_response();
    };
    let message = answer_message(&till, parts.status.as_u16(), &question, &body);
    let signature = key.sign(&message).to_string();
    if let Ok(signature) = HeaderValue::try_from(signature) {
        let name = HeaderName::from_static(ANSWER_SIGNATURE);
        parts.headers.insert(name, signature);
    }
    Response::from_parts(parts, Body::from(body))
}

/// Which till is told what, when it is a till that is told.
fn asked(uri: &Uri) -> Option<(TillId, String)> {
    let rest = uri.path().strip_prefix("/v1/tills/")?;
    let till = rest.split('/').next()?.parse().ok()?;
    let question = uri.path_and_query()?.as_str().to_owned();
    Some((till, question))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_stays_the_same_and_is_for_the_hub_alone() {
        let dir = tempfile::tempdir().unwrap();
        let database = dir.path().join("hub.sqlite");
        let first = open_key(&database).unwrap().public();
        assert_eq!(open_key(&database).unwrap().public(), first);
        let file = dir.path().join("hub.sqlite.key");
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(&file, "zz").unwrap();
        let error = open_key(&database).unwrap_err();
        assert!(error.to_string().contains("hub.sqlite.key"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "zz");
    }

    #[test]
    fn only_answers_under_the_name_of_a_till_are_signed() {
        let asked = |uri: &str| asked(&uri.parse().unwrap());
        let feed = "/v1/tills/kasse-1/feed?cursor=1";
        assert_eq!(
            asked(&format!("http://hub{feed}")),
            Some(("kasse-1".parse().unwrap(), feed.to_owned()))
        );
        assert!(asked("/v1/tills/kasse-1").is_some());
        assert_eq!(asked("/v1/tills"), None);
        assert_eq!(asked("/v1/tills/Kasse"), None);
        assert_eq!(asked("/v1/enrolments"), None);
    }
}
