//! A till of a world: the real store on a disk whose power may fail, and what its program keeps in
//! memory between two calls.

use std::path::{Path, PathBuf};
use std::time::Duration;

use canteen::{BusinessDay, ChipNumber, OfflineRules};
use hub_ledger::Fingerprint;
use sync_proto::{Batch, Epoch, TillId, TillKey, TillPosition, TillReport, Upload};
use till_ledger::{
    EntryRange, Identity, LedgerError, Moment, PurchaseRequest, Reader, Store, StoreOptions,
};
use uuid::Uuid;

use super::action::Cut;
use super::disk::{Image, Order};
use super::sheet::{Own, Sheet, What};
use super::tally::{Fault, Invariant, Tally, Violation, broken};

/// A till.
pub(crate) struct Till {
    pub(crate) id: TillId,
    pub(crate) epoch: Epoch,
    pub(crate) token: Fingerprint,
    pub(crate) sheet: Sheet,
    pub(crate) upload: Upload,
    /// What the cashier rang up last.
    pub(crate) last: Option<PurchaseRequest>,
    /// Its sales, the newest last.
    pub(crate) sales: Vec<Uuid>,
    pub(crate) line_is_up: bool,
    /// The hub has answered the last request.
    pub(crate) online: bool,
    pub(crate) wants_snapshot: bool,
    pub(crate) owes_ack: bool,
    /// The hub does not take its ledger for the till's: its entries go up as a branch.
    pub(crate) is_forked: bool,
    /// When it last heard how accounts stand, by the true clock.
    pub(crate) heard_ms: Option<i64>,
    /// How far its wall clock is off.
    pub(crate) clock_off_ms: i64,
    /// What becomes of the next transaction.
    pub(crate) cut: Option<Cut>,
    /// What was written when the power failed last and was not on the disk afterwards: pieces of it
    /// may be, and the next power cut in a transaction may make it whole.
    undone: Option<Sheet>,
    /// A copy of its disk that somebody made, and what was on it.
    kept: Option<(Image, Sheet)>,
    dir: PathBuf,
    /// Which machine it is; several may go by one name.
    machine: usize,
    key_seed: u8,
    key: TillKey,
    store: Option<Store>,
    reader: Option<Reader>,
    generation: u32,
    boots: u64,
    booted_ms: i64,
    started_ms: i64,
    ids: u64,
}

impl Till {
    /// A till with an empty ledger.
    pub(crate) fn begin(dir: &Path, at: usize, now_ms: i64) -> Result<Till, Violation> {
        let mut till = Till::new(dir, at, now_ms)?;
        let identity = Identity {
            till: till.id.clone(),
            epoch: till.epoch,
            public_key: till.key.public(),
        };
        let store = Store::create(&till.path(), &identity, OPTIONS);
        till.open(store)?;
        Ok(till)
    }

    /// A till whose empty ledger was put on an image.
    pub(crate) fn from_image(
        dir: &Path,
        at: usize,
        now_ms: i64,
        image: &Image,
    ) -> Result<Till, Violation> {
        let mut till = Till::new(dir, at, now_ms)?;
        let put = image.put(&till.path());
        put.map_err(|error| broken("writing a till's disk", &error))?;
        let store = Store::open(&till.path(), OPTIONS);
        till.open(store)?;
        Ok(till)
    }

    fn new(dir: &Path, at: usize, now_ms: i64) -> Result<Till, Violation> {
        let name = format!("kasse-{}", at + 1);
        let id = name.parse();
        let seed = u8::try_from(at + 1).unwrap_or(u8::MAX);
        Ok(Till {
            id: id.map_err(|error| broken("naming a till", &error))?,
            epoch: Epoch(u64::from(seed)),
            token: Fingerprint::of(&format!("token of {name}")),
            sheet: Sheet::default(),
            upload: Upload::new(),
            last: None,
            sales: Vec::new(),
            line_is_up: true,
            online: false,
            wants_snapshot: true,
            owes_ack: false,
            is_forked: false,
            undone: None,
            kept: None,
            heard_ms: None,
            clock_off_ms: 0,
            cut: None,
            dir: dir.to_owned(),
            machine: at,
            key_seed: seed,
            key: TillKey::from_seed(&[seed; 32]),
            store: None,
            reader: None,
            generation: 0,
            boots: 1,
            booted_ms: now_ms,
            started_ms: now_ms,
            ids: 0,
        })
    }

