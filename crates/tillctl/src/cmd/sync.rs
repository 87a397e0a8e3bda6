//! `tillctl sync`.

use till_control::{Answer, Request, SyncAnswer};

use crate::cli::{Cli, SyncVerb};
use crate::cmd::{Report, ask, refused};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::{Facts, Screen, plain};

pub(crate) async fn run(cli: &Cli, verb: SyncVerb) -> Result<Report, Failure> {
    match verb {
        SyncVerb::Now => now(cli).await,
    }
}

async fn now(cli: &Cli) -> Result<Report, Failure> {
    let answer = ask(cli, &Request::SyncNow).await?;
    let Answer::Sync(sync) = answer else {
        return Err(refused(answer));
    };
    let found = !sync.online || sync.waiting > 0;
    let text = text(&sync, Screen::stdout());
    Report::new(&sync, text, Exit::unless(found))
}

fn text(sync: &SyncAnswer, screen: Screen) -> String {
    let hub = if sync.online {
        screen.good("answered")
    } else {
        screen.bad("did not answer")
    };
    let mut facts = Facts::default();
    facts
        .add("Hub", hub)
        .add("Sent", format!("{} entries", sync.sent))
        .add("Waiting", format!("{} entries", sync.waiting))
        .add("Fetched", format!("{} changes", sync.applied));
    if !sync.text.is_empty() {
        facts.add("Note", plain(&sync.text));
    }
    facts.text()
}
