//! A copied till and one that was set back.

use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use sync_proto::EntryFate;

use super::{Scene, is_booked};
use crate::cases::refusals::expect;

pub(super) async fn both_branches_are_booked_once(scene: &mut Scene) -> anyhow::Result<()> {
    let before = scene.balance().await?;
    let agreed = scene.till.last();
    let mut copy = scene.till.clone_disk();
    scene.till.sell(scene.buyer, 11)?;
    scene.till.push_all().await?;
    copy.sell(scene.buyer, 13)?;

    let Err(problem) = copy.push().await? else {
        bail!("the copy's other entry was taken under the same number");
    };
    expect(&problem, 409, "fork")?;
    ensure!(
        problem.facts["agreed_through"] == agreed,
        "it agrees through {} instead of {agreed}",
        problem.facts["agreed_through"]
    );
    let Err(problem) = copy.page(copy.feed, &copy.position()).await? else {
        bail!("the copy is given data");
    };
    expect(&problem, 409, "fork")?;

    let branch = copy.batch(agreed + 1, agreed + 1);
    let said = copy.send_unknown("branch", &branch).await?;
    let Ok(answer) = said else {
        bail!("the branch is refused: {said:?}");
    };
    ensure!(
        answer.results.iter().all(|result| is_booked(&result.fate)),
        "the branch's results are {:?}",
        answer.results
    );
    let said = copy.send_unknown("branch", &branch).await?;
    ensure!(
        said.as_ref().is_ok_and(|answer| answer
            .results
            .iter()
            .all(|result| result.fate == EntryFate::Duplicate)),
        "the repeated branch is answered {said:?}"
    );
    match scene.balance().await {
        // A hub may stop all data of a name that two machines use; then nothing more can be seen.
        Err(_) => Ok(()),
        Ok(after) => {
            ensure!(
                after - before == -24,
                "the balance moved by {} øre instead of -24",
                after - before
            );
            Ok(())
        }
    }
}

pub(super) async fn a_rollback_is_noticed(scene: &mut Scene) -> anyhow::Result<()> {
    let mut restored = scene.till.clone_disk();
    let kept = restored.entries.len().saturating_sub(3);
    restored.entries.truncate(kept);
    restored.acked = restored.last();
    // A hub may wait for a moment, because an entry may be on its way.
    let deadline = Instant::now() + PATIENCE;
    loop {
        match restored.page(restored.feed, &restored.position()).await? {
            Err(problem) => {
                ensure!(
                    problem.status == 409 && ["rollback", "fork"].contains(&problem.code()),
                    "it is refused by {} {:?}",
                    problem.status,
                    problem.code()
                );
                return Ok(());
            }
            Ok(_) if Instant::now() < deadline => tokio::time::sleep(STEP).await,
            Ok(_) => bail!("it is given data for {} s", PATIENCE.as_secs()),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(40);
const STEP: Duration = Duration::from_secs(1);