    /// Where its file is now.
    pub(crate) fn path(&self) -> PathBuf {
        let Till {
            machine,
            generation,
            ..
        } = self;
        self.dir.join(format!("till-{machine}-{generation}"))
    }

    pub(crate) fn key(&self) -> TillKey {
        TillKey::from_seed(&[self.key_seed; 32])
    }

    pub(crate) fn public_key(&self) -> sync_proto::TillPublicKey {
        self.key.public()
    }

    /// The moment as its machine knows it.
    pub(crate) fn moment(&self, now_ms: i64) -> Moment {
        Moment {
            utc_ms: now_ms + self.clock_off_ms,
            boot_ms: (now_ms - self.booted_ms).unsigned_abs(),
            boot: Uuid::from_u128(u128::from(self.boots) << 64 | self.machine as u128),
        }
    }

    /// The time that its program has run.
    pub(crate) fn running(&self, now_ms: i64) -> Duration {
        Duration::from_millis((now_ms - self.started_ms).unsigned_abs())
    }

    /// A new id, as drawn at a tap: it begins with the wall clock.
    pub(crate) fn draw_id(&mut self, now_ms: i64) -> Uuid {
        self.ids += 1;
        let clock = u128::from((now_ms + self.clock_off_ms).unsigned_abs());
        let drawn = (self.machine as u128) << 32 | u128::from(self.ids);
        Uuid::from_u128(clock << 80 | 0x7 << 76 | 0x2 << 62 | drawn)
    }

    /// How old its data is.
    pub(crate) fn age(&self, now_ms: i64) -> Duration {
        let heard_ms = self.heard_ms.unwrap_or(0);
        Duration::from_millis((now_ms - heard_ms).unsigned_abs())
    }

    pub(crate) fn store(&self) -> Result<&Store, Violation> {
        self.store.as_ref().ok_or_else(closed)
    }

    pub(crate) fn reader(&self) -> Result<&Reader, Violation> {
        self.reader.as_ref().ok_or_else(closed)
    }

    fn open(&mut self, store: Result<Store, LedgerError>) -> Result<(), Violation> {
        let store = store.map_err(|error| broken("opening a till's ledger", &error))?;
        let reader = store.reader();
        self.reader = Some(reader.map_err(|error| broken("reading a till's ledger", &error))?);
        self.store = Some(store);
        Ok(())
    }

    /// Runs a transaction; `None` when the power failed in it, so that nobody hears how it ended.
    ///
    /// `note` takes what was done down in the reference. After a power failure the ledger must hold
    /// all of it or nothing.
    pub(crate) fn write<T>(
        &mut self,
        tally: &mut Tally,
        now_ms: i64,
        order: Order,
        op: impl FnOnce(&mut Store, Moment) -> Result<T, LedgerError>,
        note: impl FnOnce(&mut Sheet, &T),
    ) -> Result<Option<Result<T, LedgerError>>, Violation> {
        let path = self.path();
        let cut = self.cut.take();
        let before = cut.map(|_| take(&path)).transpose()?;
        let sheet_before = cut.map(|_| self.sheet.clone());
        let moment = self.moment(now_ms);
        let store = self.store.as_mut().ok_or_else(closed)?;
        let done = op(store, moment);
        if let Ok(done) = &done {
            note(&mut self.sheet, done);
        }
        self.note_entries(now_ms)?;
        let (Some(cut), Some(before), Some(sheet_before)) = (cut, before, sheet_before) else {
            self.compare(tally)?;
            self.forget_undone()?;
            return Ok(Some(done));
        };
        let after = take(&path)?;
        let left = Image::torn(&before, &after, cut, order);
        tally.inject(Fault::TillCut);
        if left != before && left != after {
            tally.inject(Fault::TornWrite);
        }
        self.boot_from(&left, now_ms)?;
        self.find_what_is_left(tally, sheet_before)?;
        self.sales
            .retain(|id| self.sheet.own.iter().any(|own| own.id == *id));
        Ok(None)
    }

