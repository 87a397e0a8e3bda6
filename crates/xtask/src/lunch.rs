//! `cargo xtask demo --script`: a short lunch over the real parts, told step by step.
//!
//! Each step says what was done and what came of it. The first difference from what a canteen
//! expects ends the lunch, with the ends of all logs.

use std::fmt::Debug;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::signal;
use crate::site::Site;
use crate::till::{ChipNumber, Sale, Till};

/// Plays the lunch on fresh data.
pub(crate) fn play(site: &mut Site) -> anyhow::Result<()> {
    let mut lunch = Lunch {
        till: Till::of(site),
        site,
        step: 0,
    };
    match lunch.play() {
        Ok(()) => {
            println!("The lunch went as it should: {} steps.", lunch.step);
            Ok(())
        }
        Err(error) => {
            let tails = lunch.site.tails();
            Err(error.context(format!(
                "{tails}\nthe lunch went wrong after step {}",
                lunch.step
            )))
        }
    }
}

struct Lunch<'a> {
    site: &'a mut Site,
    till: Till,
    step: u32,
}

/// What is expected of a sale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Expected {
    decision: &'static str,
    balance: Option<i64>,
    limit: Option<i64>,
    left: Option<i64>,
    top_up: &'static str,
}

/// A row of an account's statement at the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    amount: i64,
    balance: i64,
    lines: String,
}

const MEAL: &[&str] = &["1x Dagens ret 22,00"];
const SNACK: &[&str] = &["1x Ostehaps 3,00"];

/// 149,50 kr., topped up by 300 kr. under 50 kr.
const ORDINARY: ChipNumber = ChipNumber("72BF9961");
/// 60,00 kr., at most 25 kr. a day.
const DAILY: ChipNumber = ChipNumber("A10A8925");
/// 200,00 kr., at most 50 kr. a week.
const WEEKLY: ChipNumber = ChipNumber("55667788");
/// 200,00 kr., at most 40 kr. a month.
const MONTHLY: ChipNumber = ChipNumber("99AABBCC");
/// 7,00 kr.
const POOR: ChipNumber = ChipNumber("11223344");
/// 100,00 kr., blocked.
const BLOCKED: ChipNumber = ChipNumber("04A1B2C3D4E5F6");
/// In nobody's books.
const UNKNOWN: ChipNumber = ChipNumber("C0FFEE01");

const KNOWN: &[ChipNumber] = &[ORDINARY, DAILY, WEEKLY, MONTHLY, POOR, BLOCKED];

/// How long the parts have to agree on something.
const PATIENCE: Duration = Duration::from_secs(20);
/// How soon a sale must stand on the statement.
const STATEMENT_TIME: Duration = Duration::from_secs(2);

