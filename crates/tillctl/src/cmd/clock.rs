//! `tillctl clock`.

use till_control::{Answer, ClockAnswer, ClockCondition, Request};

use crate::cli::{Cli, ClockVerb};
use crate::cmd::{Report, ask, refused};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::{Facts, Screen, moment};

pub(crate) async fn run(cli: &Cli, verb: Option<ClockVerb>) -> Result<Report, Failure> {
    let request = match verb {
        None => Request::Clock,
        Some(ClockVerb::Confirm) => Request::ClockConfirm,
    };
    let answer = ask(cli, &request).await?;
    let Answer::Clock(clock) = answer else {
        return Err(refused(answer));
    };
    let is_wrong = clock.state != ClockCondition::Right;
    let text = text(&clock, verb.is_some(), Screen::stdout());
    Report::new(&clock, text, Exit::unless(is_wrong))
}

fn text(clock: &ClockAnswer, confirming: bool, screen: Screen) -> String {
    let hub = clock.hub.map(moment);
    let mut facts = Facts::default();
    facts
        .add("Clock", state(clock.state, screen))
        .add("Shows", moment(clock.shows))
        .add("Believed", moment(clock.believed))
        .add("Hub", hub.unwrap_or_else(|| "not known".into()))
        .add("Day", clock.day.to_string());
    match &clock.entry {
        Some(entry) => {
            facts.add(
                "Confirmed",
                format!("entry {} of {}", entry.seq, entry.till),
            );
        }
        None if confirming => {
            facts.add("Confirmed", "there was nothing to confirm");
        }
        None => {}
    }
    facts.text()
}

fn state(state: ClockCondition, screen: Screen) -> String {
    match state {
        ClockCondition::Right => screen.good("right"),
        ClockCondition::Back => {
            screen.bad("shows a time that has been: set it, then tillctl clock confirm")
        }
        ClockCondition::Forward => screen.bad("is far ahead: check it, then tillctl clock confirm"),
    }
}
