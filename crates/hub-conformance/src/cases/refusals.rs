//! What is refused, and in which words.

use anyhow::{bail, ensure};
use sync_proto::{EntryBody, Start};

use super::Scene;
use crate::link::Problem;

pub(super) async fn a_gap_is_named(scene: &mut Scene) -> anyhow::Result<()> {
    let before = scene.balance().await?;
    scene.till.sell(scene.buyer, 5)?;
    scene.till.sell(scene.buyer, 5)?;
    let last = scene.till.last();
    let said = scene
        .till
        .send("batches", &scene.till.batch(last, last))
        .await?;
    expect_gap(said, scene.till.acked + 1)?;
    scene.expect_moved(before, 0).await?;
    scene.till.push_all().await?;
    scene.expect_moved(before, -10).await
}

pub(super) async fn reordered_batches_are_a_gap_first(scene: &mut Scene) -> anyhow::Result<()> {
    let before = scene.balance().await?;
    let first = scene.till.last() + 1;
    for _ in 0..9 {
        scene.till.sell(scene.buyer, 1)?;
    }
    let late = scene.till.batch(first + 5, first + 8);
    expect_gap(scene.till.send("batches", &late).await?, first)?;
    for batch in [scene.till.batch(first, first + 4), late] {
        let said = scene.till.send("batches", &batch).await?;
        ensure!(said.is_ok(), "it is refused: {said:?}");
    }
    scene.till.acked = scene.till.last();
    scene.expect_moved(before, -9).await
}

pub(super) async fn changed_bytes_are_refused(scene: &mut Scene) -> anyhow::Result<()> {
    let before = scene.balance().await?;
    scene.till.sell(scene.buyer, 6)?;
    let last = scene.till.last();
    let mut changed = scene.till.batch(last, last);
    for entry in &mut changed.entries {
        entry.texts.body = entry.texts.body.replace("\"amount\":6", "\"amount\":5");
    }
    let said = scene.till.send("batches", &changed).await?;
    let Err(problem) = said else {
        bail!("it was taken");
    };
    expect(&problem, 400, "bad_chain")?;
    scene.till.push_all().await?;
    scene.expect_moved(before, -6).await
}

pub(super) async fn without_a_token_nothing_is_told(scene: &mut Scene) -> anyhow::Result<()> {
    scene.till.write(&EntryBody::Start(Start {
        version: "1".to_owned(),
        strict_limits: false,
    }))?;
    let last = scene.till.last();
    let batch = scene.till.batch(last, last);
    let Err(problem) = scene.till.send_unknown("batches", &batch).await? else {
        bail!("a batch without a token was taken");
    };
    expect(&problem, 401, "not_enrolled")?;
    scene.till.push_all().await.map(drop)
}

pub(super) async fn too_many_entries_are_too_large(scene: &mut Scene) -> anyhow::Result<()> {
    let first = scene.till.last() + 1;
    for _ in 0..501 {
        scene.till.write(&EntryBody::Start(Start {
            version: "1".to_owned(),
            strict_limits: false,
        }))?;
    }
    let batch = scene.till.batch(first, scene.till.last());
    let Err(problem) = scene.till.send("batches", &batch).await? else {
        bail!("it was taken");
    };
    expect(&problem, 413, "too_large")?;
    for (from, to) in [(first, first + 249), (first + 250, first + 500)] {
        let said = scene
            .till
            .send("batches", &scene.till.batch(from, to))
            .await?;
        ensure!(said.is_ok(), "half of it is refused: {said:?}");
    }
    scene.till.acked = scene.till.last();
    Ok(())
}

fn expect_gap<T: std::fmt::Debug>(said: Result<T, Problem>, expected: u64) -> anyhow::Result<()> {
    let Err(problem) = said else {
        bail!("it was taken: {said:?}");
    };
    expect(&problem, 409, "gap")?;
    ensure!(
        problem.facts["expected"] == expected,
        "it expects {} instead of {expected}",
        problem.facts["expected"]
    );
    Ok(())
}

/// A refusal must have this status and this word.
pub(super) fn expect(problem: &Problem, status: u16, code: &str) -> anyhow::Result<()> {
    ensure!(
        problem.status == status && problem.code() == code,
        "it is refused by {} {:?} instead of {status} {code:?}",
        problem.status,
        problem.code()
    );
    Ok(())
}
