//! What goes over the lines between tills and hub, and how it fares.

use sync_proto::{
    AuthoriseRequest, Batch, BatchAnswer, BatchRefusal, Change, Denylist, FeedPage, FeedPosition,
    FeedRecords, FeedRefusal, SnapshotHeader, SnapshotTrailer, TillPosition, UploadFailure,
};

use super::World;
use super::action::{Fate, Way};
use super::tally::{Fault, Invariant, Violation, broken};
use hub_ledger::{Asking, LedgerError, TillAccess};

/// What a till asks.
#[derive(Debug, Clone)]
pub(crate) enum Request {
    Batch(Batch),
    Branch(Batch),
    Feed(FeedPosition, TillPosition),
    Snapshot(TillPosition),
    Authorise(AuthoriseRequest),
    Statuses(FeedPosition),
}

/// What the hub answers.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Batch(Result<BatchAnswer, BatchRefusal>),
    Page(Result<FeedPage, FeedRefusal>),
    Snapshot(Vec<u8>),
    Records(Option<FeedRecords>),
    Statuses(Denylist),
}

/// A message that is late.
#[derive(Debug, Clone)]
pub(crate) struct Letter {
    till: usize,
    sent_ms: i64,
    what: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Request(Request),
    Answer(Answer),
}

impl Letter {
    /// How long it can be on its way. The hub relies on it that a question for data is not
    /// overtaken for longer than half a minute; entries may come whenever they like.
    fn lives_ms(&self) -> i64 {
        match &self.what {
            Content::Request(Request::Batch(_) | Request::Branch(_)) => DAY_MS,
            Content::Request(
                Request::Feed(..)
                | Request::Snapshot(_)
                | Request::Authorise(_)
                | Request::Statuses(_),
            ) => 25_000,
            Content::Answer(_) => 60_000,
        }
    }
}

impl World {
    /// A till asks the hub, and takes in what it answers. Gives whether an answer came.
    pub(crate) fn ask(
        &mut self,
        till: usize,
        request: Request,
        way: Way,
    ) -> Result<bool, Violation> {
        let is_batch = matches!(request, Request::Batch(_) | Request::Branch(_));
        let answer = if self.send(till, way.request, || Content::Request(request.clone())) {
            self.serve(till, &request)?
        } else {
            None
        };
        let heard = match answer {
            Some(answer) if self.send(till, way.answer, || Content::Answer(answer.clone())) => {
                self.tills[till].online = true;
                self.hear(till, &answer)?;
                true
            }
            Some(_) | None => false,
        };
        if !heard {
            self.tills[till].online = false;
            if is_batch {
                self.fail_upload(till, UploadFailure::Unanswered);
            }
        }
        Ok(heard)
    }

    /// Whether a message arrives now.
    fn send(&mut self, till: usize, fate: Fate, content: impl FnOnce() -> Content) -> bool {
        if !self.tills[till].line_is_up {
            self.tally.inject(Fault::Lost);
            return false;
        }
        let letter = |sent_ms| Letter {
            till,
            sent_ms,
            what: content(),
        };
        match fate {
            Fate::Arrives => true,
            Fate::Lost => {
                self.tally.inject(Fault::Lost);
                false
            }
            Fate::Late => {
                self.post(letter(self.now_ms));
                false
            }
            Fate::Twice => {
                self.post(letter(self.now_ms));
                true
            }
        }
    }

    fn post(&mut self, letter: Letter) {
        self.letters.push(letter);
        if self.letters.len() > LETTERS_MAX {
            self.letters.remove(0);
            self.tally.inject(Fault::Lost);
        }
    }

