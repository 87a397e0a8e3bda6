//! The control socket: what a technician's command asks, the daemon does.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use canteen::{BasketLine, CardNumber, ChipNumber, Money, OfflineRules};
use jiff::Timestamp;
use sync_proto::{NumberedEntry, VoidLine};
use till_control::{
    AccountFacts, Answer, ChipAnswer, ChipFacts, Currency, EnrolAnswer, EntryPlace, ErrorAnswer,
    ErrorCode, FirstBad, LEDGER_PAGE_MAX, LedgerEntry, LedgerPage, Peer, Request, SellAnswer,
    SyncAnswer, VerifyAnswer, WATCH_MAX_S, closed, read_request, write_answer,
};
use till_ledger::{EntryRange, Finding, Ledger, LedgerError, Moment, VoidRequest};
use till_readers::Readers;
use tokio::io::BufReader;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, warn};
use uuid::Uuid;

use crate::contact::ContactBook;
use crate::disk::Disk;
use crate::event::{Event, Sell, SellError};
use crate::sale::{SellEnding, ended_answer, person_of, replayed_answer, void_answer};
use crate::sights::Sights;
use crate::sync::Sync;
use crate::till::as_sale;
use crate::void::take_back;
use crate::{chip_enrolment, renewal};

mod status;

/// What the control socket reaches.
pub(crate) struct Control {
    /// The till's record of money.
    pub(crate) ledger: Ledger,
    /// Its readers.
    pub(crate) readers: Arc<Readers>,
    /// Its contact with the hub.
    pub(crate) contact: Arc<ContactBook>,
    /// Its conversations with the hub.
    pub(crate) sync: Arc<Sync>,
    /// What it may sell without contact.
    pub(crate) offline: OfflineRules,
    /// When the daemon started.
    pub(crate) started_at: Timestamp,
    /// What its readers have just told.
    pub(crate) sights: Arc<Sights>,
    /// The disk under the ledger.
    pub(crate) disk: Arc<Disk>,
    /// Where sales go.
    pub(crate) events: mpsc::Sender<Event>,
}

/// Opens the socket, for root, the daemon's user and its group.
pub(crate) fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("cannot make {} for the control socket", parent.display()))?;
    }
    make_room(path)?;
    let listener = UnixListener::bind(path)
        .with_context(|| format!("cannot open the control socket {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    Ok(listener)
}

/// Takes away the socket that an earlier run has left behind, and nothing else: not the socket of a
/// daemon that answers, and no file that a slip of the pen has named.
fn make_room(path: &Path) -> anyhow::Result<()> {
    let unusable = || format!("cannot replace {}", path.display());
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(unusable),
    };
    anyhow::ensure!(
        found.file_type().is_socket(),
        "{} is there already and is no socket; let till.control_socket name a path of its own",
        path.display()
    );
    anyhow::ensure!(
        std::os::unix::net::UnixStream::connect(path).is_err(),
        "another tilld answers at {}; stop it, or give this till a till.control_socket of its own",
        path.display()
    );
    fs::remove_file(path).with_context(unusable)
}