    /// After a power cut the ledger holds all of the transaction, or nothing, or what an earlier power
    /// cut had undone.
    fn find_what_is_left(&mut self, tally: &mut Tally, before: Sheet) -> Result<(), Violation> {
        let Err(violation) = self.compare(tally) else {
            return self.forget_undone();
        };
        let after = std::mem::replace(&mut self.sheet, before);
        if self.compare(tally).is_ok() {
            self.undone = Some(after);
            return Ok(());
        }
        if let Some(undone) = self.undone.take() {
            self.sheet = undone;
            if self.compare(tally).is_ok() {
                return Ok(());
            }
        }
        self.sheet = after;
        let what = format!("after a power cut {}", violation.what);
        Err(Violation { what, ..violation })
    }

    /// What reaches the log is written over what a power cut has left there.
    fn forget_undone(&mut self) -> Result<(), Violation> {
        if self.store()?.log_frames() > 0 {
            self.undone = None;
        }
        Ok(())
    }

    /// Takes new entries down in the reference, and checks that nothing else was written.
    fn note_entries(&mut self, now_ms: i64) -> Result<(), Violation> {
        let known = self.sheet.own.len() as u64;
        let entries = self.reader()?.entries(EntryRange::After(known), usize::MAX);
        let entries = entries.map_err(|error| broken("reading entries", &error))?;
        for (entry, seq) in entries.iter().zip(known + 1..) {
            let own = Own::read(&entry.texts, now_ms, |account| {
                self.sheet.known_limits(account)
            })?;
            let last = self.sheet.own.last();
            if entry.seq != seq || last.is_some_and(|last| last.day > own.day) {
                let what = format!("entry {} of {} follows {last:?}", entry.seq, self.id);
                return Err(Violation::of(Invariant::Chain, what));
            }
            if matches!(own.what, What::Sale { .. }) {
                self.sales.push(own.id);
            }
            self.sheet.own.push(own);
        }
        Ok(())
    }

    /// Holds the ledger against the reference.
    pub(crate) fn compare(&self, tally: &mut Tally) -> Result<(), Violation> {
        let progress = self.store()?.progress();
        let wrong = |invariant, what| Err(Violation::of(invariant, format!("{}: {what}", self.id)));
        tally.check(Invariant::NoSaleLost);
        if progress.head.seq != self.sheet.own.len() as u64 {
            let what = format!(
                "{} entries, not {}",
                progress.head.seq,
                self.sheet.own.len()
            );
            return wrong(Invariant::NoSaleLost, what);
        }
        let last = self.reader()?.entry(progress.head.seq);
        let last = last.map_err(|error| broken("reading an entry", &error))?;
        let last = last.and_then(|entry| entry.read().ok());
        let last = last.map(|(header, _)| header.id);
        let wanted = self.sheet.own.last().map(|own| own.id);
        if last != wanted {
            return wrong(
                Invariant::NoSaleLost,
                format!("its last entry is {last:?}, not {wanted:?}"),
            );
        }
        tally.check(Invariant::Monotone);
        if progress.feed != self.sheet.feed {
            let what = format!("it is at {:?}, not {:?}", progress.feed, self.sheet.feed);
            return wrong(Invariant::Monotone, what);
        }
        for chip in self.sheet.chips() {
            self.compare_chip(chip)?;
        }
        let reader = self.reader()?;
        for account in self.sheet.accounts() {
            tally.check(Invariant::View);
            let found = reader.account(account);
            let found = found.map_err(|error| broken("reading an account", &error))?;
            let Some(found) = found else {
                return wrong(
                    Invariant::View,
                    format!("it does not know account {account}"),
                );
            };
            let last = self.sheet.own.last().map(|own| own.day);
            let on = last.map_or(found.spent.on(), |last| last.max(found.spent.on()));
            let spent = found.spent.as_of(on);
            let Some(shown) = self.sheet.shown(account, on) else {
                continue;
            };
            let counted = [spent.day(), spent.week(), spent.month()].map(|money| money.ore());
            let strict = found.strict.as_ref();
            let of_shares = strict.and_then(|strict| strict.left(&found.limits, on));
            let found = (
                found.balance.ore(),
                found.allowance.map(|left| left.ore()),
                found.status,
                counted,
                of_shares.map(|left| left.ore()),
            );
            let wanted = (
                shown.balance,
                Some(shown.allowance),
                shown.status,
                shown.spent,
                shown.of_shares,
            );
            if found != wanted {
                let what = format!("it shows {found:?} of account {account}, not {wanted:?}");
                return wrong(Invariant::View, what);
            }
        }
        Ok(())
    }

