//! The till's contact with the hub: whether it answers, since when, and how old the data is.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use canteen::{Contact, OfflineRules};
use jiff::Timestamp;
use tokio::sync::watch;

use crate::standing::Standing;

/// Contact as it is now; shared by the upload, the feed and everyone who shows it.
pub(crate) struct ContactBook {
    facts: Mutex<Facts>,
    changed: watch::Sender<u64>,
}

#[derive(Debug, Clone)]
struct Facts {
    online: bool,
    since: Option<Timestamp>,
    heard: Option<Heard>,
    trouble: Option<String>,
    standing: Standing,
    alarms: BTreeMap<Alarm, String>,
    hears: Option<Hears>,
}

/// Something that somebody must look into, also while the hub answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Alarm {
    /// The hub acknowledges what this till never wrote.
    ForeignWatermark,
    /// A new life of the ledger could not begin.
    NotRenewed,
    /// The hub knows less than it has told.
    HubBehind,
    /// The hub does not take a ledger whose life has ended.
    OldLedger,
}

/// How many siblings are heard while the hub is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hears {
    /// So many of them.
    pub(crate) heard: usize,
    /// Of so many.
    pub(crate) of: usize,
}

/// The last time that the hub told how accounts stand.
#[derive(Debug, Clone, Copy)]
enum Heard {
    /// In this run of the program: the monotonic clock counts.
    Now(Instant),
    /// In an earlier run: only the wall clock is left.
    Before(Timestamp),
}

/// Contact at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContactNow {
    /// For the decision; `None` when the till never had data.
    pub(crate) contact: Option<Contact>,
    /// Whether the hub answers at all.
    pub(crate) answers: bool,
    /// Since when it is online or offline.
    pub(crate) since: Option<Timestamp>,
    /// What is wrong and what to do.
    pub(crate) trouble: Option<String>,
    /// What hub and till know of each other's history.
    pub(crate) standing: Standing,
    /// What somebody must look into, also while the hub answers.
    pub(crate) alarms: Vec<String>,
    /// How many siblings are heard; `None` while the hub answers or when there are none.
    pub(crate) hears: Option<Hears>,
}

impl ContactBook {
    /// A till that starts; `heard` is when it last had data, if ever.
    pub(crate) fn new(heard: Option<Timestamp>, standing: Standing) -> ContactBook {
        let facts = Facts {
            online: false,
            since: heard,
            heard: heard.map(Heard::Before),
            trouble: None,
            standing,
            alarms: BTreeMap::new(),
            hears: None,
        };
        ContactBook {
            facts: Mutex::new(facts),
            changed: watch::Sender::new(0),
        }
    }

    /// Told whenever something that people see has changed.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The hub told how accounts stand, or that nothing has changed.
    pub(crate) fn heard(&self, now: Timestamp) {
        self.update(|facts| {
            facts.heard = Some(Heard::Now(Instant::now()));
            facts.go(true, now);
            facts.trouble = None;
            facts.standing = Standing::Good;
        });
    }

    /// The hub answered something else.
    pub(crate) fn answered(&self, now: Timestamp) {
        self.update(|facts| facts.go(true, now));
    }

    /// The hub did not answer.
    pub(crate) fn lost(&self, now: Timestamp, trouble: String) {
        self.update(|facts| {
            facts.go(false, now);
            facts.trouble = Some(trouble);
        });
    }

    /// The hub answers, and something is wrong all the same.
    pub(crate) fn troubled(&self, trouble: String) {
        self.update(|facts| facts.trouble = Some(trouble));
    }

    /// The hub no longer takes this till for what it says it is. Whether that is news.
    pub(crate) fn stands(&self, standing: Standing) -> bool {
        let before = self.facts().standing;
        self.update(|facts| {
            facts.standing = standing;
            facts.trouble = Some(standing.words());
        });
        before != standing
    }

    /// How the till stands.
    pub(crate) fn standing(&self) -> Standing {
        self.facts().standing
    }

    /// Somebody must look into this until it is taken back with `None`.
    pub(crate) fn alarm(&self, alarm: Alarm, words: Option<String>) {
        self.update(|facts| match words {
            Some(words) => {
                facts.alarms.insert(alarm, words);
            }
            None => {
                facts.alarms.remove(&alarm);
            }
        });
    }

    /// So many siblings are heard.
    pub(crate) fn hears(&self, hears: Option<Hears>) {
        self.update(|facts| facts.hears = hears);
    }