    /// A late message arrives, unless nobody has one or its line is down.
    pub(crate) fn arrive(&mut self, which: u8) -> Result<String, Violation> {
        let now_ms = self.now_ms;
        self.letters
            .retain(|letter| now_ms - letter.sent_ms <= letter.lives_ms());
        if self.letters.is_empty() {
            return Ok("nothing is on its way".to_owned());
        }
        let at = usize::from(which) % self.letters.len();
        if !self.tills[self.letters[at].till].line_is_up {
            return Ok("its line is down".to_owned());
        }
        if at > 0 {
            self.tally.inject(Fault::Reordered);
        }
        let letter = self.letters.remove(at);
        let name = self.tills[letter.till].id.clone();
        match letter.what {
            Content::Request(request) => {
                let words = request.words();
                self.tally.inject(Fault::Late);
                // Nobody waits for the answer.
                self.serve(letter.till, &request)?;
                Ok(format!("{words} of {name}"))
            }
            Content::Answer(answer) => {
                self.tally.inject(Fault::Doubled);
                self.hear(letter.till, &answer)?;
                Ok(format!("{} for {name}", answer.words()))
            }
        }
    }

    /// A machine that starts again waits for no answer of before.
    pub(crate) fn forget_answers(&mut self, till: usize) {
        self.letters.retain(|letter| match letter.what {
            Content::Answer(_) => letter.till != till,
            Content::Request(_) => true,
        });
    }

    /// Nothing is on its way any more.
    pub(crate) fn lose_letters(&mut self) {
        self.letters.clear();
    }

    /// The hub answers a request, unless its power fails.
    fn serve(&mut self, till: usize, request: &Request) -> Result<Option<Answer>, Violation> {
        self.make_mistake_at_hearing()?;
        if let Request::Branch(batch) = request {
            let answer = self.serve_branch(batch)?;
            self.check_hub()?;
            return Ok(answer);
        }
        let token = self.tills[till].token;
        let access = self
            .hub
            .read("looking a till up", |ledger| ledger.till_by_token(token))?;
        let Some(access) = access else {
            return Ok(Some(match request {
                Request::Batch(_) | Request::Branch(_) => {
                    Answer::Batch(Err(BatchRefusal::NotEnrolled))
                }
                Request::Feed(..)
                | Request::Snapshot(_)
                | Request::Authorise(_)
                | Request::Statuses(_) => Answer::Page(Err(FeedRefusal::NotEnrolled)),
            }));
        };
        let answer = match request {
            Request::Batch(batch) => self.serve_batch(&access, batch)?,
            // It carries no token.
            Request::Branch(batch) => self.serve_branch(batch)?,
            Request::Feed(from, position) => self.serve_feed(&access, *from, position)?,
            Request::Snapshot(position) => self.serve_snapshot(&access, position)?,
            Request::Authorise(asked) => self.serve_authorise(&access, asked)?,
            Request::Statuses(after) => {
                let now = self.now();
                let list = self.hub.read("listing statuses", |ledger| {
                    ledger.denylist(&access, *after, now)
                })?;
                Some(match list {
                    Ok(list) => Answer::Statuses(list),
                    Err(refusal) => Answer::Page(Err(refusal)),
                })
            }
        };
        self.check_hub()?;
        Ok(answer)
    }

