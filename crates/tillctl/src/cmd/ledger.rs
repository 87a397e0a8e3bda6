//! `tillctl ledger`.

use jiff::Timestamp;
use till_control::{Answer, LedgerEntry, LedgerPage, Request, VerifyAnswer};

use crate::cli::{Cli, LedgerVerb};
use crate::cmd::{Report, ask, refused};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::{Screen, Side, amount_or, moment, plain, table};

pub(crate) async fn run(cli: &Cli, verb: LedgerVerb) -> Result<Report, Failure> {
    match verb {
        LedgerVerb::List { limit, before } => list(cli, limit, before).await,
        LedgerVerb::Verify => verify(cli).await,
    }
}

async fn list(cli: &Cli, limit: u32, before: Option<u64>) -> Result<Report, Failure> {
    let answer = ask(cli, &Request::LedgerList { limit, before }).await?;
    let Answer::Ledger(page) = answer else {
        return Err(refused(answer));
    };
    let text = page_text(&page);
    Report::new(&page, text, Exit::Fine)
}

fn page_text(page: &LedgerPage) -> String {
    if page.entries.is_empty() {
        return "no entries\n".into();
    }
    let rows: Vec<[String; 8]> = page.entries.iter().map(row).collect();
    let heads = [
        ("SEQ", Side::Right),
        ("TIME", Side::Left),
        ("KIND", Side::Left),
        ("ACCOUNT", Side::Right),
        ("AMOUNT", Side::Right),
        ("SENT", Side::Left),
        ("ID", Side::Left),
        ("TEXT", Side::Left),
    ];
    let mut text = table(heads, &rows);
    if let Some(oldest) = page.entries.last().map(|entry| entry.seq)
        && oldest > 1
    {
        text.push_str(&format!("older: tillctl ledger list --before {oldest}\n"));
    }
    text
}

fn row(entry: &LedgerEntry) -> [String; 8] {
    let none = || "-".to_owned();
    [
        entry.seq.to_string(),
        entry.time.as_deref().map_or_else(none, time),
        plain(&entry.kind),
        entry.account.map_or_else(none, |number| number.to_string()),
        amount_or(entry.amount, "-"),
        if entry.acked { "yes" } else { "no" }.to_owned(),
        entry.id.map_or_else(none, |id| id.to_string()),
        plain(&entry.text),
    ]
}

/// The till's clock as the entry has it; shown as it stands when it is no moment.
fn time(text: &str) -> String {
    text.parse::<Timestamp>()
        .map_or_else(|_| plain(text), moment)
}

async fn verify(cli: &Cli) -> Result<Report, Failure> {
    let answer = ask(cli, &Request::LedgerVerify).await?;
    let Answer::Verify(verify) = answer else {
        return Err(refused(answer));
    };
    let sound = verify.ok && verify.first_bad.is_none() && verify.findings.is_empty();
    let text = verify_text(&verify, sound, Screen::stdout());
    Report::new(&verify, text, Exit::unless(!sound))
}

fn verify_text(verify: &VerifyAnswer, sound: bool, screen: Screen) -> String {
    if sound {
        return format!(
            "{}: {} entries, nothing wrong\n",
            screen.good("ok"),
            verify.entries
        );
    }
    let mut text = format!("{}: {} entries\n", screen.bad("damaged"), verify.entries);
    if let Some(bad) = &verify.first_bad {
        text.push_str(&format!(
            "  first at entry {}: {}\n",
            bad.seq,
            plain(&bad.what)
        ));
    }
    for finding in &verify.findings {
        text.push_str(&format!("  {}\n", plain(finding)));
    }
    text
}
