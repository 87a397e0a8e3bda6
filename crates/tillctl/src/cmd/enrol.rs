//! `tillctl enrol`.

use till_control::{Answer, EnrolAnswer, Request};

use crate::cli::Cli;
use crate::cmd::{Report, ask, refused};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::{Facts, plain};

pub(crate) async fn enrol(cli: &Cli, code: &str) -> Result<Report, Failure> {
    let code = code.to_owned();
    let answer = ask(cli, &Request::Enrol { code }).await?;
    let Answer::Enrol(enrol) = answer else {
        return Err(refused(answer));
    };
    Report::new(&enrol, text(&enrol), Exit::Fine)
}

fn text(enrol: &EnrolAnswer) -> String {
    let mut facts = Facts::default();
    if enrol.begins_anew {
        facts.add("Waiting", format!("{} entries", enrol.waiting));
    }
    facts.add("Next", plain(&enrol.text));
    facts.text()
}