impl Control {
    /// Serves callers for as long as the program runs.
    pub(crate) async fn run(self: Arc<Control>, listener: UnixListener, path: std::path::PathBuf) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (control, path) = (Arc::clone(&self), path.clone());
                    tokio::spawn(async move { control.serve(stream, &path).await });
                }
                Err(error) => {
                    warn!(%error, "The control socket refused a caller");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(&self, stream: UnixStream, path: &Path) {
        let allowed = may_command(&stream, path);
        let (reading, mut writing) = stream.into_split();
        let mut reading = BufReader::new(reading);
        if !allowed {
            let refused = ErrorAnswer::new(
                ErrorCode::Forbidden,
                "this user may not command the till",
                "run it as root, or join the socket's group",
            );
            let _ = write_answer(&mut writing, &Answer::Error(refused)).await;
            return;
        }
        loop {
            let request = match read_request(&mut reading).await {
                Ok(Some(request)) => request,
                Ok(None) => return,
                Err(error) => {
                    let answer = Answer::Error(ErrorAnswer::from(&error));
                    let _ = write_answer(&mut writing, &answer).await;
                    return;
                }
            };
            let answer = self.answer(request, &mut reading).await;
            if let Err(error) = write_answer(&mut writing, &answer).await {
                debug!(%error, "A caller left before its answer");
                return;
            }
        }
    }

    async fn answer(
        &self,
        request: Request,
        caller: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
    ) -> Answer {
        let answered = match request {
            Request::Status => self.status(),
            Request::ReaderList => Ok(Answer::ReaderList(self.reader_list())),
            Request::ReaderWatch { after, wait_s } => {
                let time = Duration::from_secs(u64::from(wait_s.min(WATCH_MAX_S)));
                Ok(Answer::ReaderWatch(self.sights.watch(after, time).await))
            }
            Request::ChipShow { number } => self.chip(&number),
            Request::ChipLook { reader } => {
                chip_enrolment::look(&self.readers, reader.as_deref()).await
            }
            Request::ChipEnrol {
                reader,
                kind,
                chip,
                keys,
                random_uid,
            } => {
                let enrolment = chip_enrolment::enrolment(kind, chip, &keys, random_uid);
                chip_enrolment::enrol(&self.readers, &reader, enrolment).await
            }
            Request::LedgerList { limit, before } => self.ledger_page(limit, before),
            Request::LedgerVerify => self.verify().await,
            Request::SyncNow => self.sync_now().await,
            Request::Enrol { code } => self.enrol(&code),
            Request::Sell {
                id,
                lines,
                timeout_s,
            } => self.sell(id, &lines, timeout_s, caller).await,
            Request::Void { id, void, lines } => self.void(id, void, lines).await,
            Request::XReport { day } => self.x_report(day).await,
            Request::ZReport { id, day } => self.z_report(id, day).await,
            Request::Clock => Ok(self.clock()),
            Request::ClockConfirm => self.clock_confirm().await,
        };
        answered.unwrap_or_else(Answer::Error)
    }

    /// Shows the hub a new code, now or when everything old is there.
    fn enrol(&self, code: &str) -> Result<Answer, ErrorAnswer> {
        let code = code.trim().to_owned();
        if code.is_empty() {
            return Err(ErrorAnswer::new(
                ErrorCode::BadRequest,
                "the code is empty",
                "use the one that the operator made for this till",
            ));
        }
        let waiting = self.ledger.progress().waiting();
        let begins_anew = self.sync.hub.is_enrolled();
        let text = if begins_anew {
            let from = self.ledger.identity().epoch;
            let renewal = renewal::begin(&self.sync.state, code, from)
                .map_err(|error| ErrorAnswer::new(ErrorCode::Internal, format!("{error:#}"), ""))?;
            self.sync.renewal.send_replace(Some(renewal));
            "an empty ledger begins when the hub has every entry of the old one; see: tillctl status"
        } else {
            if let Ok(mut known) = self.sync.enrolment_code.write() {
                *known = Some(code);
            }
            "the hub is shown the code now; see: tillctl status"
        };
        self.sync.wake.now();
        Ok(Answer::Enrol(EnrolAnswer {
            begins_anew,
            waiting,
            text: text.to_owned(),
        }))
    }

    fn chip(&self, number: &str) -> Result<Answer, ErrorAnswer> {
        let number = ChipNumber::parse(number).map_err(|error| {
            ErrorAnswer::new(
                ErrorCode::BadChipNumber,
                error.to_string(),
                "for example 72BF9961, 1925159265 or 12345678901234",
            )
        })?;
        let view = self.ledger.chip(number).map_err(ledger_error)?;
        let today = self.ledger.progress().time.today(Moment::now());
        let chip = view.and_then(|view| {
            Some(ChipFacts {
                uid: view.chip,
                decimal: view.chip.decimal(),
                card: view.card.as_deref().and_then(CardNumber::parse),
                number: view.number,
                status: view.status,
                must_prove: view.must_prove,
                account: AccountFacts::of(&view.account?, today),
                holder: view.holder,
            })
        });
        Ok(Answer::Chip(Box::new(ChipAnswer {
            asked: number.to_string(),
            chip,
        })))
    }

    fn ledger_page(&self, limit: u32, before: Option<u64>) -> Result<Answer, ErrorAnswer> {
        let acked = self.ledger.progress().acked;
        let limit = limit.min(LEDGER_PAGE_MAX) as usize;
        let range = EntryRange::Before(before.unwrap_or(u64::MAX));
        let entries = self.ledger.entries(range, limit).map_err(ledger_error)?;
        let entries = entries.into_iter().map(|entry| {
            let numbered = NumberedEntry {
                seq: entry.seq,
                texts: entry.texts,
            };
            LedgerEntry::read(&numbered, acked)
        });
        Ok(Answer::Ledger(LedgerPage {
            currency: Currency::Dkk,
            entries: entries.collect(),
        }))
    }

    async fn verify(&self) -> Result<Answer, ErrorAnswer> {
        let ledger = self.ledger.clone();
        let report = tokio::task::spawn_blocking(move || ledger.verify())
            .await
            .map_err(|error| ErrorAnswer::new(ErrorCode::Internal, error.to_string(), ""))?
            .map_err(ledger_error)?;
        Ok(Answer::Verify(VerifyAnswer {
            entries: report.head.seq,
            ok: report.findings.is_empty(),
            first_bad: report.findings.iter().find_map(first_bad),
            findings: report.findings.iter().map(ToString::to_string).collect(),
        }))
    }

    /// Waits until everything that waited is sent and one answer came down, or gives up.
    async fn sync_now(&self) -> Result<Answer, ErrorAnswer> {
        let before = self.sync.wake.counts();
        self.sync.wake.now();
        let mut rounds = 0;
        loop {
            tokio::time::sleep(SYNC_LOOK).await;
            rounds += 1;
            let waiting = self.ledger.progress().waiting();
            let contact = self.contact.now(Timestamp::now());
            let online = contact.contact.is_some_and(|contact| contact.online);
            let is_done = online && waiting == 0 && rounds > 1;
            if is_done || rounds >= SYNC_LOOKS {
                let after = self.sync.wake.counts();
                return Ok(Answer::Sync(SyncAnswer {
                    online,
                    sent: after.0 - before.0,
                    waiting,
                    applied: after.1 - before.1,
                    text: contact.trouble.unwrap_or_default(),
                }));
            }
        }
    }

    async fn sell(
        &self,
        id: Option<Uuid>,
        lines: &[String],
        timeout_s: u32,
        caller: &mut BufReader<tokio::net::unix::OwnedReadHalf>,
    ) -> Result<Answer, ErrorAnswer> {
        let lines: Vec<BasketLine> = lines
            .iter()
            .map(|line| line.parse().map_err(|error| bad_line(line, &error)))
            .collect::<Result<_, _>>()?;
        let mut basket = canteen::Basket::default();
        for line in &lines {
            basket
                .add(line.clone())
                .map_err(|error| bad_line(&line.to_string(), &error))?;
        }
        let total = basket
            .total()
            .map_err(|error| bad_line("the basket", &error))?;
        let id = id.unwrap_or_else(Uuid::now_v7);
        if let Some(recorded) = self.recorded(id, total.money())? {
            return Ok(recorded);
        }
        let (reply, mut ending) = oneshot::channel();
        let wait = Duration::from_secs(u64::from(timeout_s.min(TIMEOUT_MAX_S)));
        let lines = basket.lines().to_vec();
        self.tell(Event::Sell(Sell {
            id,
            lines,
            wait,
            reply,
        }))
        .await?;
        let ended = tokio::select! {
            ended = &mut ending => ended,
            () = closed(caller) => {
                self.tell(Event::GiveUp(as_sale(id))).await?;
                ending.await
            }
        };
        let ended = ended.map_err(|_| sale_cut_short(id))?.map_err(sell_error)?;
        match ended {
            SellEnding::Decided(sold) => Ok(Answer::Sell(Box::new(sold.answer(Timestamp::now())))),
            SellEnding::Ended { id, total, ending } => {
                Ok(Answer::Sell(Box::new(ended_answer(id, total, ending))))
            }
            SellEnding::Unknown(why) => Err(ErrorAnswer::new(
                ErrorCode::JournalUnavailable,
                why,
                format!("ask again with --id {id}"),
            )),
        }
    }

    /// The recorded answer, when the id was used before.
    fn recorded(&self, id: Uuid, total: Money) -> Result<Option<Answer>, ErrorAnswer> {
        let Some(entry) = self.ledger.entry_by_id(id).map_err(ledger_error)? else {
            return Ok(None);
        };
        let till = self.sync.till.clone();
        let place = EntryPlace {
            till,
            epoch: self.ledger.identity().epoch,
            seq: entry.seq,
            id,
        };
        let body = entry.texts.read().ok().map(|(_, body)| body);
        let answer = body.and_then(|body| replayed_answer(id, total, place, &body));
        match answer {
            Some(answer) => {
                let account = answer
                    .account
                    .map(|account| person_of(&self.ledger, account));
                let holder = account.and_then(|person| person.name);
                Ok(Some(Answer::Sell(Box::new(SellAnswer {
                    holder,
                    ..answer
                }))))
            }
            None => Err(ErrorAnswer::new(
                ErrorCode::BadRequest,
                format!(
                    "the id {id} is taken by entry {}, which says something else",
                    entry.seq
                ),
                "draw a new id for a new sale",
            )),
        }
    }

    async fn void(
        &self,
        id: Uuid,
        void: Option<Uuid>,
        lines: Vec<VoidLine>,
    ) -> Result<Answer, ErrorAnswer> {
        let request = VoidRequest {
            id: void.unwrap_or_else(Uuid::now_v7),
            of: id,
            lines,
        };
        let done = take_back(&self.ledger, request)
            .await
            .map_err(ledger_error)?;
        let answer = void_answer(id, &done.voided);
        // It is taken back, also when the page is no longer there to show it.
        let _ = self.tell(Event::Voided(done)).await;
        Ok(Answer::Void(Box::new(answer)))
    }

    async fn tell(&self, event: Event) -> Result<(), ErrorAnswer> {
        let sent = self.events.send(event).await;
        sent.map_err(|_| shutting_down("try again when it is back"))
    }
}

