//! `tillctl status`.

use till_control::{
    Answer, LineState, LineStatus, Request, SiblingsStatus, StandingState, StatusAnswer,
};

use crate::cli::Cli;
use crate::cmd::{Report, ask, reader, refused};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::{Facts, Screen, moment, plain, size, span};

pub(crate) async fn show(cli: &Cli) -> Result<Report, Failure> {
    let answer = ask(cli, &Request::Status).await?;
    let Answer::Status(status) = answer else {
        return Err(refused(answer));
    };
    let cannot_sell = !status.journal.ok
        || status.line.state == LineState::Stopped
        || status.standing.state == StandingState::Revoked;
    let text = text(&status, Screen::stdout());
    Report::new(&status, text, Exit::unless(cannot_sell))
}

fn text(status: &StatusAnswer, screen: Screen) -> String {
    let canteen = status.canteen.as_deref().map(plain);
    let mut facts = Facts::default();
    facts
        .add("Till", status.till.to_string())
        .add("Canteen", canteen.unwrap_or_else(|| "not known yet".into()))
        .add(
            "Version",
            format!(
                "{}, running since {}",
                plain(&status.version),
                moment(status.started_at)
            ),
        )
        .add("Journal", journal(status, screen))
        .add(
            "Ledger",
            format!("{} entries in epoch {}", status.head_seq, status.epoch),
        )
        .add("Sent", sent(status))
        .add("Standing", standing(status, screen))
        .add("Line", line(&status.line, screen))
        .add("Hub", hub(&status.line))
        .add("Database", size(status.database_bytes));
    if let Some(siblings) = &status.siblings {
        let SiblingsStatus { heard, open, of } = siblings;
        let words = match status.line.state {
            LineState::Online => format!("{open} of {of} tills can be heard"),
            LineState::Never | LineState::Offline | LineState::Restricted | LineState::Stopped => {
                format!("hears {heard} of {of} tills")
            }
        };
        facts.add("Siblings", words);
    }
    for alarm in &status.alarms {
        facts.add("Alarm", screen.bad(&plain(alarm)));
    }
    for state in &status.readers {
        facts.add("Reader", reader::line(state, screen));
    }
    if status.readers.is_empty() {
        facts.add("Reader", screen.bad("none"));
    }
    facts.add(
        "Unknown chips",
        format!("{} since the start", status.unknown_chips),
    );
    facts.text()
}

fn journal(status: &StatusAnswer, screen: Screen) -> String {
    let word = if status.journal.ok { "ok" } else { "faulty" };
    let word = screen.judged(status.journal.ok, word);
    if status.journal.text.is_empty() {
        word
    } else {
        format!("{word}: {}", plain(&status.journal.text))
    }
}

fn standing(status: &StatusAnswer, screen: Screen) -> String {
    let renewing = if status.renewing {
        "; an empty ledger begins when the hub has everything of this one"
    } else {
        ""
    };
    let bad = |word: &str| {
        let text = plain(&status.standing.text);
        format!("{}: {text}{renewing}", screen.bad(word))
    };
    match status.standing.state {
        StandingState::Good => format!("{}{renewing}", screen.good("good")),
        StandingState::Forked => bad("forked"),
        StandingState::RolledBack => bad("rolled back"),
        StandingState::Revoked => bad("revoked"),
        StandingState::NotEnrolled => bad("not enrolled"),
    }
}

fn sent(status: &StatusAnswer) -> String {
    if status.waiting == 0 {
        format!("all, up to entry {}", status.acked_seq)
    } else {
        format!(
            "up to entry {}, {} waiting",
            status.acked_seq, status.waiting
        )
    }
}

fn line(line: &LineStatus, screen: Screen) -> String {
    let state = match line.state {
        LineState::Never => screen.bad("never had contact with the hub"),
        LineState::Online => screen.good("online"),
        LineState::Offline => screen.bad("offline, sales go on"),
        LineState::Restricted => screen.bad("restricted: the data is old, only a meal is sold"),
        LineState::Stopped => screen.bad("stopped: the data is too old to sell"),
    };
    let since = line.since.map(|since| format!(", since {}", moment(since)));
    let restricted = line
        .restricted_since
        .map(|since| format!(", restricted since {}", moment(since)));
    let age = line
        .data_age_s
        .map(|age| format!(", data {} old", span(age)));
    let why = (!line.text.is_empty()).then(|| format!(": {}", plain(&line.text)));
    format!(
        "{state}{}{}{}{}",
        since.unwrap_or_default(),
        restricted.unwrap_or_default(),
        age.unwrap_or_default(),
        why.unwrap_or_default()
    )
}

fn hub(line: &LineStatus) -> String {
    let Some(hub) = &line.hub else {
        return "not enrolled: see tillctl enrol".into();
    };
    format!(
        "{} (epoch {}, cursor {})",
        plain(hub),
        line.hub_epoch,
        line.cursor
    )
}
