//! The line to the hub in words.

use std::time::Duration;

use canteen::{Contact, OfflineRules};
use jiff::{SignedDuration, Timestamp};

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

/// The line as the banner shows it: its state, since when, what waits to be sent, and how many of
/// the canteen's other tills are heard meanwhile.
pub fn line_words(
    contact: Option<Contact>,
    rules: &OfflineRules,
    since: Option<Timestamp>,
    waiting: u64,
    hears: Option<(usize, usize)>,
    now: Timestamp,
) -> Line {
    let state = LineState::of(contact, rules);
    let data_from = contact.and_then(|contact| moment_before(now, contact.age));
    let restricted_since = contact
        .and_then(|contact| contact.age.checked_sub(rules.restricted_after))
        .and_then(|over| moment_before(now, over));
    let words = state_words(state, rules, since, restricted_since, now);
    let age = age_words(state, since, data_from, now);
    let queue = queue_words(state, waiting);
    let hears = hears.map_or_else(|| Text::new("", ""), hears_words);
    Line {
        state,
        since: since.map(|since| since.to_string()),
        waiting,
        data_age_s: contact.map_or(0, |contact| contact.age.as_secs()),
        text: Text::new(
            words.da + &age.da + &queue.da + &hears.da,
            words.en + &age.en + &queue.en + &hears.en,
        ),
    }
}

fn moment_before(now: Timestamp, span: Duration) -> Option<Timestamp> {
    now.checked_sub(SignedDuration::try_from(span).ok()?).ok()
}

fn state_words(
    state: LineState,
    rules: &OfflineRules,
    since: Option<Timestamp>,
    restricted_since: Option<Timestamp>,
    now: Timestamp,
) -> Text {
    let (since_da, since_en) = since_words(since, now);
    let (restricted_da, restricted_en) = since_words(restricted_since, now);
    match state {
        LineState::Online => Text::new("Online", "Online"),
        LineState::Offline => Text::new(format!("Offline{since_da}"), format!("Offline{since_en}")),
        LineState::Restricted => Text::new(
            format!(
                "Offline{since_da} – kun køb op til {}{restricted_da}",
                rules.meal_price
            ),
            format!(
                "Offline{since_en} – only up to {}{restricted_en}",
                rules.meal_price
            ),
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

fn since_words(since: Option<Timestamp>, now: Timestamp) -> (String, String) {
    since.map_or_else(Default::default, |since| {
        let since = clock(since, now);
        (format!(" siden {since}"), format!(" since {since}"))
    })
}

/// From when the balances are, where the line's own moment does not tell it already.
fn age_words(
    state: LineState,
    since: Option<Timestamp>,
    data_from: Option<Timestamp>,
    now: Timestamp,
) -> Text {
    let is_told =
        |from: Timestamp| since.is_some_and(|since| since.duration_since(from) < ABOUT_THE_SAME);
    match (state, data_from) {
        (LineState::Online | LineState::Never, _) | (_, None) => Text::new("", ""),
        (_, Some(from)) if is_told(from) => Text::new("", ""),
        (_, Some(from)) => {
            let from = clock(from, now);
            Text::new(
                format!(" – saldi fra {from}"),
                format!(" – balances from {from}"),
            )
        }
    }
}

fn hears_words((heard, of): (usize, usize)) -> Text {
    let (tills_da, tills_en) = if of == 1 {
        ("kasse", "till")
    } else {
        ("kasser", "tills")
    };
    Text::new(
        format!(" – hører {heard} af {of} {tills_da}"),
        format!(" – hears {heard} of {of} {tills_en}"),
    )
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

/// Data that is so much older than the last contact is as old as that.
const ABOUT_THE_SAME: SignedDuration = SignedDuration::from_mins(2);

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(online: bool, hours: u64, since: Option<&str>, waiting: u64, da: &str, en: &str) {
        let contact = Contact {
            online,
            age: Duration::from_secs(hours * 3600),
        };
        let since = since.map(|since| since.parse().unwrap());
        let now = "2026-11-20T11:00:00Z".parse().unwrap();
        let rules = OfflineRules::default();
        let line = line_words(Some(contact), &rules, since, waiting, None, now);
        assert_eq!((line.text.da.as_str(), line.text.en.as_str()), (da, en));
        assert_eq!((line.waiting, line.data_age_s), (waiting, hours * 3600));
    }

    #[test]
    fn a_till_that_is_cut_off_says_how_many_others_it_hears() {
        let words = |hears| {
            let contact = Contact {
                online: false,
                age: Duration::from_secs(60),
            };
            let now = "2026-11-20T11:00:00Z".parse().unwrap();
            let line = line_words(Some(contact), &OfflineRules::default(), None, 0, hears, now);
            (line.text.da, line.text.en)
        };
        let (da, en) = words(Some((1, 2)));
        assert!(da.ends_with(" – hører 1 af 2 kasser"), "{da}");
        assert!(en.ends_with(" – hears 1 of 2 tills"), "{en}");
        assert!(words(Some((0, 1))).0.ends_with(" – hører 0 af 1 kasse"));
        assert!(words(None).0.ends_with(" – ingen salg venter"));
    }

    #[test]
    fn the_banner_says_since_when_and_how_many_wait() {
        let today = Some("2026-11-20T10:00:00Z");
        check(true, 0, None, 0, "Online", "Online");
        let (da, en) = ("Online – 3 salg venter", "Online – 3 sales waiting");
        check(true, 0, None, 3, da, en);
        let da = "Offline siden 11:00 – 7 salg venter";
        check(
            false,
            1,
            today,
            7,
            da,
            "Offline since 11:00 – 7 sales waiting",
        );
        let da = "Offline siden 11:00 – 1 salg venter";
        check(
            false,
            1,
            today,
            1,
            da,
            "Offline since 11:00 – 1 sale waiting",
        );
        let da = "Offline siden 11:00 – ingen salg venter";
        check(
            false,
            1,
            today,
            0,
            da,
            "Offline since 11:00 – no sales waiting",
        );
    }

    #[test]
    fn old_data_says_what_may_still_be_sold() {
        let tuesday = Some("2026-11-17T10:42:00Z");
        check(
            false,
            73,
            tuesday,
            7,
            "Offline siden 17.11.2026 11:42 – kun køb op til 60,00 kr. siden 11:00 – saldi fra 17.11.2026 11:00 – 7 salg venter",
            "Offline since 17.11.2026 11:42 – only up to 60,00 kr. since 11:00 – balances from 17.11.2026 11:00 – 7 sales waiting",
        );
        check(
            false,
            15 * 24,
            None,
            7,
            "Offline – kassen sælger ikke – saldi fra 05.11.2026 12:00 – 7 salg venter",
            "Offline – the till does not sell – balances from 05.11.2026 12:00 – 7 sales waiting",
        );
    }

    #[test]
    fn a_till_without_data_is_not_merely_offline() {
        let now = "2026-11-20T11:00:00Z".parse().unwrap();
        let line = line_words(None, &OfflineRules::default(), None, 0, None, now);
        assert_eq!(line.state, LineState::Never);
        assert_eq!(line.text.da, "Ikke klar – venter på de første data");
    }
}
