//! A small hub for the tests: one canteen, accounts with chips, and tills that write real entries.

use std::ops::RangeInclusive;

use canteen::{AccountId, BusinessDay, ChipId, Limits, Money, TopUpOutcome};
use jiff::Timestamp;
use sync_proto::{
    Batch, BatchAnswer, BatchRefusal, Decline, EnrolRequest, EntryBody, EntryHash, EntryHeader,
    EntryTexts, Epoch, FeedPosition, Head, HeadSignature, Hole, NumberedEntry, PROTO, Sale,
    SaleLine, TillId, TillKey, TillPosition, TillReport, Void,
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    CanteenId, Fingerprint, Holder, HubLedger, NewAccount, NewChip, NewTill, QuarantineRow, Reach,
    RequestKey, TillAccess, TopUpRules,
};

/// A Friday at noon in Copenhagen.
pub(crate) const NOW: Timestamp = Timestamp::constant(1_795_172_400, 0);

pub(crate) fn kr(kroner: i32) -> Money {
    Money::from_kroner(kroner)
}

pub(crate) fn ore(ore: i64) -> Money {
    Money::from_ore(ore)
}

/// A sale of one dish.
pub(crate) fn sale(account: AccountId, chip: i64, amount: Money) -> EntryBody {
    EntryBody::Sale(Sale {
        account,
        chip,
        amount,
        lines: vec![SaleLine {
            quantity: 1,
            text: "Dagens ret".to_owned(),
            unit_price: amount,
            amount,
        }],
        balance_after: Money::ZERO,
        online: false,
        top_up: TopUpOutcome::None,
    })
}

/// A declined purchase.
pub(crate) fn decline(account: AccountId, chip: i64, amount: Money, reason: &str) -> EntryBody {
    EntryBody::Decline(Decline {
        account,
        chip,
        amount,
        reason: reason.to_owned(),
        balance: Money::ZERO,
        limit: None,
        left: None,
        online: true,
        top_up: TopUpOutcome::None,
    })
}

/// A sale taken back.
pub(crate) fn void(account: AccountId, of: Uuid, of_seq: u64, amount: Money) -> EntryBody {
    EntryBody::Void(Void {
        lines: Vec::new(),
        of,
        of_seq,
        account,
        amount,
        balance_after: Money::ZERO,
    })
}

pub(crate) struct Bed {
    pub(crate) ledger: HubLedger,
    pub(crate) canteen: CanteenId,
    keys: u32,
    chips: u32,
    _dir: TempDir,
}

