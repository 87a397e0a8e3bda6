//! The reference device, spoken with as a till does.

// A test ends at the first surprise.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use firmware_proto::frame::{Decoder, MAX_WIRE};
use firmware_proto::message::{FromDevice, FromHost};

/// The running program and its line.
struct Reader {
    program: Child,
    to: ChildStdin,
    from: ChildStdout,
    decoder: Decoder,
}

impl Reader {
    fn start(field: &PathBuf) -> Reader {
        // Beside the tests, where cargo builds examples.
        let test = std::env::current_exe().unwrap();
        let built = test.parent().unwrap().parent().unwrap();
        let mut program = Command::new(built.join("examples/reference_device"))
            .arg(field)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let to = program.stdin.take().unwrap();
        let from = program.stdout.take().unwrap();
        let decoder = Decoder::new();
        Reader {
            program,
            to,
            from,
            decoder,
        }
    }

    fn say(&mut self, message: &FromHost<'_>) {
        let mut wire = [0; MAX_WIRE];
        let bytes = message.encode(1, &mut wire).unwrap();
        self.to.write_all(bytes).unwrap();
    }

    /// The next thing that is no repetition of that number.
    fn hear(&mut self, known: u16) -> String {
        let mut byte = [0];
        loop {
            self.from.read_exact(&mut byte).unwrap();
            if let Some(frame) = self.decoder.push(byte[0]) {
                match FromDevice::decode(&frame.unwrap()).unwrap() {
                    FromDevice::Tag { event, .. }
                    | FromDevice::Left { event, .. }
                    | FromDevice::Multi { event, .. }
                        if event == known => {}
                    message => return format!("{message:?}"),
                }
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // It fails only when the program has ended.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn the_reference_device_tells_what_its_field_file_says() {
    let field = std::env::temp_dir().join(format!("field-{}", std::process::id()));
    fs::write(&field, "").unwrap();
    let mut reader = Reader::start(&field);
    reader.say(&FromHost::Ping { echo: 1 });
    assert!(reader.hear(0).contains("NoHello"));
    let hello = FromHost::Hello {
        min: 1,
        max: 1,
        nonce: 9,
    };
    reader.say(&hello);
    assert!(reader.hear(0).contains("version: 1"));
    fs::write(&field, "72BF9961\n").unwrap();
    let told = reader.hear(0);
    assert!(told.starts_with("Tag { event: 1,"), "{told}");
    reader.say(&FromHost::Ack { event: 1 });
    fs::write(&field, "several").unwrap();
    let told = reader.hear(1);
    assert!(told.starts_with("Left { event: 2,"), "{told}");
    reader.say(&FromHost::Ack { event: 2 });
    assert!(reader.hear(2).contains("Several"));
    reader.say(&FromHost::Read);
    assert!(reader.hear(3).contains("state: Several"));
    fs::remove_file(&field).unwrap();
}
