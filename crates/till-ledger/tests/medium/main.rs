//! The ledger on a medium that is slow to flush, full, or broken.

#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

mod flushes;
#[path = "../ledger/world.rs"]
#[allow(dead_code, reason = "shared with the tests of a sound medium")]
mod world;
mod writes;

use std::sync::{Mutex, MutexGuard, PoisonError};

use canteen::{Decision, DeclineReason};
use till_ledger::{FLUSHES_WITH_FDATASYNC, Journal, LedgerError, Recorded};
use world::*;

/// The medium is one for the whole program, so its tests take turns.
fn medium() -> Medium {
    static TURN: Mutex<()> = Mutex::new(());
    Medium(TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

struct Medium(#[allow(dead_code, reason = "held, not used")] MutexGuard<'static, ()>);

/// Sound again for the next test, also when this one failed.
impl Drop for Medium {
    fn drop(&mut self) {
        flushes::fail(0, false);
        writes::fill(false);
    }
}

fn is_unavailable(recorded: &Recorded) -> bool {
    let Decision::Decline { reason, .. } = recorded.decision else {
        return false;
    };
    reason == DeclineReason::JournalUnavailable
}

fn later(till: &mut Till) {
    till.now.boot_ms += 1_000;
    till.now.utc_ms += 1_000;
}

#[test]
fn a_sale_costs_one_flush_and_that_is_an_fdatasync() {
    let _medium = medium();
    let mut till = Till::with(|_| {});
    till.sell(kr(1));
    let (all, full) = (flushes::flushes(), flushes::fsyncs());
    for _ in 0..100 {
        till.sell(kr(1));
    }
    assert_eq!(flushes::flushes() - all, 100);
    assert_eq!(flushes::fsyncs() - full, 0);
    const { assert!(FLUSHES_WITH_FDATASYNC) };
}

#[test]
fn a_decline_of_an_unknown_chip_and_a_repeated_id_cost_no_flush() {
    let _medium = medium();
    let mut till = Till::with(|_| {});
    let request = till.request(kr(1));
    till.purchase(request.clone()).unwrap();
    let before = flushes::flushes();
    till.purchase(request.clone()).unwrap();
    let mut stranger = till.request(kr(1));
    stranger.identity = canteen::ChipIdentity::Bare(uid(canteen::AccountId(9)));
    till.purchase(stranger).unwrap();
    assert_eq!(flushes::flushes(), before);
}

#[test]
fn obt_22_a_full_medium_sells_into_the_warm_log_and_then_declines_without_using_a_number() {
    let _medium = medium();
    let mut till = Till::with(|_| {});
    let now = till.now;
    till.store().rest(now).unwrap();
    writes::fill(true);
    let mut sold = 0;
    let declined = loop {
        let request = till.request(kr(1));
        let recorded = till.purchase(request.clone()).unwrap();
        if is_unavailable(&recorded) {
            break request;
        }
        sold += 1;
        assert!(sold < 1_000, "the medium is never full");
    };
    // 64 KiB of log in advance are 15 frames, a sale takes 2 to 4.
    assert!(sold >= 3, "{sold}");
    assert_eq!(till.head().seq, sold);
    assert_eq!(till.store().progress().journal, Journal::Full);
    assert!(is_unavailable(&till.purchase(declined.clone()).unwrap()));
    writes::fill(false);
    let recorded = till.purchase(declined).unwrap();
    assert_eq!(recorded.entry.unwrap().seq, sold + 1);
    assert_eq!(till.store().progress().journal, Journal::Writable);
    till.verified();
    till.restart();
    till.verified();
}

#[test]
fn a_flush_that_fails_once_is_made_good_before_the_answer() {
    let _medium = medium();
    let mut till = Till::with(|_| {});
    till.sell(kr(1));
    // Two frames are written first, each as header and page: the fifth operation is the flush.
    flushes::fail(5, false);
    let request = till.request(kr(1));
    let recorded = till.purchase(request).unwrap();
    assert_eq!(shown(&recorded), "approve 498,00 none");
    assert!(recorded.replayed, "read back after the fault");
    assert_eq!(till.head().seq, 2);
    till.sell(kr(1));
    till.verified();
}

#[test]
fn a_sale_whose_flush_keeps_failing_is_neither_approved_nor_declined() {
    let _medium = medium();
    let mut till = Till::with(|_| {});
    till.sell(kr(1));
    let request = till.request(kr(1));
    let before = flushes::flushes();
    flushes::fail(5, true);
    let answer = till.purchase(request.clone());
    assert!(flushes::flushes() > before);
    assert!(
        matches!(answer, Err(LedgerError::OutcomeUnknown { id }) if id == request.id),
        "{answer:?}"
    );
    assert_eq!(till.store().progress().journal, Journal::Failing);
    let other = till.request(kr(1));
    assert!(is_unavailable(&till.purchase(other).unwrap()));
    // Asked again at once: still nobody knows.
    let again = till.purchase(request.clone());
    assert!(matches!(again, Err(LedgerError::OutcomeUnknown { .. })));
    flushes::fail(0, false);
    later(&mut till);
    let recorded = till.purchase(request).unwrap();
    assert_eq!(recorded.entry.unwrap().seq, 2);
    till.sell(kr(1));
    till.verified();
}

/// Flushing fails once while somebody reads. The reader keeps the index of the log alive, so
/// the fault leaves a commit in the log that nobody sees: it must not come back.
#[test]
fn a_sale_that_is_declined_after_a_fault_does_not_come_back_with_a_power_cut() {
    let _medium = medium();
    let mut till = Till::with(|_| {});
    till.sell(kr(1));
    let reader = till.store().reader().unwrap();
    reader.products().unwrap();
    flushes::fail(5, false);
    let request = till.request(kr(1));
    let recorded = till.purchase(request.clone()).unwrap();
    let approved = recorded.entry.is_some();
    drop(reader);
    till.restart();
    let there = till.store().reader().unwrap();
    assert_eq!(there.entry_by_id(request.id).unwrap().is_some(), approved);
    till.sell(kr(1));
    till.verified();
}

/// One write or flush after the other fails, once or from then on, while five sales are tried,
/// with and without somebody who reads.
#[test]
fn whatever_write_or_flush_fails_no_answer_is_a_lie() {
    let _medium = medium();
    let mut faults = 0;
    for for_ever in [false, true] {
        for nth in 1..=40 {
            for watched in [false, true] {
                faults += sales_on_a_failing_medium(nth, for_ever, watched);
            }
        }
    }
    assert!(faults > 80, "the faults were not met: {faults}");
}

/// How many times a fault was noticed.
fn sales_on_a_failing_medium(nth: i64, for_ever: bool, watched: bool) -> u32 {
    let mut till = Till::with(|_| {});
    till.sell(kr(1));
    let reader = watched.then(|| till.store().reader().unwrap());
    if let Some(reader) = &reader {
        reader.products().unwrap();
    }
    flushes::fail(nth, for_ever);
    let (mut answers, mut faults) = (Vec::new(), 0);
    for _ in 0..5 {
        let request = till.request(kr(1));
        answers.push((request.id, till.purchase(request)));
        later(&mut till);
        if nth % 2 == 0 {
            let now = till.now;
            // A rest that fails must leave everything as it was.
            faults += u32::from(till.store().rest(now).is_err());
        }
    }
    flushes::fail(0, false);
    drop(reader);
    till.restart();
    assert_eq!(till.store().repaired(), []);
    let reader = till.store().reader().unwrap();
    for (id, answer) in answers {
        let there = reader.entry_by_id(id).unwrap().is_some();
        match answer {
            Ok(recorded) if is_unavailable(&recorded) => {
                faults += 1;
                assert!(!there, "declined and there: {nth} {for_ever} {watched}");
            }
            Ok(_) => assert!(there, "approved and lost: {nth} {for_ever} {watched}"),
            Err(LedgerError::OutcomeUnknown { .. }) => faults += 1,
            Err(error) => panic!("{nth} {for_ever} {watched}: {error:?}"),
        }
    }
    till.verified();
    faults
}