impl Bed {
    pub(crate) fn new() -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.sqlite");
        let mut ledger = HubLedger::open(&path, 7, TopUpRules::default()).unwrap();
        // The tests are about what is in the books, not about the disk.
        ledger.db.pragma_update(None, "synchronous", "OFF").unwrap();
        let tenant = ledger.tenant_named("Demo Kommune").unwrap();
        let canteen = ledger.canteen_named(tenant, "Demokantinen").unwrap();
        Bed {
            ledger,
            canteen,
            keys: 0,
            chips: 0,
            _dir: dir,
        }
    }

    /// Puts the store back to what an older program would have, and opens it with this one.
    pub(crate) fn reopen_from_version(&mut self, version: u32) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.sqlite");
        let old = crate::store::migrated_to(&path, version);
        let used = self.ledger.db.path().unwrap();
        old.pragma_update(None, "foreign_keys", "OFF").unwrap();
        old.execute("ATTACH ?1 AS used", [used]).unwrap();
        let tables: Vec<String> = old
            .prepare(
                "SELECT name FROM main.sqlite_schema
                 WHERE type = 'table' AND name NOT LIKE 'sqlite%' AND name NOT LIKE 'refinery%'",
            )
            .unwrap()
            .query_map([], |row| row.get(0))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        for table in tables {
            let columns: String = old
                .query_row(
                    "SELECT group_concat(name) FROM pragma_table_info(?1, 'main')",
                    [&table],
                    |row| row.get(0),
                )
                .unwrap();
            let sql =
                format!("INSERT INTO main.{table} ({columns}) SELECT {columns} FROM used.{table}");
            old.execute(&sql, []).unwrap();
        }
        drop(old);
        self.ledger = HubLedger::open(&path, 8, TopUpRules::default()).unwrap();
        self._dir = dir;
    }

    /// Makes a backup of the store.
    pub(crate) fn back_up(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.sqlite");
        let path = path.to_str().unwrap();
        self.ledger.db.execute("VACUUM INTO ?1", [path]).unwrap();
        dir
    }

    /// Puts a backup in the place of the store, as an operator does who restores it.
    pub(crate) fn restore(&mut self, backup: TempDir) {
        self.put_back(backup);
        let (hub_epoch, _) = self.ledger.hub_position().unwrap();
        self.ledger.begin_new_life(hub_epoch + 1, NOW).unwrap();
    }

    /// Puts a backup in the place of the store and tells nobody.
    pub(crate) fn put_back(&mut self, backup: TempDir) {
        let path = backup.path().join("hub.sqlite");
        self.ledger = HubLedger::open(&path, 9, TopUpRules::default()).unwrap();
        self.ledger
            .db
            .pragma_update(None, "synchronous", "OFF")
            .unwrap();
        self._dir = backup;
        // Idempotency-Keys of what was lost are drawn again by nobody.
        self.keys += 1000;
    }

    pub(crate) fn key(&mut self) -> RequestKey {
        self.keys += 1;
        let key = format!("key-{}", self.keys);
        RequestKey {
            fingerprint: Fingerprint::of(&key),
            key,
        }
    }

    /// An account with a chip and an opening balance.
    pub(crate) fn account(&mut self, balance: Money) -> (AccountId, i64) {
        self.account_in(self.canteen, balance)
    }

    pub(crate) fn account_elsewhere(&mut self, balance: Money) -> (AccountId, i64) {
        let tenant = self.ledger.tenant_named("Anden Kommune").unwrap();
        let canteen = self.ledger.canteen_named(tenant, "Anden kantine").unwrap();
        self.account_in(canteen, balance)
    }

    fn account_in(&mut self, canteen: CanteenId, balance: Money) -> (AccountId, i64) {
        let new = NewAccount {
            canteen,
            holder: Holder {
                name: "Elev Demo".to_owned(),
                school: None,
                class: None,
                photo: None,
            },
            credit: Money::ZERO,
            limits: Limits::default(),
        };
        let account = self.ledger.create_account(&new, NOW).unwrap();
        if balance != Money::ZERO {
            let key = self.key();
            self.ledger
                .open_balance(account, balance, &key, NOW)
                .unwrap();
        }
        let chip = self.chip();
        let number = self.ledger.add_chip(account, &chip, NOW).unwrap();
        (account, number)
    }

    pub(crate) fn chip(&mut self) -> NewChip {
        self.chips += 1;
        NewChip {
            uid: ChipId::from_uid(&(0x7200_0000 + self.chips).to_be_bytes()).unwrap(),
            card: None,
            key_version: None,
        }
    }

    pub(crate) fn till(&mut self, name: &str) -> TestTill {
        let id: TillId = name.parse().unwrap();
        let new = NewTill {
            id: id.clone(),
            canteen: self.canteen,
            code: Fingerprint::of(name),
        };
        self.ledger.create_till(&new, NOW).unwrap();
        self.enrol_again(name)
    }

    /// Enrols a till that is there with its first code.
    pub(crate) fn enrol_again(&mut self, name: &str) -> TestTill {
        let id: TillId = name.parse().unwrap();
        let seed = name.bytes().fold(1, u8::wrapping_add);
        let request = EnrolRequest {
            till: id.clone(),
            code: name.to_owned(),
            epoch: Epoch(1),
            public_key: TillKey::from_seed(&[seed; 32]).public(),
        };
        let token = Fingerprint::of(&format!("token of {name}"));
        self.ledger.enrol(&request, token, NOW).unwrap();
        TestTill {
            access: self.ledger.till_by_token(token).unwrap().unwrap(),
            seed,
            copy: 0,
            feed: FeedPosition::default(),
            entries: Vec::new(),
            hashes: vec![EntryHash::genesis(&id, Epoch(1), &request.public_key)],
        }
    }

    pub(crate) fn ingest(
        &mut self,
        till: &TestTill,
        batch: &Batch,
    ) -> Result<BatchAnswer, BatchRefusal> {
        self.ledger.ingest(&till.access, batch, NOW).unwrap()
    }

    /// Writes entries and sends everything that has not been sent.
    pub(crate) fn send(
        &mut self,
        till: &mut TestTill,
        entries: impl IntoIterator<Item = EntryBody>,
    ) -> Vec<Uuid> {
        self.send_at(till, entries, NOW)
    }

    pub(crate) fn send_at(
        &mut self,
        till: &mut TestTill,
        entries: impl IntoIterator<Item = EntryBody>,
        now: Timestamp,
    ) -> Vec<Uuid> {
        let ids = entries
            .into_iter()
            .map(|entry| till.write_at(entry, now))
            .collect();
        let mark = crate::tills::accepted_through(&self.ledger.db, &till.access.till).unwrap();
        let batch = till.batch(mark + 1..=till.last_seq());
        self.ledger
            .ingest(&till.access, &batch, now)
            .unwrap()
            .unwrap();
        self.check_books();
        ids
    }

    pub(crate) fn pay_in(&mut self, account: AccountId, amount: Money) {
        let key = self.key();
        self.ledger.deposit(account, amount, &key, NOW).unwrap();
    }

    /// Pays in where that is allowed.
    pub(crate) fn pay_in_if_open(&mut self, account: AccountId, amount: Money) {
        let key = self.key();
        match self.ledger.deposit(account, amount, &key, NOW) {
            Ok(_) | Err(crate::LedgerError::Refused(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) fn balance(&self, account: AccountId) -> Money {
        self.ledger.account(account).unwrap().balance
    }

    pub(crate) fn own_balance(&self, kind: &str) -> Money {
        let sql = "SELECT coalesce(sum(balance), 0) FROM account WHERE kind = ?1";
        Money::from_ore(
            self.ledger
                .db
                .query_row(sql, [kind], |row| row.get(0))
                .unwrap(),
        )
    }

    /// How the store finds what a query asks for.
    pub(crate) fn plan(&self, sql: &str) -> Vec<String> {
        let mut plan = self
            .ledger
            .db
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        let steps = plan.raw_query().mapped(|row| row.get(3));
        steps.collect::<Result<_, _>>().unwrap()
    }

    pub(crate) fn journal_len(&self) -> u64 {
        let sql = "SELECT count(*) FROM journal";
        self.ledger
            .db
            .query_row(sql, [], |row| row.get::<_, i64>(0))
            .unwrap()
            .cast_unsigned()
    }

    pub(crate) fn flags(&self) -> Vec<String> {
        let flags = self
            .ledger
            .list_flags(Reach::Everything, None, i64::MAX, 100)
            .unwrap();
        flags.into_iter().map(|flag| flag.code).collect()
    }

    pub(crate) fn quarantine(&self) -> Vec<QuarantineRow> {
        self.ledger
            .list_quarantine(Reach::Everything, i64::MAX, 100)
            .unwrap()
    }

    /// Money is neither made nor lost, and every balance is the sum of its bookings.
    #[track_caller]
    pub(crate) fn check_books(&self) {
        assert_eq!(self.ledger.sum_of_balances().unwrap(), Money::ZERO);
        let wrong: i64 = self
            .ledger
            .db
            .query_row(
                "SELECT count(*) FROM account a WHERE a.balance <>
                   (SELECT coalesce(sum(amount), 0) FROM booking WHERE to_account = a.id)
                 - (SELECT coalesce(sum(amount), 0) FROM booking WHERE from_account = a.id)",
                [],
                |row| row.get(0),
            )
            .unwrap();
        assert_eq!(wrong, 0, "balances that are not the sum of their bookings");
    }
}

/// A till that keeps its ledger in memory.
#[derive(Clone)]
pub(crate) struct TestTill {
    pub(crate) access: TillAccess,
    /// What it writes into its entries.
    pub(crate) feed: FeedPosition,
    seed: u8,
    /// Tells the ids of copies from each other.
    copy: u64,
    entries: Vec<EntryTexts>,
    hashes: Vec<EntryHash>,
}

pub(crate) struct Stranger(TillKey);

impl Stranger {
    pub(crate) fn sign(&self, batch: &Batch) -> HeadSignature {
        batch.head.sign(&batch.till, batch.epoch, &self.0)
    }
}

impl TestTill {
    pub(crate) fn stranger() -> Stranger {
        Stranger(TillKey::from_seed(&[99; 32]))
    }

    /// What its key is made of.
    pub(crate) fn key_seed(&self) -> [u8; 32] {
        [self.seed; 32]
    }

    /// From now on it draws ids of its own, as a machine with a copied disk does.
    pub(crate) fn become_a_copy(&mut self) {
        self.copy = self.copy * 2 + 1;
    }

    /// Forgets what it has written after an entry, as a restored disk does.
    pub(crate) fn cut_back_to(&mut self, seq: u64) {
        self.entries.truncate(seq as usize);
        self.hashes.truncate(seq as usize + 1);
    }

    /// Says that it cannot read an entry any more.
    pub(crate) fn hole(&self, seq: u64) -> Hole {
        Hole {
            seq,
            hash: self.hashes[seq as usize],
            reason: "its check sum is wrong".to_owned(),
        }
    }

    /// What it has written under a number.
    pub(crate) fn texts(&self, seq: u64) -> EntryTexts {
        self.entries[seq as usize - 1].clone()
    }

    pub(crate) fn last_seq(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Where it stands when it knows that the hub has the entries up to `acked_seq`.
    pub(crate) fn position(&self, acked_seq: u64) -> TillPosition {
        TillPosition {
            epoch: Epoch(1),
            head_seq: self.last_seq(),
            head_hash: self.hashes[self.entries.len()],
            acked_seq,
            acked_hash: self.hashes[acked_seq as usize],
        }
    }

    /// Writes an entry and gives its id.
    pub(crate) fn write(&mut self, body: EntryBody) -> Uuid {
        let header = self.entry_header("", NOW);
        let id = header.id;
        self.write_texts(EntryTexts::write(header, &body).unwrap());
        id
    }

    /// Writes an entry of another moment.
    pub(crate) fn write_at(&mut self, body: EntryBody, at: Timestamp) -> Uuid {
        let header = self.entry_header("", at);
        let id = header.id;
        self.write_texts(EntryTexts::write(header, &body).unwrap());
        id
    }

    pub(crate) fn write_texts(&mut self, texts: EntryTexts) {
        let last = self.hashes[self.entries.len()];
        let seq = self.last_seq() + 1;
        self.hashes
            .push(last.next(&self.access.till, Epoch(1), seq, &texts));
        self.entries.push(texts);
    }

    /// A header of a kind of entry, as text.
    pub(crate) fn header(&self, kind: &str) -> String {
        serde_json::to_string(&self.entry_header(kind, NOW)).unwrap()
    }

    fn entry_header(&self, kind: &str, at: Timestamp) -> EntryHeader {
        EntryHeader {
            id: Uuid::from_u128(
                u128::from(self.seed) << 96
                    | u128::from(self.copy) << 64
                    | u128::from(self.last_seq() + 1),
            ),
            ts: at.to_string(),
            bt: 1,
            boot: Uuid::nil(),
            day: BusinessDay::of(at),
            fc: self.feed,
            kind: kind.to_owned(),
            version: 1,
        }
    }

    pub(crate) fn batch(&self, seqs: RangeInclusive<u64>) -> Batch {
        let (first, last) = (*seqs.start(), *seqs.end());
        let head = Head {
            seq: last,
            hash: self.hashes[last as usize],
        };
        let key = TillKey::from_seed(&[self.seed; 32]);
        Batch {
            holes: Vec::new(),
            proto: PROTO,
            till: self.access.till.clone(),
            epoch: Epoch(1),
            first_seq: first,
            prev_hash: self.hashes[first as usize - 1],
            entries: seqs
                .map(|seq| NumberedEntry {
                    seq,
                    texts: self.entries[seq as usize - 1].clone(),
                })
                .collect(),
            head,
            signature: head.sign(&self.access.till, Epoch(1), &key),
            report: TillReport::default(),
        }
    }
}
