//! The till that is played: a ledger in memory, written as a real one, and what the hub tells it.

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context, bail, ensure};
use canteen::{AccountId, BusinessDay, Money, Status, TopUpOutcome};
use jiff::Timestamp;
use reqwest::{Client, RequestBuilder};
use serde::de::DeserializeOwned;
use sync_proto::{
    AccountRecord, Batch, BatchAnswer, Change, ChipRecord, EnrolAnswer, EnrolRequest, EntryBody,
    EntryHash, EntryHeader, EntryTexts, Epoch, FeedPage, FeedPosition, Head, NumberedEntry, PROTO,
    Record, Sale, SaleLine, SnapshotHeader, TillId, TillKey, TillPosition, TillReport, Void,
};
use uuid::Uuid;

use crate::Target;
use crate::link::{Said, Witness, ask, client, fetch};

/// A till in memory.
pub(crate) struct PlayedTill {
    http: Client,
    url: String,
    till: TillId,
    epoch: Epoch,
    seed: [u8; 32],
    token: String,
    pub(crate) witness: Rc<Witness>,
    boot: Uuid,
    genesis: EntryHash,
    /// The entries with their hashes; entry `n` stands at `n - 1`.
    pub(crate) entries: Vec<(EntryTexts, EntryHash)>,
    /// The hub has acknowledged everything up to here.
    pub(crate) acked: u64,
    /// Up to where the hub's changes are applied.
    pub(crate) feed: FeedPosition,
    pub(crate) accounts: BTreeMap<AccountId, AccountRecord>,
    chips: BTreeMap<i64, ChipRecord>,
}

/// An entry to be written, and what it is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Buyer {
    /// Who pays.
    pub(crate) account: AccountId,
    /// With which chip.
    pub(crate) chip: i64,
}

