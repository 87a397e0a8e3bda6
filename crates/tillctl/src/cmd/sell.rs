//! `tillctl sell`.

use canteen::{Basket, BasketLine, TopUpOutcome};
use till_control::{Answer, Request, SellAnswer, SellDecision};
use tokio::signal::unix::{Signal, SignalKind, signal};
use uuid::Uuid;

use crate::cli::Cli;
use crate::cmd::{Report, connect, refused};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::{Facts, Screen, plain};

pub(crate) async fn sell(
    cli: &Cli,
    lines: &[String],
    timeout_s: u32,
    id: Option<Uuid>,
) -> Result<Report, Failure> {
    check_lines(lines)?;
    // The id is made here, before anything is sent, so that a sale whose answer is lost can be
    // asked for again by the name it was sent under.
    let id = id.unwrap_or_else(Uuid::now_v7);
    let request = Request::Sell {
        id: Some(id),
        lines: lines.to_vec(),
        timeout_s,
    };
    let mut interrupted = Interrupted::listen()?;
    let mut client = connect(cli).await?;
    if !cli.json {
        eprintln!("Hold the chip to the reader ({timeout_s} s; Ctrl-C cancels).");
    }
    let answer = client
        .request_until(&request, interrupted.wait())
        .await
        // After the sale was sent, silence means that nobody knows whether it was booked.
        .map_err(|source| Failure::SaleUnknown { id, source })?;
    let Answer::Sell(sale) = answer else {
        return Err(refused(answer));
    };
    let approved = sale.decision == SellDecision::Approved;
    let text = text(&sale, Screen::stdout());
    Report::new(&sale, text, Exit::unless(!approved))
}

/// Refuses what the daemon would refuse, before anyone is asked to hold a chip to the reader.
fn check_lines(lines: &[String]) -> Result<(), Failure> {
    let mut basket = Basket::default();
    for line in lines {
        let read: BasketLine = line.parse().map_err(|source| Failure::Line {
            line: line.clone(),
            source,
        })?;
        basket.add(read).map_err(Failure::Basket)?;
    }
    basket.total().map(|_| ()).map_err(Failure::Basket)
}

/// Ctrl-C and a polite end by the system: both cancel the sale and still wait for its outcome.
struct Interrupted {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupted {
    fn listen() -> Result<Interrupted, Failure> {
        Ok(Interrupted {
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::Start)?,
            terminate: signal(SignalKind::terminate()).map_err(Failure::Start)?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn text(sale: &SellAnswer, screen: Screen) -> String {
    let mut facts = Facts::default();
    facts.add("Sale", outcome(sale, screen));
    facts.add("Total", sale.total.to_string());
    if let Some(account) = sale.account {
        let holder = sale
            .holder
            .as_deref()
            .map(|name| format!(", {}", plain(name)));
        facts.add(
            "Account",
            format!("{account}{}", holder.unwrap_or_default()),
        );
    }
    if let Some(balance) = sale.balance_after {
        facts.add("Balance", balance.to_string());
    }
    if let Some(limit) = sale.limit {
        facts.add("Limit", limit.to_string());
    }
    if let Some(left) = sale.left {
        facts.add("Left", left.to_string());
    }
    if let Some(top_up) = top_up(sale.top_up) {
        facts.add("Top-up", top_up);
    }
    facts.add("Screen", plain(&sale.message.en));
    if let Some(entry) = &sale.entry {
        facts.add("Entry", format!("{} of {}", entry.seq, entry.till));
    }
    facts.add("Id", sale.id.to_string());
    facts.text()
}

fn outcome(sale: &SellAnswer, screen: Screen) -> String {
    let outcome = match sale.decision {
        SellDecision::Approved => screen.good("approved"),
        SellDecision::Declined => screen.bad("declined"),
    };
    let reason = sale.reason.map(|reason| format!(", {}", reason.code()));
    let replayed = if sale.replayed {
        " (recorded before; nothing was sold now)"
    } else {
        ""
    };
    format!("{outcome}{}{replayed}", reason.unwrap_or_default())
}

fn top_up(outcome: TopUpOutcome) -> Option<&'static str> {
    match outcome {
        TopUpOutcome::None => None,
        TopUpOutcome::Requested => Some("asked for"),
        TopUpOutcome::Pending => Some("under way already"),
        TopUpOutcome::Failed => Some("due, but the latest one failed"),
    }
}
