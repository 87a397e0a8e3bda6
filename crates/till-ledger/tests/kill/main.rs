//! A till that is killed in the middle of its work loses nothing that it answered.

#![allow(clippy::unwrap_used, reason = "a failed call is a failed test")]

#[path = "../ledger/world.rs"]
#[allow(dead_code, reason = "shared with the tests in one process")]
mod world;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use canteen::PurchaseAmount;
use till_ledger::{Ledger, LedgerError, Moment, PurchaseRequest, Store};
use uuid::Uuid;
use world::*;

/// Names the ledger's file to a child.
const CHILD: &str = "TILL_LEDGER_TEST_FILE";
const KILLS: u64 = 40;

/// This very test as a process of its own.
fn spawn(test: &str, path: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Taps from several readers at once and says what was answered, until it is killed.
fn tap_for_ever(path: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let ledger = Ledger::open(path, options()).unwrap();
        let readers: Vec<_> = (0..3).map(|_| tokio::spawn(tap(ledger.clone()))).collect();
        for reader in readers {
            reader.await.unwrap();
        }
    });
}

async fn tap(ledger: Ledger) {
    for round in 1.. {
        let request = PurchaseRequest {
            id: Uuid::now_v7(),
            identity: canteen::ChipIdentity::Bare(uid(ANNA)),
            lines: Vec::new(),
            amount: PurchaseAmount::new(canteen::Money::from_ore(1)).unwrap(),
            online: true,
            feed_age: Duration::ZERO,
            ask_first: false,
        };
        let id = request.id;
        let recorded = ledger.purchase(request, Moment::now()).await.unwrap();
        println!("\nsold {} {id}", recorded.entry.unwrap().seq);
        if round % 50 == 0 {
            // Long enough for the ledger to rest, so that it is killed at that, too.
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    }
}

#[test]
fn obt_24_every_answered_sale_is_there_after_a_kill() {
    if let Some(path) = std::env::var_os(CHILD) {
        return tap_for_ever(&PathBuf::from(path));
    }
    let mut till = Till::with(|a| a.position = kr(1_000_000));
    till.store = None;
    let mut answered: BTreeMap<u64, Uuid> = BTreeMap::new();
    for kill in 0..KILLS {
        let mut child = spawn(
            "obt_24_every_answered_sale_is_there_after_a_kill",
            &till.path(),
        );
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut wait = Some(Duration::from_micros(kill * 7_919 % 60_000));
        for line in lines {
            let line = line.unwrap();
            let Some((seq, id)) = line.strip_prefix("sold ").and_then(|s| s.split_once(' ')) else {
                continue;
            };
            // The last line may be cut by the kill; an id that is cut does not parse.
            let (Ok(seq), Ok(id)) = (seq.parse(), id.parse()) else {
                continue;
            };
            assert_eq!(
                answered.insert(seq, id),
                None,
                "the number {seq} was used twice"
            );
            if let Some(wait) = wait.take() {
                std::thread::sleep(wait);
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(wait.is_none(), "the child sold nothing");
        let mut store = Store::open(&till.path(), options()).unwrap();
        assert_eq!(store.repaired(), []);
        let reader = store.reader().unwrap();
        assert_eq!(reader.verify().unwrap().findings, []);
        let last = store.progress().head.seq;
        assert!(answered.keys().all(|seq| *seq <= last));
        if kill % 10 == 0 {
            store.rest(Moment::now()).unwrap();
        }
    }
    let reader = Store::open(&till.path(), options())
        .unwrap()
        .reader()
        .unwrap();
    for (seq, id) in answered {
        assert_eq!(reader.entry_by_id(id).unwrap().unwrap().seq, seq);
    }
}

#[test]
fn a_second_process_is_told_which_file_is_in_use() {
    if let Some(path) = std::env::var_os(CHILD) {
        match Store::open(Path::new(&path), options()) {
            Err(LedgerError::InUse { path }) => println!("\nin use: {}", path.display()),
            other => println!("\n{other:?}"),
        }
        return;
    }
    let till = Till::with(|_| {});
    let child = spawn(
        "a_second_process_is_told_which_file_is_in_use",
        &till.path(),
    );
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let expected = format!("in use: {}", till.path().display());
    assert!(said.lines().any(|line| line == expected), "{said}");
}
