//! The client's end of the control socket.

use std::future::{Future, pending};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::answer::Answer;
use crate::line::{ANSWER_MAX_BYTES, LineError, read, write};
use crate::request::Request;

/// A connection to the daemon.
#[derive(Debug)]
pub struct Client {
    answers: BufReader<OwnedReadHalf>,
    requests: OwnedWriteHalf,
}

impl Client {
    /// Connects to the daemon's socket.
    pub async fn connect(path: &Path) -> Result<Client, ControlError> {
        let stream = UnixStream::connect(path)
            .await
            .map_err(|source| ControlError::connecting(path, source))?;
        let (answers, requests) = stream.into_split();
        Ok(Client {
            answers: BufReader::new(answers),
            requests,
        })
    }

    /// Asks and waits for the answer.
    ///
    /// After an error the connection is of no more use, and a sale or a void may or may not have
    /// been booked: ask again with the same id.
    pub async fn request(&mut self, request: &Request) -> Result<Answer, ControlError> {
        self.request_until(request, pending()).await
    }

    /// Asks and waits for the answer; when `cancel` comes first, tells the daemon that nobody
    /// waits any longer and returns what became of the request.
    pub async fn request_until(
        &mut self,
        request: &Request,
        cancel: impl Future<Output = ()>,
    ) -> Result<Answer, ControlError> {
        let Client { answers, requests } = self;
        // A daemon that refuses a caller answers without reading: its answer says more than
        // the failure to write.
        let written = write(requests, request).await;
        let answer = async {
            match read(answers, ANSWER_MAX_BYTES).await {
                Ok(Some(answer)) => Ok(answer),
                Ok(None) | Err(LineError::Io(_)) => Err(ControlError::Closed),
                Err(error) => Err(ControlError::Answer(error)),
            }
        };
        tokio::pin!(answer);
        let patience = if written.is_ok() {
            request.patience()
        } else {
            REFUSAL_WAIT
        };
        tokio::select! {
            biased;
            answered = timeout(patience, &mut answer) => {
                return answered.unwrap_or(Err(ControlError::Silent { waited: patience }));
            }
            () = cancel => {}
        }
        // If the daemon is gone the wait below says so.
        let _ = requests.shutdown().await;
        timeout(CANCEL_WAIT, answer)
            .await
            .unwrap_or(Err(ControlError::Silent {
                waited: CANCEL_WAIT,
            }))
    }
}

/// Why the daemon cannot be asked or does not answer.
#[derive(Debug, Error)]
pub enum ControlError {
    /// There is no socket.
    #[error("tilld is not running, or --socket is wrong: there is no {}", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Nothing listens on the socket.
    #[error("tilld is not running: nothing listens on {}", path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket may not be used.
    #[error("you may not use {}: become root or join its group", path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
    },
    /// Anything else that prevents connecting.
    #[error("cannot connect to {}", path.display())]
    Connect {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The daemon closed the connection without an answer.
    #[error("tilld closed the connection without an answer: see its log (journalctl -u tilld)")]
    Closed,
    /// The daemon did not answer.
    #[error("tilld did not answer within {} s: see its log (journalctl -u tilld)", waited.as_secs())]
    Silent {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The daemon's answer is of no use.
    #[error("tilld's answer cannot be used: tillctl and tilld should be of the same version")]
    Answer(#[source] LineError),
}

impl ControlError {
    fn connecting(path: &Path, source: io::Error) -> ControlError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => ControlError::Missing { path },
            io::ErrorKind::ConnectionRefused => ControlError::NotRunning { path },
            io::ErrorKind::PermissionDenied => ControlError::Denied { path },
            // Kinds are the standard library's, which adds to them.
            _ => ControlError::Connect { path, source },
        }
    }
}

