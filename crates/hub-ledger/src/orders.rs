//! Purchases that are not made at a till: orders of a web shop, paid from the balance.

use canteen::{
    Account, AccountId, BusinessDay, Decision, DeclineReason, Money, PurchaseAmount, TopUp,
    TopUpOutcome, decide_order,
};
use jiff::Timestamp;
use rusqlite::Connection;
use sync_proto::SaleLine;

use crate::accounts::{AccountRow, read_account, write_spent};
use crate::agreements::top_up_record;
use crate::bookings::{BookingKind, OwnAccount, own_account};
use crate::debits::{Debit, take_out};
use crate::deposits::{Receipt, RequestKey, receipt_of_before, remember};
use crate::error::{LedgerError, Refusal};
use crate::feed::touch_account;
use crate::limit_shares::{keep_for_order, left_for_order, reach_day};
use crate::store::HubLedger;
use crate::top_ups::{Purchases, ask_for_top_up};

/// What became of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderAnswer {
    /// The account has paid, or its money is set aside for it.
    Paid(Receipt),
    /// The account does not pay.
    Declined(DeclineReason),
}

impl HubLedger {
    /// Pays an order from the balance, by the rules of a purchase at a till with the newest data.
    /// Like one, it counts against the limits and may fire the automatic top-up.
    pub fn order(
        &mut self,
        account: AccountId,
        lines: &[SaleLine],
        key: &RequestKey,
        now: Timestamp,
    ) -> Result<OrderAnswer, LedgerError> {
        let rules = self.top_up_rules.clone();
        let amount = sum_of(lines)?;
        let db = self.change()?;
        reach_day(&db, now)?;
        let account = read_account(&db, account)?;
        if let Some(receipt) = receipt_of_before(&db, account.tenant, key)? {
            return Ok(OrderAnswer::Paid(receipt));
        }
        let purchases = Purchases {
            count: 1,
            chip: None,
            newest: BusinessDay::of(now),
        };
        let day = BusinessDay::of(now).max(account.spent.on());
        let decision = decide_order(&account_of(&db, &account, now)?, amount, day);
        let answer = match within_shares(&db, &account, decision, amount, day)? {
            Decision::Decline { reason, .. } => {
                if let DeclineReason::InsufficientFunds { .. } = reason {
                    ask_for_top_up(&db, &account, &purchases, &rules, now)?;
                }
                OrderAnswer::Declined(reason)
            }
            Decision::Approve { spent_after, .. } => {
                let debit = Debit {
                    kind: BookingKind::Order,
                    amount: amount.money(),
                    target: own_account(&db, account.tenant, OwnAccount::Orders, now)?,
                    text: "Webshop",
                    lines,
                    floor: None,
                    force: false,
                };
                let booking = take_out(&db, &account, &debit, now)?;
                write_spent(&db, account.id, &spent_after)?;
                let receipt = remember(&db, account.tenant, key, booking)?;
                let account = read_account(&db, account.id)?;
                ask_for_top_up(&db, &account, &purchases, &rules, now)?;
                OrderAnswer::Paid(receipt)
            }
        };
        touch_account(&db, account.canteen, account.id)?;
        db.commit()?;
        Ok(answer)
    }
}

/// The decision, unless tills may be selling what is left of strict limits at this moment: then so
/// much is taken back from them, and the order can be made when they have acknowledged that.
fn within_shares(
    db: &Connection,
    account: &AccountRow,
    decision: Decision,
    amount: PurchaseAmount,
    day: BusinessDay,
) -> Result<Decision, LedgerError> {
    let Decision::Approve { .. } = decision else {
        return Ok(decision);
    };
    let left = left_for_order(db, account, day)?;
    let Some(left) = left.filter(|left| *left < amount.money()) else {
        keep_for_order(db, account.id, Money::ZERO)?;
        return Ok(decision);
    };
    keep_for_order(db, account.id, amount.money())?;
    Ok(Decision::Decline {
        reason: DeclineReason::LimitNotHere { left },
        top_up: TopUpOutcome::None,
    })
}

fn sum_of(lines: &[SaleLine]) -> Result<PurchaseAmount, Refusal> {
    let whole = lines.iter().all(|line| {
        line.quantity > 0
            && line.unit_price >= Money::ZERO
            && line.unit_price.checked_mul(line.quantity) == Some(line.amount)
            && !line.text.trim().is_empty()
    });
    let sum = Money::checked_sum(lines.iter().map(|line| line.amount)).filter(|_| whole);
    sum.and_then(|sum| PurchaseAmount::new(sum).ok())
        .ok_or(Refusal::OrderLines)
}

