//! The page that a transaction writes on: what becomes an entry, and what is only a draft until
//! it is committed.

use canteen::{BusinessDay, OfflineRules};
use rusqlite::Connection;
use sync_proto::{EntryBody, EntryHeader, EntryTexts, Epoch, FeedAck, Head, Start, TillId};
use uuid::Uuid;

use crate::book::prepare;
use crate::clock::{Clock, ClockRequest};
use crate::day_report::{DayReport, ZRequest};
use crate::entry_row::entry_at;
use crate::error::LedgerError;
use crate::identity::Identity;
use crate::moment::{Moment, business_day};
use crate::purchase::{PurchaseRequest, Recorded};
use crate::sibling::Overlay;
use crate::tip::{Tip, find};
use crate::void::{VoidRequest, Voided};

/// Names an entry wherever it goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryRef {
    /// The till that wrote it.
    pub till: TillId,
    /// The life of its ledger.
    pub epoch: Epoch,
    /// Its number in that life.
    pub seq: u64,
    /// Its id.
    pub id: Uuid,
}

/// The program started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRequest {
    /// The id of the entry.
    pub id: Uuid,
    /// The program's version.
    pub version: String,
}

/// Something that becomes an entry.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    Purchase(PurchaseRequest),
    Void(VoidRequest),
    Start(StartRequest),
    /// An acknowledgement of the hub's changes, under this id.
    FeedAck(Uuid),
    Z(ZRequest),
    /// A look at the clock, which becomes an entry only when there is something to tell.
    Clock(ClockRequest),
}

/// What became of a [`Write`].
#[derive(Debug)]
pub(crate) enum Written {
    Purchase(Recorded),
    Void(Voided),
    /// An entry that has nothing to say but that it is there.
    Note(EntryRef),
    Z(DayReport),
    Clock(Option<EntryRef>),
}

impl Write {
    pub(crate) fn id(&self) -> Uuid {
        match self {
            Write::Purchase(request) => request.id,
            Write::Void(request) => request.id,
            Write::Start(request) => request.id,
            Write::FeedAck(id) => *id,
            Write::Z(request) => request.id,
            Write::Clock(request) => request.id,
        }
    }
}

/// Takes an answer apart; a wrong kind is what a ledger that cannot be written says.
macro_rules! taken_as {
    ($name:ident, $kind:ident, $type:ty) => {
        impl Written {
            pub(crate) fn $name(self) -> Result<$type, LedgerError> {
                if let Written::$kind(done) = self {
                    Ok(done)
                } else {
                    Err(LedgerError::JournalUnavailable)
                }
            }
        }
    };
}

taken_as!(purchase, Purchase, Recorded);
taken_as!(void, Void, Voided);
taken_as!(note, Note, EntryRef);
taken_as!(z, Z, DayReport);
taken_as!(clock, Clock, Option<EntryRef>);

/// What a transaction changes, until it is committed.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) head: Head,
    pub(crate) day: Option<BusinessDay>,
    pub(crate) clock: Clock,
    pub(crate) unknown_chips: u64,
    pub(crate) asked_for_top_up: u64,
    ids: Vec<(Uuid, u64)>,
}

/// A draft's state, to go back to when a request fails among others.
pub(crate) struct Mark {
    head: Head,
    day: Option<BusinessDay>,
    clock: Clock,
    unknown_chips: u64,
    asked_for_top_up: u64,
    ids: usize,
}

impl Draft {
    pub(crate) fn of(tip: &Tip) -> Draft {
        Draft {
            head: tip.head,
            day: tip.day,
            clock: tip.clock,
            unknown_chips: tip.unknown_chips,
            asked_for_top_up: tip.asked_for_top_up,
            ids: Vec::new(),
        }
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark {
            head: self.head,
            day: self.day,
            clock: self.clock,
            unknown_chips: self.unknown_chips,
            asked_for_top_up: self.asked_for_top_up,
            ids: self.ids.len(),
        }
    }

    pub(crate) fn back_to(&mut self, mark: &Mark) {
        self.head = mark.head;
        self.day = mark.day;
        self.clock = mark.clock;
        self.unknown_chips = mark.unknown_chips;
        self.asked_for_top_up = mark.asked_for_top_up;
        self.ids.truncate(mark.ids);
    }

    pub(crate) fn keep(self, tip: &mut Tip) {
        tip.unsaved |= tip.unknown_chips != self.unknown_chips;
        tip.head = self.head;
        tip.day = self.day;
        tip.clock = self.clock;
        tip.unknown_chips = self.unknown_chips;
        tip.asked_for_top_up = self.asked_for_top_up;
        tip.ids.extend(self.ids);
    }
}

