//! What is booked, once, and what is kept unbooked.

use anyhow::{bail, ensure};
use canteen::AccountId;
use sync_proto::{EntryBody, EntryFate, EntryHeader, EntryTexts, Hole, Start};
use uuid::Uuid;

use super::{Scene, is_booked};
use crate::played_till::Buyer;

pub(super) async fn a_push_is_booked(scene: &mut Scene) -> anyhow::Result<()> {
    let before = scene.balance().await?;
    scene.till.write(&EntryBody::Start(Start {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        strict_limits: false,
    }))?;
    scene.till.sell(scene.buyer, 125)?;
    let answer = scene.till.push_all().await?;
    ensure!(
        answer.results.len() == 2 && answer.results.iter().all(|r| is_booked(&r.fate)),
        "the results are {:?}",
        answer.results
    );
    scene.expect_moved(before, -125).await?;
    let account = scene.till.accounts.get(&scene.buyer.account);
    let incl_seq = account.map_or(0, |account| account.incl_seq);
    ensure!(
        incl_seq >= scene.till.last(),
        "the position contains the sale, but says it contains entries up to {incl_seq} only"
    );
    Ok(())
}

pub(super) async fn a_repeated_batch_is_duplicates(scene: &mut Scene) -> anyhow::Result<()> {
    let before = scene.balance().await?;
    scene.till.sell(scene.buyer, 10)?;
    scene.till.push_all().await?;
    let batch = scene.till.batch(1, scene.till.last());
    let Ok(answer) = scene.till.send("batches", &batch).await? else {
        bail!("the repeated batch was refused");
    };
    ensure!(
        answer
            .results
            .iter()
            .all(|r| r.fate == EntryFate::Duplicate),
        "the results are {:?}",
        answer.results
    );
    ensure!(answer.accepted == scene.till.head(), "the watermark moved");
    scene.expect_moved(before, -10).await
}

pub(super) async fn a_doubled_batch_is_booked_once(scene: &mut Scene) -> anyhow::Result<()> {
    let before = scene.balance().await?;
    for _ in 0..5 {
        scene.till.sell(scene.buyer, 3)?;
    }
    let batch = scene.till.batch(scene.till.acked + 1, scene.till.last());
    let (first, second) = tokio::join!(
        scene.till.send("batches", &batch),
        scene.till.send("batches", &batch)
    );
    for said in [first?, second?] {
        let Ok(answer) = said else {
            bail!("one of the two was refused: {said:?}");
        };
        ensure!(
            answer.accepted == scene.till.head(),
            "{:?} is acknowledged",
            answer.accepted
        );
    }
    scene.till.acked = scene.till.last();
    scene.expect_moved(before, -15).await
}

pub(super) async fn overlapping_batches_are_booked_once(scene: &mut Scene) -> anyhow::Result<()> {
    let before = scene.balance().await?;
    let first = scene.till.last() + 1;
    for _ in 0..8 {
        scene.till.sell(scene.buyer, 2)?;
    }
    for (from, to) in [(first, first + 4), (first + 2, first + 7)] {
        let said = scene
            .till
            .send("batches", &scene.till.batch(from, to))
            .await?;
        ensure!(said.is_ok(), "entries {from} to {to} are refused: {said:?}");
    }
    scene.till.acked = scene.till.last();
    scene.expect_moved(before, -16).await
}

pub(super) async fn a_hole_does_not_block_the_rest(scene: &mut Scene) -> anyhow::Result<()> {
    let before = scene.balance().await?;
    let first = scene.till.last() + 1;
    for _ in 0..3 {
        scene.till.sell(scene.buyer, 4)?;
    }
    let mut batch = scene.till.batch(first, first + 2);
    batch.holes.push(Hole {
        seq: first + 1,
        hash: scene.till.batch(first, first + 1).head.hash,
        reason: "the bytes on the disk do not give the hash".to_owned(),
    });
    if let Some(lost) = batch.entries.get_mut(1) {
        lost.texts = EntryTexts {
            header: String::new(),
            body: String::new(),
        };
    }
    let said = scene.till.send("batches", &batch).await?;
    let Ok(answer) = said else {
        bail!("the batch was refused: {said:?}");
    };
    scene.till.acked = scene.till.last();
    ensure!(
        answer.accepted == scene.till.head(),
        "{:?} is acknowledged",
        answer.accepted
    );
    expect_quarantined(&answer.results, &[first + 1])?;
    scene.expect_moved(before, -8).await
}

