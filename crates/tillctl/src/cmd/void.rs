//! `tillctl void`.

use sync_proto::VoidLine;
use till_control::{Answer, Request, VoidAnswer};
use uuid::Uuid;

use crate::cli::Cli;
use crate::cmd::{Report, connect, refused};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::{Facts, Screen, plain};

pub(crate) async fn void(
    cli: &Cli,
    sale: Uuid,
    lines: &[VoidLine],
    id: Option<Uuid>,
) -> Result<Report, Failure> {
    // The id is made here, before anything is sent, so that a void whose answer is lost can be
    // asked for again by the name it was sent under.
    let void = id.unwrap_or_else(Uuid::now_v7);
    let request = Request::Void {
        id: sale,
        void: Some(void),
        lines: lines.to_vec(),
    };
    let mut client = connect(cli).await?;
    let answer = client
        .request(&request)
        .await
        // After the order was sent, silence means that nobody knows whether it was carried out.
        .map_err(|source| Failure::VoidUnknown {
            sale,
            id: void,
            source,
        })?;
    let Answer::Void(void) = answer else {
        return Err(refused(answer));
    };
    let text = text(&void, Screen::stdout());
    Report::new(&void, text, Exit::Fine)
}

fn text(void: &VoidAnswer, screen: Screen) -> String {
    let replayed = if void.replayed {
        " before; nothing was changed now"
    } else {
        ""
    };
    let mut facts = Facts::default();
    facts
        .add("Sale", format!("{}{replayed}", screen.good("taken back")))
        .add("Account", void.account.to_string())
        .add("Amount", void.amount.to_string())
        .add("Balance", void.balance_after.to_string())
        .add("Screen", plain(&void.message.en))
        .add(
            "Entry",
            format!("{} of {}", void.entry.seq, void.entry.till),
        )
        .add("Id", void.sale.to_string());
    facts.text()
}
