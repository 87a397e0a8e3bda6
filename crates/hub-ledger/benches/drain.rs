//! The cost of a backlog: a till that was a day in the dark sends its sales, and the hub reads,
//! verifies, books and answers them, divided by the floor: the same texts written to a table of the
//! same engine on the same disk, in transactions of the same size with the same flush at the end, in
//! the same run, in turns with the batches.
//!
//! It is measured twice, in two stores: with the sales spread over forty accounts, and with all of
//! them on two. What a purchase costs must not depend on how many the account has in its windows.
//!
//! And once more for a till that was a week in the dark: two thousand sales to three hundred accounts,
//! first alone, then with ten thousand sales between them that the other tills have sent in time. What
//! follows on an account is looked at anew, once a batch.
//!
//! `cargo bench -p hub-ledger --bench drain -- --json FILE`. Without `--bench`, as under
//! `cargo test`, a short run only shows that everything works.

#![allow(clippy::unwrap_used, reason = "a failed call ends the run")]
#![allow(clippy::float_arithmetic, reason = "measurements, not money")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use canteen::{AccountId, BusinessDay, ChipId, Limits, Money, TopUpOutcome};
use hub_ledger::{
    CanteenId, Fingerprint, Holder, HubLedger, NewAccount, NewChip, NewTill, RequestKey,
    TillAccess, TopUpRules,
};
use jiff::{SignedDuration, Timestamp};
use rusqlite::Connection;
use sync_proto::{
    BATCH_MAX_ENTRIES, Batch, EnrolRequest, EntryBody, EntryFate, EntryHash, EntryHeader,
    EntryTexts, Epoch, FeedPosition, Head, NumberedEntry, PROTO, Sale, SaleLine, TillId, TillKey,
    TillReport,
};
use uuid::Uuid;

/// Full batches of so many sales wait.
const FULL: usize = 80;
const SHORT: usize = 2;
const SPREAD: usize = 40;
const CROWDED: usize = 2;
/// A week in the dark: the accounts, the till's own batches, and those that came in time.
const WEEK_ACCOUNTS: usize = 300;
const WEEK: usize = 4;
const IN_TIME: usize = 20;
const WEEK_SECONDS: i64 = 7 * 24 * 3600;

/// A Friday at eleven in Copenhagen, when the line went down.
const OPENING: Timestamp = Timestamp::constant(1_795_168_800, 0);
/// So little that two accounts can pay for everything.
const PRICE: Money = Money::from_ore(1_40);
/// What each account holds, and the limit of its windows.
const LIMIT: Money = Money::from_ore(100_000_00);
const EPOCH: Epoch = Epoch(1);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_full = arguments.iter().any(|argument| argument == "--bench");
    let batches = if is_full { FULL } else { SHORT };
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(PathBuf::from)
    };
    let dir = after("--dir").unwrap_or_else(bench_dir);
    fs::create_dir_all(&dir).unwrap();
    let figures = run(&dir, batches);
    if is_full {
        figures.print();
    } else {
        println!("drain: everything works; a short run has no figures");
    }
    if let Some(file) = after("--json") {
        fs::write(&file, figures.json()).unwrap();
    }
}

/// Beside the program, which is on a real disk, as temporary files may not be.
fn bench_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    program.with_file_name("drain-stores")
}

/// How long each batch took.
struct Figures {
    floor: Vec<Duration>,
    spread: Vec<Duration>,
    crowded: Vec<Duration>,
    alone: Vec<Duration>,
    late: Vec<Duration>,
}

