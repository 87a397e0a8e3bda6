//! The virtual NTAG 424 DNA against a reader's side that strangers wrote, the crate `ntag424`: that the
//! till and the virtual chip understand each other could be one mistake made twice.

#![allow(clippy::unwrap_used, reason = "all of this is a test")]

use std::future::Future;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll, Waker};

use ntag424::{
    AuthenticatedSession as _, Configuration, KeyNumber, NonMasterKeyNumber, Response, Session,
    Transport,
};

const UID: [u8; 7] = [0x04, 0x95, 0x8C, 0xAA, 0x5C, 0x5E, 0x80];
const FACTORY: [u8; 16] = [0; 16];
/// The chip's random numbers are fresh, so the reader's may be the same each time here.
const RND_A: [u8; 16] = [0x5A; 16];

/// The virtual chip, without a reader between: the protocol of the vsmartcard project.
struct Chip {
    line: TcpStream,
    child: Child,
}

impl Chip {
    fn lay(memory: &Path) -> Chip {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let card = Path::new(env!("CARGO_MANIFEST_DIR")).join("cards/ntag424.py");
        let child = Command::new("/usr/bin/python3")
            .arg(card)
            .arg(listener.local_addr().unwrap().port().to_string())
            .arg("04958CAA5C5E80")
            .arg("--memory")
            .arg(memory)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let (mut line, _) = listener.accept().unwrap();
        line.set_nodelay(true).unwrap();
        // Power on.
        line.write_all(&[0, 1, 1]).unwrap();
        Chip { line, child }
    }

    fn say(&mut self, command: &[u8]) -> io::Result<Vec<u8>> {
        let length = u16::try_from(command.len()).map_err(io::Error::other)?;
        let message = [&length.to_be_bytes()[..], command].concat();
        self.line.write_all(&message)?;
        let mut length = [0; 2];
        self.line.read_exact(&mut length)?;
        let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
        self.line.read_exact(&mut answer)?;
        Ok(answer)
    }
}

impl Drop for Chip {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Transport for Chip {
    type Error = io::Error;
    type Data = Vec<u8>;

    async fn transmit(&mut self, apdu: &[u8]) -> io::Result<Response<Vec<u8>>> {
        let mut data = self.say(apdu)?;
        let (Some(sw2), Some(sw1)) = (data.pop(), data.pop()) else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        Ok(Response { data, sw1, sw2 })
    }

    async fn get_uid(&mut self) -> io::Result<Vec<u8>> {
        let mut uid = self.say(&[0xFF, 0xCA, 0, 0, 0])?;
        uid.truncate(uid.len() - 2);
        Ok(uid)
    }
}

/// Nothing here ever waits: the line blocks.
fn now<T>(talk: impl Future<Output = T>) -> T {
    match pin!(talk).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(told) => told,
        Poll::Pending => panic!("the talk waits for nothing"),
    }
}

fn key(number: u8) -> [u8; 16] {
    [0xA0 | number; 16]
}

#[test]
fn a_strangers_reader_proves_the_virtual_chip_and_writes_its_keys() {
    let room = tempfile::tempdir().unwrap();
    let memory = room.path().join("chip");
    let mut chip = Chip::lay(&memory);
    now(async {
        let open = Session::new();
        let mut session = open
            .authenticate_aes(&mut chip, KeyNumber::Key0, &FACTORY, RND_A)
            .await
            .unwrap();
        for (number, slot) in [
            (1, NonMasterKeyNumber::Key1),
            (2, NonMasterKeyNumber::Key2),
            (3, NonMasterKeyNumber::Key3),
            (4, NonMasterKeyNumber::Key4),
        ] {
            session = session
                .change_key(&mut chip, slot, &key(number), 7, &FACTORY)
                .await
                .unwrap();
        }
        let random = Configuration::new().with_random_uid_enabled();
        session = session.set_configuration(&mut chip, &random).await.unwrap();
        session
            .change_master_key(&mut chip, &key(0), 7)
            .await
            .unwrap();
    });
    drop(chip);

    // Laid there anew, it hides its UID and tells it to who knows the key.
    let mut chip = Chip::lay(&memory);
    now(async {
        let shown = chip.get_uid().await.unwrap();
        assert_eq!((shown.len(), shown[0]), (4, 0x08));
        for (number, slot) in [
            (0, KeyNumber::Key0),
            (1, KeyNumber::Key1),
            (3, KeyNumber::Key3),
        ] {
            let session = Session::new()
                .authenticate_aes(&mut chip, slot, &key(number), RND_A)
                .await
                .unwrap();
            let (uid, _) = session.get_uid(&mut chip).await.unwrap();
            assert_eq!(uid, UID);
        }
        let wrong = Session::new()
            .authenticate_aes(&mut chip, KeyNumber::Key3, &FACTORY, RND_A)
            .await;
        assert!(wrong.is_err());
    });
}