pub(super) async fn a_sale_of_an_unknown_account_is_stored(
    scene: &mut Scene,
) -> anyhow::Result<()> {
    let nobody = Buyer {
        account: AccountId(i64::MAX - 1),
        chip: scene.buyer.chip,
    };
    scene.till.sell(nobody, 100)?;
    let answer = scene.till.push_all().await?;
    ensure!(
        !matches!(answer.results.as_slice(), [only] if only.fate == EntryFate::Booked),
        "it was booked without a word"
    );
    Ok(())
}

pub(super) async fn an_unreadable_entry_is_quarantined(scene: &mut Scene) -> anyhow::Result<()> {
    let before = scene.balance().await?;
    let first = scene.till.last() + 1;
    for number in 0..20 {
        if number == 9 {
            let header = sale_header(scene);
            scene.till.append(EntryTexts {
                header: serde_json::to_string(&header)?,
                body: "{\"account\":\"half of".to_owned(),
            });
        } else {
            scene.till.sell(scene.buyer, 1)?;
        }
    }
    let answer = scene.till.push_all().await?;
    expect_quarantined(&answer.results, &[first + 9])?;
    scene.expect_moved(before, -19).await
}

pub(super) async fn raw_stores_unread(scene: &mut Scene) -> anyhow::Result<()> {
    let before = scene.balance().await?;
    scene.till.sell(scene.buyer, 7)?;
    let last = scene.till.last();
    let said = scene
        .till
        .send("raw", &scene.till.batch(last, last))
        .await?;
    let Ok(answer) = said else {
        bail!("it was refused: {said:?}");
    };
    scene.till.acked = last;
    ensure!(
        answer.accepted == scene.till.head(),
        "{:?} is acknowledged",
        answer.accepted
    );
    expect_quarantined(&answer.results, &[last])?;
    scene.expect_moved(before, 0).await
}

pub(super) async fn an_unknown_kind_is_quarantined(scene: &mut Scene) -> anyhow::Result<()> {
    let header = EntryHeader {
        kind: "hologram".to_owned(),
        version: 7,
        ..scene.till.header(Uuid::now_v7())
    };
    scene.till.append(EntryTexts {
        header: serde_json::to_string(&header)?,
        body: "{}".to_owned(),
    });
    let answer = scene.till.push_all().await?;
    expect_quarantined(&answer.results, &[scene.till.last()])
}

pub(super) async fn many_entries_are_taken(scene: &mut Scene) -> anyhow::Result<()> {
    for _ in 0..2_000 {
        scene.till.write(&EntryBody::Start(Start {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            strict_limits: false,
        }))?;
    }
    while scene.till.acked < scene.till.last() {
        let to = scene.till.last().min(scene.till.acked + 500);
        let batch = scene.till.batch(scene.till.acked + 1, to);
        let said = scene.till.send("batches", &batch).await?;
        let Ok(answer) = said else {
            bail!("entries up to {to} are refused: {said:?}");
        };
        ensure!(
            answer.accepted.seq == to,
            "{:?} is acknowledged",
            answer.accepted
        );
        scene.till.acked = to;
    }
    Ok(())
}

pub(super) async fn a_sale_is_given_back_once(scene: &mut Scene) -> anyhow::Result<()> {
    let before = scene.balance().await?;
    let sale = scene.till.sell(scene.buyer, 50)?;
    let seq = scene.till.last();
    scene.till.void(scene.buyer, sale, seq, 50)?;
    scene.till.void(scene.buyer, sale, seq, 50)?;
    let answer = scene.till.push_all().await?;
    ensure!(
        answer
            .results
            .last()
            .is_some_and(|last| last.fate != EntryFate::Booked),
        "the second void was booked without a word"
    );
    scene.expect_moved(before, 0).await
}

fn sale_header(scene: &Scene) -> EntryHeader {
    EntryHeader {
        kind: "sale".to_owned(),
        ..scene.till.header(Uuid::now_v7())
    }
}

fn expect_quarantined(results: &[sync_proto::EntryResult], expected: &[u64]) -> anyhow::Result<()> {
    let quarantined: Vec<u64> = results
        .iter()
        .filter(|result| matches!(result.fate, EntryFate::Quarantined { .. }))
        .map(|result| result.seq)
        .collect();
    ensure!(
        quarantined == expected,
        "{quarantined:?} are quarantined instead of {expected:?}"
    );
    Ok(())
}