impl Figures {
    /// Name, value, and the most it may be.
    fn keys(&self) -> [(&'static str, f64, f64); 4] {
        let spread = undisturbed_ms(&self.spread);
        let (first, last) = self.crowded.split_at(self.crowded.len() / 2);
        [
            ("backlog_drain", spread / undisturbed_ms(&self.floor), 30.0),
            // When the windows of the accounts have filled up, against the beginning.
            (
                "backlog_flat_ratio",
                undisturbed_ms(last) / undisturbed_ms(first),
                1.25,
            ),
            // Five hundred entries a second, at the hub.
            ("backlog_batch_ms", spread, 1000.0),
            // Sales that come when others have come after them, against sales that come in time.
            (
                "backlog_late_ratio",
                sum_ms(&self.late) / sum_ms(&self.alone),
                3.0,
            ),
        ]
    }

    fn print(&self) {
        for (name, times) in [
            ("floor: 500 entries in a table", &self.floor),
            ("500 sales on forty accounts", &self.spread),
            ("500 sales on two accounts", &self.crowded),
            ("500 of a dark week, alone", &self.alone),
            ("500 of a dark week, among 10000", &self.late),
        ] {
            println!("{name:<34} {:>8.2} ms", undisturbed_ms(times));
        }
        for (key, value, most) in self.keys() {
            let verdict = if value <= most { "ok" } else { "TOO MUCH" };
            println!("{key:<34} {value:>8.3}   at most {most:.2}  {verdict}");
        }
    }

    fn json(&self) -> String {
        let mut object = serde_json::Map::new();
        for (key, value, _) in self.keys() {
            object.insert(key.into(), value.into());
        }
        object.insert(
            "backlog_floor_ms".into(),
            undisturbed_ms(&self.floor).into(),
        );
        serde_json::to_string_pretty(&object).unwrap()
    }
}

/// What a tenth of them stayed under: the rest waited for other programs of the machine, too.
fn undisturbed_ms(times: &[Duration]) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times[times.len() / 10].as_secs_f64() * 1e3
}

fn sum_ms(times: &[Duration]) -> f64 {
    times.iter().sum::<Duration>().as_secs_f64() * 1e3
}

fn run(dir: &Path, batches: usize) -> Figures {
    let mut floor = Floor::new(&dir.join("drain-floor.db"));
    let mut spread = Backlog::new(&dir.join("drain-spread.db"), SPREAD, batches, 1);
    let mut crowded = Backlog::new(&dir.join("drain-crowded.db"), CROWDED, batches, 1);
    let (week, in_time) = match batches {
        FULL => (WEEK, IN_TIME),
        _ => (1, 1),
    };
    let pace = |batches: usize| WEEK_SECONDS / (batches * BATCH_MAX_ENTRIES) as i64;
    let dark_week = |name: &str| Backlog::new(&dir.join(name), WEEK_ACCOUNTS, week, pace(week));
    let mut alone = dark_week("drain-alone.db");
    let mut late = dark_week("drain-late.db");
    late.hear_sibling(in_time, pace(in_time));
    let mut figures = Figures {
        floor: Vec::new(),
        spread: Vec::new(),
        crowded: Vec::new(),
        alone: Vec::new(),
        late: Vec::new(),
    };
    for batch in 0..batches {
        figures.floor.push(floor.measure(&spread.batches[batch]));
        figures.spread.push(spread.measure(batch));
        figures.crowded.push(crowded.measure(batch));
    }
    for batch in 0..week {
        figures.alone.push(alone.measure(batch));
        figures.late.push(late.measure(batch));
    }
    for backlog in [&spread, &crowded, &alone, &late] {
        backlog.check();
    }
    figures
}

/// A table that only takes the texts in.
struct Floor {
    db: Connection,
}

