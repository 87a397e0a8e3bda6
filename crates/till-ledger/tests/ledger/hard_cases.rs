//! What seldom happens: a hub that begins anew, statuses out of order, damage on the disk, clocks
//! that jump, people to be forgotten.

use canteen::Status;
use sync_proto::{
    Change, ClockJump, Denylist, EntryBody, Record, STATE_REPORT_MAX, SnapshotHeader, StateReport,
    StatusChange, StatusOf, TillReport,
};
use till_ledger::{ClockRequest, ClockState, EntryRange, Finding, LedgerError, StoredEntry};

use crate::world::*;

const NEW_LIFE: u64 = 9;

fn entries(till: &mut Till) -> Vec<StoredEntry> {
    let reader = till.store().reader().unwrap();
    reader.entries(EntryRange::After(0), 10_000).unwrap()
}

fn bodies(till: &mut Till) -> Vec<EntryBody> {
    let entries = entries(till);
    entries
        .iter()
        .map(|entry| entry.read().unwrap().1)
        .collect()
}

fn kinds(till: &mut Till) -> Vec<&'static str> {
    bodies(till).iter().map(EntryBody::kind).collect()
}

/// The first snapshot of a hub that was restored from a backup.
fn begin_anew(till: &mut Till, records: Vec<Record>) {
    let header = SnapshotHeader {
        hub_epoch: NEW_LIFE,
        as_of: 1,
        hub_time: String::new(),
    };
    let changes: Vec<Change> = records
        .into_iter()
        .map(|record| Change { rv: 1, record })
        .collect();
    let now = till.now;
    till.store().apply_snapshot(&header, &changes, now).unwrap();
}

#[test]
fn sy_25_a_hub_that_began_anew_is_told_what_is_allowed_and_sold_and_gets_everything_again() {
    let mut till = Till::with(|a| a.ceiling = Some(kr(200)));
    till.sell(kr(150));
    let (head, now) = (till.head(), till.now);
    till.store().acknowledge(head, 0, now).unwrap();
    begin_anew(
        &mut till,
        vec![
            Record::Account(account(ANNA, kr(500), 0)),
            chip(ANNA, Status::Active),
        ],
    );
    let reported = bodies(&mut till);
    let EntryBody::StateReport(StateReport {
        hub_epoch,
        part: 1,
        parts: 1,
        accounts,
    }) = &reported[1]
    else {
        panic!("{reported:?}");
    };
    assert_eq!((*hub_epoch, accounts.len()), (NEW_LIFE, 1));
    assert_eq!(accounts[0].account, ANNA);
    assert_eq!(
        (accounts[0].ceiling, accounts[0].gross),
        (Some(kr(200)), kr(150))
    );
    assert_eq!(kinds(&mut till), ["sale", "state_report", "feed_ack"]);
    let last = entries(&mut till).pop().unwrap();
    assert_eq!(last.read().unwrap().0.fc.hub_epoch, NEW_LIFE);
    // The ceiling in force stays until another is told.
    assert_eq!(till.tap(kr(51)), "offline_allowance none");
    assert_eq!(till.tap(kr(50)), "approve 300,00 none");
    // The hub knows nothing of what it had acknowledged, and asks from the beginning.
    till.store().resume_from(1, now).unwrap();
    let batch = till
        .store()
        .batch(500, 1 << 20, &key(), TillReport::default());
    assert_eq!(batch.unwrap().unwrap().first_seq, 1);
    till.verified();
    till.restart();
    assert_eq!(till.store().progress().feed.hub_epoch, NEW_LIFE);
}

