//! The cost of a tap: an approved purchase, decision and durable commit, as the writer thread does
//! it, divided by the floor: overwriting the 8 KiB that it must write and flushing them, in the
//! same run, in turns with the taps. Asking the thread and waking up for its answer comes on top:
//! some five microseconds.
//!
//! Everything runs on one processor, before ordinary threads where that is allowed, so that the
//! figures are those of the program and not of waking another processor. Taps come back to back,
//! with pauses in which the ledger rests; then a second time two milliseconds apart, which shows
//! what caches that others have used cost (floor and tap alike).
//!
//! A flush of a virtual machine's disk may be a mere 0.06 ms, which leaves little for a ratio to
//! hide in. `--flush-us 1000` adds a millisecond to every flush, the floor's too, as a good solid
//! state disk would.
//!
//! `cargo bench -p till-ledger --bench tap -- --json FILE`. Without `--bench`, as under
//! `cargo test`, a short run only shows that everything works.

#![allow(clippy::unwrap_used, reason = "a failed call ends the run")]
#![allow(clippy::float_arithmetic, reason = "measurements, not money")]

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use canteen::{AccountId, BusinessDay, ChipId, Decision, Money, PurchaseAmount, TopUpOutcome};
use rusqlite::Connection;
use sync_proto::{
    EntryBody, EntryHash, EntryHeader, EntryTexts, Epoch, FeedPosition, Sale, SaleLine, TillKey,
};
use till_ledger::{
    Identity, Moment, PurchaseRequest, Store, StoreOptions, serve_this_thread_first,
};
use uuid::Uuid;

#[path = "../tests/medium/flushes.rs"]
mod flushes;

/// How much is done.
struct Extent {
    accounts: (i64, i64),
    entries: u64,
    rounds: usize,
}

const FULL: Extent = Extent {
    accounts: (1_000, 1_000_000),
    entries: 1_000_000,
    rounds: 4_000,
};

const SHORT: Extent = Extent {
    accounts: (100, 1_000),
    entries: 1_000,
    rounds: 50,
};

const PACE: Duration = Duration::from_millis(2);
/// In these the ledger rests.
const PAUSE: Duration = Duration::from_millis(60);
const ROUNDS_BETWEEN_PAUSES: usize = 60;
const PRICE: Money = Money::from_ore(14_00);

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let is_full = arguments.iter().any(|argument| argument == "--bench");
    let extent = if is_full { FULL } else { SHORT };
    let after = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).map(PathBuf::from)
    };
    let dir = after("--dir").unwrap_or_else(bench_dir);
    fs::create_dir_all(&dir).unwrap();
    let slower = after("--flush-us").map_or(0, |us| us.to_string_lossy().parse().unwrap());
    flushes::delay(Duration::from_micros(slower));
    let figures = run(&dir, &extent);
    if is_full {
        figures.print();
    } else {
        println!("tap: everything works; a short run has no figures");
    }
    if let Some(file) = after("--json") {
        fs::write(&file, figures.json()).unwrap();
    }
}

/// Beside what cargo builds, which is on a real disk, as temporary files may not be.
fn bench_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("bench")
}

struct Figures {
    fifo: bool,
    close: Runs,
    apart: Runs,
    frames: f64,
}

/// What one way of tapping gave.
struct Runs {
    floor: Times,
    small: Times,
    many_entries: Times,
    many_accounts: Times,
    flushes: f64,
}

/// Durations in microseconds, sorted.
struct Times(Vec<f64>);

impl Times {
    fn sorted(mut durations: Vec<Duration>) -> Times {
        durations.sort_unstable();
        Times(
            durations
                .iter()
                .map(|time| time.as_secs_f64() * 1e6)
                .collect(),
        )
    }

    fn part(&self, thousandth: usize) -> f64 {
        self.0[(self.0.len() * thousandth / 1000).min(self.0.len() - 1)]
    }
}

impl Runs {
    fn ratio(&self, thousandth: usize) -> f64 {
        self.small.part(thousandth) / self.floor.part(thousandth)
    }

    fn print(&self, title: &str) {
        println!("{title:<34} {:>8} {:>8} {:>8}", "p50", "p99", "p99.9");
        let rows = [
            ("  floor: overwrite and flush 8 KiB", &self.floor),
            ("  tap, empty ledger", &self.small),
            ("  tap, many entries", &self.many_entries),
            ("  tap, many accounts", &self.many_accounts),
        ];
        for (name, times) in rows {
            let [p50, p99, p999] = [500, 990, 999].map(|part| times.part(part));
            println!("{name:<34} {p50:>8.0} {p99:>8.0} {p999:>8.0}");
        }
    }
}