impl Floor {
    fn new(path: &Path) -> Floor {
        remove(path);
        let db = Connection::open(path).unwrap();
        db.pragma_update(None, "journal_mode", "WAL").unwrap();
        db.pragma_update(None, "synchronous", "FULL").unwrap();
        db.execute_batch(
            "CREATE TABLE entry (id INTEGER PRIMARY KEY, seq INTEGER NOT NULL, header TEXT NOT NULL,
               body TEXT NOT NULL) STRICT",
        )
        .unwrap();
        Floor { db }
    }

    fn measure(&mut self, batch: &[u8]) -> Duration {
        let batch: Batch = serde_json::from_slice(batch).unwrap();
        let begun = Instant::now();
        self.db.execute_batch("BEGIN IMMEDIATE").unwrap();
        for entry in &batch.entries {
            self.db
                .prepare_cached("INSERT INTO entry (seq, header, body) VALUES (?1, ?2, ?3)")
                .unwrap()
                .execute((
                    entry.seq.cast_signed(),
                    &entry.texts.header,
                    &entry.texts.body,
                ))
                .unwrap();
        }
        self.db.execute_batch("COMMIT").unwrap();
        begun.elapsed()
    }
}

/// A hub, and what a till of it has to send, as it comes over the line.
struct Backlog {
    hub: HubLedger,
    till: Till,
    customers: Vec<(AccountId, i64)>,
    batches: Vec<Vec<u8>>,
    sold: usize,
}

impl Backlog {
    fn new(path: &Path, accounts: usize, batches: usize, pace: i64) -> Backlog {
        remove(path);
        let mut hub = HubLedger::open(path, 7, TopUpRules::default()).unwrap();
        let tenant = hub.tenant_named("Demo Kommune").unwrap();
        let canteen = hub.canteen_named(tenant, "Demokantinen").unwrap();
        let customers: Vec<(AccountId, i64)> = (0..accounts)
            .map(|number| open_account(&mut hub, canteen, number))
            .collect();
        let till = Till::new(&mut hub, canteen, 1);
        Backlog {
            batches: till.write_batches(&customers, batches, pace),
            hub,
            till,
            customers,
            sold: 0,
        }
    }

    /// Another till of the canteen has sold all the while, and has a line.
    fn hear_sibling(&mut self, batches: usize, pace: i64) {
        let sibling = Till::new(&mut self.hub, self.till.access.canteen, 2);
        for batch in sibling.write_batches(&self.customers, batches, pace) {
            self.ingest(&sibling.access, &batch);
        }
    }

    fn measure(&mut self, batch: usize) -> Duration {
        let (access, batch) = (self.till.access.clone(), self.batches[batch].clone());
        let begun = Instant::now();
        self.ingest(&access, &batch);
        begun.elapsed()
    }

    fn ingest(&mut self, till: &TillAccess, batch: &[u8]) {
        let read: Batch = serde_json::from_slice(batch).unwrap();
        let later = OPENING + SignedDuration::from_hours(24 * 8);
        let answer = self.hub.ingest(till, &read, later).unwrap().unwrap();
        let told = serde_json::to_vec(&answer).unwrap();
        assert!(!told.is_empty());
        let all_booked = answer
            .results
            .iter()
            .all(|result| result.fate == EntryFate::Booked);
        assert!(all_booked, "{:?}", answer.results.first());
        self.sold += read.entries.len();
    }

    /// Every sale is booked once.
    fn check(&self) {
        let left: i64 = self
            .customers
            .iter()
            .map(|(account, _)| self.hub.account(*account).unwrap().balance.ore())
            .sum();
        let paid_in = self.customers.len() as i64 * LIMIT.ore();
        assert_eq!(paid_in - left, self.sold as i64 * PRICE.ore());
        assert_eq!(self.hub.sum_of_balances().unwrap(), Money::ZERO);
    }
}

/// A till that is enrolled.
struct Till {
    access: TillAccess,
    key: TillKey,
    number: u8,
}

impl Till {
    fn new(hub: &mut HubLedger, canteen: CanteenId, number: u8) -> Till {
        let id: TillId = format!("kasse-{number}").parse().unwrap();
        let code = "code".to_owned();
        let new = NewTill {
            id: id.clone(),
            canteen,
            code: Fingerprint::of(&code),
        };
        hub.create_till(&new, OPENING).unwrap();
        let key = TillKey::from_seed(&[number; 32]);
        let request = EnrolRequest {
            till: id,
            code,
            epoch: EPOCH,
            public_key: key.public(),
        };
        let token = Fingerprint::of(&format!("token {number}"));
        hub.enrol(&request, token, OPENING).unwrap();
        Till {
            access: hub.till_by_token(token).unwrap().unwrap(),
            key,
            number,
        }
    }