impl Lunch<'_> {
    fn play(&mut self) -> anyhow::Result<()> {
        self.open()?;
        let first = self.first_meal()?;
        self.refusals()?;
        self.top_up()?;
        self.line_down()?;
        self.refund(&first)?;
        self.reader_service_crashes()?;
        self.till_crashes()?;
        self.close()
    }

    /// The till has enrolled, knows the accounts and has its reader.
    fn open(&mut self) -> anyhow::Result<()> {
        self.wait_for_line("online")?;
        self.wait_for("the accounts to arrive at the till", |lunch| {
            Ok(lunch.till.balance(BLOCKED).is_ok().then_some(()))
        })?;
        self.wait_for_reader(true)?;
        for (chip, balance) in [(ORDINARY, 149_50), (DAILY, 60_00), (POOR, 7_00)] {
            same(
                &format!("the balance of {}", chip.0),
                self.till.balance(chip)?,
                balance,
            )?;
        }
        self.tell("the till opens", "online, accounts known, reader ready");
        Ok(())
    }

    fn first_meal(&mut self) -> anyhow::Result<Sale> {
        let id = fresh_id()?;
        let sale = self.till.sell(ORDINARY, MEAL, Some(&id))?;
        let sold = Instant::now();
        check(&sale, approved(127_50))?;
        same("the sale's id", sale.id.as_str(), &id)?;
        self.tell("72BF9961 buys a meal", "approved, 149,50 -> 127,50");

        let row = self.wait_for("the sale to stand on the statement", |lunch| {
            let mut rows = lunch.statement(ORDINARY)?;
            Ok(rows.pop().filter(|row| row.amount == -22_00))
        })?;
        let time = sold.elapsed();
        same("the balance on the statement", row.balance, 127_50)?;
        same("the lines on the statement", row.lines.as_str(), MEAL[0])?;
        ensure!(
            time <= STATEMENT_TIME,
            "the sale was on the statement after {time:?} only"
        );
        let time = format!("1x Dagens ret 22,00, -22,00, after {} ms", time.as_millis());
        self.tell("the hub's statement", &time);

        self.replay(&sale, MEAL)?;
        same(
            "the balance after asking twice",
            self.till.balance(ORDINARY)?,
            127_50,
        )?;
        self.tell(
            "the same sale's id again",
            "the recorded answer, nothing sold",
        );
        Ok(sale)
    }

    fn refusals(&mut self) -> anyhow::Result<()> {
        let unknown = Expected {
            balance: None,
            ..declined("unknown_chip", 0)
        };
        self.sell(UNKNOWN, MEAL, unknown, "refused: unknown chip")?;
        let blocked = declined("chip_blocked", 100_00);
        self.sell(BLOCKED, MEAL, blocked, "refused: blocked, 100,00 stay")?;

        self.sell(DAILY, MEAL, approved(38_00), "approved, 60,00 -> 38,00")?;
        let daily = over("limit_day", 38_00, 25_00, 3_00);
        self.sell(DAILY, MEAL, daily, "refused: 25,00 a day, 3,00 left")?;

        let two_meals = &["2x Dagens ret 22,00"];
        self.sell(
            WEEKLY,
            two_meals,
            approved(156_00),
            "approved, 200,00 -> 156,00",
        )?;
        let weekly = over("limit_week", 156_00, 50_00, 6_00);
        self.sell(WEEKLY, MEAL, weekly, "refused: 50,00 a week, 6,00 left")?;

        self.sell(
            MONTHLY,
            MEAL,
            approved(178_00),
            "approved, 200,00 -> 178,00",
        )?;
        let monthly = over("limit_month", 178_00, 40_00, 18_00);
        self.sell(MONTHLY, MEAL, monthly, "refused: 40,00 a month, 18,00 left")?;

        let poor = declined("insufficient_funds", 7_00);
        self.sell(POOR, MEAL, poor, "refused: the balance is 7,00")?;
        Ok(())
    }

    /// One purchase takes the balance under 50 kr.; the card is charged once, late enough for a
    /// second purchase in the meantime.
    fn top_up(&mut self) -> anyhow::Result<()> {
        let slow = json!({"outcome": "approve", "delay_seconds": 3});
        let script = "/simulator/agreements/demo-card-1/outcomes";
        self.site.gateway().post(script, &slow)?;

        let four_meals = &["4x Dagens ret 22,00"];
        let requested = Expected {
            top_up: "requested",
            ..approved(39_50)
        };
        let text = "approved, 127,50 -> 39,50, top-up requested";
        self.sell(ORDINARY, four_meals, requested, text)?;
        let pending = Expected {
            top_up: "pending",
            ..approved(36_50)
        };
        let text = "approved, 39,50 -> 36,50, top-up under way";
        self.sell(ORDINARY, SNACK, pending, text)?;

        self.wait_for_balance(ORDINARY, 336_50)?;
        let deposits = self.rows_of(ORDINARY, 300_00)?;
        same("deposits of 300,00 on the statement", deposits, 1)?;
        self.check_charges()?;
        self.tell(
            "the card is charged once",
            "300,00, 36,50 -> 336,50 at hub and till",
        );
        Ok(())
    }

    /// The hub is away: sales go on, limits and balances hold, nothing is lost and nothing doubled.
    fn line_down(&mut self) -> anyhow::Result<()> {
        self.wait_for_everything_sent()?;
        self.site.stop_hub();
        self.wait_for_line("offline")?;
        self.tell("the hub is stopped", "the till says offline");

        self.sell(
            ORDINARY,
            MEAL,
            approved(314_50),
            "approved, 336,50 -> 314,50",
        )?;
        self.sell(
            ORDINARY,
            SNACK,
            approved(311_50),
            "approved, 314,50 -> 311,50",
        )?;
        let poor = declined("insufficient_funds", 7_00);
        self.sell(POOR, MEAL, poor, "refused: the balance is 7,00")?;
        let monthly = over("limit_month", 178_00, 40_00, 18_00);
        self.sell(MONTHLY, MEAL, monthly, "refused: 40,00 a month, 18,00 left")?;

        let status = self.till.status()?;
        let line = &status["line"];
        same("the line", line["state"].as_str(), Some("offline"))?;
        let since = line["since"]
            .as_str()
            .context("offline since nobody knows when")?;
        same("entries waiting", status["waiting"].as_u64(), Some(4))?;
        let (head, acked) = (status["head_seq"].as_u64(), status["acked_seq"].as_u64());
        same("the ledger's head", head, acked.map(|acked| acked + 4))?;
        self.tell(
            "tillctl status",
            &format!("offline since {since}, 4 entries wait"),
        );

        self.site.start_hub()?;
        self.wait_for_everything_sent()?;
        self.wait_for_line("online")?;
        self.wait_for_agreement()?;
        for amount in [-22_00, -3_00] {
            same("rows of each sale", self.rows_of(ORDINARY, amount)?, 2)?;
        }
        self.check_charges()?;
        self.tell("the hub is back", "everything arrived once, balances agree");
        Ok(())
    }

    fn refund(&mut self, sale: &Sale) -> anyhow::Result<()> {
        let refund = self.till.ask(&["void", &sale.id])?;
        same("the refund", refund["amount"].as_i64(), Some(22_00))?;
        same(
            "the balance after it",
            refund["balance_after"].as_i64(),
            Some(333_50),
        )?;
        self.wait_for("the refund to stand on the statement", |lunch| {
            let rows = lunch.statement(ORDINARY)?;
            let refund = rows.last().is_some_and(|row| row.amount == 22_00);
            Ok(refund.then_some(()))
        })?;
        self.wait_for_agreement()?;
        self.tell(
            "the first meal is taken back",
            "311,50 -> 333,50, on the statement",
        );
        Ok(())
    }

    fn reader_service_crashes(&mut self) -> anyhow::Result<()> {
        self.site.kill_pcscd();
        self.wait_for_reader(false)?;
        self.tell("pcscd is killed", "the till says that its reader is gone");
        self.site.start_pcscd()?;
        self.wait_for_reader(true)?;
        let text = "approved, 333,50 -> 330,50";
        self.sell(ORDINARY, SNACK, approved(330_50), text)?;
        Ok(())
    }

    fn till_crashes(&mut self) -> anyhow::Result<()> {
        let before = self.sell(
            ORDINARY,
            SNACK,
            approved(327_50),
            "approved, 330,50 -> 327,50",
        )?;
        self.site.kill_till();
        self.site.start_till()?;
        self.replay(&before, SNACK)?;
        self.verify()?;
        same(
            "the balance after the crash",
            self.till.balance(ORDINARY)?,
            327_50,
        )?;
        self.tell(
            "kill -9 of tilld, and again",
            "nothing lost, the ledger verifies",
        );
        self.wait_for_reader(true)?;
        let text = "approved, 327,50 -> 324,50";
        self.sell(ORDINARY, SNACK, approved(324_50), text)?;
        Ok(())
    }

    fn close(&mut self) -> anyhow::Result<()> {
        self.wait_for_everything_sent()?;
        self.wait_for_agreement()?;
        self.verify()?;
        self.check_charges()?;
        same("meals on the statement", self.rows_of(ORDINARY, -22_00)?, 2)?;
        same("snacks on the statement", self.rows_of(ORDINARY, -3_00)?, 5)?;
        let books = self.site.hub().fetch("/readyz")?;
        same(
            "what the hub says of its books",
            books.body.as_str(),
            "ok\n",
        )?;
        self.tell("the till closes", "balances agree, every sale stands once");
        Ok(())
    }

    /// Sells and compares; tells of it.
    fn sell(
        &mut self,
        chip: ChipNumber,
        lines: &[&str],
        expected: Expected,
        text: &str,
    ) -> anyhow::Result<Sale> {
        let what = format!("{} buys {}", chip.0, lines.join(", "));
        let sale = self.till.sell(chip, lines, None).context(what.clone())?;
        check(&sale, expected).context(what.clone())?;
        self.tell(&what, text);
        Ok(sale)
    }

    /// The same id again gives the recorded answer.
    fn replay(&self, sale: &Sale, lines: &[&str]) -> anyhow::Result<()> {
        let again = self.till.ask_again(&sale.id, lines)?;
        let recorded = Sale {
            replayed: true,
            ..sale.clone()
        };
        same("the answer to the same id", again, recorded)
    }

    fn verify(&self) -> anyhow::Result<()> {
        let verdict = self.till.ask(&["ledger", "verify"])?;
        ensure!(
            verdict["ok"] == true,
            "the ledger does not verify: {verdict}"
        );
        Ok(())
    }

    /// Whatever happened, the card was charged once.
    fn check_charges(&self) -> anyhow::Result<()> {
        let charges = self.site.gateway().json("/simulator/charges")?;
        let charges: Vec<(Option<&str>, Option<i64>)> = charges
            .as_array()
            .context("the gateway lists no charges")?
            .iter()
            .map(|charge| (charge["agreement"].as_str(), charge["amount"].as_i64()))
            .collect();
        let once = vec![(Some("demo-card-1"), Some(300_00))];
        same("the charges", charges, once)
    }

    /// An account's rows at the hub, the oldest first.
    fn statement(&self, chip: ChipNumber) -> anyhow::Result<Vec<Row>> {
        let account = self.account(chip)?;
        let statement = self
            .site
            .hub()
            .json(&format!("/v1/accounts/{account}/statement"))?;
        let rows = statement["rows"].as_array();
        let rows = rows.with_context(|| format!("no rows in {statement}"))?;
        rows.iter().map(Row::read).collect()
    }

    fn rows_of(&self, chip: ChipNumber, amount: i64) -> anyhow::Result<usize> {
        let rows = self.statement(chip)?;
        Ok(rows.iter().filter(|row| row.amount == amount).count())
    }

    fn account(&self, chip: ChipNumber) -> anyhow::Result<i64> {
        self.site.account(chip)
    }

    fn hub_balance(&self, chip: ChipNumber) -> anyhow::Result<i64> {
        let account = self.account(chip)?;
        let answer = self.site.hub().json(&format!("/v1/accounts/{account}"))?;
        let balance = answer["balance"].as_i64();
        balance.with_context(|| format!("no balance in {answer}"))
    }

    /// Till and hub have the same balance for every chip of the lunch.
    fn wait_for_agreement(&mut self) -> anyhow::Result<()> {
        for chip in KNOWN {
            let what = format!("hub and till to agree on {}", chip.0);
            self.wait_for(&what, |lunch| {
                let agree = lunch.till.balance(*chip)? == lunch.hub_balance(*chip)?;
                Ok(agree.then_some(()))
            })?;
        }
        Ok(())
    }

    fn wait_for_balance(&mut self, chip: ChipNumber, balance: i64) -> anyhow::Result<()> {
        let what = format!("a balance of {balance} øre of {} at hub and till", chip.0);
        self.wait_for(&what, |lunch| {
            let both = (lunch.hub_balance(chip)?, lunch.till.balance(chip)?);
            Ok((both == (balance, balance)).then_some(()))
        })
    }

    fn wait_for_everything_sent(&mut self) -> anyhow::Result<()> {
        self.wait_for("the hub to have every entry", |lunch| {
            let status = lunch.till.status()?;
            let sent = status["head_seq"] == status["acked_seq"] && status["waiting"] == 0;
            Ok(sent.then_some(()))
        })
    }

    fn wait_for_line(&mut self, state: &str) -> anyhow::Result<()> {
        self.wait_for(&format!("the line to be {state}"), |lunch| {
            let status = lunch.till.status()?;
            Ok((status["line"]["state"] == state).then_some(()))
        })
    }

    fn wait_for_reader(&mut self, working: bool) -> anyhow::Result<()> {
        let what = if working {
            "a working reader"
        } else {
            "the reader to be gone"
        };
        self.wait_for(what, |lunch| {
            let readers = lunch.till.ask(&["reader", "list"])?;
            let readers = readers["readers"].as_array().cloned().unwrap_or_default();
            let works = readers.iter().any(|reader| reader["ok"] == true);
            Ok((works == working).then_some(()))
        })
    }

    /// Asks again and again until there is an answer.
    fn wait_for<T>(
        &mut self,
        what: &str,
        mut ask: impl FnMut(&Self) -> anyhow::Result<Option<T>>,
    ) -> anyhow::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = ask(self).with_context(|| format!("waited for {what}"))?;
            if let Some(answer) = answer {
                return Ok(answer);
            }
            self.site.check()?;
            ensure!(!signal::caught(), "stopped while waiting for {what}");
            ensure!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
            thread::sleep(Duration::from_millis(50));
        }
    }

    fn tell(&mut self, what: &str, outcome: &str) {
        self.step += 1;
        println!("{:>3}  {what:<40} {outcome}", self.step);
    }
}