impl Figures {
    /// Name, value, and the most it may be.
    ///
    /// What a large ledger costs is taken from taps that are apart, as a till's are. Back to back
    /// a tap is so short that reading two pages of a million accounts shows; that is printed too.
    fn keys(&self) -> [(&'static str, f64, f64); 6] {
        let flat = |times: &Times| times.part(500) / self.apart.small.part(500);
        [
            ("tap_p50_ratio", self.close.ratio(500), 1.25),
            ("tap_p99_ratio", self.close.ratio(990), 1.5),
            ("tap_syncs", self.close.flushes, 1.05),
            ("tap_wal_frames", self.frames, 3.0),
            ("flat_ledger_ratio", flat(&self.apart.many_entries), 1.15),
            ("flat_accounts_ratio", flat(&self.apart.many_accounts), 1.15),
        ]
    }

    fn print(&self) {
        let scheduling = if self.fifo {
            "first"
        } else {
            "as ordinary threads"
        };
        println!("served {scheduling}; microseconds");
        self.close.print("back to back");
        self.apart.print("two milliseconds apart");
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
        let more = [
            ("tap_floor_p50_us", self.close.floor.part(500)),
            ("tap_floor_p99_us", self.close.floor.part(990)),
            ("tap_p50_us", self.close.small.part(500)),
            ("tap_p99_us", self.close.small.part(990)),
            ("tap_apart_p50_ratio", self.apart.ratio(500)),
            ("tap_apart_p99_ratio", self.apart.ratio(990)),
        ];
        for (key, value) in more {
            object.insert(key.into(), value.into());
        }
        object.insert("tap_fifo".into(), self.fifo.into());
        serde_json::to_string_pretty(&object).unwrap()
    }
}

fn run(dir: &Path, extent: &Extent) -> Figures {
    let (few, many) = extent.accounts;
    let small = dir.join("tap-small.db");
    remove(&small);
    build(&small, few, 0);
    let frames = frames_per_tap(&small, few);
    remove(&small);
    build(&small, few, 0);
    let many_entries = reused(dir, few, extent.entries);
    let many_accounts = reused(dir, many, 0);

    stay_on_one_processor();
    let fifo = serve_this_thread_first(10).is_ok();
    let mut floor = Floor::new(&dir.join("tap-floor"));
    let mut tills = [(&small, few), (&many_entries, few), (&many_accounts, many)]
        .map(|(path, accounts)| Till::open(path, accounts));
    in_turns(&mut floor, &mut tills, extent.rounds / 10, Duration::ZERO);
    Figures {
        fifo,
        close: in_turns(&mut floor, &mut tills, extent.rounds, Duration::ZERO),
        apart: in_turns(&mut floor, &mut tills, extent.rounds / 4, PACE),
        frames,
    }
}

/// Floor and tills one after the other, again and again.
fn in_turns(floor: &mut Floor, tills: &mut [Till; 3], rounds: usize, pace: Duration) -> Runs {
    let mut times: [Vec<Duration>; 4] = Default::default();
    let before = flushes::flushes();
    for round in 0..rounds {
        sleep(pace);
        times[0].push(floor.measure());
        for (till, times) in tills.iter_mut().zip(&mut times[1..]) {
            sleep(pace);
            times.push(till.measure());
        }
        if round % ROUNDS_BETWEEN_PAUSES == 0 {
            tills.iter_mut().for_each(Till::rest);
            sleep(PAUSE);
        }
    }
    let flushes = flushes::flushes() - before - rounds as u64;
    let [floor, small, many_entries, many_accounts] = times.map(Times::sorted);
    Runs {
        floor,
        small,
        many_entries,
        many_accounts,
        flushes: flushes as f64 / (rounds * tills.len()) as f64,
    }
}

/// The threads that this one starts stay there, too.
#[allow(unsafe_code, reason = "the system is asked")]
fn stay_on_one_processor() {
    // SAFETY: a set of zeros is empty; the calls read it and the number of this processor.
    let stays = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        let here = usize::try_from(libc::sched_getcpu()).unwrap_or(0);
        libc::CPU_SET(here, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) == 0
    };
    if !stays {
        println!(
            "not kept on one processor: {}",
            std::io::Error::last_os_error()
        );
    }
}

/// What any durable tap must at least do: overwrite blocks that a file has, and flush them.
struct Floor {
    file: File,
    at: u64,
}

