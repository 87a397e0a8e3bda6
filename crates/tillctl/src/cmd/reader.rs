//! `tillctl reader`.

use till_control::{Answer, ReaderState, Request};

use crate::cli::{Cli, ReaderVerb};
use crate::cmd::{Report, ask, byte_order, refused, taps};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::{Screen, Side, plain, table};

pub(crate) async fn run(cli: &Cli, verb: &ReaderVerb) -> Result<Report, Failure> {
    match verb {
        ReaderVerb::List => list(cli).await,
        ReaderVerb::Test { seconds } => taps::test(cli, *seconds).await,
        ReaderVerb::ByteOrder {
            number,
            list,
            seconds,
        } => byte_order::find(cli, number, list.as_deref(), *seconds).await,
    }
}

async fn list(cli: &Cli) -> Result<Report, Failure> {
    let answer = ask(cli, &Request::ReaderList).await?;
    let Answer::ReaderList(list) = answer else {
        return Err(refused(answer));
    };
    let found = list.readers.is_empty() || list.readers.iter().any(|reader| !reader.ok);
    let text = text(&list.readers, Screen::stdout());
    Report::new(&list, text, Exit::unless(found))
}

/// A reader on one line.
pub(crate) fn line(reader: &ReaderState, screen: Screen) -> String {
    format!(
        "{} ({}): {}",
        plain(&reader.name),
        plain(&reader.kind),
        state(reader, screen)
    )
}

fn text(readers: &[ReaderState], screen: Screen) -> String {
    if readers.is_empty() {
        return format!(
            "{}: plug one in, or see [readers] in till.toml\n",
            screen.bad("no reader")
        );
    }
    let rows: Vec<[String; 3]> = readers
        .iter()
        .map(|reader| {
            [
                plain(&reader.name),
                plain(&reader.kind),
                state(reader, screen),
            ]
        })
        .collect();
    let heads = [
        ("NAME", Side::Left),
        ("KIND", Side::Left),
        ("STATE", Side::Left),
    ];
    table(heads, &rows)
}

fn state(reader: &ReaderState, screen: Screen) -> String {
    let word = screen.judged(reader.ok, if reader.ok { "ok" } else { "faulty" });
    if reader.text.is_empty() {
        word
    } else {
        format!("{word}: {}", plain(&reader.text))
    }
}