impl Row {
    fn read(row: &Value) -> anyhow::Result<Row> {
        let figure = |key| {
            row[key]
                .as_i64()
                .with_context(|| format!("no {key} in {row}"))
        };
        let lines = row["lines"].as_array().into_iter().flatten();
        let lines: Vec<&str> = lines.filter_map(|line| line["text"].as_str()).collect();
        Ok(Row {
            amount: figure("amount")?,
            balance: figure("balance_after")?,
            lines: lines.join(", "),
        })
    }
}

fn approved(balance: i64) -> Expected {
    Expected {
        decision: "approved",
        balance: Some(balance),
        limit: None,
        left: None,
        top_up: "none",
    }
}

fn declined(reason: &'static str, balance: i64) -> Expected {
    Expected {
        decision: reason,
        ..approved(balance)
    }
}

fn over(reason: &'static str, balance: i64, limit: i64, left: i64) -> Expected {
    Expected {
        limit: Some(limit),
        left: Some(left),
        ..declined(reason, balance)
    }
}

fn check(sale: &Sale, expected: Expected) -> anyhow::Result<()> {
    same("the decision", sale.decision.as_str(), expected.decision)?;
    same("the balance", sale.balance, expected.balance)?;
    same("the limit", sale.limit, expected.limit)?;
    same("what is left of it", sale.left, expected.left)?;
    same("the top-up", sale.top_up.as_str(), expected.top_up)?;
    let is_recorded = expected.decision != "unknown_chip";
    same(
        "whether it is in the ledger",
        sale.seq.is_some(),
        is_recorded,
    )?;
    same("whether it was recorded before", sale.replayed, false)
}

fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> anyhow::Result<()> {
    if found == expected {
        return Ok(());
    }
    bail!("{what}: expected {expected:?}, found {found:?}")
}

/// A UUID from the kernel.
fn fresh_id() -> anyhow::Result<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/uuid");
    Ok(id.context("the kernel gives no UUID")?.trim().to_owned())
}