fn account_of(
    db: &Connection,
    account: &AccountRow,
    now: Timestamp,
) -> Result<Account, LedgerError> {
    let top_up = top_up_record(db, account, now)?;
    Ok(Account {
        id: account.id,
        status: account.status,
        balance: account.balance,
        credit: account.credit,
        limits: account.limits,
        spent: account.spent,
        strict: None,
        allowance: None,
        top_up: top_up.map(|top_up| TopUp {
            amount: top_up.amount,
            armed: top_up.armed,
            state: top_up.state,
        }),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seller::{bound, sellers};
    use crate::testbed::{Bed, NOW, kr};
    use crate::{LimitsChange, Reach};

    fn dish(price: Money) -> SaleLine {
        SaleLine {
            quantity: 1,
            text: "Dagens ret".to_owned(),
            unit_price: price,
            amount: price,
        }
    }

    fn order(bed: &mut Bed, account: AccountId, price: Money) -> String {
        let key = bed.key();
        match bed
            .ledger
            .order(account, &[dish(price)], &key, NOW)
            .unwrap()
        {
            OrderAnswer::Paid(receipt) => match receipt.pending {
                None => format!("paid, {} left", receipt.booking.balance_after.bare()),
                Some(_) => "set aside".to_owned(),
            },
            OrderAnswer::Declined(reason) => reason.code().to_owned(),
        }
    }

    fn armed(bed: &mut Bed, balance: Money) -> AccountId {
        let (account, _) = bed.account(balance.checked_sub(kr(100)).unwrap());
        bed.pay_in(account, kr(100));
        bed.ledger
            .make_agreement(account, kr(200), "demo-card-1", NOW)
            .unwrap();
        account
    }

    fn top_ups(bed: &Bed, account: AccountId) -> usize {
        let rows = bed
            .ledger
            .list_top_ups(Reach::Everything, Some(account), None, 9);
        rows.unwrap().len()
    }

    #[test]
    fn tu_16_an_order_that_leaves_less_than_50_kr_fires_the_top_up() {
        let mut bed = Bed::new();
        let account = armed(&mut bed, kr(60));
        assert_eq!(order(&mut bed, account, kr(10)), "paid, 50,00 left");
        assert_eq!(top_ups(&bed, account), 0);
        assert_eq!(order(&mut bed, account, kr(30)), "paid, 20,00 left");
        assert_eq!(top_ups(&bed, account), 1);
        let poor = armed(&mut bed, kr(20));
        assert_eq!(order(&mut bed, poor, kr(45)), "insufficient_funds");
        assert_eq!(top_ups(&bed, poor), 1);
        bed.check_books();
    }

    #[test]
    fn an_order_is_decided_like_a_purchase_and_counts_like_one() {
        let mut bed = Bed::new();
        let (account, _) = bed.account(kr(100));
        let limits = LimitsChange {
            day: Some(Some(kr(50))),
            ..LimitsChange::default()
        };
        bed.ledger.change_limits(account, limits, NOW).unwrap();
        assert_eq!(order(&mut bed, account, kr(30)), "paid, 70,00 left");
        assert_eq!(bed.ledger.account(account).unwrap().spent.day(), kr(30));
        assert_eq!(order(&mut bed, account, kr(21)), "limit_day");
        bed.ledger.block_account(account, NOW).unwrap();
        assert_eq!(order(&mut bed, account, kr(1)), "account_blocked");
        assert_eq!(bed.own_balance("order_sales"), kr(30));
        let key = bed.key();
        let mut wrong = dish(kr(10));
        wrong.quantity = 2;
        for lines in [vec![], vec![wrong], vec![dish(kr(0))]] {
            let refused = bed.ledger.order(account, &lines, &key, NOW);
            assert!(matches!(
                refused,
                Err(LedgerError::Refused(Refusal::OrderLines))
            ));
        }
    }

    #[test]
    fn an_order_waits_for_tills_that_may_be_spending_the_money() {
        let mut bed = Bed::new();
        bound(&mut bed, Money::ZERO, kr(200));
        let payer = bed.account(kr(100));
        let [mut till] = sellers(&mut bed);
        assert_eq!(order(&mut bed, payer.0, kr(80)), "set aside");
        till.catch_up(&mut bed);
        till.write_feed_ack();
        till.push_all(&mut bed);
        assert_eq!(bed.own_balance("order_sales"), kr(80));
        assert_eq!(till.left(payer.0), kr(20));
        // Given up, it counts against no limit.
        assert_eq!(order(&mut bed, payer.0, kr(20)), "set aside");
        assert_eq!(bed.ledger.account(payer.0).unwrap().spent.day(), kr(100));
        let waiting = bed
            .ledger
            .list_debits(Reach::Everything, i64::MAX, 1)
            .unwrap()[0]
            .id;
        bed.ledger.cancel_debit(waiting, NOW).unwrap();
        assert_eq!(bed.ledger.account(payer.0).unwrap().spent.day(), kr(80));
        bed.check_books();
    }
}
