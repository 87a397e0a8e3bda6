//! A socket that plays the daemon, and the real command against it.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use serde_json::Value;
use sync_proto::{Epoch, TillId};
use tempfile::TempDir;
use till_control::{Answer, EntryPlace, Request, read_request, write_answer};
use tokio::io::BufReader;
use tokio::net::UnixListener;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use uuid::Uuid;

/// One end of a socket that plays the daemon for one connection and returns what it was asked.
pub(crate) struct Daemon {
    room: TempDir,
    thread: JoinHandle<Option<Request>>,
}

impl Daemon {
    pub(crate) fn start<F, Fut>(play: F) -> Daemon
    where
        F: FnOnce(BufReader<OwnedReadHalf>, OwnedWriteHalf) -> Fut + Send + 'static,
        Fut: Future<Output = Option<Request>>,
    {
        let room = tempfile::tempdir().unwrap();
        let path = socket(room.path());
        let (listens, listening) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = UnixListener::bind(path).unwrap();
                listens.send(()).unwrap();
                let (stream, _) = listener.accept().await.unwrap();
                let (requests, answers) = stream.into_split();
                play(BufReader::new(requests), answers).await
            })
        });
        listening.recv().unwrap();
        Daemon { room, thread }
    }

    pub(crate) fn answering(answer: Answer) -> Daemon {
        Daemon::start(async move |mut requests, mut answers| {
            let asked = read_request(&mut requests).await.unwrap();
            write_answer(&mut answers, &answer).await.unwrap();
            asked
        })
    }

    pub(crate) fn tillctl(&self, args: &[&str]) -> Command {
        tillctl(&self.socket(), args)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(self.room.path())
    }

    pub(crate) fn asked(self) -> Option<Request> {
        self.thread.join().unwrap()
    }
}

pub(crate) fn socket(room: &Path) -> PathBuf {
    room.join("tilld.sock")
}

pub(crate) fn tillctl(socket: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tillctl"));
    command
        .env_remove("TILLCTL_SOCKET")
        .arg("--socket")
        .arg(socket)
        .args(args)
        .stdin(Stdio::null());
    command
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Exactly one JSON object on exactly one line, and nothing on standard error.
#[track_caller]
pub(crate) fn only_json(output: &Output) -> Value {
    assert_eq!(stderr(output), "");
    let line = stdout(output).strip_suffix('\n').unwrap();
    assert!(!line.contains('\n'), "{line}");
    let value: Value = serde_json::from_str(line).unwrap();
    assert!(value.is_object(), "{line}");
    value
}

/// Runs a command twice, for people and for programs, against a daemon with one answer.
#[track_caller]
pub(crate) fn check(
    args: &[&str],
    answer: &Answer,
    asked: &Request,
    exit: i32,
    text: &str,
    json: &Value,
) {
    let daemon = Daemon::answering(answer.clone());
    let output = daemon.tillctl(args).output().unwrap();
    assert_eq!(daemon.asked().as_ref(), Some(asked));
    assert_eq!(stdout(&output), text);
    assert_eq!(output.status.code(), Some(exit), "{output:?}");

    let daemon = Daemon::answering(answer.clone());
    let output = daemon.tillctl(args).arg("--json").output().unwrap();
    assert_eq!(daemon.asked().as_ref(), Some(asked));
    assert_eq!(&only_json(&output), json);
    assert_eq!(output.status.code(), Some(exit), "{output:?}");
}

pub(crate) fn place(seq: u64) -> EntryPlace {
    EntryPlace {
        till: till(),
        epoch: Epoch(8),
        seq,
        id: SALE,
    }
}

pub(crate) fn till() -> TillId {
    "kasse-1".parse().unwrap()
}

pub(crate) const SALE: Uuid = Uuid::from_u128(0x0199_0000_0000_7000_8000_0000_0000_0001);
pub(crate) const SALE_TEXT: &str = "01990000-0000-7000-8000-000000000001";