impl Floor {
    fn new(path: &Path) -> Floor {
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).unwrap();
        file.write_all_at(&vec![0; FLOOR_BYTES as usize], 0)
            .unwrap();
        file.sync_all().unwrap();
        Floor { file, at: 0 }
    }

    fn measure(&mut self) -> Duration {
        let bytes = [self.at as u8; 8192];
        let start = Instant::now();
        self.file.write_all_at(&bytes, self.at).unwrap();
        self.file.sync_data().unwrap();
        let time = start.elapsed();
        self.at = (self.at + 8192) % FLOOR_BYTES;
        time
    }
}

const FLOOR_BYTES: u64 = 10 << 20;

/// A ledger with chips that tap at random.
struct Till {
    store: Store,
    accounts: i64,
    random: u64,
}

impl Till {
    fn open(path: &Path, accounts: i64) -> Till {
        // A till at work has its file in memory; one that was built an hour ago has not.
        std::io::copy(&mut File::open(path).unwrap(), &mut std::io::sink()).unwrap();
        Till {
            store: Store::open(path, StoreOptions::default()).unwrap(),
            accounts,
            random: Moment::now().utc_ms.cast_unsigned() | 1,
        }
    }

    fn measure(&mut self) -> Duration {
        let request = request(self.accounts, &mut self.random);
        let start = Instant::now();
        let recorded = self.store.purchase(request, Moment::now()).unwrap();
        let time = start.elapsed();
        assert!(
            matches!(recorded.decision, Decision::Approve { .. }),
            "{recorded:?}"
        );
        time
    }
}

impl Till {
    /// What the writer thread does in a quiet moment.
    fn rest(&mut self) {
        if self.store.wants_rest() {
            self.store.rest(Moment::now()).unwrap();
        }
    }
}

fn frames_per_tap(path: &Path, accounts: i64) -> f64 {
    let mut store = Store::open(path, StoreOptions::default()).unwrap();
    let mut random = 1;
    let mut tap = |store: &mut Store| {
        let request = request(accounts, &mut random);
        store.purchase(request, Moment::now()).unwrap();
    };
    tap(&mut store);
    let before = store.log_frames();
    for _ in 0..TAPS_FOR_FRAMES {
        tap(&mut store);
    }
    f64::from(store.log_frames() - before) / f64::from(TAPS_FOR_FRAMES)
}

const TAPS_FOR_FRAMES: u32 = 1_000;

fn request(accounts: i64, random: &mut u64) -> PurchaseRequest {
    // Numerical Recipes' generator: any spread will do.
    *random = random
        .wrapping_mul(6364136223846793005)
        .wrapping_add(1442695040888963407);
    let account = i64::try_from(*random >> 33).unwrap() % accounts + 1;
    PurchaseRequest {
        id: Uuid::now_v7(),
        identity: canteen::ChipIdentity::Bare(uid(account)),
        lines: lines(),
        amount: PurchaseAmount::new(PRICE).unwrap(),
        online: true,
        feed_age: Duration::ZERO,
        ask_first: false,
    }
}

/// The meal of the guides: three lines, 14 kr.
fn lines() -> Vec<SaleLine> {
    [
        ("Ostehaps", 3_00),
        ("Yoghurt", 6_00),
        ("Stor grovbolle", 5_00),
    ]
    .map(|(text, ore)| SaleLine {
        quantity: 1,
        text: text.into(),
        unit_price: Money::from_ore(ore),
        amount: Money::from_ore(ore),
    })
    .to_vec()
}

fn uid(account: i64) -> ChipId {
    // Chips come with UIDs in no order.
    let mixed = u32::try_from(account).unwrap().wrapping_mul(2_654_435_761);
    let [a, b, c, d] = mixed.to_be_bytes();
    ChipId::from_uid(&[0x04, a, b, c, d, 0x11, 0x80]).unwrap()
}

fn identity() -> Identity {
    Identity {
        till: "kasse-1".parse().unwrap(),
        epoch: Epoch(1),
        public_key: TillKey::from_seed(&[1; 32]).public(),
    }
}

fn remove(path: &Path) {
    for ending in ["", "-wal", "-shm", ".lock"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        let _ = fs::remove_file(name);
    }
}

/// A large ledger from an earlier run, or a new one.
fn reused(dir: &Path, accounts: i64, entries: u64) -> PathBuf {
    let path = dir.join(format!("tap-v1-{accounts}-{entries}.db"));
    let complete = Connection::open(&path).is_ok_and(|file| {
        let count = file.query_row("SELECT indexed_through FROM progress", [], |row| {
            row.get::<_, i64>(0)
        });
        count.is_ok_and(|count| count.cast_unsigned() >= entries)
            && file
                .query_row("SELECT max(id) FROM account", [], |row| {
                    row.get::<_, i64>(0)
                })
                .is_ok_and(|count| count == accounts)
    });
    if !complete {
        remove(&path);
        println!("building {} …", path.display());
        build(&path, accounts, entries);
    }
    path
}