fn may_command(stream: &UnixStream, path: &Path) -> bool {
    let own_uid = fs::metadata("/proc/self").map(|own| own.uid());
    let socket_gid = fs::metadata(path).map(|socket| socket.gid());
    match (Peer::of(stream), own_uid, socket_gid) {
        (Ok(peer), Ok(uid), Ok(gid)) => peer.may_command(uid, gid),
        _ => false,
    }
}

fn first_bad(finding: &Finding) -> Option<FirstBad> {
    match finding {
        Finding::Broken { seq } | Finding::Hole { seq } => Some(FirstBad {
            seq: *seq,
            what: finding.to_string(),
        }),
        _ => None,
    }
}

fn bad_line(line: &str, error: &canteen::BasketError) -> ErrorAnswer {
    ErrorAnswer::new(
        ErrorCode::BadLine,
        format!("{line:?}: {error}"),
        "for example: --line \"1x Dagens ret 22,00\"",
    )
}

fn shutting_down(advice: impl Into<String>) -> ErrorAnswer {
    ErrorAnswer::new(ErrorCode::Internal, "the till is shutting down", advice)
}

/// The till may have decided in its last moment.
fn sale_cut_short(id: Uuid) -> ErrorAnswer {
    shutting_down(format!(
        "give the same command with --id {id} when it is back: it never sells twice and tells what \
         became of the sale"
    ))
}

