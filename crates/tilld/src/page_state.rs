//! What the cashier page shows, from what the till knows.

use std::time::Duration;

use canteen::{Basket, BusinessDay, Moment, Money, Phase};
use jiff::Timestamp;
use sync_proto::{EntryBody, Sale};
use till_ledger::{ClockState, Journal, Ledger, Progress, RecentEntry, SaleLeft};
use till_page::{
    ChipOnReader, Notice, NoticeShown, PageState, PiecesLeft, Product, Reader, ReaderTrouble,
    RecentKind, RecentSale, Text, Verdict, clock, decline_title, line_words, notice_shown,
};
use till_readers::{ReaderFault, ReaderListing, ReaderState};
use uuid::Uuid;

use crate::contact::ContactNow;
use crate::standing::Standing;
use crate::till::Parts;

/// What only the till's task knows.
pub(crate) struct Shown<'a> {
    /// Random per start.
    pub(crate) boot: Uuid,
    /// What is being bought.
    pub(crate) basket: &'a Basket,
    /// Where the checkout stands.
    pub(crate) phase: Phase,
    /// Now, on the checkout's clock.
    pub(crate) now: Moment,
    /// The latest outcome.
    pub(crate) verdict: Option<&'a Verdict>,
    /// The chip on the reader.
    pub(crate) chip: Option<&'a ChipOnReader>,
    /// What the ledger's file says.
    pub(crate) rows: &'a Rows,
}

/// What the page shows from the ledger's file; read again only when something there has changed.
pub(crate) struct Rows {
    as_of: (u64, u64, BusinessDay),
    recent: Vec<RecentSale>,
    products: Vec<Product>,
}

impl Rows {
    pub(crate) fn read(ledger: &Ledger) -> Rows {
        let now = Timestamp::now();
        Rows {
            as_of: as_of(ledger),
            recent: recent(ledger, now),
            products: products(ledger),
        }
    }

    /// Reads again, if it has to.
    pub(crate) fn refresh(&mut self, ledger: &Ledger) {
        if self.as_of != as_of(ledger) {
            *self = Rows::read(ledger);
        }
    }
}

/// The day counts because a sale of today is shown without its date and may be undone.
fn as_of(ledger: &Ledger) -> (u64, u64, BusinessDay) {
    let progress = ledger.progress();
    let today = progress.time.today(till_ledger::Moment::now());
    (progress.head.seq, progress.replica, today)
}

/// The whole state of the page.
pub(crate) fn page_state(parts: &Parts, shown: &Shown<'_>) -> PageState {
    let now = Timestamp::now();
    let contact = parts.contact.now(now);
    let progress = parts.ledger.progress();
    let readers: Vec<Reader> = parts.readers.list().iter().map(reader).collect();
    let renewing = parts.sync.renewal.borrow().is_some();
    let has = Conditions {
        renewing,
        disk_short: parts.disk.is_short(),
        no_reader: readers.is_empty(),
    };
    let notices = notices(&contact, &progress, &has);
    PageState {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        till: parts.sync.till.to_string(),
        canteen: parts.sync.canteen.borrow().clone().unwrap_or_default(),
        boot: shown.boot.to_string(),
        line: line_words(
            contact.contact,
            &parts.offline,
            contact.since,
            parts.unsent.count(&parts.ledger),
            contact.hears.map(|hears| (hears.heard, hears.of)),
            now,
        ),
        readers,
        phase: phase(shown),
        basket: basket(shown.basket),
        waiting_until: waiting_left(shown),
        verdict: shown.verdict.cloned(),
        chip: shown.chip.cloned(),
        recent: shown.rows.recent.clone(),
        products: shown.rows.products.clone(),
        notices,
        journal_ok: progress.journal == Journal::Writable,
    }
}

/// What notices are about, beside the hub and the ledger.
struct Conditions {
    renewing: bool,
    disk_short: bool,
    no_reader: bool,
}

fn notices(contact: &ContactNow, progress: &Progress, has: &Conditions) -> Vec<NoticeShown> {
    let standing = match contact.standing {
        Standing::Good => None,
        Standing::Forked { .. } => Some(Notice::Forked),
        Standing::RolledBack { .. } => Some(Notice::RolledBack),
        Standing::Revoked => Some(Notice::Revoked),
        Standing::NotEnrolled => Some(Notice::NotEnrolled),
    };
    let clock = progress.clock != ClockState::Right;
    let others = [
        (progress.journal != Journal::Writable, Notice::DiskFull),
        (has.disk_short, Notice::DiskLow),
        (has.renewing, Notice::Renewing),
        (progress.holes > 0, Notice::Damaged),
        (!contact.alarms.is_empty(), Notice::Alarm),
        (clock, Notice::ClockUntrusted),
        (progress.waiting() > MANY_WAITING, Notice::ManyWaiting),
        (is_old(contact), Notice::OldData),
        (has.no_reader, Notice::NoReader),
    ];
    let others = others.iter().filter_map(|(holds, it)| holds.then_some(it));
    standing.iter().chain(others).map(notice_shown).collect()
}

fn is_old(contact: &ContactNow) -> bool {
    contact.contact.is_some_and(|contact| contact.age > OLD)
}

fn phase(shown: &Shown<'_>) -> till_page::Phase {
    match shown.phase {
        Phase::Open if shown.verdict.is_some() && shown.basket.is_empty() => till_page::Phase::Done,
        Phase::Open => till_page::Phase::Open,
        Phase::Waiting { .. } => till_page::Phase::Waiting,
        Phase::Confirming { .. } | Phase::Deciding { .. } => till_page::Phase::Deciding,
    }
}