    /// Contact as it is now.
    pub(crate) fn now(&self, now: Timestamp) -> ContactNow {
        let facts = self.facts();
        let age = facts.heard.map(|heard| match heard {
            Heard::Now(at) => at.elapsed(),
            // A clock set back makes data look fresh; it counts as just heard, no fresher.
            Heard::Before(at) => Duration::try_from(now.duration_since(at)).unwrap_or_default(),
        });
        ContactNow {
            // A hub that gives no data is no better than none.
            contact: age.map(|age| Contact {
                online: facts.online && facts.standing.is_good(),
                age,
            }),
            answers: facts.online,
            since: facts.since,
            trouble: facts.trouble.clone(),
            standing: facts.standing,
            alarms: facts.alarms.values().cloned().collect(),
            hears: facts.hears,
        }
    }

    fn update(&self, change: impl FnOnce(&mut Facts)) {
        let visible = |facts: &Facts| {
            let texts = (facts.trouble.clone(), facts.alarms.clone());
            let online = (facts.online, facts.heard.is_some(), facts.hears);
            (online, facts.standing, texts)
        };
        let is_news = {
            let mut facts = self.facts();
            let before = visible(&facts);
            change(&mut facts);
            before != visible(&facts)
        };
        if is_news {
            self.changed.send_modify(|version| *version += 1);
        }
    }

    fn facts(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ContactNow {
    /// Since when the data is too old to sell everything; `None` while it is not.
    pub(crate) fn restricted_since(
        &self,
        rules: &OfflineRules,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let over = self.contact?.age.checked_sub(rules.restricted_after)?;
        now.checked_sub(over).ok()
    }
}

impl Facts {
    fn go(&mut self, online: bool, now: Timestamp) {
        if self.online != online || self.since.is_none() {
            self.since = Some(now);
        }
        self.online = online;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_till_without_data_has_no_contact() {
        assert_eq!(
            ContactBook::new(None, Standing::Good)
                .now(at("2026-11-20T10:00:00Z"))
                .contact,
            None
        );
    }

    #[test]
    fn offline_counts_from_the_first_failure() {
        let book = ContactBook::new(None, Standing::Good);
        book.heard(at("2026-11-20T10:00:00Z"));
        book.lost(at("2026-11-20T10:05:00Z"), "connection refused".into());
        book.lost(at("2026-11-20T10:06:00Z"), "connection refused".into());
        let now = book.now(at("2026-11-20T10:07:00Z"));
        assert_eq!(now.since, Some(at("2026-11-20T10:05:00Z")));
        assert_eq!(now.contact.map(|contact| contact.online), Some(false));
        book.heard(at("2026-11-20T10:08:00Z"));
        let now = book.now(at("2026-11-20T10:09:00Z"));
        assert_eq!(
            (now.since, now.trouble),
            (Some(at("2026-11-20T10:08:00Z")), None)
        );
    }

    #[test]
    fn data_of_an_earlier_run_ages_by_the_wall_clock_and_never_below_nothing() {
        let book = ContactBook::new(Some(at("2026-11-20T10:00:00Z")), Standing::Good);
        let age = |now| {
            book.now(at(now))
                .contact
                .map(|contact| contact.age.as_secs())
        };
        assert_eq!(age("2026-11-21T10:00:00Z"), Some(24 * 3600));
        assert_eq!(age("2026-11-19T10:00:00Z"), Some(0));
    }

    #[test]
    fn a_hub_that_gives_nothing_counts_as_offline() {
        let book = ContactBook::new(None, Standing::Good);
        let noon = at("2026-11-20T12:00:00Z");
        book.heard(noon);
        assert!(book.stands(Standing::Forked { agreed_through: 5 }));
        assert!(!book.stands(Standing::Forked { agreed_through: 5 }));
        book.answered(noon);
        let now = book.now(noon);
        assert_eq!(now.contact.map(|contact| contact.online), Some(false));
        book.heard(noon);
        assert_eq!(
            book.now(noon).contact.map(|contact| contact.online),
            Some(true)
        );
    }

    #[test]
    fn only_what_people_see_is_news() {
        let book = ContactBook::new(None, Standing::Good);
        let news = book.changes();
        book.heard(at("2026-11-20T10:00:00Z"));
        assert_eq!(*news.borrow(), 1);
        book.heard(at("2026-11-20T10:00:10Z"));
        assert_eq!(*news.borrow(), 1);
    }
}