fn sell_error(error: SellError) -> ErrorAnswer {
    match error {
        SellError::NoReader(faults) => ErrorAnswer::new(
            ErrorCode::NoReader,
            format!("no reader works, so no chip can be waited for: {faults}"),
            "see: tillctl reader list",
        ),
        SellError::Checkout(error) => ErrorAnswer::new(
            ErrorCode::Busy,
            error.to_string(),
            "finish the sale on the cashier page, or wait for it",
        ),
    }
}

/// A refusal or a failure of the ledger, with its causes.
pub(crate) fn ledger_error(error: LedgerError) -> ErrorAnswer {
    let code = match &error {
        LedgerError::NoSuchSale { .. } => ErrorCode::UnknownSale,
        LedgerError::SaleOfAnotherDay { .. }
        | LedgerError::VoidedBefore { .. }
        | LedgerError::NotSoMany { .. } => ErrorCode::VoidRefused,
        LedgerError::DayToCome { .. } => ErrorCode::DayToCome,
        LedgerError::HubClockDiffers { .. } => ErrorCode::ClockDiffers,
        LedgerError::IdTaken { .. } | LedgerError::LinesDiffer { .. } => ErrorCode::BadRequest,
        LedgerError::Busy => ErrorCode::Busy,
        LedgerError::Closed => ErrorCode::Internal,
        _ => ErrorCode::JournalUnavailable,
    };
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(deeper) = cause {
        message = format!("{message}: {deeper}");
        cause = deeper.source();
    }
    ErrorAnswer::new(code, message, "")
}

const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
const SYNC_LOOK: Duration = Duration::from_millis(250);
const SYNC_LOOKS: u32 = 60;
const TIMEOUT_MAX_S: u32 = 3600;
