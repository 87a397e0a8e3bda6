//! The line to the hub in words.

use canteen::{Contact, OfflineRules};
use jiff::Timestamp;

use crate::state::{Line, LineState};
use crate::text::{Text, clock};

impl LineState {
    /// What the till may do; `None` is a till that never had data from the hub.
    pub fn of(contact: Option<Contact>, rules: &OfflineRules) -> LineState {
        let Some(contact) = contact else {
            return LineState::Never;
        };
        if contact.age > rules.stopped_after {
            LineState::Stopped
        } else if contact.age > rules.restricted_after {
            LineState::Restricted
        } else if contact.online {
            LineState::Online
        } else {
            LineState::Offline
        }
    }
}

/// The line as the banner shows it: its state, since when, and what waits to be sent.
pub fn line_words(
    contact: Option<Contact>,
    rules: &OfflineRules,
    since: Option<Timestamp>,
    waiting: u64,
    now: Timestamp,
) -> Line {
    let state = LineState::of(contact, rules);
    let words = state_words(state, rules, since.map(|since| clock(since, now)));
    let queue = queue_words(state, waiting);
    Line {
        state,
        since: since.map(|since| since.to_string()),
        waiting,
        data_age_s: contact.map_or(0, |contact| contact.age.as_secs()),
        text: Text::new(words.da + &queue.da, words.en + &queue.en),
    }
}

fn state_words(state: LineState, rules: &OfflineRules, since: Option<String>) -> Text {
    let (since_da, since_en) = since.map_or_else(
        || (String::new(), String::new()),
        |since| (format!(" siden {since}"), format!(" since {since}")),
    );
    match state {
        LineState::Online => Text::new("Online", "Online"),
        LineState::Offline => Text::new(format!("Offline{since_da}"), format!("Offline{since_en}")),
        LineState::Restricted => Text::new(
            format!("Offline{since_da} – kun køb op til {}", rules.meal_price),
            format!("Offline{since_en} – only up to {}", rules.meal_price),
        ),
        LineState::Stopped => Text::new(
            format!("Offline{since_da} – kassen sælger ikke"),
            format!("Offline{since_en} – the till does not sell"),
        ),
        LineState::Never => Text::new(
            "Ikke klar – venter på de første data",
            "Not ready – waiting for its first data",
        ),
    }
}

/// An empty queue is worth a word only while the till is cut off.
fn queue_words(state: LineState, waiting: u64) -> Text {
    match (state, waiting) {
        (LineState::Online | LineState::Never, 0) => Text::new("", ""),
        (_, 0) => Text::new(" – ingen salg venter", " – no sales waiting"),
        (_, 1) => Text::new(" – 1 salg venter", " – 1 sale waiting"),
        (_, many) => Text::new(
            format!(" – {many} salg venter"),
            format!(" – {many} sales waiting"),
        ),
    }
}
