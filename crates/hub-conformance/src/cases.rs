//! The cases, in the order in which they are played: those that end the till's ledger come last.

mod books;
mod data;
mod forks;
mod refusals;

use std::future::Future;
use std::pin::Pin;

use anyhow::ensure;
use sync_proto::EntryFate;

use crate::played_till::{Buyer, PlayedTill};
use crate::verdict::{Report, Verdict};

/// What a case works with.
pub(crate) struct Scene {
    /// The till.
    till: PlayedTill,
    /// Who buys.
    buyer: Buyer,
}

/// A case under way; an error says what the hub does instead.
type Playing<'a> = Pin<Box<dyn Future<Output = anyhow::Result<()>> + 'a>>;

/// What the hub must do, and how it is tried.
struct Case {
    id: &'static str,
    claim: &'static str,
    trial: Trial,
}

enum Trial {
    Play(fn(&mut Scene) -> Playing<'_>),
    /// Played when the hub's data has what it takes; else the reason is told.
    PlayIf(
        fn(&Scene) -> bool,
        &'static str,
        fn(&mut Scene) -> Playing<'_>,
    ),
    NotHere(&'static str),
}

macro_rules! case {
    ($id:literal, $claim:literal, $play:path) => {
        Case {
            id: $id,
            claim: $claim,
            trial: Trial::Play(|scene| Box::pin($play(scene))),
        }
    };
    ($id:literal, $claim:literal, not here: $why:literal) => {
        Case {
            id: $id,
            claim: $claim,
            trial: Trial::NotHere($why),
        }
    };
}

const NEEDS_A_CRASH: &str = "the hub would have to be killed at the right moment";

const CASES: &[Case] = &[
    case!(
        "SY-01",
        "a pushed sale is booked and acknowledged",
        books::a_push_is_booked
    ),
    case!(
        "SY-02",
        "a batch that comes again is all duplicates",
        books::a_repeated_batch_is_duplicates
    ),
    case!(
        "SY-03",
        "the same batch twice at once is booked once",
        books::a_doubled_batch_is_booked_once
    ),
    case!(
        "SY-04",
        "overlapping batches are booked once",
        books::overlapping_batches_are_booked_once
    ),
    case!(
        "SY-05",
        "a batch beyond the watermark is a gap",
        refusals::a_gap_is_named
    ),
    case!(
        "SY-06",
        "reordered batches are a gap, then all booked",
        refusals::reordered_batches_are_a_gap_first
    ),
    case!(
        "SY-07",
        "changed bytes are refused, the entry's own are taken",
        refusals::changed_bytes_are_refused
    ),
    case!(
        "SY-08",
        "a lost entry is a hole, the rest is booked",
        books::a_hole_does_not_block_the_rest
    ),
    Case {
        id: "SY-10",
        claim: "a crash after the commit books nothing twice",
        trial: Trial::NotHere(NEEDS_A_CRASH),
    },
    Case {
        id: "SY-11",
        claim: "a crash before the commit books nothing",
        trial: Trial::NotHere(NEEDS_A_CRASH),
    },
    case!(
        "SY-14",
        "pages rise, and an old cursor gives the same again",
        data::pages_rise_and_repeat
    ),
    case!(
        "SY-15",
        "a cursor of another life of the hub needs a snapshot",
        data::a_foreign_cursor_needs_a_snapshot
    ),
    case!(
        "SY-19",
        "a sale of an unknown account is stored",
        books::a_sale_of_an_unknown_account_is_stored
    ),
    case!(
        "SY-20",
        "one unreadable entry is quarantined, the rest booked",
        books::an_unreadable_entry_is_quarantined
    ),
    case!(
        "SY-22",
        "/raw stores what is not read",
        books::raw_stores_unread
    ),
    Case {
        id: "SY-25",
        claim: "a hub from a backup freezes and converges",
        trial: Trial::NotHere("the hub's database would have to be replaced"),
    },
    case!(
        "SY-30",
        "an unknown kind of entry is quarantined",
        books::an_unknown_kind_is_quarantined
    ),
    case!(
        "SY-33",
        "2,000 waiting entries are taken in batches of 500",
        books::many_entries_are_taken
    ),
    case!(
        "REF-03",
        "a sale is given back once, however often it is voided",
        books::a_sale_is_given_back_once
    ),
    case!(
        "OB-07",
        "an account's record carries a ceiling that its sales stay under",
        data::a_ceiling_is_given
    ),
    case!(
        "OB-09",
        "a request for more is answered with records or nothing",
        data::a_raise_is_answered
    ),
    Case {
        id: "LIM-05",
        claim: "of strict limits a till is given a share, and nothing when it keeps none",
        trial: Trial::PlayIf(
            data::has_strict_limits,
            "no account of the till has strict limits",
            |scene| Box::pin(data::strict_limits_come_as_shares(scene)),
        ),
    },
    case!(
        "DENY-01",
        "the statuses can be asked for alone",
        data::the_denylist_is_served
    ),
    case!(
        "SYNC-01",
        "who has no token is told nothing",
        refusals::without_a_token_nothing_is_told
    ),
    case!(
        "SYNC-09",
        "a batch of more than 500 entries is too large",
        refusals::too_many_entries_are_too_large
    ),
    case!(
        "SY-23",
        "of a copied till both branches are booked once, and it gets no data",
        forks::both_branches_are_booked_once
    ),
    case!(
        "SY-24",
        "a till that was set back is told so",
        forks::a_rollback_is_noticed
    ),
    case!(
        "SY-39",
        "every answer was signed by the hub's key",
        data::every_answer_is_signed
    ),
];

/// Plays all cases; each is told as soon as it is over.
pub(crate) async fn run_all(
    mut till: PlayedTill,
    mut told: impl FnMut(&Report),
) -> anyhow::Result<Vec<Report>> {
    till.refresh().await?;
    let buyer = till.buyer()?;
    let mut scene = Scene { till, buyer };
    let mut reports = Vec::new();
    for case in CASES {
        let verdict = match &case.trial {
            Trial::NotHere(why) => Verdict::NotTried(why),
            Trial::PlayIf(is_there, why, _) if !is_there(&scene) => Verdict::NotTried(why),
            Trial::Play(play) | Trial::PlayIf(_, _, play) => match play(&mut scene).await {
                Ok(()) => Verdict::Holds,
                Err(error) => Verdict::Violated(format!("{error:#}")),
            },
        };
        let report = Report {
            id: case.id,
            claim: case.claim,
            verdict,
        };
        told(&report);
        reports.push(report);
    }
    Ok(reports)
}

impl Scene {
    async fn balance(&mut self) -> anyhow::Result<i64> {
        self.till.balance(self.buyer).await
    }

    /// The balance must have moved by this since it was `before`.
    async fn expect_moved(&mut self, before: i64, by: i64) -> anyhow::Result<()> {
        let after = self.balance().await?;
        ensure!(
            after - before == by,
            "the balance moved by {} øre instead of {by}",
            after - before
        );
        Ok(())
    }
}

/// Whether an entry counts as booked.
fn is_booked(fate: &EntryFate) -> bool {
    matches!(fate, EntryFate::Booked | EntryFate::Flagged { .. })
}
