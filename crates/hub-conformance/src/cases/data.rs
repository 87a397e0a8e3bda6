//! What a till is told: pages, snapshots, ceilings, statuses.

use anyhow::{Context, bail, ensure};
use canteen::Money;
use sync_proto::{
    AccountRecord, AuthoriseRequest, Denylist, EntryBody, FeedPosition, FeedRecords, Record, Start,
};
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

pub(super) fn has_strict_limits(scene: &Scene) -> bool {
    strict_account(scene).is_some()
}

/// An account with a daily limit that is strict.
fn strict_account(scene: &Scene) -> Option<&AccountRecord> {
    let mut accounts = scene.till.accounts.values();
    accounts.find(|account| account.limits.strict && account.limits.day.is_some())
}

/// The till says first that its program keeps no strict limits, then that it does.
pub(super) async fn strict_limits_come_as_shares(scene: &mut Scene) -> anyhow::Result<()> {
    let account = account_after_start(scene, false).await?;
    let ceiling = account.ceiling.context("its record has no ceiling")?;
    ensure!(
        ceiling == Money::ZERO,
        "a till whose program keeps no strict limits may sell for {ceiling}"
    );
    let account = account_after_start(scene, true).await?;
    let shares = account.shares.context("its record has no shares")?;
    let share = shares.day.context("there is no share of its daily limit")?;
    let limit = account.limits.day.context("its daily limit is gone")?;
    ensure!(
        share.ceiling <= limit && share.ahead <= limit,
        "of a daily limit of {limit} the till has a share of {} and {} ahead",
        share.ceiling,
        share.ahead
    );
    ensure!(
        account.ceiling > Some(Money::ZERO),
        "a till whose program keeps strict limits may sell nothing"
    );
    let account = account_after_start(scene, false).await?;
    ensure!(
        account.ceiling == Some(Money::ZERO),
        "the ceiling stays at {:?} when the program is replaced by one that keeps no strict limits",
        account.ceiling
    );
    Ok(())
}

/// The account with strict limits, after the till has started a program that keeps them or not.
async fn account_after_start(
    scene: &mut Scene,
    strict_limits: bool,
) -> anyhow::Result<AccountRecord> {
    scene.till.write(&EntryBody::Start(Start {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        strict_limits,
    }))?;
    scene.till.push_all().await?;
    scene.till.refresh().await?;
    let account = strict_account(scene).context("no account has strict limits any more")?;
    Ok(account.clone())
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
