//! How the till is, for a technician.

use jiff::Timestamp;
use till_control::{
    Answer, Condition, ErrorAnswer, LineState, LineStatus, ReaderListAnswer, ReaderState,
    SiblingsStatus, StandingStatus, StatusAnswer,
};
use till_ledger::{ClockState, Journal, LedgerStatus};

use super::{Control, ledger_error};
use crate::contact::ContactNow;
use crate::page_state::MANY_WAITING;

impl Control {
    pub(super) fn status(&self) -> Result<Answer, ErrorAnswer> {
        let status = self.ledger.status().map_err(ledger_error)?;
        let contact = self.contact.now(Timestamp::now());
        Ok(Answer::Status(Box::new(StatusAnswer {
            till: self.sync.till.clone(),
            canteen: self.sync.canteen.borrow().clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: self.started_at,
            epoch: self.ledger.identity().epoch,
            head_seq: status.progress.head.seq,
            acked_seq: status.progress.acked,
            standing: StandingStatus {
                state: contact.standing.state(),
                text: contact.standing.words(),
            },
            alarms: self.alarms(&contact, &status),
            siblings: self.siblings(&contact),
            clock: status.progress.clock.code().to_owned(),
            holes: status.progress.holes,
            renewing: self.sync.renewal.borrow().is_some(),
            waiting: status.progress.waiting(),
            line: self.line(&status),
            journal: condition(&status),
            readers: self.reader_list().readers,
            unknown_chips: status.progress.unknown_chips,
            database_bytes: status.file_bytes,
        })))
    }

    fn siblings(&self, contact: &ContactNow) -> Option<SiblingsStatus> {
        let known = self.ledger.siblings();
        let open = known.iter().filter(|stand| stand.sibling.address.is_some());
        let status = SiblingsStatus {
            heard: contact.hears.map_or(0, |hears| hears.heard as u64),
            open: open.count() as u64,
            of: known.len() as u64,
        };
        (status.of > 0).then_some(status)
    }

    /// What somebody must look into.
    fn alarms(&self, contact: &ContactNow, status: &LedgerStatus) -> Vec<String> {
        let holes = status.progress.holes;
        let hole = (holes > 0).then(|| {
            format!("{holes} entries are damaged on the disk; the till goes on (runbook/hole.md)")
        });
        let clock = match status.progress.clock {
            ClockState::Right => None,
            ClockState::Back => Some("the clock shows a time that has been (runbook/clock.md)"),
            ClockState::Forward => Some("the clock is far ahead (runbook/clock.md)"),
        };
        let clock = clock.map(str::to_owned);
        let disk = self.disk.is_short().then(|| {
            "the disk is nearly full; make room, or sales will stop (runbook/full-disk.md)"
                .to_owned()
        });
        let waiting = status.progress.waiting();
        let many = (waiting > MANY_WAITING)
            .then(|| format!("{waiting} entries wait for the hub (runbook/hub-unreachable.md)"));
        let others = [hole, clock, disk, many].into_iter().flatten();
        contact.alarms.iter().cloned().chain(others).collect()
    }

    fn line(&self, status: &LedgerStatus) -> LineStatus {
        let contact = self.contact.now(Timestamp::now());
        let state = match till_page::LineState::of(contact.contact, &self.offline) {
            till_page::LineState::Online => LineState::Online,
            till_page::LineState::Offline => LineState::Offline,
            till_page::LineState::Restricted => LineState::Restricted,
            till_page::LineState::Stopped => LineState::Stopped,
            till_page::LineState::Never => LineState::Never,
        };
        LineStatus {
            state,
            since: contact.since,
            restricted_since: contact.restricted_since(&self.offline, Timestamp::now()),
            data_age_s: contact.contact.map(|contact| contact.age.as_secs()),
            hub: self
                .sync
                .hub
                .is_enrolled()
                .then(|| self.sync.hub.url().to_owned()),
            hub_epoch: status.progress.feed.hub_epoch,
            cursor: status.progress.feed.cursor,
            text: contact.trouble.unwrap_or_default(),
        }
    }

    pub(super) fn reader_list(&self) -> ReaderListAnswer {
        let readers = self.readers.list().into_iter().map(|listing| {
            let (ok, text) = match &listing.state {
                till_readers::ReaderState::Ready => (true, "ready".to_owned()),
                till_readers::ReaderState::Opening => (false, "is being opened".to_owned()),
                till_readers::ReaderState::Faulty(fault) => (false, fault.to_string()),
            };
            let name = listing.name.to_string();
            let kind = name.split(':').next().unwrap_or_default().to_owned();
            ReaderState {
                name,
                kind,
                ok,
                text,
            }
        });
        ReaderListAnswer {
            readers: readers.collect(),
        }
    }
}

fn condition(status: &LedgerStatus) -> Condition {
    let text = match status.progress.journal {
        Journal::Writable => {
            return Condition {
                ok: true,
                text: String::new(),
            };
        }
        Journal::Full => {
            "the disk is full; make room, nothing can be sold until then (runbook/full-disk.md)"
        }
        Journal::Failing => {
            "the disk cannot be written; check it, nothing can be sold until then (runbook/full-disk.md)"
        }
    };
    Condition {
        ok: false,
        text: text.to_owned(),
    }
}