/// Fills a ledger by hand: a million sales through the front door would take minutes.
fn build(path: &Path, accounts: i64, entries: u64) {
    drop(Store::create(path, &identity(), StoreOptions::default()).unwrap());
    let mut file = Connection::open(path).unwrap();
    let transaction = file.transaction().unwrap();
    let today = BusinessDay::of(jiff::Timestamp::now());
    let last = fill_entries(&transaction, entries, accounts, today);
    fill_accounts(&transaction, accounts, entries, today, &last);
    transaction
        .execute(
            "UPDATE progress SET indexed_through = ?1, acked_seq = ?1",
            [entries.cast_signed()],
        )
        .unwrap();
    transaction.commit().unwrap();
    file.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        .unwrap();
}

/// The last entry of each account, and how much it bought for in all.
fn fill_entries(
    file: &Connection,
    entries: u64,
    accounts: i64,
    today: BusinessDay,
) -> Vec<(u64, i64)> {
    let mut last = vec![(0, 0); usize::try_from(accounts).unwrap() + 1];
    let owner = identity();
    let mut hash = EntryHash::genesis(&owner.till, owner.epoch, &owner.public_key);
    let mut insert = file
        .prepare("INSERT INTO entry VALUES (?1, ?2, ?3, ?4)")
        .unwrap();
    let mut index = file
        .prepare("INSERT INTO entry_id VALUES (?1, ?2)")
        .unwrap();
    for seq in 1..=entries {
        let account =
            (seq.wrapping_mul(2_654_435_761) % accounts.cast_unsigned()).cast_signed() + 1;
        let id = Uuid::now_v7();
        let header = EntryHeader {
            id,
            ts: "2026-11-20T10:41:07.120Z".into(),
            bt: 84_121_330 + seq,
            boot: Uuid::from_u128(1),
            day: today,
            fc: FeedPosition::default(),
            kind: String::new(),
            version: 0,
        };
        let body = EntryBody::Sale(Sale {
            account: AccountId(account),
            chip: account,
            amount: PRICE,
            lines: lines(),
            balance_after: Money::ZERO,
            online: true,
            top_up: TopUpOutcome::None,
        });
        let texts = EntryTexts::write(header, &body).unwrap();
        hash = hash.next(&owner.till, owner.epoch, seq, &texts);
        insert
            .execute((seq.cast_signed(), &texts.header, &texts.body, hash.0))
            .unwrap();
        index.execute((id.into_bytes(), seq.cast_signed())).unwrap();
        let of = &mut last[usize::try_from(account).unwrap()];
        *of = (seq, of.1 + PRICE.ore());
    }
    last
}

fn fill_accounts(
    file: &Connection,
    accounts: i64,
    entries: u64,
    today: BusinessDay,
    last: &[(u64, i64)],
) {
    let mut account = file.prepare(INSERT_ACCOUNT).unwrap();
    let mut chip = file
        .prepare(
            "INSERT INTO chip (uid, number, account, status, card, rv)
             VALUES (?1, ?2, ?2, 'active', NULL, 0)",
        )
        .unwrap();
    let mut uids: Vec<(ChipId, i64)> = (1..=accounts).map(|id| (uid(id), id)).collect();
    uids.sort_unstable();
    for id in 1..=accounts {
        let (seq, gross) = last[usize::try_from(id).unwrap()];
        account
            .execute((
                id,
                entries.cast_signed(),
                today.to_string(),
                gross,
                seq.cast_signed(),
            ))
            .unwrap();
    }
    for (uid, id) in uids {
        chip.execute((uid.as_bytes(), id)).unwrap();
    }
}

const INSERT_ACCOUNT: &str = "
    INSERT INTO account (
        id, known, rv, status, position, incl_seq,
        hub_spent_on, hub_spent_day, hub_spent_week, hub_spent_month,
        credit, limit_day, limit_week, limit_month, ceiling,
        top_up_amount, top_up_armed, top_up_state, gross_incl,
        balance, spent_on, spent_day, spent_week, spent_month, gross, last_seq, top_up_seq
    ) VALUES (
        ?1, 1, 0, 'active', 100000000000, ?2, ?3, 0, 0, 0,
        0, 90000000000, 90000000000, 90000000000, 90000000000,
        NULL, 0, 'idle', ?4, 100000000000, ?3, 0, 0, 0, ?4, ?5, 0
    )";
