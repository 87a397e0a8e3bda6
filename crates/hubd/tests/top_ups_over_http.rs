//! Automatic top-ups from the purchase to the booking, against the simulated card gateway over
//! HTTP, with a clock that is put ahead.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod site;

use canteen::AccountId;
use hub_payments::simulator::{Outage, Script, ScriptedOutcome, Settings};
use reqwest::StatusCode;
use serde_json::{Value, json};
use site::{Cards, Site, Till, card};

/// Demo account 1: 149,50 kr, agreement over 300 kr on `demo-card-1`.
struct Lunch {
    site: Site,
    cards: Cards,
    till: Till,
    payer: (AccountId, i64),
    sent: u64,
}

impl Lunch {
    async fn begin() -> Lunch {
        let site = Site::open().await;
        let cards = Cards::open(&site).await;
        let till = site.till("kasse-1", "DEMO-KASSE-1", 1).await;
        let payer = site.chip("72BF9961").await;
        Lunch {
            site,
            cards,
            till,
            payer,
            sent: 0,
        }
    }

    async fn buy(&mut self, ore: i64) {
        self.till.sell(self.payer, &[(1, "Dagens ret", ore)]);
        self.till.push(&self.site, self.sent + 1).await;
        self.sent += 1;
    }

    fn script(&self, outcome: ScriptedOutcome) {
        self.cards
            .simulator
            .script(&card(), Script::once(outcome))
            .unwrap();
    }

    /// The states of the account's top-ups, oldest first, its balance, and how often the card paid.
    async fn state(&self) -> (String, i64, usize) {
        let path = format!("/v1/top-ups?account={}", self.payer.0);
        let list = self.site.get(&path).await;
        let rows = list["top_ups"].as_array().unwrap();
        let states: Vec<&str> = rows
            .iter()
            .rev()
            .map(|row| row["state"].as_str().unwrap())
            .collect();
        (
            states.join(" "),
            self.site.balance(self.payer.0).await,
            self.cards.paid(),
        )
    }

    async fn agreement(&self) -> Value {
        self.site
            .get(&format!("/v1/accounts/{}/top-up-agreement", self.payer.0))
            .await
    }
}

fn is(state: &str, balance: i64, paid: usize) -> (String, i64, usize) {
    (state.to_owned(), balance, paid)
}

#[tokio::test]
async fn a_purchase_under_50_kr_tops_up_and_the_statement_tells() {
    let mut lunch = Lunch::begin().await;
    lunch.buy(99_50).await;
    lunch.cards.after(0).await;
    assert_eq!(
        lunch.state().await,
        is("", 50_00, 0),
        "exactly 50,00 does not fire"
    );
    lunch.buy(1).await;
    lunch.cards.after(0).await;
    assert_eq!(lunch.state().await, is("settled", 349_99, 1));
    let path = format!("/v1/accounts/{}/statement", lunch.payer.0);
    let statement = lunch.site.get(&path).await;
    let last = statement["rows"].as_array().unwrap().last().unwrap();
    assert_eq!(
        (&last["kind"], &last["amount"]),
        (&json!("top_up"), &json!(300_00))
    );
    assert_eq!(last["text"], "Automatisk optankning");
    assert_eq!(lunch.agreement().await["state"], "idle");
}