    /// Whether a chip stands at the till as the reference has it.
    fn compare_chip(&self, chip: canteen::ChipId) -> Result<(), Violation> {
        let found = self.reader()?.chip(ChipNumber::Chip(chip));
        let found = found.map_err(|error| broken("reading a chip", &error))?;
        let found = found.map(|found| (found.number, found.status));
        let wanted = self.sheet.chip(chip).map(|chip| (chip.number, chip.status));
        if found == wanted {
            return Ok(());
        }
        let what = format!("{}: chip {chip} is {found:?}, not {wanted:?}", self.id);
        Err(Violation::of(Invariant::View, what))
    }

    /// The whole chain and every figure, by the ledger's own reckoning.
    pub(crate) fn verify(&self, tally: &mut Tally) -> Result<(), Violation> {
        tally.check(Invariant::Chain);
        let verified = self.reader()?.verify();
        let verified = verified.map_err(|error| broken("verifying a ledger", &error))?;
        match verified.findings.first() {
            None => Ok(()),
            Some(finding) => {
                let what = format!("{}: {finding}", self.id);
                Err(Violation::of(Invariant::Chain, what))
            }
        }
    }

    /// Where it stands.
    pub(crate) fn position(&self) -> Result<TillPosition, Violation> {
        let progress = self.store()?.progress();
        let acked_hash = self.reader()?.hash_at(progress.acked);
        Ok(TillPosition {
            epoch: self.epoch,
            head_seq: progress.head.seq,
            head_hash: progress.head.hash,
            acked_seq: progress.acked,
            acked_hash: acked_hash.map_err(|error| broken("reading a hash", &error))?,
        })
    }

    /// The next batch.
    pub(crate) fn batch(&mut self, most: usize) -> Result<Option<Batch>, Violation> {
        let store = self.store.as_mut().ok_or_else(closed)?;
        let report = TillReport::default();
        let batch = store.batch(most, sync_proto::BATCH_MAX_BYTES, &self.key, report);
        batch.map_err(|error| broken("making a batch", &error))
    }

    /// The program ends in good order and starts again.
    pub(crate) fn restart(&mut self, now_ms: i64) -> Result<(), Violation> {
        let moment = self.moment(now_ms);
        self.reader = None;
        let store = self.store.take().ok_or_else(closed)?;
        let ended = store.close(moment);
        ended.map_err(|error| broken("closing a ledger", &error))?;
        self.start(now_ms)
    }

    /// The power fails between two transactions.
    pub(crate) fn cut_power(&mut self, now_ms: i64) -> Result<(), Violation> {
        let image = take(&self.path())?;
        self.boot_from(&image, now_ms)
    }

    fn boot_from(&mut self, image: &Image, now_ms: i64) -> Result<(), Violation> {
        let old = self.path();
        self.reader = None;
        self.store = None;
        self.generation += 1;
        let put = image.put(&self.path());
        put.map_err(|error| broken("writing a till's disk", &error))?;
        let _ = std::fs::remove_file(old);
        self.boots += 1;
        self.booted_ms = now_ms;
        self.start(now_ms)
    }

    /// What is only in memory is gone.
    fn start(&mut self, now_ms: i64) -> Result<(), Violation> {
        self.open(Store::open(&self.path(), OPTIONS))?;
        self.upload = Upload::new();
        self.started_ms = now_ms;
        self.online = false;
        self.wants_snapshot = self.store()?.progress().feed.hub_epoch == 0;
        // An acknowledgement that was owed is owed no more: entries tell the position anyway.
        self.owes_ack = false;
        let repaired = self.store()?.repaired();
        if repaired.is_empty() {
            return Ok(());
        }
        let what = format!(
            "{}: figures of {repaired:?} were wrong on the disk",
            self.id
        );
        Err(Violation::of(Invariant::View, what))
    }