    /// Sales so many seconds apart, signed and cut into batches as the till does.
    fn write_batches(
        &self,
        customers: &[(AccountId, i64)],
        batches: usize,
        pace: i64,
    ) -> Vec<Vec<u8>> {
        let till = &self.access.till;
        let mut hash = EntryHash::genesis(till, EPOCH, &self.key.public());
        let mut seq: u64 = 0;
        let mut written = Vec::new();
        let mut customers = customers.iter().cycle();
        for _ in 0..batches {
            let (first_seq, prev_hash) = (seq + 1, hash);
            let mut entries = Vec::new();
            for (account, chip) in customers.by_ref().take(BATCH_MAX_ENTRIES) {
                seq += 1;
                let id = u128::from(self.number) << 64 | u128::from(seq);
                let at = OPENING + SignedDuration::from_secs(seq.cast_signed() * pace);
                let texts = sale(Uuid::from_u128(id), at, *account, *chip);
                hash = hash.next(till, EPOCH, seq, &texts);
                entries.push(NumberedEntry { seq, texts });
            }
            let head = Head { seq, hash };
            let batch = Batch {
                holes: Vec::new(),
                proto: PROTO,
                till: till.clone(),
                epoch: EPOCH,
                first_seq,
                prev_hash,
                entries,
                head,
                signature: head.sign(till, EPOCH, &self.key),
                report: TillReport::default(),
            };
            written.push(serde_json::to_vec(&batch).unwrap());
        }
        written
    }
}

fn open_account(hub: &mut HubLedger, canteen: CanteenId, number: usize) -> (AccountId, i64) {
    let new = NewAccount {
        canteen,
        holder: Holder {
            name: format!("Elev {number}"),
            school: None,
            class: None,
            photo: None,
        },
        credit: Money::ZERO,
        limits: Limits {
            day: Some(LIMIT),
            week: Some(LIMIT),
            month: Some(LIMIT),
            ..Limits::default()
        },
    };
    let account = hub.create_account(&new, OPENING).unwrap();
    let key = RequestKey {
        key: format!("opening-{number}"),
        fingerprint: Fingerprint::of("opening"),
    };
    hub.open_balance(account, LIMIT, &key, OPENING).unwrap();
    let uid = 0x7200_0000 + u32::try_from(number).unwrap();
    let chip = NewChip {
        uid: ChipId::from_uid(&uid.to_be_bytes()).unwrap(),
        card: None,
        key_version: None,
    };
    let chip = hub.add_chip(account, &chip, OPENING).unwrap();
    (account, chip)
}

fn sale(id: Uuid, at: Timestamp, account: AccountId, chip: i64) -> EntryTexts {
    let header = EntryHeader {
        id,
        ts: at.to_string(),
        bt: 0,
        boot: Uuid::nil(),
        day: BusinessDay::of(at),
        fc: FeedPosition::default(),
        kind: String::new(),
        version: 1,
    };
    let line = |text: &str, amount| SaleLine {
        quantity: 1,
        text: text.to_owned(),
        unit_price: amount,
        amount,
    };
    let body = EntryBody::Sale(Sale {
        account,
        chip,
        amount: PRICE,
        lines: vec![
            line("Ostehaps", Money::from_ore(30)),
            line("Yoghurt", Money::from_ore(60)),
            line("Stor grovbolle", Money::from_ore(50)),
        ],
        balance_after: Money::ZERO,
        online: false,
        top_up: TopUpOutcome::None,
    });
    EntryTexts::write(header, &body).unwrap()
}

fn remove(path: &Path) {
    for end in ["", "-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(end);
        match fs::remove_file(&name) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("failed to remove {}: {error}", path.display()),
        }
    }
}
