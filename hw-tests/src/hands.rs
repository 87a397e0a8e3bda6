//! Who lays chips on the reader of a rig: a program, or a person.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use canteen::ChipId;
use firmware_proto::device::Field;

use crate::device::DeviceKind;
use crate::pcscd::{self, Driver, Model, PrivatePcscd, VirtualReader};
use crate::pty_reader::SimulatedReader;
use crate::vpcd_card::{Answer, ChipScript, VirtualChip};
use crate::wire::Damage;
use crate::workday;

/// What can be done at a rig. What answers with [`Able`] may not be possible there.
pub trait Hands {
    /// Lays a chip on the reader; says which one, if that is known.
    fn lay(&mut self, uid: &[u8]) -> anyhow::Result<Option<ChipId>>;
    /// Takes everything away.
    fn lift(&mut self) -> anyhow::Result<()>;
    /// How long to wait for what should happen.
    fn patience(&self) -> Duration;
    /// Whether the reader can be asked which chip lies there.
    fn can_be_asked(&self) -> Able {
        Able::Yes
    }
    /// Pulls a chip away in the middle of its being read.
    fn tear(&mut self, _uid: &[u8]) -> anyhow::Result<Able> {
        Ok(Able::No("a person is not fast enough"))
    }
    /// Lays a chip whose identifier is random.
    fn lay_random(&mut self) -> anyhow::Result<Able> {
        Ok(Able::No("no such chip"))
    }
    /// Lays several chips at once.
    fn lay_several(&mut self) -> anyhow::Result<Able> {
        Ok(Able::No("PC/SC shows one of several chips"))
    }
    /// Lays a chip while what comes from the reader is disturbed.
    fn lay_disturbed(&mut self, _uid: &[u8]) -> anyhow::Result<Able> {
        Ok(Able::No("a person cannot disturb the line"))
    }
    /// Lays a chip while other bytes come inside of what comes from the reader.
    fn lay_interrupted(&mut self, _uid: &[u8]) -> anyhow::Result<Able> {
        Ok(Able::No("a person cannot disturb the line"))
    }
    /// Lays a chip while a bit of everything that comes from the reader is wrong.
    fn lay_garbled(&mut self, _uid: &[u8]) -> anyhow::Result<Able> {
        Ok(Able::No("a person cannot disturb the line"))
    }
    /// Has the reader send bytes without end.
    fn flood(&mut self) -> anyhow::Result<Able> {
        Ok(Able::No("a person cannot disturb the line"))
    }
    /// Has every byte of the reader take its time.
    fn slow_down(&mut self) -> anyhow::Result<Able> {
        Ok(Able::No("a person cannot disturb the line"))
    }
    /// Undoes what was done to the line.
    fn clear_line(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    /// Pulls the reader's plug.
    fn unplug(&mut self) -> anyhow::Result<Able> {
        Ok(Able::No("a person is not asked to pull plugs"))
    }
    /// Undoes [`Hands::unplug`].
    fn replug(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    /// Stops the service in front of the reader.
    fn break_off(&mut self) -> anyhow::Result<Able> {
        Ok(Able::No("no service of its own is in front of this reader"))
    }
    /// Undoes [`Hands::break_off`].
    fn mend(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    /// How eight hours of taps are worked at this reader.
    fn workday(&mut self) -> anyhow::Result<Shift> {
        Ok(Shift::Impossible(
            "a person does not hold out for eight hours",
        ))
    }
    /// Lays a chip (or makes the reader one) that no longer answers.
    fn fall_silent(&mut self, _uid: &[u8]) -> anyhow::Result<Able> {
        Ok(Able::No("a person cannot silence a reader"))
    }
    /// Undoes [`Hands::fall_silent`].
    fn speak_again(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    /// Lets another program take the reader for itself.
    fn occupy(&mut self, _reader: &str) -> anyhow::Result<Able> {
        Ok(Able::No(
            "no program can come between the till and this reader",
        ))
    }
    /// Undoes [`Hands::occupy`].
    fn vacate(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    /// Has another program try to hear what the reader says.
    fn listen_in(&mut self) -> anyhow::Result<Able> {
        Ok(Able::No("PC/SC readers are there for several programs"))
    }
    /// Whether that program has heard anything; it stops listening.
    fn has_overheard(&mut self) -> anyhow::Result<bool> {
        Ok(false)
    }
    /// Stops the service in its tracks, without ending it.
    fn freeze(&mut self) -> anyhow::Result<Able> {
        Ok(Able::No("no service of its own is in front of this reader"))
    }
    /// Undoes [`Hands::freeze`].
    fn thaw(&mut self) -> anyhow::Result<()> {
        Ok(())
    }
    /// Whether the reader has light or sound.
    fn can_show(&self) -> Able {
        Able::Yes
    }
    /// Whether the reader was told to show that a purchase was approved.
    fn has_shown_approval(&mut self) -> anyhow::Result<Option<bool>> {
        Ok(None)
    }
}

/// How a working day is done at a rig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shift {
    /// It was worked in simulated time.
    Worked,
    /// Its taps are to be laid one after the other, without the pauses between them.
    WithoutPauses {
        /// How many there are.
        taps: u32,
    },
    /// It cannot be done there, and why.
    Impossible(&'static str),
}

/// Whether something can be done at a rig.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Able {
    /// It was done.
    Yes,
    /// It cannot be done there, and why.
    No(&'static str),
}

/// Lays virtual chips on a virtual reader behind a pcscd of its own.
#[derive(Debug)]
pub struct VirtualPcscHands {
    driver: Driver,
    pcscd: PrivatePcscd,
    reader: VirtualReader,
    chip: Option<VirtualChip>,
    occupier: Option<Occupier>,
}

/// Another program's transaction, held by a thread until told otherwise.
#[derive(Debug)]
struct Occupier {
    vacate: Sender<()>,
    thread: JoinHandle<Result<(), pcsc::Error>>,
}

impl Occupier {
    fn start(reader: &str) -> anyhow::Result<Occupier> {
        let reader = CString::new(reader)?;
        let (vacate, told_to) = mpsc::channel::<()>();
        let (started, has_started) = mpsc::channel();
        let thread = thread::spawn(move || {
            let context = pcsc::Context::establish(pcsc::Scope::User)?;
            let shared = pcsc::ShareMode::Shared;
            let mut card = context.connect(&reader, shared, pcsc::Protocols::ANY)?;
            let transaction = card.transaction()?;
            // Both fail only when the bench has given up.
            let _ = started.send(());
            let _ = told_to.recv();
            transaction
                .end(pcsc::Disposition::LeaveCard)
                .map_err(|(_, error)| error)
        });
        if has_started.recv_timeout(Duration::from_secs(5)).is_err() {
            bail!("the other program could not take the reader");
        }
        Ok(Occupier { vacate, thread })
    }

    fn end(self) -> anyhow::Result<()> {
        drop(self.vacate);
        match self.thread.join() {
            Ok(result) => result.context("end the other program's transaction"),
            Err(_) => bail!("the other program panicked"),
        }
    }
}

impl VirtualPcscHands {
    /// Starts pcscd, known under `socket`.
    pub fn start(
        socket: &Path,
        friendly_name: &str,
        driver: Driver,
    ) -> anyhow::Result<VirtualPcscHands> {
        let reader = VirtualReader {
            friendly_name: friendly_name.to_owned(),
            driver: driver.library()?,
            first_port: pcscd::free_ports()?,
            model: Model::Plain,
        };
        let pcscd = PrivatePcscd::start_at(socket, std::slice::from_ref(&reader))?;
        Ok(VirtualPcscHands {
            driver,
            pcscd,
            reader,
            chip: None,
            occupier: None,
        })
    }

    /// Lays a chip that behaves.
    pub fn lay_chip(&mut self, uid: &[u8]) -> anyhow::Result<()> {
        self.insert(ChipScript::new(uid)).map(drop)
    }

    /// Takes it away.
    pub fn lift_chip(&mut self) {
        self.chip = None;
    }

    /// When the chip last answered a command before that.
    pub fn answered_before(&self, moment: Instant) -> Option<Instant> {
        self.chip.as_ref()?.answered_before(moment)
    }

    fn insert(&mut self, script: ChipScript) -> anyhow::Result<Able> {
        self.chip = None;
        let chip =
            VirtualChip::insert(self.reader.first_port, script).context("insert a virtual chip")?;
        self.chip = Some(chip);
        Ok(Able::Yes)
    }
}

impl Hands for VirtualPcscHands {
    fn lay(&mut self, uid: &[u8]) -> anyhow::Result<Option<ChipId>> {
        self.insert(ChipScript::new(uid))?;
        Ok(Some(ChipId::from_uid(uid)?))
    }

    fn lift(&mut self) -> anyhow::Result<()> {
        self.chip = None;
        Ok(())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(4)
    }

    fn tear(&mut self, uid: &[u8]) -> anyhow::Result<Able> {
        self.insert(ChipScript::new(uid).that_first([Answer::Leave]))
    }

    fn lay_random(&mut self) -> anyhow::Result<Able> {
        self.insert(ChipScript::new(&RANDOM_UID))
    }

    fn lay_disturbed(&mut self, uid: &[u8]) -> anyhow::Result<Able> {
        let failed = Answer::Say(vec![0x63, 0x00]);
        let first = match self.driver {
            Driver::Own => Answer::Say(Vec::new()),
            // It takes an empty answer for the chip's end.
            Driver::Stock => failed.clone(),
        };
        self.insert(ChipScript::new(uid).that_first([first, failed]))
    }

    fn lay_interrupted(&mut self, _uid: &[u8]) -> anyhow::Result<Able> {
        Ok(Able::No(NO_LINE))
    }

    fn lay_garbled(&mut self, _uid: &[u8]) -> anyhow::Result<Able> {
        Ok(Able::No(NO_LINE))
    }

    fn flood(&mut self) -> anyhow::Result<Able> {
        Ok(Able::No(NO_LINE))
    }

    fn slow_down(&mut self) -> anyhow::Result<Able> {
        Ok(Able::No(NO_LINE))
    }

    /// pcscd reads its readers once, when it starts: one that starts without them looks to the till
    /// like one from which they were pulled.
    fn unplug(&mut self) -> anyhow::Result<Able> {
        self.chip = None;
        self.pcscd.restart_with(&[])?;
        Ok(Able::Yes)
    }

    fn replug(&mut self) -> anyhow::Result<()> {
        let reader = self.reader.clone();
        self.pcscd.restart_with(&[reader])
    }

    /// pcscd keeps real time.
    fn workday(&mut self) -> anyhow::Result<Shift> {
        let taps = match self.driver {
            Driver::Own => 800,
            // Each waits for two of pcscd's looks.
            Driver::Stock => 30,
        };
        Ok(Shift::WithoutPauses { taps })
    }

    fn break_off(&mut self) -> anyhow::Result<Able> {
        self.pcscd.kill();
        self.chip = None;
        Ok(Able::Yes)
    }

    fn mend(&mut self) -> anyhow::Result<()> {
        self.pcscd.restart()
    }

    fn fall_silent(&mut self, uid: &[u8]) -> anyhow::Result<Able> {
        self.insert(ChipScript::new(uid).that_first(vec![Answer::Nothing; 8]))
    }

    fn occupy(&mut self, reader: &str) -> anyhow::Result<Able> {
        self.occupier = Some(Occupier::start(reader)?);
        Ok(Able::Yes)
    }

    fn vacate(&mut self) -> anyhow::Result<()> {
        self.occupier.take().map_or(Ok(()), Occupier::end)
    }

    fn freeze(&mut self) -> anyhow::Result<Able> {
        self.pcscd.freeze()?;
        Ok(Able::Yes)
    }

    fn thaw(&mut self) -> anyhow::Result<()> {
        self.pcscd.thaw()
    }

    fn speak_again(&mut self) -> anyhow::Result<()> {
        self.lift()
    }

    fn has_shown_approval(&mut self) -> anyhow::Result<Option<bool>> {
        let commands = self
            .chip
            .as_ref()
            .map(VirtualChip::commands)
            .unwrap_or_default();
        Ok(Some(
            commands
                .iter()
                .any(|command| command.starts_with(&[0xFF, 0x00, 0x40])),
        ))
    }
}

/// Fills the field of a simulated reader on a pseudo-terminal.
#[derive(Debug)]
pub struct VirtualSerialHands {
    reader: SimulatedReader,
    kind: DeviceKind,
}

impl VirtualSerialHands {
    /// Plugs a simulated reader in; `link` becomes the name of its line.
    pub fn start(link: &Path, kind: DeviceKind) -> anyhow::Result<VirtualSerialHands> {
        Ok(VirtualSerialHands {
            reader: SimulatedReader::start(link, kind)?,
            kind,
        })
    }

    /// The chip's identifier as this reader can read it: EM4100 numbers have 4 bytes.
    fn uid<'a>(&self, uid: &'a [u8]) -> &'a [u8] {
        match self.kind {
            DeviceKind::Rdm6300 => &uid[uid.len() - 4..],
            DeviceKind::Own | DeviceKind::Pn532 | DeviceKind::Twn4 | DeviceKind::Twn4Plain => uid,
        }
    }

    fn lay_damaged(&mut self, uid: &[u8], damage: Damage, frames: u32) -> Able {
        self.reader.damage(damage, frames);
        self.reader.lay(self.uid(uid));
        Able::Yes
    }
}

impl Hands for VirtualSerialHands {
    fn lay(&mut self, uid: &[u8]) -> anyhow::Result<Option<ChipId>> {
        let uid = self.uid(uid);
        self.reader.lay(uid);
        Ok(Some(ChipId::from_uid(uid)?))
    }

    fn lift(&mut self) -> anyhow::Result<()> {
        self.reader.set(Field::Empty);
        self.reader.set_noise(&[]);
        Ok(())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(4)
    }

    fn tear(&mut self, uid: &[u8]) -> anyhow::Result<Able> {
        // The chip goes while its frames still lose their second half.
        self.lay_damaged(uid, Damage::Cut, 2);
        thread::sleep(Duration::from_millis(60));
        self.reader.set(Field::Empty);
        Ok(Able::Yes)
    }

    fn lay_random(&mut self) -> anyhow::Result<Able> {
        if self.kind == DeviceKind::Rdm6300 {
            return Ok(Able::No("no chip at 125 kHz draws its number anew"));
        }
        self.reader.lay(&RANDOM_UID);
        Ok(Able::Yes)
    }

    fn lay_several(&mut self) -> anyhow::Result<Able> {
        if self.kind == DeviceKind::Rdm6300 {
            return Ok(Able::No("two chips at 125 kHz drown each other"));
        }
        self.reader.set(Field::Several);
        Ok(Able::Yes)
    }

    fn lay_disturbed(&mut self, uid: &[u8]) -> anyhow::Result<Able> {
        self.reader.set_noise(b"AT+GMI\r\n\x00\xFF\x0B\x01");
        Ok(self.lay_damaged(uid, Damage::Cut, 2))
    }

    fn lay_interrupted(&mut self, uid: &[u8]) -> anyhow::Result<Able> {
        Ok(self.lay_damaged(uid, Damage::Interrupted, 3))
    }

    fn lay_garbled(&mut self, uid: &[u8]) -> anyhow::Result<Able> {
        if self.kind == DeviceKind::Twn4Plain {
            return Ok(Able::No("its lines carry no checksum"));
        }
        Ok(self.lay_damaged(uid, Damage::Garbled, u32::MAX))
    }

    fn flood(&mut self) -> anyhow::Result<Able> {
        self.reader.set_flooding(true);
        Ok(Able::Yes)
    }

    fn slow_down(&mut self) -> anyhow::Result<Able> {
        self.reader.set_slow(true);
        Ok(Able::Yes)
    }

    fn clear_line(&mut self) -> anyhow::Result<()> {
        self.reader.damage(Damage::Garbled, 0);
        self.reader.set_flooding(false);
        self.reader.set_slow(false);
        Ok(())
    }

    fn unplug(&mut self) -> anyhow::Result<Able> {
        self.reader.unplug();
        self.reader.set(Field::Empty);
        Ok(Able::Yes)
    }

    fn replug(&mut self) -> anyhow::Result<()> {
        self.reader.plug()
    }

    fn workday(&mut self) -> anyhow::Result<Shift> {
        let diary = workday::work(self.kind, 1)?;
        println!("{diary}");
        Ok(Shift::Worked)
    }

    fn fall_silent(&mut self, _uid: &[u8]) -> anyhow::Result<Able> {
        if self.kind == DeviceKind::Rdm6300 {
            return Ok(Able::No(
                "it speaks only while a chip is near, so its silence says nothing",
            ));
        }
        self.reader.set_dead(true);
        Ok(Able::Yes)
    }

    fn speak_again(&mut self) -> anyhow::Result<()> {
        self.reader.set_dead(false);
        Ok(())
    }

    /// Who opens a serial line takes its lock, or is told that it is taken.
    fn listen_in(&mut self) -> anyhow::Result<Able> {
        let line = File::open(self.reader.link())?;
        ensure!(line.try_lock().is_err(), "two programs have the line");
        Ok(Able::Yes)
    }

    fn can_show(&self) -> Able {
        match self.kind {
            DeviceKind::Own | DeviceKind::Twn4 | DeviceKind::Twn4Plain => Able::Yes,
            DeviceKind::Pn532 | DeviceKind::Rdm6300 => {
                Able::No("it has no light and no sound that the till could switch")
            }
        }
    }

    fn has_shown_approval(&mut self) -> anyhow::Result<Option<bool>> {
        Ok(Some(self.reader.has_shown_approval()))
    }
}

/// Asks whoever sits at the bench.
#[derive(Debug)]
pub struct Person;

impl Person {
    fn ask(text: &str) -> anyhow::Result<()> {
        println!(">>> {text}, then press Enter");
        io::stdout().flush()?;
        io::stdin().lock().read_line(&mut String::new())?;
        Ok(())
    }
}

impl Hands for Person {
    fn lay(&mut self, _uid: &[u8]) -> anyhow::Result<Option<ChipId>> {
        Person::ask("Hold a chip to the reader and leave it there")?;
        Ok(None)
    }

    fn lift(&mut self) -> anyhow::Result<()> {
        Person::ask("Take everything off the reader")
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(5)
    }

    fn lay_random(&mut self) -> anyhow::Result<Able> {
        Person::ask("Hold a telephone with NFC switched on to the reader")?;
        Ok(Able::Yes)
    }
}

/// A 4-byte identifier that starts with 08 is drawn anew at every tap (ISO/IEC 14443-3).
const RANDOM_UID: [u8; 4] = [0x08, 0x3A, 0x5C, 0x11];
const NO_LINE: &str = "no line that could be disturbed is between pcscd and the till";
