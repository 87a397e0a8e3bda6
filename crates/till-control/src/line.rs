//! One JSON value per line, with a bound on every line.

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncWrite, AsyncWriteExt};

use crate::answer::Answer;
use crate::request::Request;

/// The longest request that a daemon reads: a basket of some hundred lines.
pub const REQUEST_MAX_BYTES: usize = 64 * 1024;

/// The longest answer that a client reads: a full page of the ledger.
pub const ANSWER_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Reads the next request; `None` when the client closed after its last one.
///
/// Not to be dropped half-way: what it has read of a line is lost with it.
pub async fn read_request<R>(stream: &mut R) -> Result<Option<Request>, LineError>
where
    R: AsyncBufRead + Unpin,
{
    read(stream, REQUEST_MAX_BYTES).await
}

/// Writes an answer.
pub async fn write_answer<W>(stream: &mut W, answer: &Answer) -> Result<(), LineError>
where
    W: AsyncWrite + Unpin,
{
    write(stream, answer).await
}

/// Returns when the client has closed its writing half, or the whole connection; use it in a
/// `select!` beside a sale that waits for a chip. It may be dropped at any time.
///
/// A client that sends more before it has its answer breaks the order of a conversation, and
/// that counts as closing too.
pub async fn closed<R>(stream: &mut R)
where
    R: AsyncBufRead + Unpin,
{
    // Whether nothing, something or an error comes: the wait of this client is over.
    let _ = stream.fill_buf().await;
}

pub(crate) async fn read<T, R>(stream: &mut R, max: usize) -> Result<Option<T>, LineError>
where
    T: DeserializeOwned,
    R: AsyncBufRead + Unpin,
{
    let Some(line) = read_line(stream, max).await? else {
        return Ok(None);
    };
    serde_json::from_slice(&line)
        .map(Some)
        .map_err(LineError::Unreadable)
}

pub(crate) async fn write<T, W>(stream: &mut W, value: &T) -> Result<(), LineError>
where
    T: Serialize,
    W: AsyncWrite + Unpin,
{
    let mut line = serde_json::to_vec(value).map_err(LineError::Unreadable)?;
    line.push(b'\n');
    stream.write_all(&line).await.map_err(LineError::Io)?;
    stream.flush().await.map_err(LineError::Io)
}

async fn read_line<R>(stream: &mut R, max: usize) -> Result<Option<Vec<u8>>, LineError>
where
    R: AsyncBufRead + Unpin,
{
    let mut line = Vec::new();
    loop {
        let chunk = stream.fill_buf().await.map_err(LineError::Io)?;
        if chunk.is_empty() {
            return if line.is_empty() {
                Ok(None)
            } else {
                Err(LineError::CutOff)
            };
        }
        let end = chunk.iter().position(|&byte| byte == b'\n');
        let part = &chunk[..end.unwrap_or(chunk.len())];
        // Checked before it is kept, so that a client cannot fill the daemon's memory.
        if line.len() + part.len() > max {
            return Err(LineError::TooLong { max });
        }
        line.extend_from_slice(part);
        let taken = part.len() + usize::from(end.is_some());
        stream.consume(taken);
        if end.is_some() {
            return Ok(Some(line));
        }
    }
}

/// Why a line cannot be read or written.
#[derive(Debug, Error)]
pub enum LineError {
    /// It is longer than allowed; nothing after it can be understood.
    #[error("the line is longer than {max} bytes")]
    TooLong {
        /// The longest allowed.
        max: usize,
    },
    /// The other side closed in the middle of it.
    #[error("the line was cut off")]
    CutOff,
    /// It is not the JSON that belongs here.
    #[error("the line cannot be understood")]
    Unreadable(#[source] serde_json::Error),
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{BufReader, duplex};
    use tokio::time::timeout;

    use super::*;

    async fn read_all(sent: &[u8]) -> Vec<String> {
        // A pipe of seven bytes: every line arrives in pieces.
        let (mut near, far) = duplex(7);
        let sent = sent.to_vec();
        let sender = tokio::spawn(async move {
            // The reader may stop reading half-way, which is what some rows are about.
            let _ = near.write_all(&sent).await;
        });
        let mut far = BufReader::with_capacity(16, far);
        let mut seen = Vec::new();
        loop {
            match read_request(&mut far).await {
                Ok(Some(request)) => seen.push(format!("{request:?}")),
                Ok(None) => break seen.push("closed".into()),
                Err(error) => break seen.push(error.to_string()),
            }
        }
        drop(far);
        sender.await.unwrap();
        seen
    }

    #[track_caller]
    fn check(sent: &[u8], expect: &[&str]) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        assert_eq!(runtime.block_on(read_all(sent)), expect);
    }

    #[test]
    fn lines_are_read_one_by_one() {
        check(b"", &["closed"]);
        check(b"{\"do\":\"status\"}\n", &["Status", "closed"]);
        check(
            b"{\"do\":\"status\"}\n{\"do\":\"sync_now\"}\r\n",
            &["Status", "SyncNow", "closed"],
        );
    }

    #[test]
    fn half_a_line_is_no_request() {
        check(b"{\"do\":\"status\"}", &["the line was cut off"]);
        check(
            b"{\"do\":\"status\"}\n{\"do",
            &["Status", "the line was cut off"],
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_refused_before_it_is_kept() {
        let fits = |len: usize| {
            let mut line = b"{\"do\":\"status\"}".to_vec();
            line.resize(len, b' ');
            line.push(b'\n');
            line
        };
        check(&fits(REQUEST_MAX_BYTES), &["Status", "closed"]);
        check(
            &fits(REQUEST_MAX_BYTES + 1),
            &["the line is longer than 65536 bytes"],
        );
        // Without an end it is refused all the same.
        check(
            &vec![b'x'; REQUEST_MAX_BYTES * 3],
            &["the line is longer than 65536 bytes"],
        );
    }

    #[test]
    fn a_line_that_is_not_json_is_refused() {
        check(b"\n", &["the line cannot be understood"]);
        check(b"status\n", &["the line cannot be understood"]);
        check(b"\xff\xfe\n", &["the line cannot be understood"]);
    }

    #[tokio::test]
    async fn closing_the_writing_half_is_noticed() {
        let (near, far) = tokio::net::UnixStream::pair().unwrap();
        let (mut near_read, mut near_write) = near.into_split();
        let (far_read, mut far_write) = far.into_split();
        let mut far_read = BufReader::new(far_read);
        let early = timeout(Duration::from_millis(50), closed(&mut far_read)).await;
        assert!(early.is_err(), "an idle client was taken for a closed one");

        near_write.shutdown().await.unwrap();
        closed(&mut far_read).await;

        let error = crate::ErrorAnswer::new(crate::ErrorCode::Busy, "busy", "");
        write_answer(&mut far_write, &Answer::Error(error))
            .await
            .unwrap();
        let mut near_read = BufReader::new(&mut near_read);
        let answer: Option<Answer> = read(&mut near_read, ANSWER_MAX_BYTES).await.unwrap();
        assert!(answer.is_some(), "the reading half is still open");
    }
}
