//! A canteen for the tests: one till with its ledger in a directory of its own, one account, one
//! chip, and a hub that says what the test wants.

use std::path::PathBuf;
use std::time::Duration;

use canteen::{
    AccountId, BusinessDay, ChipId, Decision, Money, PurchaseAmount, Spent, Status, TopUpState,
};
use sync_proto::{
    AccountRecord, Change, ChipRecord, Epoch, FeedPage, Head, LimitsRecord, Record, TillKey,
    TopUpRecord,
};
use tempfile::TempDir;
use till_ledger::{
    Identity, LedgerError, Moment, PurchaseRequest, Recorded, Store, StoreOptions, VoidRequest,
    Voided,
};
use uuid::Uuid;

pub(crate) const ANNA: AccountId = AccountId(1001);
pub(crate) const HUB_EPOCH: u64 = 8;

pub(crate) fn kr(kroner: i32) -> Money {
    Money::from_kroner(kroner)
}

pub(crate) fn day(text: &str) -> BusinessDay {
    text.parse().unwrap()
}

pub(crate) fn key() -> TillKey {
    TillKey::from_seed(&[7; 32])
}

pub(crate) fn identity() -> Identity {
    Identity {
        till: "kasse-1".parse().unwrap(),
        epoch: Epoch(0xF00D),
        public_key: key().public(),
    }
}

/// A small log, so that tests are quick.
pub(crate) fn options() -> StoreOptions {
    StoreOptions {
        log_bytes: 64 << 10,
        ..StoreOptions::default()
    }
}

/// A moment by its UTC time; the machine has been up since some day before.
pub(crate) fn at(utc: &str) -> Moment {
    let stamp: jiff::Timestamp = utc.parse().unwrap();
    let utc_ms = stamp.as_millisecond();
    Moment {
        utc_ms,
        boot_ms: utc_ms.unsigned_abs() % 10_000_000_000,
        boot: Uuid::from_u128(0xB007),
    }
}

pub(crate) fn uid(account: AccountId) -> ChipId {
    let number = u32::try_from(account.0).unwrap();
    ChipId::from_uid(&(0x7200_0000 + number).to_be_bytes()).unwrap()
}

pub(crate) fn chip(account: AccountId, status: Status) -> Record {
    Record::Chip(ChipRecord {
        status_rv: 0,
        number: account.0 + 50_000,
        uid: uid(account),
        card: None,
        account,
        status,
        must_prove: false,
    })
}

/// An account as the hub tells of it.
pub(crate) fn account(id: AccountId, position: Money, incl_seq: u64) -> AccountRecord {
    AccountRecord {
        status_rv: 0,
        id,
        position,
        incl_seq,
        status: Status::Active,
        credit: Money::ZERO,
        limits: LimitsRecord::default(),
        spent: Spent::nothing(day("2026-11-20")).into(),
        ceiling: None,
        shares: None,
        top_up: None,
    }
}

pub(crate) fn armed(amount: Money, state: TopUpState) -> Option<TopUpRecord> {
    Some(TopUpRecord {
        amount,
        armed: true,
        state,
    })
}

pub(crate) fn page(from: u64, to: u64, changes: Vec<(u64, Record)>) -> FeedPage {
    let changes = changes.into_iter();
    FeedPage {
        siblings: None,
        resend: None,
        hub_epoch: HUB_EPOCH,
        from,
        to,
        more: false,
        hub_time: String::new(),
        changes: changes.map(|(rv, record)| Change { rv, record }).collect(),
    }
}

/// A till at work. Its clock stands still until the test sets it.
pub(crate) struct Till {
    pub(crate) dir: TempDir,
    pub(crate) store: Option<Store>,
    pub(crate) now: Moment,
    pub(crate) online: bool,
    pub(crate) ids: u128,
    pub(crate) version: u64,
}

impl Till {
    /// Anna's account as `change` makes it of one with 500 kr.
    pub(crate) fn with(change: impl FnOnce(&mut AccountRecord)) -> Till {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::create(&dir.path().join("till.db"), &identity(), options()).unwrap();
        let mut till = Till {
            dir,
            store: Some(store),
            now: at("2026-11-20T10:00:00Z"),
            online: true,
            ids: 0,
            version: 0,
        };
        let mut record = account(ANNA, kr(500), 0);
        change(&mut record);
        till.tell(vec![Record::Account(record), chip(ANNA, Status::Active)]);
        till
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("till.db")
    }

    pub(crate) fn store(&mut self) -> &mut Store {
        self.store.as_mut().unwrap()
    }

    pub(crate) fn head(&mut self) -> Head {
        self.store().progress().head
    }

    /// The hub tells the newest state of some records.
    pub(crate) fn tell(&mut self, records: Vec<Record>) {
        let from = self.version;
        let versioned = records.into_iter().zip(from + 1..);
        let changes: Vec<_> = versioned.map(|(record, rv)| (rv, record)).collect();
        self.version += changes.len() as u64;
        let page = page(from, self.version, changes);
        let now = self.now;
        self.store().apply_page(&page, now).unwrap();
    }

    pub(crate) fn new_id(&mut self) -> Uuid {
        self.ids += 1;
        Uuid::from_u128(self.ids)
    }

    pub(crate) fn request(&mut self, amount: Money) -> PurchaseRequest {
        PurchaseRequest {
            id: self.new_id(),
            identity: canteen::ChipIdentity::Bare(uid(ANNA)),
            lines: Vec::new(),
            amount: PurchaseAmount::new(amount).unwrap(),
            online: self.online,
            feed_age: Duration::ZERO,
            ask_first: false,
        }
    }

    pub(crate) fn purchase(&mut self, request: PurchaseRequest) -> Result<Recorded, LedgerError> {
        let now = self.now;
        self.store().purchase(request, now)
    }

    /// Sells, and says what came of it.
    pub(crate) fn tap(&mut self, amount: Money) -> String {
        let request = self.request(amount);
        shown(&self.purchase(request).unwrap())
    }

    pub(crate) fn sell(&mut self, amount: Money) -> Uuid {
        let request = self.request(amount);
        let id = request.id;
        let recorded = self.purchase(request).unwrap();
        assert!(
            matches!(recorded.decision, Decision::Approve { .. }),
            "{recorded:?}"
        );
        id
    }

    pub(crate) fn void(&mut self, of: Uuid) -> Result<Voided, LedgerError> {
        let id = self.new_id();
        let now = self.now;
        self.store().void(
            VoidRequest {
                id,
                of,
                lines: Vec::new(),
            },
            now,
        )
    }

    pub(crate) fn balance(&mut self) -> Money {
        let reader = self.store().reader().unwrap();
        reader.account(ANNA).unwrap().unwrap().balance
    }

    /// Pulls the plug and starts again.
    pub(crate) fn restart(&mut self) {
        self.store = None;
        self.store = Some(Store::open(&self.path(), options()).unwrap());
    }

    #[track_caller]
    pub(crate) fn verified(&mut self) {
        let verification = self.store().reader().unwrap().verify().unwrap();
        assert_eq!(verification.findings, []);
        assert_eq!(verification.head, self.head());
    }
}

pub(crate) fn shown(recorded: &Recorded) -> String {
    match recorded.decision {
        Decision::Approve {
            balance_after,
            top_up,
            ..
        } => format!("approve {} {}", balance_after.bare(), top_up.code()),
        Decision::Decline { reason, top_up } => format!("{} {}", reason.code(), top_up.code()),
    }
}