    /// Another machine with a copy of the disk.
    pub(crate) fn copied(&self, machine: usize, now_ms: i64) -> Result<Till, Violation> {
        let image = take(&self.path())?;
        let mut till = Till {
            sheet: self.sheet.clone(),
            sales: self.sales.clone(),
            epoch: self.epoch,
            token: self.token,
            heard_ms: self.heard_ms,
            is_forked: self.is_forked,
            id: self.id.clone(),
            key_seed: self.key_seed,
            key: TillKey::from_seed(&[self.key_seed; 32]),
            ..Till::new(&self.dir, machine, now_ms)?
        };
        let put = image.put(&till.path());
        put.map_err(|error| broken("writing a till's disk", &error))?;
        till.start(now_ms)?;
        Ok(till)
    }

    /// Somebody makes a copy of the disk, to put it back some day.
    pub(crate) fn keep_disk(&mut self) -> Result<(), Violation> {
        self.kept = Some((take(&self.path())?, self.sheet.clone()));
        Ok(())
    }

    /// The copy is put back; whether there was one.
    pub(crate) fn put_disk_back(&mut self, now_ms: i64) -> Result<bool, Violation> {
        let Some((image, sheet)) = self.kept.take() else {
            return Ok(false);
        };
        self.sheet = sheet;
        let own = &self.sheet.own;
        self.sales.retain(|id| own.iter().any(|own| own.id == *id));
        self.last = None;
        self.boot_from(&image, now_ms)?;
        Ok(true)
    }

    /// Any run of entries as a batch, whatever the hub has.
    pub(crate) fn batch_after(&self, seq: u64, most: usize) -> Result<Option<Batch>, Violation> {
        let report = TillReport::default();
        let batch = self
            .reader()?
            .batch(seq, most, sync_proto::BATCH_MAX_BYTES, &self.key, report);
        batch.map_err(|error| broken("making a batch", &error))
    }

    /// An empty ledger takes the place of the old one, which is put away: a new epoch under the same
    /// name.
    pub(crate) fn begin_anew(
        &mut self,
        epoch: Epoch,
        now_ms: i64,
    ) -> Result<(PathBuf, Sheet), Violation> {
        let moment = self.moment(now_ms);
        self.reader = None;
        let store = self.store.take().ok_or_else(closed)?;
        let ended = store.close(moment);
        ended.map_err(|error| broken("closing a ledger", &error))?;
        let (machine, ended) = (self.machine, self.epoch);
        let old = self.dir.join(format!("old-{machine}-{ended}"));
        let put_away = till_ledger::put_away(&self.path(), ended, &old);
        put_away.map_err(|error| broken("putting a ledger away", &error))?;
        self.generation += 1;
        self.epoch = epoch;
        self.token = Fingerprint::of(&format!("token of {} in {epoch}", self.id));
        let sheet = std::mem::take(&mut self.sheet);
        self.sales.clear();
        self.last = None;
        self.kept = None;
        self.heard_ms = None;
        self.is_forked = false;
        let identity = Identity {
            till: self.id.clone(),
            epoch,
            public_key: self.key.public(),
        };
        let made = Store::create(&self.path(), &identity, OPTIONS);
        made.map_err(|error| broken("beginning a ledger", &error))?;
        self.start(now_ms)?;
        Ok((old, sheet))
    }

    /// The hub wants to go on from an entry.
    pub(crate) fn resume_from(&mut self, expected: u64, now_ms: i64) -> Result<(), Violation> {
        let moment = self.moment(now_ms);
        let store = self.store.as_mut().ok_or_else(closed)?;
        let expected = expected.min(store.progress().head.seq + 1);
        let resumed = store.resume_from(expected, moment);
        resumed.map_err(|error| broken("going back to an entry", &error))
    }

    pub(crate) fn last_day(&self) -> Option<BusinessDay> {
        self.sheet.own.last().map(|own| own.day)
    }
}

pub(crate) fn rules() -> OfflineRules {
    OPTIONS.rules
}

fn closed() -> Violation {
    Violation::of(Invariant::Works, "the till's ledger is not open")
}

fn take(path: &Path) -> Result<Image, Violation> {
    Image::take(path).map_err(|error| broken("reading a till's disk", &error))
}

/// The log grows as it is needed: writing it in advance only makes real media faster.
const OPTIONS: StoreOptions = StoreOptions {
    rules: OfflineRules {
        restricted_after: Duration::from_secs(72 * 3600),
        meal_price: canteen::Money::from_kroner(60),
        stopped_after: Duration::from_secs(14 * 24 * 3600),
        purchase_max: canteen::Money::from_kroner(200),
    },
    log_bytes: 0,
};