fn waiting_left(shown: &Shown<'_>) -> Option<u64> {
    match shown.phase {
        Phase::Waiting { until, .. } => {
            let left = until.0.saturating_sub(shown.now.0);
            Some(u64::try_from(left.as_millis()).unwrap_or(u64::MAX))
        }
        Phase::Open | Phase::Confirming { .. } | Phase::Deciding { .. } => None,
    }
}

fn basket(basket: &Basket) -> till_page::Basket {
    let lines = basket
        .lines()
        .iter()
        .enumerate()
        .map(|(index, line)| till_page::BasketLine {
            index,
            quantity: line.quantity(),
            text: line.text().to_owned(),
            unit_price: line.unit_price().bare().to_string(),
            amount: line.amount().bare().to_string(),
        });
    till_page::Basket {
        lines: lines.collect(),
        total: basket.sum().unwrap_or_default().bare().to_string(),
    }
}

fn products(ledger: &Ledger) -> Vec<Product> {
    let products = ledger.products().unwrap_or_default();
    let product = |product: sync_proto::ProductRecord| Product {
        id: product.id,
        name: product.name,
        category: product.category,
        price: product.price.bare().to_string(),
    };
    products.into_iter().map(product).collect()
}

fn recent(ledger: &Ledger, now: Timestamp) -> Vec<RecentSale> {
    let today = ledger.progress().time.today(till_ledger::Moment::now());
    let entries = ledger.recent(RECENT).unwrap_or_default();
    entries
        .into_iter()
        .filter_map(|entry| recent_sale(ledger, entry, today, now))
        .collect()
}

fn recent_sale(
    ledger: &Ledger,
    entry: RecentEntry,
    today: BusinessDay,
    now: Timestamp,
) -> Option<RecentSale> {
    let (header, left) = (entry.header, entry.left);
    let mut pieces = Vec::new();
    let (kind, title, amount, account): (_, _, Money, _) = match entry.body? {
        EntryBody::Sale(sale) => {
            let left = left.as_ref();
            let amount = left.map_or(sale.amount, |left| left.amount);
            let (kind, title) = if amount <= Money::ZERO {
                (RecentKind::Voided, Text::new("Fortrudt", "Undone"))
            } else if amount < sale.amount {
                let title = Text::new("Delvis fortrudt", "Partly undone");
                (RecentKind::Approved, title)
            } else {
                (RecentKind::Approved, Text::new("Godkendt", "Approved"))
            };
            pieces = left.map_or_else(Vec::new, |left| pieces_left(&sale, left));
            let shown = if kind == RecentKind::Voided {
                sale.amount
            } else {
                amount
            };
            (kind, title, shown, sale.account)
        }
        EntryBody::Decline(decline) => (
            RecentKind::Declined,
            decline_title(&decline.reason),
            decline.amount,
            decline.account,
        ),
        EntryBody::Void(_)
        | EntryBody::Start(_)
        | EntryBody::FeedAck(_)
        | EntryBody::StateReport(_)
        | EntryBody::ZReport(_)
        | EntryBody::ClockEvent(_) => return None,
    };
    let moment: Option<Timestamp> = header.ts.parse().ok();
    Some(RecentSale {
        id: header.id.to_string(),
        time: moment.map_or_else(String::new, |moment| clock(moment, now)),
        voidable: kind == RecentKind::Approved && header.day == today,
        pieces,
        kind,
        title,
        amount: amount.bare().to_string(),
        name: ledger
            .holder(account)
            .ok()
            .flatten()
            .map(|holder| holder.name),
    })
}

/// The lines of a sale of which something is left to take back.
fn pieces_left(sale: &Sale, left: &SaleLeft) -> Vec<PiecesLeft> {
    let lines = sale.lines.iter().zip(&left.pieces).zip(0..);
    lines
        .filter(|((_, left), _)| **left > 0)
        .map(|((line, left), place)| PiecesLeft {
            line: place,
            left: *left,
            text: line.text.clone(),
            unit_price: line.unit_price.bare().to_string(),
        })
        .collect()
}

fn reader(listing: &ReaderListing) -> Reader {
    let trouble = match &listing.state {
        ReaderState::Ready => None,
        ReaderState::Opening => Some(ReaderTrouble::Starting),
        ReaderState::Faulty(fault) => Some(trouble(fault)),
    };
    Reader::new(listing.name.to_string(), trouble)
}

fn trouble(fault: &ReaderFault) -> ReaderTrouble {
    match fault {
        ReaderFault::NoReader | ReaderFault::LineMissing { .. } => ReaderTrouble::NotConnected,
        ReaderFault::Unavailable
        | ReaderFault::Lost
        | ReaderFault::Silent
        | ReaderFault::BrokeDown
        // A cashier can pull a plug, whoever it is that blocks the reader.
        | ReaderFault::Blocked { .. }
        | ReaderFault::LineFailed { .. } => ReaderTrouble::NotAnswering,
        ReaderFault::LineInUse { .. } => ReaderTrouble::InUse,
        ReaderFault::KeyboardMode => ReaderTrouble::KeyboardMode,
        ReaderFault::Version { .. } => ReaderTrouble::WrongVersion,
        ReaderFault::ServiceDown
        | ReaderFault::ServiceRefused
        | ReaderFault::KernelDriver
        | ReaderFault::LineRefused { .. }
        | ReaderFault::NoLine { .. }
        | ReaderFault::KeyboardRefused { .. }
        | ReaderFault::NoKeyboard { .. } => ReaderTrouble::NotSetUp,
    }
}

/// With more entries than this unsent, somebody must see to the line.
pub(crate) const MANY_WAITING: u64 = 20_000;
/// Data about accounts that is older is told of.
const OLD: Duration = Duration::from_secs(24 * 3600);
/// How many of the latest entries are looked at for the list on the page.
const RECENT: usize = 40;