/// How long an answer may take once nobody waits for the chip any longer.
const CANCEL_WAIT: Duration = Duration::from_secs(5);
/// How long to look for the reason why a daemon did not take the request.
const REFUSAL_WAIT: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use canteen::Money;
    use tokio::io::AsyncReadExt;
    use tokio::net::UnixListener;
    use uuid::Uuid;

    use super::*;
    use crate::{
        ErrorAnswer, ErrorCode, Message, SellAnswer, SellReason, closed, read_request, write_answer,
    };

    #[track_caller]
    fn check(outcome: Result<Answer, ControlError>, expect: &str) {
        assert_eq!(outcome.unwrap_err().to_string(), expect);
    }

    fn sell() -> Request {
        Request::Sell {
            id: Some(Uuid::from_u128(1)),
            lines: vec!["1x Dagens ret 22,00".into()],
            timeout_s: 30,
        }
    }

    fn cancelled() -> Answer {
        let message = Message::new("Salget er annulleret", "The sale is cancelled");
        Answer::Sell(Box::new(SellAnswer::without_chip(
            Uuid::from_u128(1),
            Money::from_kroner(22),
            SellReason::Cancelled,
            message,
        )))
    }

    #[tokio::test]
    async fn what_prevents_connecting_is_said_with_advice() {
        let room = tempfile::tempdir().unwrap();
        let missing = room.path().join("none.sock");
        let error = Client::connect(&missing).await.unwrap_err().to_string();
        assert!(
            error.starts_with("tilld is not running, or --socket is wrong: there is no /"),
            "{error}"
        );

        let left_over = room.path().join("left-over.sock");
        drop(UnixListener::bind(&left_over).unwrap());
        let error = Client::connect(&left_over).await.unwrap_err();
        assert!(matches!(error, ControlError::NotRunning { .. }), "{error}");

        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let error = ControlError::connecting(&left_over, denied);
        assert!(matches!(error, ControlError::Denied { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_daemon_that_closes_or_babbles_is_named() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("tilld.sock");
        let listener = UnixListener::bind(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        let daemon = tokio::spawn(async move {
            for babble in [&b""[..], b"{\"answer\":\"st", b"hello\n"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 16];
                stream.read_exact(&mut request).await.unwrap();
                stream.write_all(babble).await.unwrap();
            }
        });
        let mut outcomes = Vec::new();
        for _ in 0..3 {
            let mut client = Client::connect(&path).await.unwrap();
            outcomes.push(client.request(&Request::Status).await);
        }
        daemon.await.unwrap();
        let unusable =
            "tilld's answer cannot be used: tillctl and tilld should be of the same version";
        let mut outcomes = outcomes.into_iter();
        check(
            outcomes.next().unwrap(),
            "tilld closed the connection without an answer: see its log (journalctl -u tilld)",
        );
        check(outcomes.next().unwrap(), unusable);
        check(outcomes.next().unwrap(), unusable);
    }

    #[tokio::test]
    async fn a_refusal_is_heard_even_when_the_request_was_never_read() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("tilld.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let refusal = Answer::Error(ErrorAnswer::new(ErrorCode::Forbidden, "no", ""));
        let expect = refusal.clone();
        let daemon = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            write_answer(&mut stream, &refusal).await.unwrap();
        });
        let mut client = Client::connect(&path).await.unwrap();
        daemon.await.unwrap();
        assert_eq!(client.request(&Request::Status).await.unwrap(), expect);
    }

    #[tokio::test]
    async fn a_cancelled_sale_still_learns_what_became_of_it() {
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("tilld.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let daemon = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let (requests, mut answers) = stream.into_split();
            let mut requests = BufReader::new(requests);
            let asked = read_request(&mut requests).await.unwrap();
            closed(&mut requests).await;
            write_answer(&mut answers, &cancelled()).await.unwrap();
            asked
        });
        let mut client = Client::connect(&path).await.unwrap();
        let cancel = tokio::time::sleep(Duration::from_millis(50));
        let answer = client.request_until(&sell(), cancel).await.unwrap();
        assert_eq!(answer, cancelled());
        assert_eq!(daemon.await.unwrap(), Some(sell()));
    }
}