    fn serve_batch(
        &mut self,
        access: &TillAccess,
        batch: &Batch,
    ) -> Result<Option<Answer>, Violation> {
        let now = self.now();
        let before = self.accepted(&batch.till, batch.epoch);
        let World { hub, tally, .. } = self;
        let answer = hub.write(tally, "taking a batch in", |ledger| {
            ledger.ingest(access, batch, now)
        })?;
        let is_doubtful = self.is_doubtful(&batch.till, batch.epoch);
        let fits = batch.first_seq <= before + 1;
        let after = before.max(batch.head.seq);
        let Some(answer) = answer else {
            // All of it or nothing of it; which, only the hub knows.
            let found = self.watermark(&batch.till)?;
            if found == after && fits {
                // Another machine's entries may stand under the same numbers.
                match is_doubtful {
                    true => self.adopt_if_booked(batch, found)?,
                    false => self.accept(batch, after)?,
                }
            }
            return Ok(None);
        };
        match &answer {
            Ok(stored) => {
                self.accept(batch, after)?;
                self.tally.check(Invariant::NoSaleLost);
                if !fits || stored.accepted.seq != after {
                    let what = format!(
                        "the hub acknowledges entry {} of {}, not {after}",
                        stored.accepted.seq, batch.till
                    );
                    return Err(Violation::of(Invariant::NoSaleLost, what));
                }
            }
            Err(BatchRefusal::Fork { .. } | BatchRefusal::NotEnrolled) if is_doubtful => {}
            // A hub that was put back has less than it had.
            Err(BatchRefusal::Gap { expected }) if !fits && *expected == before + 1 => {}
            Err(refusal) => {
                let what = format!(
                    "the hub refuses an honest batch of {}: {refusal:?}",
                    batch.till
                );
                return Err(Violation::of(Invariant::Works, what));
            }
        }
        Ok(Some(Answer::Batch(answer)))
    }

    /// Entries that come without a token, and perhaps beside the main chain.
    pub(crate) fn serve_branch(&mut self, batch: &Batch) -> Result<Option<Answer>, Violation> {
        let now = self.now();
        let World { hub, tally, .. } = self;
        let answer = hub.write(tally, "taking a branch in", |ledger| {
            ledger.ingest_branch(batch, now)
        })?;
        // What continues the main chain goes on it.
        let mark = self.watermark_of(&batch.till, batch.epoch)?;
        let Some(answer) = answer else {
            // All of it or nothing of it: the bookings tell, and must be whole either way.
            self.adopt_if_booked(batch, mark)?;
            return Ok(None);
        };
        match &answer {
            Ok(_) => self.accept(batch, mark)?,
            Err(BatchRefusal::Gap { .. }) => {}
            Err(refusal) => {
                let what = format!("the hub refuses a branch of {}: {refusal:?}", batch.till);
                return Err(Violation::of(Invariant::Works, what));
            }
        }
        Ok(Some(Answer::Batch(answer)))
    }

    fn serve_feed(
        &mut self,
        access: &TillAccess,
        from: FeedPosition,
        position: &TillPosition,
    ) -> Result<Option<Answer>, Violation> {
        if let Some(early) = self.receive(access, Asking::Feed(from), position)? {
            return Ok(early.map(Answer::Page));
        }
        let now = self.now();
        self.make_mistake_at_feed(access, from, position)?;
        let page = self.hub.read("making a page", |ledger| {
            ledger.feed(access, from, Some(position), now)
        })?;
        Ok(Some(Answer::Page(page)))
    }

    fn serve_snapshot(
        &mut self,
        access: &TillAccess,
        position: &TillPosition,
    ) -> Result<Option<Answer>, Violation> {
        if let Some(early) = self.receive(access, Asking::Snapshot, position)? {
            return Ok(early.map(Answer::Page));
        }
        let now = self.now();
        let mut lines = Vec::new();
        let written = self.hub.read("making a snapshot", |ledger| {
            ledger.snapshot(access, Some(position), now, &mut lines)
        })?;
        // Cut short, it counts for nothing.
        Ok(written.is_ok().then_some(Answer::Snapshot(lines)))
    }

    /// Takes note of where a till stands; something, when it is answered already.
    fn receive(
        &mut self,
        access: &TillAccess,
        asking: Asking,
        position: &TillPosition,
    ) -> Result<Option<Option<Result<FeedPage, FeedRefusal>>>, Violation> {
        let now = self.now();
        let known = self.hub.read("receiving a till", |ledger| {
            ledger.is_received(access, asking, Some(position), now)
        })?;
        if known {
            return Ok(None);
        }
        let World { hub, tally, .. } = self;
        let received = hub.write(tally, "receiving a till", |ledger| {
            ledger.receive(access, asking, Some(position), now)
        })?;
        match received {
            None => Ok(Some(None)),
            Some(Ok(())) => Ok(None),
            Some(Err(refusal)) if self.is_doubtful(&access.till, position.epoch) => {
                Ok(Some(Some(Err(refusal))))
            }
            Some(Err(refusal)) => {
                let what = format!(
                    "the hub refuses an honest till {}: {refusal:?}",
                    access.till
                );
                Err(Violation::of(Invariant::Works, what))
            }
        }
    }