impl PlayedTill {
    /// Introduces a till to the hub.
    pub(crate) async fn enrol(target: &Target) -> anyhow::Result<PlayedTill> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).context("the system gives no random numbers")?;
        let epoch = Epoch(getrandom::u64().context("the system gives no random numbers")?);
        let key = TillKey::from_seed(&seed);
        let http = client()?;
        let request = EnrolRequest {
            till: target.till.clone(),
            code: target.code.clone(),
            epoch,
            public_key: key.public(),
        };
        let asking = http
            .post(format!("{}/v1/enrolments", target.url))
            .json(&request);
        let answer: EnrolAnswer = match ask(asking, None).await? {
            Ok(Some(answer)) => answer,
            Ok(None) => bail!("the hub answered without a token"),
            Err(problem) => bail!("the hub refuses it: {}", problem.facts),
        };
        Ok(PlayedTill {
            http,
            url: target.url.clone(),
            till: target.till.clone(),
            epoch,
            seed,
            token: answer.token,
            witness: Rc::new(Witness::new(target.till.clone(), answer.hub_key)),
            boot: Uuid::now_v7(),
            genesis: EntryHash::genesis(&target.till, epoch, &key.public()),
            entries: Vec::new(),
            acked: 0,
            feed: FeedPosition::default(),
            accounts: BTreeMap::new(),
            chips: BTreeMap::new(),
        })
    }

    /// Its secret key.
    pub(crate) fn key(&self) -> TillKey {
        TillKey::from_seed(&self.seed)
    }

    /// A copy of its disk, which is another machine with the same name and key.
    pub(crate) fn clone_disk(&self) -> PlayedTill {
        PlayedTill {
            http: self.http.clone(),
            url: self.url.clone(),
            till: self.till.clone(),
            token: self.token.clone(),
            witness: Rc::clone(&self.witness),
            entries: self.entries.clone(),
            accounts: self.accounts.clone(),
            chips: self.chips.clone(),
            ..*self
        }
    }

    // What it writes.

    /// Sequence number of its last entry.
    pub(crate) fn last(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Its head.
    pub(crate) fn head(&self) -> Head {
        Head {
            seq: self.last(),
            hash: self.hash_at(self.last()),
        }
    }

    fn hash_at(&self, seq: u64) -> EntryHash {
        let place = usize::try_from(seq).ok().and_then(|seq| seq.checked_sub(1));
        place
            .and_then(|place| self.entries.get(place))
            .map_or(self.genesis, |(_, hash)| *hash)
    }

    /// Writes an entry.
    pub(crate) fn write(&mut self, body: &EntryBody) -> anyhow::Result<Uuid> {
        let id = Uuid::now_v7();
        let texts = EntryTexts::write(self.header(id), body)?;
        self.append(texts);
        Ok(id)
    }

    /// Writes any bytes in the place of an entry.
    pub(crate) fn append(&mut self, texts: EntryTexts) {
        let hash = self
            .head()
            .hash
            .next(&self.till, self.epoch, self.last() + 1, &texts);
        self.entries.push((texts, hash));
    }

    /// The header of the next entry.
    pub(crate) fn header(&self, id: Uuid) -> EntryHeader {
        let now = Timestamp::now();
        EntryHeader {
            id,
            ts: now.to_string(),
            bt: 0,
            boot: self.boot,
            day: BusinessDay::of(now),
            fc: self.feed,
            kind: String::new(),
            version: 1,
        }
    }

    /// Sells for some øre.
    pub(crate) fn sell(&mut self, buyer: Buyer, ore: i64) -> anyhow::Result<Uuid> {
        let amount = Money::from_ore(ore);
        let balance = self
            .accounts
            .get(&buyer.account)
            .map_or(Money::ZERO, |account| account.position);
        self.write(&EntryBody::Sale(Sale {
            account: buyer.account,
            chip: buyer.chip,
            amount,
            lines: vec![SaleLine {
                quantity: 1,
                text: "Prøve".to_owned(),
                unit_price: amount,
                amount,
            }],
            balance_after: balance,
            online: true,
            top_up: TopUpOutcome::None,
        }))
    }

    /// Takes a sale back.
    pub(crate) fn void(
        &mut self,
        buyer: Buyer,
        of: Uuid,
        of_seq: u64,
        ore: i64,
    ) -> anyhow::Result<Uuid> {
        self.write(&EntryBody::Void(Void {
            of,
            of_seq,
            account: buyer.account,
            amount: Money::from_ore(ore),
            lines: Vec::new(),
            balance_after: Money::ZERO,
        }))
    }

    /// A batch of the entries from one number to another.
    pub(crate) fn batch(&self, from: u64, to: u64) -> Batch {
        let head = Head {
            seq: to,
            hash: self.hash_at(to),
        };
        let entries = (from..=to).zip(self.entries.iter().skip(from.saturating_sub(1) as usize));
        Batch {
            proto: PROTO,
            till: self.till.clone(),
            epoch: self.epoch,
            first_seq: from,
            prev_hash: self.hash_at(from - 1),
            entries: entries
                .map(|(seq, (texts, _))| NumberedEntry {
                    seq,
                    texts: texts.clone(),
                })
                .collect(),
            holes: Vec::new(),
            signature: head.sign(&self.till, self.epoch, &self.key()),
            head,
            report: TillReport {
                till_time: Timestamp::now().to_string(),
                unsent: self.last() - to,
                version: concat!("hub-conformance ", env!("CARGO_PKG_VERSION")).to_owned(),
                address: None,
            },
        }
    }

    // What it asks.

    /// Where it stands.
    pub(crate) fn position(&self) -> TillPosition {
        let head = self.head();
        TillPosition {
            epoch: self.epoch,
            head_seq: head.seq,
            head_hash: head.hash,
            acked_seq: self.acked,
            acked_hash: self.hash_at(self.acked),
        }
    }

    /// Sends a batch somewhere.
    pub(crate) async fn send(&self, to: &str, batch: &Batch) -> anyhow::Result<Said<BatchAnswer>> {
        let asking = self.http.post(self.path(to)).json(batch);
        some(self.ask(self.shown(asking)).await?)
    }

    /// Sends a batch as anybody could who has no token.
    pub(crate) async fn send_unknown(
        &self,
        to: &str,
        batch: &Batch,
    ) -> anyhow::Result<Said<BatchAnswer>> {
        some(self.ask(self.http.post(self.path(to)).json(batch)).await?)
    }

    /// Sends all entries that are not acknowledged, and notes the acknowledgement.
    pub(crate) async fn push(&mut self) -> anyhow::Result<Said<BatchAnswer>> {
        let batch = self.batch(self.acked + 1, self.last());
        let said = self.send("batches", &batch).await?;
        if let Ok(answer) = &said {
            ensure!(
                answer.accepted == self.head(),
                "the hub acknowledges {:?}, the till's head is {:?}",
                answer.accepted,
                self.head()
            );
            self.acked = answer.accepted.seq;
        }
        Ok(said)
    }

    /// Sends everything and expects it to be stored.
    pub(crate) async fn push_all(&mut self) -> anyhow::Result<BatchAnswer> {
        match self.push().await? {
            Ok(answer) => Ok(answer),
            Err(problem) => bail!("entries were refused: {}", problem.facts),
        }
    }

    /// One page of changes after a position.
    pub(crate) async fn page(
        &self,
        after: FeedPosition,
        stand: &TillPosition,
    ) -> anyhow::Result<Said<FeedPage>> {
        let asking = self
            .http
            .get(self.path("feed"))
            .query(&[
                ("hub_epoch", after.hub_epoch),
                ("cursor", after.cursor),
                ("wait", 0),
            ])
            .query(stand);
        some(self.ask(self.shown(asking)).await?)
    }

    /// Takes in everything that has changed.
    pub(crate) async fn refresh(&mut self) -> anyhow::Result<()> {
        if self.feed.hub_epoch == 0 {
            return self.take_snapshot().await;
        }
        loop {
            let page = match self.page(self.feed, &self.position()).await? {
                Ok(page) => page,
                Err(problem) if problem.code() == "snapshot_required" => {
                    return self.take_snapshot().await;
                }
                Err(problem) => bail!("the feed is refused: {}", problem.facts),
            };
            self.feed.cursor = page.to;
            page.changes
                .into_iter()
                .for_each(|change| self.apply(change));
            if !page.more {
                return Ok(());
            }
        }
    }

    /// Fetches a snapshot and checks that it is whole.
    pub(crate) async fn take_snapshot(&mut self) -> anyhow::Result<()> {
        let asking = self.http.get(self.path("snapshot")).query(&self.position());
        let (status, text) = fetch(self.shown(asking), Some(&self.witness)).await?;
        let text = String::from_utf8_lossy(&text);
        ensure!(
            status.is_success(),
            "the snapshot is refused: {status} {text}"
        );
        let lines: Vec<&str> = text.lines().collect();
        let [header, records @ .., trailer] = lines.as_slice() else {
            bail!("a snapshot has a header and a trailer");
        };
        let header: SnapshotHeader = serde_json::from_str(header).context("the header")?;
        let trailer: sync_proto::SnapshotTrailer =
            serde_json::from_str(trailer).context("the trailer")?;
        ensure!(
            trailer.end && trailer.records == records.len() as u64,
            "the trailer tells of {} records, {} came",
            trailer.records,
            records.len()
        );
        for record in records {
            self.apply(serde_json::from_str(record).with_context(|| format!("record {record}"))?);
        }
        self.feed = FeedPosition {
            hub_epoch: header.hub_epoch,
            cursor: header.as_of,
        };
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        match change.record {
            Record::Account(account) => {
                self.accounts.insert(account.id, account);
            }
            Record::AccountGone { id } => {
                self.accounts.remove(&id);
            }
            Record::Chip(chip) => {
                self.chips.insert(chip.number, chip);
            }
            Record::ChipGone { uid } => self.chips.retain(|_, chip| chip.uid != uid),
            Record::Holder(_)
            | Record::HolderGone { .. }
            | Record::Product(_)
            | Record::ProductGone { .. }
            | Record::ChipKeys
            | Record::Unknown => {}
        }
    }

    /// An account that can pay for all that is bought here.
    pub(crate) fn buyer(&self) -> anyhow::Result<Buyer> {
        let may = |account: &&AccountRecord| {
            account.status == Status::Active
                && account.limits == Default::default()
                && account.top_up.is_none()
                && account.position >= Money::from_kroner(NEEDED_KRONER)
        };
        let rich = self.accounts.values().filter(may);
        let mut with_chip = rich.filter_map(|account| {
            let mut chips = self.chips.values();
            let chip =
                chips.find(|chip| chip.account == account.id && chip.status == Status::Active)?;
            Some(Buyer {
                account: account.id,
                chip: chip.number,
            })
        });
        with_chip.next_back().with_context(|| {
            format!(
                "the till is told of no active account with {NEEDED_KRONER} kr., a chip, no limits and \
                 no automatic top-up; make one"
            )
        })
    }

    /// What an account holds as the hub tells it, in øre.
    pub(crate) async fn balance(&mut self, buyer: Buyer) -> anyhow::Result<i64> {
        self.refresh().await?;
        let account = self.accounts.get(&buyer.account);
        Ok(account.context("the account is gone")?.position.ore())
    }

    /// Asks anything, and looks at the signature.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
    ) -> anyhow::Result<Said<Option<T>>> {
        ask(request, Some(&self.witness)).await
    }

    /// A request to a till's own resource.
    pub(crate) fn get(&self, last: &str) -> RequestBuilder {
        self.shown(self.http.get(self.path(last)))
    }

    /// The same with a body.
    pub(crate) fn post(&self, last: &str) -> RequestBuilder {
        self.shown(self.http.post(self.path(last)))
    }

    fn shown(&self, request: RequestBuilder) -> RequestBuilder {
        request.bearer_auth(&self.token)
    }

    fn path(&self, last: &str) -> String {
        format!("{}/v1/tills/{}/{last}", self.url, self.till)
    }
}

fn some<T>(said: Said<Option<T>>) -> anyhow::Result<Said<T>> {
    Ok(match said {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => bail!("the hub answered without content"),
        Err(problem) => Err(problem),
    })
}

const NEEDED_KRONER: i32 = 20;