#[tokio::test]
async fn a_lost_answer_is_looked_up_and_never_charged_again() {
    for outcome in [
        ScriptedOutcome::AnswerLost,
        ScriptedOutcome::ServerErrorAfterCharge,
        ScriptedOutcome::MalformedAnswer,
    ] {
        let mut lunch = Lunch::begin().await;
        lunch.script(outcome);
        lunch.buy(120_00).await;
        lunch.cards.after(0).await;
        assert_eq!(lunch.state().await, is("unknown", 29_50, 1), "{outcome:?}");
        lunch.buy(1_00).await;
        lunch.cards.after(5).await;
        assert_eq!(lunch.state().await, is("settled", 328_50, 1), "{outcome:?}");
        lunch.cards.after(3600).await;
        assert_eq!(lunch.state().await, is("settled", 328_50, 1), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_request_that_never_arrived_is_charged_once_after_the_window() {
    let mut lunch = Lunch::begin().await;
    lunch.script(ScriptedOutcome::RequestLost);
    lunch.buy(120_00).await;
    lunch.cards.after(0).await;
    for seconds in [5, 25, 90] {
        lunch.cards.after(seconds).await;
        assert_eq!(lunch.state().await, is("unknown", 29_50, 0));
    }
    lunch.cards.after(600).await;
    lunch.cards.after(0).await;
    assert_eq!(lunch.state().await, is("settled", 329_50, 1));
}

#[tokio::test]
async fn a_restart_in_the_middle_of_a_charge_looks_it_up() {
    let mut lunch = Lunch::begin().await;
    lunch.buy(120_00).await;
    // The charge is committed and sent, and the program ends before the answer.
    let now = jiff::Timestamp::now();
    let begun = lunch
        .site
        .books
        .write(move |books| {
            let due = books.due_top_ups(now, 10)?;
            let [hub_ledger::TopUpWork::Charge(id)] = due.as_slice() else {
                panic!("{due:?}");
            };
            books.begin_charge(*id, "0123456789abcdefghjk", now)
        })
        .await
        .unwrap();
    assert!(begun.is_some());
    assert_eq!(lunch.state().await, is("requested", 29_50, 0));
    lunch.cards.after(0).await;
    assert_eq!(
        lunch.state().await,
        is("requested", 29_50, 0),
        "nothing is charged meanwhile"
    );
    lunch.cards.worker.recover().await;
    assert_eq!(lunch.state().await.0, "unknown");
    lunch.cards.after(30).await;
    lunch.cards.after(90).await;
    lunch.cards.after(620).await;
    lunch.cards.after(0).await;
    assert_eq!(lunch.state().await, is("settled", 329_50, 1));
}

#[tokio::test]
async fn an_identical_transaction_waits_the_window_out() {
    let mut lunch = Lunch::begin().await;
    lunch.script(ScriptedOutcome::Identical);
    lunch.buy(120_00).await;
    lunch.cards.after(0).await;
    assert_eq!(lunch.state().await, is("unknown", 29_50, 0));
    lunch.cards.after(5).await;
    assert_eq!(lunch.state().await, is("intent", 29_50, 0));
    lunch.cards.after(700).await;
    assert_eq!(lunch.state().await, is("intent", 29_50, 0));
    lunch.cards.after(15).await;
    assert_eq!(lunch.state().await, is("settled", 329_50, 1));
}

#[tokio::test]
async fn no_funds_moves_no_money_is_told_and_tried_again_next_day() {
    let mut lunch = Lunch::begin().await;
    lunch.script(ScriptedOutcome::NoFunds);
    lunch.buy(120_00).await;
    lunch.cards.after(0).await;
    assert_eq!(lunch.state().await, is("failed", 29_50, 0));
    let told = lunch.agreement().await;
    assert_eq!(
        (&told["state"], &told["disabled"]),
        (&json!("failed"), &json!(false))
    );
    lunch.buy(1_00).await;
    lunch.cards.after(3600).await;
    assert_eq!(lunch.state().await, is("failed", 28_50, 0));
    // A deposit by hand is the way out meanwhile.
    let (status, _) = lunch
        .site
        .deposit(lunch.payer.0.0, "by-hand", r#"{"amount": 2000}"#)
        .await;
    assert_eq!(status, StatusCode::CREATED);
    lunch.cards.after(24 * 3600).await;
    let page = lunch.till.feed(
        &lunch.site,
        sync_proto::FeedPosition {
            hub_epoch: 7,
            cursor: 0,
        },
        0,
    );
    let page = serde_json::to_string(&page.await.changes).unwrap();
    assert!(page.contains(r#""state":"idle""#) && !page.contains(r#""state":"failed""#));
}

#[tokio::test]
async fn an_expired_card_ends_the_agreement_until_a_new_one_is_made() {
    for outcome in [
        ScriptedOutcome::Expired,
        ScriptedOutcome::Blocked,
        ScriptedOutcome::NeedsCardholder,
    ] {
        let mut lunch = Lunch::begin().await;
        lunch.script(outcome);
        lunch.buy(120_00).await;
        lunch.cards.after(0).await;
        assert_eq!(lunch.state().await, is("failed", 29_50, 0), "{outcome:?}");
        assert_eq!(lunch.agreement().await["disabled"], true);
        lunch.buy(1_00).await;
        lunch.cards.after(48 * 3600).await;
        assert_eq!(lunch.state().await, is("failed", 28_50, 0), "{outcome:?}");
        let path = format!("/v1/accounts/{}/top-up-agreement", lunch.payer.0);
        let new = json!({ "amount": 20000, "card_agreement": "demo-card-1" });
        assert_eq!(
            lunch.site.post(&path, new.clone()).await.0,
            StatusCode::CREATED
        );
        assert_eq!(lunch.site.post(&path, new).await.0, StatusCode::CONFLICT);
        lunch.buy(1_00).await;
        lunch.cards.after(0).await;
        assert_eq!(
            lunch.state().await,
            is("failed settled", 227_50, 1),
            "{outcome:?}"
        );
    }
}

#[tokio::test]
async fn a_blocked_chip_is_not_charged_for_and_money_taken_meanwhile_goes_back() {
    let mut lunch = Lunch::begin().await;
    let chip = lunch.payer.1;
    lunch.buy(120_00).await;
    lunch
        .site
        .post(&format!("/v1/chips/{chip}/block"), Value::Null)
        .await;
    lunch.cards.after(0).await;
    assert_eq!(lunch.state().await, is("cancelled", 29_50, 0));
    lunch
        .site
        .post(&format!("/v1/chips/{chip}/reactivate"), Value::Null)
        .await;
    lunch.script(ScriptedOutcome::AnswerLost);
    lunch.buy(1_00).await;
    lunch.cards.after(0).await;
    assert_eq!(lunch.state().await, is("cancelled unknown", 28_50, 1));
    lunch
        .site
        .post(&format!("/v1/chips/{chip}/block"), Value::Null)
        .await;
    lunch.cards.after(5).await;
    lunch.cards.after(0).await;
    assert_eq!(lunch.state().await.0, "cancelled refunded");
    assert_eq!(lunch.cards.simulator.refunds().len(), 1);
    assert_eq!(lunch.site.balance(lunch.payer.0).await, 28_50);
}

#[tokio::test]
async fn a_gateway_out_of_order_is_tried_again_until_it_works() {
    let mut lunch = Lunch::begin().await;
    let outage = |outage| Settings {
        outage,
        ..Settings::default()
    };
    lunch.cards.simulator.set(outage(Outage::Busy)).unwrap();
    lunch.buy(120_00).await;
    lunch.cards.after(0).await;
    assert_eq!(lunch.state().await, is("intent", 29_50, 0));
    lunch.cards.simulator.set(outage(Outage::None)).unwrap();
    lunch.cards.after(60).await;
    assert_eq!(lunch.state().await, is("settled", 329_50, 1));
}

#[tokio::test]
async fn the_worker_works_by_itself_and_stops_when_asked() {
    let mut lunch = Lunch::begin().await;
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let worker = tokio::spawn(lunch.cards.worker.clone().run(stopping));
    lunch.buy(120_00).await;
    for _ in 0..100 {
        if lunch.state().await.0 == "settled" {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(lunch.state().await, is("settled", 329_50, 1));
    stop.send(true).unwrap();
    worker.await.unwrap();
}
