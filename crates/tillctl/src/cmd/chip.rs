//! `tillctl chip`.

use canteen::{ChipNumber, Money, Status};
use till_control::{AccountFacts, Answer, ChipAnswer, ChipFacts, Request};

use crate::cli::{ChipVerb, Cli};
use crate::cmd::{Report, ask, chip_enrol, refused};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::{Facts, Screen, plain};

pub(crate) async fn run(cli: &Cli, verb: &ChipVerb) -> Result<Report, Failure> {
    match verb {
        ChipVerb::Show { number } => show(cli, number).await,
        ChipVerb::Enrol(wanted) => chip_enrol::enrol(cli, wanted).await,
    }
}

async fn show(cli: &Cli, number: &str) -> Result<Report, Failure> {
    ChipNumber::parse(number).map_err(|source| Failure::ChipNumber {
        number: number.to_owned(),
        source,
    })?;
    let request = Request::ChipShow {
        number: number.to_owned(),
    };
    let answer = ask(cli, &request).await?;
    let Answer::Chip(chip) = answer else {
        return Err(refused(answer));
    };
    let text = text(&chip, Screen::stdout());
    Report::new(&chip, text, Exit::unless(chip.chip.is_none()))
}

fn text(answer: &ChipAnswer, screen: Screen) -> String {
    let Some(chip) = &answer.chip else {
        return format!(
            "{} to this till: {}\n",
            screen.bad("unknown"),
            plain(&answer.asked)
        );
    };
    let mut facts = Facts::default();
    facts.add("Chip", numbers(chip));
    facts.add("Status", status(chip.status, screen));
    if chip.must_prove {
        facts.add("Proof", "must prove itself; its bare UID is refused");
    }
    if let Some(holder) = &chip.holder {
        facts.add("Holder", plain(holder));
    }
    add_account(&mut facts, &chip.account, screen);
    facts.text()
}

fn numbers(chip: &ChipFacts) -> String {
    let decimal = chip.decimal.map(|decimal| format!(", decimal {decimal}"));
    let card = chip.card.map(|card| format!(", card {card}"));
    format!(
        "{}{}{}",
        chip.uid,
        decimal.unwrap_or_default(),
        card.unwrap_or_default()
    )
}

fn add_account(facts: &mut Facts, account: &AccountFacts, screen: Screen) {
    facts.add(
        "Account",
        format!("{}, {}", account.id, status(account.status, screen)),
    );
    facts.add("Balance", account.balance.to_string());
    if account.credit != Money::ZERO {
        facts.add("Credit", account.credit.to_string());
    }
    if let Some(allowance) = account.allowance {
        facts.add(
            "Offline",
            format!("may buy for {allowance} without the hub"),
        );
    }
    if let Some(share) = account.share {
        facts.add(
            "Limits",
            format!("strict, {share} may be bought for at this till"),
        );
    }
    let (limits, spent) = (account.limits, account.spent);
    facts
        .add("Day", window(spent.day, limits.day))
        .add("Week", window(spent.week, limits.week))
        .add("Month", window(spent.month, limits.month))
        .add("Top-up", top_up(account));
}

fn status(status: Status, screen: Screen) -> String {
    screen.judged(status == Status::Active, status.code())
}

fn window(spent: Money, limit: Option<Money>) -> String {
    match limit {
        Some(limit) => format!("{spent} of {limit} spent"),
        None => format!("{spent} spent, no limit"),
    }
}

fn top_up(account: &AccountFacts) -> String {
    let Some(top_up) = account.top_up else {
        return "no agreement".into();
    };
    let armed = if top_up.armed {
        ""
    } else {
        ", not in effect until enough has been paid in"
    };
    format!("{}, {}{armed}", top_up.amount, top_up.state.code())
}