/// The page that a transaction writes on.
pub(crate) struct Page<'a> {
    pub(crate) connection: &'a Connection,
    pub(crate) identity: &'a Identity,
    pub(crate) tip: &'a Tip,
    pub(crate) overlay: &'a Overlay,
    pub(crate) rules: &'a OfflineRules,
    pub(crate) draft: &'a mut Draft,
}

impl Page<'_> {
    pub(crate) fn write(&mut self, write: &Write, now: Moment) -> Result<Written, LedgerError> {
        match write {
            Write::Purchase(request) => self.purchase(request, now).map(Written::Purchase),
            Write::Void(request) => self.void(request, now).map(Written::Void),
            Write::Start(request) => self.start(request, now).map(Written::Note),
            Write::FeedAck(id) => self.feed_ack(*id, now).map(Written::Note),
            Write::Z(request) => self.z_report(request, now).map(Written::Z),
            Write::Clock(request) => self.clock(request, now).map(Written::Clock),
        }
    }

    fn start(&mut self, request: &StartRequest, now: Moment) -> Result<EntryRef, LedgerError> {
        let body = EntryBody::Start(Start {
            version: request.version.clone(),
            strict_limits: true,
        });
        self.note(request.id, &body, now)
    }

    /// What is acknowledged is the feed position that every entry carries.
    pub(crate) fn feed_ack(&mut self, id: Uuid, now: Moment) -> Result<EntryRef, LedgerError> {
        let body = EntryBody::FeedAck(FeedAck {
            strict_limits: true,
        });
        self.note(id, &body, now)
    }

    /// Writes an entry that moves no money, once.
    pub(crate) fn note(
        &mut self,
        id: Uuid,
        body: &EntryBody,
        now: Moment,
    ) -> Result<EntryRef, LedgerError> {
        if let Some(seq) = self.find(id)? {
            let (_, known) = self.entry(seq)?.read()?;
            if known.kind() == body.kind() {
                return Ok(self.reference(seq, id));
            }
            return Err(LedgerError::IdTaken { id, seq });
        }
        let day = self.business_day(now)?;
        self.append(id, body, day, now)
    }

    /// The entry with an id, this transaction's own included.
    pub(crate) fn find(&self, id: Uuid) -> Result<Option<u64>, LedgerError> {
        let drafted = self.draft.ids.iter().find(|(known, _)| *known == id);
        match drafted {
            Some((_, seq)) => Ok(Some(*seq)),
            None => find(self.connection, self.tip, id),
        }
    }

    pub(crate) fn entry(&self, seq: u64) -> Result<EntryTexts, LedgerError> {
        entry_at(self.connection, seq)?.ok_or(LedgerError::Corrupt { seq })
    }

    pub(crate) fn business_day(&self, now: Moment) -> Result<BusinessDay, LedgerError> {
        let believed = self.draft.clock.believed(now, self.hub_ms(now));
        business_day(believed, self.draft.day)
    }

    /// What the hub's clock shows now, as far as it is known.
    pub(crate) fn hub_ms(&self, now: Moment) -> Option<i64> {
        self.tip.hub_clock.and_then(|clock| clock.at(now))
    }

    pub(crate) fn reference(&self, seq: u64, id: Uuid) -> EntryRef {
        EntryRef {
            till: self.identity.till.clone(),
            epoch: self.identity.epoch,
            seq,
            id,
        }
    }

    /// An id for an entry that nobody asked for: as young as the moment, so that ids go on growing
    /// with time, and unlike any other, because no two entries continue the same hash.
    pub(crate) fn own_id(&self, now: Moment) -> Uuid {
        let mut random = [0; 10];
        random.copy_from_slice(&self.draft.head.hash.0[..10]);
        let millis = u64::try_from(now.utc_ms).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
    }

    /// Writes the next entry.
    pub(crate) fn append(
        &mut self,
        id: Uuid,
        body: &EntryBody,
        day: BusinessDay,
        now: Moment,
    ) -> Result<EntryRef, LedgerError> {
        let header = EntryHeader {
            id,
            ts: now.to_rfc3339()?,
            bt: now.boot_ms,
            boot: now.boot,
            day,
            fc: self.tip.feed,
            kind: String::new(),
            version: 0,
        };
        let texts = EntryTexts::write(header, body)?;
        let seq = self.draft.head.seq + 1;
        let hash = self.identity.next(&self.draft.head.hash, seq, &texts);
        prepare(
            self.connection,
            "INSERT OR FAIL INTO entry (seq, header, body, hash) VALUES (?1, ?2, ?3, ?4)",
        )?
        .execute((seq.cast_signed(), &texts.header, &texts.body, hash.0))?;
        self.draft.head = Head { seq, hash };
        self.draft.day = Some(day);
        self.draft.clock.goes_on(now, self.hub_ms(now));
        self.draft.ids.push((id, seq));
        Ok(self.reference(seq, id))
    }
}