    fn serve_authorise(
        &mut self,
        access: &TillAccess,
        asked: &AuthoriseRequest,
    ) -> Result<Option<Answer>, Violation> {
        let now = self.now();
        let World { hub, tally, .. } = self;
        let answer = hub.write(tally, "raising a ceiling", |ledger| {
            match ledger.authorise(access, asked, now) {
                Err(LedgerError::Refused(_)) => Ok(Ok(None)),
                other => other,
            }
        })?;
        match answer {
            None => Ok(None),
            Some(Ok(records)) => Ok(Some(Answer::Records(records))),
            Some(Err(refusal)) if self.is_doubtful(&access.till, asked.position.epoch) => {
                Ok(Some(Answer::Page(Err(refusal))))
            }
            Some(Err(refusal)) => {
                let what = format!(
                    "the hub refuses an honest till {}: {refusal:?}",
                    access.till
                );
                Err(Violation::of(Invariant::Works, what))
            }
        }
    }
}

impl Request {
    fn words(&self) -> String {
        match self {
            Request::Batch(batch) => {
                format!("entries {} to {}", batch.first_seq, batch.head.seq)
            }
            Request::Branch(batch) => {
                format!("the branch {} to {}", batch.first_seq, batch.head.seq)
            }
            Request::Feed(from, _) => format!("the question for changes after {}", from.cursor),
            Request::Snapshot(_) => "the question for a snapshot".to_owned(),
            Request::Authorise(_) => "the question for a higher ceiling".to_owned(),
            Request::Statuses(after) => format!("the question for statuses after {}", after.cursor),
        }
    }
}

impl Answer {
    fn words(&self) -> String {
        match self {
            Answer::Batch(Ok(stored)) => {
                format!("the acknowledgement through {}", stored.accepted.seq)
            }
            Answer::Batch(Err(refusal)) => format!("the refusal {refusal:?}"),
            Answer::Page(Ok(page)) => format!("the page from {} to {}", page.from, page.to),
            Answer::Page(Err(refusal)) => format!("the refusal {refusal:?}"),
            Answer::Snapshot(_) => "a snapshot".to_owned(),
            Answer::Records(_) => "the answer about a ceiling".to_owned(),
            Answer::Statuses(list) => format!("the statuses through {}", list.to),
        }
    }
}

/// A snapshot, if it is whole.
pub(crate) fn read_snapshot(
    lines: &[u8],
) -> Result<Option<(SnapshotHeader, Vec<Change>)>, Violation> {
    let mut rest = lines
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    let unreadable = |error: serde_json::Error| broken("reading a snapshot", &error);
    let Some(first) = rest.next() else {
        return Ok(None);
    };
    let header = serde_json::from_slice(first).map_err(unreadable)?;
    let rest: Vec<&[u8]> = rest.collect();
    let Some((last, changes)) = rest.split_last() else {
        return Ok(None);
    };
    let Ok(trailer) = serde_json::from_slice::<SnapshotTrailer>(last) else {
        return Ok(None);
    };
    let changes: Result<Vec<Change>, _> =
        changes.iter().map(|l| serde_json::from_slice(l)).collect();
    let changes = changes.map_err(unreadable)?;
    let is_whole = trailer.end && trailer.records == changes.len() as u64;
    Ok(is_whole.then_some((header, changes)))
}

const DAY_MS: i64 = 24 * 3600 * 1000;
const LETTERS_MAX: usize = 12;
