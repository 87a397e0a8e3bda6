//! What a till is told: pages, snapshots, ceilings, statuses.

use anyhow::{Context, bail, ensure};
use canteen::Money;
use sync_proto::{AuthoriseRequest, Denylist, FeedPosition, FeedRecords, Record};
use uuid::Uuid;

use super::Scene;

pub(super) async fn pages_rise_and_repeat(scene: &mut Scene) -> anyhow::Result<()> {
    scene.till.refresh().await?;
    let before = scene.till.feed;
    scene.till.sell(scene.buyer, 1)?;
    scene.till.push_all().await?;
    let stand = scene.till.position();
    let Ok(page) = scene.till.page(before, &stand).await? else {
        bail!("the feed is refused");
    };
    ensure!(
        page.from == before.cursor && page.to >= page.from,
        "{} to {}",
        page.from,
        page.to
    );
    let versions: Vec<u64> = page.changes.iter().map(|change| change.rv).collect();
    ensure!(
        versions.windows(2).all(|pair| pair[0] < pair[1])
            && versions
                .iter()
                .all(|rv| (page.from + 1..=page.to).contains(rv)),
        "the versions {versions:?} do not rise from {} to {}",
        page.from,
        page.to
    );
    let Ok(again) = scene.till.page(before, &stand).await? else {
        bail!("the same cursor is refused the second time");
    };
    ensure!(
        again.changes.len() >= page.changes.len(),
        "the second time {} changes come instead of {}",
        again.changes.len(),
        page.changes.len()
    );
    scene.till.refresh().await
}

pub(super) async fn a_foreign_cursor_needs_a_snapshot(scene: &mut Scene) -> anyhow::Result<()> {
    let foreign = FeedPosition {
        hub_epoch: scene.till.feed.hub_epoch ^ 1,
        cursor: 1,
    };
    let said = scene.till.page(foreign, &scene.till.position()).await?;
    let Err(problem) = said else {
        bail!("a page was given");
    };
    ensure!(
        problem.status == 410 && problem.code() == "snapshot_required",
        "it is refused by {} {:?}",
        problem.status,
        problem.code()
    );
    scene.till.take_snapshot().await
}

pub(super) async fn a_ceiling_is_given(scene: &mut Scene) -> anyhow::Result<()> {
    scene.till.sell(scene.buyer, 1)?;
    scene.till.push_all().await?;
    scene.till.refresh().await?;
    let account = scene.till.accounts.get(&scene.buyer.account);
    let account = account.context("the account is gone")?;
    let ceiling = account.ceiling.context("its record has no ceiling")?;
    ensure!(
        ceiling > Money::ZERO,
        "the ceiling is {ceiling} while the account holds {}",
        account.position
    );
    Ok(())
}

pub(super) async fn a_raise_is_answered(scene: &mut Scene) -> anyhow::Result<()> {
    let request = AuthoriseRequest {
        account: scene.buyer.account,
        need: Money::from_kroner(1),
        entry_id: Uuid::now_v7(),
        position: scene.till.position(),
    };
    let said = scene
        .till
        .ask::<FeedRecords>(scene.till.post("authorise").json(&request))
        .await?;
    match said {
        Ok(None) => Ok(()),
        Ok(Some(records)) => {
            let is_of_account = |record: &Record| matches!(record, Record::Account(account) if account.id == scene.buyer.account);
            ensure!(
                records
                    .changes
                    .iter()
                    .any(|change| is_of_account(&change.record)),
                "the account's record is not among {:?}",
                records.changes
            );
            Ok(())
        }
        Err(problem) => bail!("it is refused: {}", problem.facts),
    }
}

pub(super) async fn the_denylist_is_served(scene: &mut Scene) -> anyhow::Result<()> {
    let asking = scene
        .till
        .get("denylist")
        .query(&[("hub_epoch", scene.till.feed.hub_epoch), ("after", 0)])
        .query(&scene.till.position());
    let list: Denylist = match scene.till.ask(asking).await? {
        Ok(Some(list)) => list,
        Ok(None) => bail!("it answers without content"),
        Err(problem) => bail!("it is refused: {}", problem.facts),
    };
    let versions: Vec<u64> = list.changes.iter().map(|change| change.status_rv).collect();
    ensure!(
        versions.is_sorted() && versions.iter().all(|rv| *rv <= list.to),
        "the versions {versions:?} do not rise to {}",
        list.to
    );
    Ok(())
}

pub(super) async fn every_answer_is_signed(scene: &mut Scene) -> anyhow::Result<()> {
    match scene.till.witness.unsigned() {
        None => Ok(()),
        Some(question) => bail!("{question}"),
    }
}
