//! What an operator or a guardian does at the hub: statuses, limits, agreements, money by hand.

use canteen::{AccountId, Money};
use hub_ledger::{Correction, Fingerprint, HubLedger, LedgerError, LimitsChange, NewChip, Refusal};
use jiff::Timestamp;
use sync_proto::EnrolRequest;

use super::World;
use super::tally::{Violation, broken};

/// Something that is done at the hub and moves no money.
#[derive(Debug, Clone)]
pub(crate) enum OfficeAct {
    Block(AccountId),
    Reactivate(AccountId),
    BlockChip(i64),
    ReactivateChip(i64),
    ReplaceChip(i64, NewChip),
    Limits(AccountId, LimitsChange),
    Credit(AccountId, Money),
    Agree(AccountId, Money, String),
    EndAgreement(AccountId),
    /// A till begins a new ledger, with a code and a token of its own.
    Renew(EnrolRequest, Fingerprint),
}

impl OfficeAct {
    pub(crate) fn apply(&self, hub: &mut HubLedger, now: Timestamp) -> Result<(), LedgerError> {
        match self {
            OfficeAct::Block(account) => hub.block_account(*account, now),
            OfficeAct::Reactivate(account) => hub.reactivate_account(*account, now),
            OfficeAct::BlockChip(chip) => hub.block_chip(*chip, now),
            OfficeAct::ReactivateChip(chip) => hub.reactivate_chip(*chip, now),
            OfficeAct::ReplaceChip(chip, new) => hub.replace_chip(*chip, new, now).map(drop),
            OfficeAct::Limits(account, change) => hub.change_limits(*account, *change, now),
            OfficeAct::Credit(account, credit) => hub.change_credit(*account, *credit, now),
            OfficeAct::Agree(account, amount, card) => {
                hub.make_agreement(*account, *amount, card, now)
            }
            OfficeAct::EndAgreement(account) => hub.cancel_agreement(*account, now),
            OfficeAct::Renew(request, token) => {
                hub.renew_code(&request.till, Fingerprint::of(&request.code))?;
                hub.enrol(request, *token, now).map(drop)
            }
        }
    }
}

impl World {
    /// Does something at the hub, which may refuse it, and keeps when it was done.
    pub(crate) fn act(
        &mut self,
        words: &str,
        act: OfficeAct,
    ) -> Result<Result<(), Refusal>, Violation> {
        let now = self.now();
        let before = self.hub_position()?;
        let World { hub, tally, .. } = self;
        // The answer to what was done may be lost, and the second one be a refusal.
        let is_certain = hub.cut.is_none();
        let done = hub.insist(tally, words, |ledger| act.apply(ledger, now))?;
        if done.is_ok() || !is_certain {
            self.reckoning.acts.push((self.now_ms, act));
        }
        self.note_strict_limits(before)?;
        Ok(done)
    }

    /// The same, told and checked.
    pub(crate) fn office(&mut self, words: &str, act: OfficeAct) -> Result<String, Violation> {
        let done = self.act(words, act)?;
        self.note_statuses()?;
        self.check_hub()?;
        Ok(match done {
            Ok(()) => words.to_owned(),
            Err(refusal) => format!("{words}: refused, {refusal}"),
        })
    }

    pub(crate) fn deposit(&mut self, account: u8, kroner: i32) -> Result<String, Violation> {
        let account = self.account_at(account);
        let amount = Money::from_kroner(kroner);
        let key = self.request_key();
        let now = self.now();
        let World { hub, tally, .. } = self;
        let done = hub.insist(tally, "paying in", |ledger| {
            ledger.deposit(account, amount, &key, now)
        })?;
        let words = format!("{kroner} kr are paid into account {account}");
        let words = match done {
            Ok(_) => {
                self.reckoning.move_central(account, amount.ore());
                words
            }
            Err(refusal @ (Refusal::AccountBlocked | Refusal::AccountClosed)) => {
                format!("{words}: refused, {refusal}")
            }
            Err(refusal) => return Err(broken("paying in", &refusal)),
        };
        self.check_hub()?;
        Ok(words)
    }

    pub(crate) fn correct(
        &mut self,
        account: u8,
        kroner: i32,
        force: bool,
    ) -> Result<String, Violation> {
        let account = self.account_at(account);
        let amount = Money::from_kroner(kroner);
        let correction = Correction {
            amount,
            reason: "prøve".to_owned(),
            force,
        };
        let key = self.request_key();
        let now = self.now();
        let World { hub, tally, .. } = self;
        let done = hub.insist(tally, "correcting", |ledger| {
            ledger.correct(account, &correction, &key, now)
        })?;
        let words = format!("account {account} is corrected by {kroner} kr");
        let words = match done {
            Ok(_) => {
                self.reckoning.move_central(account, amount.ore());
                if force {
                    self.reckoning.force(account, -amount.ore());
                    format!("{words}, by force")
                } else {
                    words
                }
            }
            Err(refusal) => format!("{words}: refused, {refusal}"),
        };
        self.check_hub()?;
        Ok(words)
    }

    /// A debit that waits for the tills is given back, or goes on all the same.
    pub(crate) fn end_debit(&mut self, which: u8, force: bool) -> Result<String, Violation> {
        let waiting = self.waiting_debits()?;
        if waiting.is_empty() {
            return Ok("no debit waits".to_owned());
        }
        let debit = &waiting[usize::from(which) % waiting.len()];
        let (id, account, ore) = (debit.id, debit.account, debit.amount.ore());
        let now = self.now();
        let World { hub, tally, .. } = self;
        let done = hub.insist(tally, "ending a debit", |ledger| {
            if force {
                ledger.force_debit(id, now)
            } else {
                ledger.cancel_debit(id, now)
            }
        })?;
        // A refusal is the second answer after a lost one: it waits no more.
        drop(done);
        if force {
            self.reckoning.force(account, ore);
        } else {
            self.reckoning.move_central(account, ore);
        }
        self.check_hub()?;
        let words = if force {
            "goes on by force"
        } else {
            "is given back"
        };
        Ok(format!("a debit of {ore} øre on account {account} {words}"))
    }
}