#[test]
fn a_report_of_many_accounts_comes_in_parts_that_fit_and_once() {
    let mut till = Till::with(|_| {});
    let many: Vec<Record> = (0..i64::try_from(STATE_REPORT_MAX).unwrap() + 5)
        .map(|number| {
            let mut record = account(canteen::AccountId(5_000 + number), kr(10), 0);
            record.ceiling = Some(kr(10));
            Record::Account(record)
        })
        .collect();
    till.tell(many.clone());
    begin_anew(&mut till, many);
    let parts: Vec<(u32, u32, usize)> = bodies(&mut till)
        .iter()
        .filter_map(|body| match body {
            EntryBody::StateReport(report) => {
                Some((report.part, report.parts, report.accounts.len()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(parts, [(1, 2, STATE_REPORT_MAX), (2, 2, 5)]);
    // The next snapshot of the same life is no reason to report again.
    let before = till.head();
    begin_anew(&mut till, Vec::new());
    assert_eq!(till.head(), before);
}

#[test]
fn a_till_that_knows_no_hub_yet_has_nothing_to_report() {
    let mut till = Till::with(|_| {});
    assert_eq!(kinds(&mut till), Vec::<&str>::new());
    begin_anew(&mut till, Vec::new());
    assert_eq!(kinds(&mut till), ["state_report", "feed_ack"]);
}

fn denylist(changes: &[(u64, StatusOf, Status)]) -> Denylist {
    let changes = changes.iter();
    Denylist {
        hub_epoch: HUB_EPOCH,
        hub_time: String::new(),
        to: 99,
        changes: changes
            .map(|&(status_rv, of, status)| StatusChange {
                status_rv,
                of,
                status,
            })
            .collect(),
    }
}

const CHIP: StatusOf = StatusOf::Chip(51_001);

#[track_caller]
fn deny(till: &mut Till, status_rv: u64, of: StatusOf, status: Status, expect: &str) {
    let now = till.now;
    let list = denylist(&[(status_rv, of, status)]);
    till.store().apply_denylist(&list, now).unwrap();
    assert_eq!(till.tap(kr(1)), expect, "{status_rv} {of:?} {status:?}");
}

#[test]
fn obt_11_of_two_statuses_the_higher_version_holds_in_whatever_order_they_come() {
    let mut till = Till::with(|_| {});
    deny(&mut till, 12, CHIP, Status::Active, "approve 499,00 none");
    deny(&mut till, 10, CHIP, Status::Blocked, "approve 498,00 none");
    deny(&mut till, 14, CHIP, Status::Blocked, "chip_blocked none");
    // A record of the feed that was made before the block brings everything but the old status.
    let mut record = chip(ANNA, Status::Active);
    if let Record::Chip(chip) = &mut record {
        chip.status_rv = 12;
    }
    till.tell(vec![record.clone()]);
    assert_eq!(till.tap(kr(1)), "chip_blocked none");
    if let Record::Chip(chip) = &mut record {
        chip.status_rv = 16;
    }
    till.tell(vec![record]);
    assert_eq!(till.tap(kr(1)), "approve 497,00 none");
    // A late block that the feed has passed already.
    deny(&mut till, 14, CHIP, Status::Blocked, "approve 496,00 none");
}

#[test]
fn obt_12_a_block_ahead_of_the_feed_refuses_from_the_next_tap_on() {
    let mut till = Till::with(|_| {});
    let cursor = till.store().progress().feed.cursor;
    let blocked = StatusOf::Account(ANNA);
    deny(
        &mut till,
        9,
        blocked,
        Status::Blocked,
        "account_blocked none",
    );
    assert_eq!(till.store().progress().feed.cursor, cursor);
    till.restart();
    assert_eq!(till.tap(kr(1)), "account_blocked none");
    deny(
        &mut till,
        10,
        blocked,
        Status::Active,
        "approve 499,00 none",
    );
}

#[test]
fn statuses_of_another_life_of_the_hub_wait_for_its_snapshot() {
    let mut till = Till::with(|_| {});
    let now = till.now;
    let mut list = denylist(&[(50, CHIP, Status::Blocked)]);
    till.store().apply_denylist(&list, now).unwrap();
    list.hub_epoch = NEW_LIFE;
    let refused = till.store().apply_denylist(&list, now);
    assert!(matches!(refused, Err(LedgerError::OtherHubEpoch { .. })));
    // Its versions begin anew, so its snapshot holds although their numbers are lower.
    begin_anew(
        &mut till,
        vec![
            Record::Account(account(ANNA, kr(500), 0)),
            chip(ANNA, Status::Active),
        ],
    );
    assert_eq!(till.tap(kr(1)), "approve 499,00 none");
}

/// Changes what the disk holds, which no program can.
fn damage(till: &mut Till, sql: &str) {
    let now = till.now;
    // Everything into the file, so that the change is seen.
    till.store.take().unwrap().close(now).unwrap();
    let file = rusqlite::Connection::open(till.path()).unwrap();
    file.execute_batch(
        "DROP TRIGGER entries_are_never_changed; DROP TRIGGER entries_are_never_removed",
    )
    .unwrap();
    assert_eq!(file.execute(sql, []).unwrap(), 1);
}

#[test]
fn sy_08_a_damaged_entry_is_told_as_a_hole_and_the_rest_goes_up() {
    for sql in [
        "UPDATE entry SET body = replace(body, '\"amount\":300', '\"amount\":700') WHERE seq = 3",
        "UPDATE entry SET header = 'x' || header WHERE seq = 3",
        "UPDATE entry SET body = CAST(x'7B22FF' AS TEXT) WHERE seq = 3",
    ] {
        let mut till = Till::with(|a| a.ceiling = Some(kr(200)));
        for _ in 0..10 {
            till.sell(kr(3));
        }
        damage(&mut till, sql);
        till.restart();
        assert_eq!(till.store().holes(), [3], "{sql}");
        assert_eq!(till.store().progress().holes, 1);
        let batch = till
            .store()
            .batch(500, 1 << 20, &key(), TillReport::default());
        let batch = batch.unwrap().unwrap();
        batch.verify(&key().public()).unwrap();
        assert_eq!((batch.head, batch.entries.len()), (till.head(), 10));
        let holes: Vec<u64> = batch.holes.iter().map(|hole| hole.seq).collect();
        assert_eq!(holes, [3]);
        assert!(batch.entries[2].texts.is_empty());
        let found = till.store().reader().unwrap().verify().unwrap().findings;
        assert_eq!(found, [Finding::Hole { seq: 3 }], "{sql}");
        // What was kept beside the entries still counts the lost sale.
        assert_eq!(till.balance(), kr(470));
        assert_eq!(till.tap(kr(171)), "offline_allowance none");
        assert_eq!(till.tap(kr(170)), "approve 300,00 none");
        // The hub's next figures do not contain it; the ceiling does.
        till.tell(vec![Record::Account(account(ANNA, kr(330), 12))]);
        assert_eq!(till.tap(kr(1)), "offline_allowance none");
    }
}

#[test]
fn a_batch_of_any_size_carries_its_own_holes_only() {
    let mut till = Till::with(|_| {});
    for _ in 0..6 {
        till.sell(kr(1));
    }
    damage(&mut till, "UPDATE entry SET body = '{}' WHERE seq = 4");
    till.restart();
    let mut sent = Vec::new();
    for size in [1, 2, 3] {
        let batch = till
            .store()
            .batch(size, 1 << 20, &key(), TillReport::default());
        let batch = batch.unwrap().unwrap();
        batch.verify(&key().public()).unwrap();
        let holes: Vec<u64> = batch.holes.iter().map(|hole| hole.seq).collect();
        sent.push((batch.first_seq, batch.entries.len(), holes));
        let now = till.now;
        till.store().acknowledge(batch.head, 0, now).unwrap();
    }
    assert_eq!(sent, [(1, 1, vec![]), (2, 2, vec![]), (4, 3, vec![4])]);
}

#[test]
fn the_last_entry_may_be_the_damaged_one() {
    let mut till = Till::with(|_| {});
    till.sell(kr(100));
    till.sell(kr(100));
    let head = till.head();
    damage(&mut till, "UPDATE entry SET header = '' WHERE seq = 2");
    till.restart();
    assert_eq!((till.head(), till.store().holes()), (head, vec![2]));
    assert_eq!(till.tap(kr(1)), "offline_allowance none");
    let batch = till
        .store()
        .batch(500, 1 << 20, &key(), TillReport::default());
    batch.unwrap().unwrap().verify(&key().public()).unwrap();
}

#[test]
fn a_damaged_hash_alone_loses_nothing() {
    let mut till = Till::with(|_| {});
    for _ in 0..3 {
        till.sell(kr(1));
    }
    damage(
        &mut till,
        "UPDATE entry SET hash = zeroblob(32) WHERE seq = 2",
    );
    till.restart();
    assert_eq!(till.store().holes(), Vec::<u64>::new());
    let batch = till
        .store()
        .batch(500, 1 << 20, &key(), TillReport::default());
    let batch = batch.unwrap().unwrap();
    batch.verify(&key().public()).unwrap();
    assert_eq!(batch.holes, []);
}

#[test]
fn an_entry_that_is_gone_altogether_stops_the_ledger() {
    let mut till = Till::with(|_| {});
    for _ in 0..3 {
        till.sell(kr(1));
    }
    damage(&mut till, "DELETE FROM entry WHERE seq = 2");
    let opened = till_ledger::Store::open(&till.path(), options());
    assert!(matches!(opened, Err(LedgerError::Corrupt { seq: 2 })));
}

#[test]
fn people_who_must_be_forgotten_are_in_no_file_any_more() {
    let mut till = Till::with(|a| a.ceiling = Some(kr(200)));
    till.tell(vec![Record::Holder(sync_proto::HolderRecord {
        account: ANNA,
        name: "Demo Forgotten".into(),
        photo: None,
    })]);
    till.sell(kr(50));
    let found = |till: &Till, what: &[u8]| {
        ["till.db", "till.db-wal"].iter().any(|name| {
            let bytes = std::fs::read(till.dir.path().join(name)).unwrap_or_default();
            bytes.windows(what.len()).any(|window| window == what)
        })
    };
    assert!(found(&till, b"Demo Forgotten"));
    assert!(found(&till, uid(ANNA).as_bytes()));
    let now = till.now;
    till.store().forget_people(now).unwrap();
    assert!(!found(&till, b"Demo Forgotten"));
    assert!(!found(&till, uid(ANNA).as_bytes()));
    assert_eq!(till.tap(kr(1)), "unknown_chip none");
    // What was sold is still there to be sent, and still counts should the till be let in again.
    let batch = till
        .store()
        .batch(500, 1 << 20, &key(), TillReport::default());
    assert_eq!(batch.unwrap().unwrap().entries.len(), 1);
    till.restart();
    assert_eq!(till.store().progress().feed.cursor, 0);
    let again = page(
        0,
        7,
        vec![
            (6, Record::Account(account(ANNA, kr(450), 1))),
            (7, chip(ANNA, Status::Active)),
        ],
    );
    till.store().apply_page(&again, now).unwrap();
    assert_eq!(till.tap(kr(151)), "offline_allowance none");
    assert_eq!(till.tap(kr(150)), "approve 300,00 none");
}

fn clock_events(till: &mut Till) -> Vec<ClockJump> {
    let bodies = bodies(till);
    let events = bodies.iter().filter_map(|body| match body {
        EntryBody::ClockEvent(event) => Some(event.event),
        _ => None,
    });
    events.collect()
}

/// The machine starts again at a time of its own.
fn boot(till: &mut Till, utc: &str, boot: u128) {
    till.now = till_ledger::Moment {
        boot_ms: 60_000,
        boot: uuid::Uuid::from_u128(boot),
        ..at(utc)
    };
}

fn confirm(till: &mut Till) -> Result<bool, LedgerError> {
    let id = till.new_id();
    let now = till.now;
    let request = ClockRequest {
        id,
        confirmed: true,
    };
    Ok(till.store().check_clock(request, now)?.is_some())
}

#[test]
fn sy_29_a_clock_set_back_a_year_keeps_the_last_day_and_is_told() {
    let mut till = Till::with(|a| a.limits.day = Some(kr(50)));
    till.sell(kr(50));
    boot(&mut till, "2025-11-20T10:05:00Z", 2);
    assert_eq!(till.tap(kr(1)), "limit_day none");
    assert_eq!(till.store().progress().clock, ClockState::Back);
    till.restart();
    assert_eq!(till.store().progress().clock, ClockState::Back);
    // It is told once.
    assert_eq!(till.tap(kr(1)), "limit_day none");
    assert_eq!(clock_events(&mut till), [ClockJump::Back]);
    // Somebody sets it right.
    till.now.utc_ms = at("2026-11-20T10:20:00Z").utc_ms;
    assert_eq!(till.tap(kr(1)), "limit_day none");
    assert_eq!(
        clock_events(&mut till),
        [ClockJump::Back, ClockJump::Confirmed]
    );
    assert_eq!(till.store().progress().clock, ClockState::Right);
    till.verified();
}

#[test]
fn time_03_a_clock_far_ahead_opens_no_new_day_until_a_person_or_the_hub_confirms_it() {
    let with_limit = |a: &mut sync_proto::AccountRecord| a.limits.day = Some(kr(50));
    let mut till = Till::with(with_limit);
    till.sell(kr(50));
    boot(&mut till, "2026-11-21T13:00:00Z", 2);
    assert_eq!(till.tap(kr(1)), "limit_day none");
    assert_eq!(till.store().progress().clock, ClockState::Forward);
    till.restart();
    assert_eq!(till.tap(kr(1)), "limit_day none");
    assert!(confirm(&mut till).unwrap());
    assert!(!confirm(&mut till).unwrap());
    assert_eq!(till.tap(kr(50)), "approve 400,00 none");
    assert_eq!(
        clock_events(&mut till),
        [ClockJump::Forward, ClockJump::Confirmed]
    );

    let mut till = Till::with(with_limit);
    till.sell(kr(50));
    boot(&mut till, "2026-11-21T13:00:00Z", 2);
    assert_eq!(till.tap(kr(1)), "limit_day none");
    let mut told = page(2, 2, vec![]);
    told.hub_time = "2026-11-21T13:00:01Z".into();
    let now = till.now;
    till.store().apply_page(&told, now).unwrap();
    assert_eq!(till.tap(kr(50)), "approve 400,00 none");
    assert_eq!(
        clock_events(&mut till),
        [ClockJump::Forward, ClockJump::Confirmed]
    );
}

#[test]
fn sy_29_a_clock_a_day_ahead_is_measured_against_the_hubs() {
    let mut till = Till::with(|a| a.limits.day = Some(kr(50)));
    let now = till.now;
    let mut told = page(2, 2, vec![]);
    told.hub_time = "2026-11-20T10:00:00Z".into();
    till.store().apply_page(&told, now).unwrap();
    till.sell(kr(50));
    // The same boot: an hour later by the machine, a day later by the wall clock.
    till.now.boot_ms += 3_600_000;
    till.now.utc_ms += 25 * 3_600_000;
    assert_eq!(till.tap(kr(1)), "limit_day none");
    assert_eq!(till.store().progress().clock, ClockState::Forward);
    assert!(matches!(
        confirm(&mut till),
        Err(LedgerError::HubClockDiffers { .. })
    ));
}

#[test]
fn time_02_a_weekend_of_one_boot_is_no_jump() {
    let mut till = Till::with(|a| a.limits.day = Some(kr(50)));
    till.sell(kr(50));
    till.now = at("2026-11-23T10:00:00Z");
    assert_eq!(till.tap(kr(50)), "approve 400,00 none");
    assert_eq!(clock_events(&mut till), []);
}

#[test]
fn sy_12_a_sale_that_was_not_sent_before_a_crash_is_sent_after_it() {
    let mut till = Till::with(|_| {});
    till.sell(kr(1));
    till.restart();
    let batch = till
        .store()
        .batch(500, 1 << 20, &key(), TillReport::default());
    assert_eq!(batch.unwrap().unwrap().entries.len(), 1);
}

#[test]
fn sy_13_a_page_and_its_cursor_hold_together_or_not_at_all() {
    let mut till = Till::with(|_| {});
    till.sell(kr(1));
    let now = till.now;
    // The own sale cannot be taken from the least amount there is.
    let impossible = account(ANNA, canteen::Money::from_ore(i64::MIN), 0);
    let mut good = account(canteen::AccountId(1002), kr(7), 0);
    good.ceiling = Some(kr(7));
    let page = page(
        2,
        4,
        vec![(3, Record::Account(good)), (4, Record::Account(impossible))],
    );
    assert!(till.store().apply_page(&page, now).is_err());
    till.restart();
    assert_eq!(till.store().progress().feed.cursor, 2);
    let reader = till.store().reader().unwrap();
    assert_eq!(reader.account(canteen::AccountId(1002)).unwrap(), None);
    drop(reader);
    till.tell(vec![Record::Account(account(ANNA, kr(9), 0))]);
    till.restart();
    assert_eq!(till.store().progress().feed.cursor, 3);
    assert_eq!(till.balance(), kr(8));
}

#[test]
fn sy_14_a_page_that_comes_twice_changes_nothing() {
    let mut till = Till::with(|_| {});
    let now = till.now;
    let told = page(2, 5, vec![(5, Record::Account(account(ANNA, kr(70), 0)))]);
    till.store().apply_page(&told, now).unwrap();
    till.sell(kr(20));
    let again = till.store().apply_page(&told, now).unwrap();
    assert_eq!((again.records, till.balance()), (0, kr(50)));
    assert_eq!(till.store().progress().feed.cursor, 5);
}

#[test]
fn sy_18_what_is_sold_while_a_snapshot_comes_lies_over_it() {
    let mut till = Till::with(|a| a.ceiling = Some(kr(200)));
    // The hub writes its snapshot here; the sale is in none of its figures.
    till.sell(kr(30));
    let header = SnapshotHeader {
        hub_epoch: HUB_EPOCH,
        as_of: 40,
        hub_time: String::new(),
    };
    let mut anna = account(ANNA, kr(400), 0);
    anna.ceiling = Some(kr(100));
    let records = [Record::Account(anna), chip(ANNA, Status::Active)];
    let changes: Vec<Change> = records
        .into_iter()
        .map(|record| Change { rv: 40, record })
        .collect();
    let now = till.now;
    till.store().apply_snapshot(&header, &changes, now).unwrap();
    assert_eq!(till.balance(), kr(370));
    assert_eq!(till.tap(kr(71)), "offline_allowance none");
    assert_eq!(till.tap(kr(70)), "approve 300,00 none");
    till.verified();
}

#[test]
fn a_ledger_whose_life_has_ended_is_kept_whole_under_another_name() {
    let mut till = Till::with(|_| {});
    till.sell(kr(1));
    let epoch = identity().epoch;
    let name = till.dir.path().join("ledger-old.db");
    till.store = None;
    // Not the one that is meant: nothing happens.
    till_ledger::put_away(&till.path(), sync_proto::Epoch(1), &name).unwrap();
    assert!(till.path().is_file());
    till_ledger::put_away(&till.path(), epoch, &name).unwrap();
    assert!(!till.path().exists());
    assert!(!till.dir.path().join("till.db-wal").exists());
    let gone = till_ledger::put_away(&till.path(), epoch, &name);
    assert!(matches!(gone, Err(LedgerError::NotFound { .. })));
    let old = till_ledger::Store::open(&name, options()).unwrap();
    assert_eq!(old.progress().head.seq, 1);
}
