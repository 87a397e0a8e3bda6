//! Sales that are taken back, at the till or by an operator: never more than was sold, and no piece
//! of it twice.

use canteen::{AccountId, BusinessDay, Money, Status};
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};
use sync_proto::{SaleLine, VoidLine};

use crate::accounts::{find_account, read_account, uncount, write_spent};
use crate::bookings::{BookingId, BookingKind, Movement, OwnAccount, book, own_account};
use crate::debits::go_on;
use crate::deposits::{Receipt, RequestKey, receipt_of_before, remember};
use crate::error::{LedgerError, Refusal};
use crate::feed::touch_account;
use crate::flags::{Origin, raise_flag};
use crate::replay::{Since, replay};
use crate::store::{HubLedger, HubReader};
use crate::tenancy::{Reach, TenantId, not_empty};
use crate::top_ups::{Purchases, ask_for_top_up};

/// A purchase to be taken back by an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// How much; none: what the lines cost, or all that is left.
    pub amount: Option<Money>,
    /// Pieces of lines; empty: the whole purchase.
    pub lines: Vec<VoidLine>,
    /// Why, as it stands on the statement.
    pub reason: String,
}

/// A purchase that is in the books.
pub(crate) struct Sold {
    pub(crate) booking: BookingId,
    tenant: TenantId,
    /// Who has paid.
    pub(crate) from: AccountId,
    /// Who has sold.
    to: AccountId,
    pub(crate) left: Money,
    pub(crate) day: BusinessDay,
    lines: Vec<SaleLine>,
}

impl HubLedger {
    /// Takes a purchase back, or a part of it. On its own day it gives the limits back, too.
    pub fn refund(
        &mut self,
        sale: BookingId,
        refund: &Refund,
        key: &RequestKey,
        now: Timestamp,
    ) -> Result<Receipt, LedgerError> {
        not_empty("the reason", &refund.reason)?;
        let db = self.change()?;
        let sold = read_sold(&db, sale)?.ok_or_else(|| Refusal::not_found("sale", sale.0))?;
        if let Some(receipt) = receipt_of_before(&db, sold.tenant, key)? {
            return Ok(receipt);
        }
        let most = sold.returnable(&db, &refund.lines)?;
        let amount = refund.amount.unwrap_or(most);
        if amount <= Money::ZERO || amount > most {
            return Err(Refusal::RefundAmount { amount, most }.into());
        }
        let text = format!("Refundering: {}", refund.reason);
        let movement = Movement {
            reference: Some(&sale.0.to_string()),
            ..Movement::at_hub(
                BookingKind::Refund,
                (sold.to, sold.from),
                amount,
                &text,
                now,
            )
        };
        let booking = book(&db, &movement, now)?;
        sold.note_taken_back(&db, amount, &refund.lines)?;
        if let Some(account) = find_account(&db, sold.from)? {
            if sold.day == BusinessDay::of(now) {
                uncount(&db, &account, amount, sold.day)?;
            }
            let account = read_account(&db, account.id)?;
            replay(&db, &account, Since::new(BusinessDay::of(now), now), now)?;
            touch_account(&db, account.canteen, account.id)?;
            go_on(&db, account.id, now)?;
            if let Some((code, detail)) = came_to_closed(&db, account.id, amount)? {
                let origin = Origin::hub(account.tenant);
                let of = (Some(account.id), Some(booking));
                raise_flag(&db, code, &origin, of.0, of.1, &detail, now)?;
            }
        }
        let receipt = remember(&db, sold.tenant, key, booking)?;
        db.commit()?;
        Ok(receipt)
    }

    /// Lets an account pay for a sale that was made on one that nobody knew.
    pub fn assign_sale(
        &mut self,
        sale: BookingId,
        account: AccountId,
        now: Timestamp,
    ) -> Result<BookingId, LedgerError> {
        let rules = self.top_up_rules.clone();
        let db = self.change()?;
        let sold = read_sold(&db, sale)?.ok_or_else(|| Refusal::not_found("sale", sale.0))?;
        let unknown = own_account(&db, sold.tenant, OwnAccount::UnknownAccount, now)?;
        if sold.from != unknown || sold.left == Money::ZERO {
            return Err(Refusal::SaleKnown.into());
        }
        let account = read_account(&db, account)?;
        if account.tenant != sold.tenant {
            return Err(Refusal::not_found("account", account.id).into());
        }
        let lines = serde_json::to_string(&sold.lines)
            .map_err(|_| LedgerError::Unreadable { what: "line" })?;
        let movement = Movement {
            kind: BookingKind::Sale,
            from: account.id,
            to: unknown,
            amount: sold.left,
            happened_at: now,
            day: sold.day,
            text: "Køb",
            lines: Some(&lines),
            till: None,
            reference: None,
        };
        let booking = book(&db, &movement, now)?;
        db.execute(
            "INSERT INTO assignment (sale, account, booking) VALUES (?1, ?2, ?3)",
            (sale.0, account.id.0, booking.0),
        )?;
        let base = account.spent.as_of(account.spent.on().max(sold.day));
        if let Some(spent) = base.plus(sold.left, sold.day) {
            write_spent(&db, account.id, &spent)?;
        }
        let purchases = Purchases {
            count: 1,
            chip: None,
            newest: sold.day,
        };
        let account = read_account(&db, account.id)?;
        replay(&db, &account, Since::new(sold.day, now), now)?;
        ask_for_top_up(&db, &account, &purchases, &rules, now)?;
        touch_account(&db, account.canteen, account.id)?;
        go_on(&db, account.id, now)?;
        db.commit()?;
        Ok(booking)
    }
}

impl HubReader {
    /// Refuses a sale that is out of reach.
    pub fn check_sale_within(&self, reach: Reach, sale: BookingId) -> Result<(), LedgerError> {
        match read_sold(&self.db, sale)? {
            Some(sold) if reach.covers(sold.tenant) => Ok(()),
            Some(_) | None => Err(Refusal::not_found("sale", sale.0).into()),
        }
    }
}

/// Money that came back to an account which is closed is nobody's to see: a person must pay it out.
pub(crate) fn came_to_closed(
    db: &Connection,
    account: AccountId,
    amount: Money,
) -> Result<Option<(&'static str, String)>, LedgerError> {
    let closed = find_account(db, account)?.filter(|account| account.status == Status::Closed);
    Ok(closed.map(|account| {
        let id = account.id;
        let detail = format!(
            "{amount} came back to the closed account {id}; pay it out (POST \
             /v1/accounts/{id}/payouts), or to whom it was moved"
        );
        ("closed_account", detail)
    }))
}

/// A purchase by its booking.
pub(crate) fn read_sold(db: &Connection, sale: BookingId) -> Result<Option<Sold>, LedgerError> {
    type Row = (i64, i64, i64, i64, i64, String, Option<String>);
    let row: Option<Row> = db
        .prepare_cached(
            "SELECT o.tenant, coalesce(g.account, b.from_account), coalesce(d.target, b.to_account), b.amount,
               coalesce(t.amount, 0), b.day, b.lines
             FROM booking b JOIN account o ON o.id = b.from_account
             LEFT JOIN taken_back t ON t.sale = b.id
             LEFT JOIN assignment g ON g.sale = b.id
             LEFT JOIN debit d ON d.reserve = b.id
             WHERE b.id = ?1 AND b.kind IN ('sale', 'order') AND coalesce(d.state, 'posted') = 'posted'
               AND NOT EXISTS (SELECT 1 FROM assignment WHERE booking = b.id)
               AND NOT EXISTS (SELECT 1 FROM debit WHERE booking = b.id)",
        )?
        .query_row([sale.0], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get(2)?,
                row.get(3)?,
                row.get(4)?,
                row.get(5)?,
                row.get(6)?,
            ))
        })
        .optional()?;
    let Some((tenant, from, to, amount, taken_back, day, lines)) = row else {
        return Ok(None);
    };
    Ok(Some(Sold {
        booking: sale,
        tenant: TenantId(tenant),
        from: AccountId(from),
        to: AccountId(to),
        left: Money::from_ore(amount - taken_back),
        day: day
            .parse()
            .map_err(|_| LedgerError::Unreadable { what: "day" })?,
        lines: match lines {
            Some(json) => {
                serde_json::from_str(&json).map_err(|_| LedgerError::Unreadable { what: "line" })?
            }
            None => Vec::new(),
        },
    }))
}

impl Sold {
    /// The most that can be taken back for these pieces, or for all when none are named.
    pub(crate) fn returnable(
        &self,
        db: &Connection,
        lines: &[VoidLine],
    ) -> Result<Money, LedgerError> {
        if lines.is_empty() {
            return Ok(self.left);
        }
        let mut most = Money::ZERO;
        for (line, pieces) in self.pieces_left(db, lines)? {
            let unit_price = self.lines[line].unit_price;
            most = unit_price
                .checked_mul(pieces)
                .and_then(|amount| most.checked_add(amount))
                .ok_or(LedgerError::Unreadable { what: "line" })?;
        }
        Ok(most.clamp(Money::ZERO, self.left))
    }

    /// Notes what has been taken back.
    pub(crate) fn note_taken_back(
        &self,
        db: &Connection,
        amount: Money,
        lines: &[VoidLine],
    ) -> Result<(), LedgerError> {
        db.prepare_cached(
            "INSERT INTO taken_back (sale, amount) VALUES (?1, ?2)
             ON CONFLICT (sale) DO UPDATE SET amount = amount + ?2",
        )?
        .execute((self.booking.0, amount.ore()))?;
        for (line, pieces) in self.pieces_left(db, lines)? {
            let line = i64::try_from(line).unwrap_or(i64::MAX);
            db.prepare_cached(
                "INSERT INTO taken_back_line (sale, line, quantity) VALUES (?1, ?2, ?3)
                 ON CONFLICT (sale, line) DO UPDATE SET quantity = quantity + ?3",
            )?
            .execute((self.booking.0, line, pieces))?;
        }
        Ok(())
    }

    /// By place of a line: how many of the named pieces are there and not taken back yet.
    fn pieces_left(
        &self,
        db: &Connection,
        named: &[VoidLine],
    ) -> Result<Vec<(usize, u32)>, LedgerError> {
        let mut wanted = std::collections::BTreeMap::<u32, u32>::new();
        for line in named {
            let pieces = wanted.entry(line.line).or_default();
            *pieces = pieces.saturating_add(line.quantity);
        }
        let mut left = Vec::new();
        for (place, pieces) in wanted {
            let Ok(index) = usize::try_from(place) else {
                continue;
            };
            let Some(line) = self.lines.get(index) else {
                continue;
            };
            let taken: Option<u32> = db
                .prepare_cached(
                    "SELECT quantity FROM taken_back_line WHERE sale = ?1 AND line = ?2",
                )?
                .query_row((self.booking.0, place), |row| row.get(0))
                .optional()?;
            let there = line.quantity.saturating_sub(taken.unwrap_or(0));
            left.push((index, pieces.min(there)));
        }
        left.retain(|(_, pieces)| *pieces > 0);
        Ok(left)
    }
}

#[cfg(test)]
mod tests {
    use sync_proto::{EntryBody, FeedPosition, Record, Sale, Void};
    use uuid::Uuid;

    use super::*;
    use crate::testbed::{Bed, NOW, TestTill, kr, sale, void};

    fn line(quantity: u32, text: &str, unit_price: Money) -> SaleLine {
        SaleLine {
            quantity,
            text: text.to_owned(),
            unit_price,
            amount: unit_price.checked_mul(quantity).unwrap(),
        }
    }

    /// 3 buns of 5 kr and a dish of 22 kr: 37 kr in all.
    fn lunch(account: AccountId, chip: i64) -> EntryBody {
        let EntryBody::Sale(one_dish) = sale(account, chip, kr(37)) else {
            unreachable!("it is a sale");
        };
        EntryBody::Sale(Sale {
            lines: vec![line(3, "Bolle", kr(5)), line(1, "Dagens ret", kr(22))],
            ..one_dish
        })
    }

    fn void_lines(account: AccountId, of: Uuid, amount: Money, lines: &[(u32, u32)]) -> EntryBody {
        let EntryBody::Void(whole) = void(account, of, 1, amount) else {
            unreachable!("it is a void");
        };
        let lines = lines.iter().map(|(line, quantity)| VoidLine {
            line: *line,
            quantity: *quantity,
        });
        EntryBody::Void(Void {
            lines: lines.collect(),
            ..whole
        })
    }

    fn sold() -> (Bed, (AccountId, i64), TestTill, Uuid, BookingId) {
        let mut bed = Bed::new();
        let payer = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        let of = bed.send(&mut till, [lunch(payer.0, payer.1)])[0];
        let day = BusinessDay::of(NOW);
        let rows = bed.ledger.statement(payer.0, day..=day).unwrap();
        let booking = rows.last().unwrap().id;
        (bed, payer, till, of, booking)
    }

    fn refund(
        bed: &mut Bed,
        sale: BookingId,
        amount: Option<i32>,
        lines: &[(u32, u32)],
    ) -> Result<Money, &'static str> {
        let refund = Refund {
            amount: amount.map(kr),
            lines: lines
                .iter()
                .map(|(line, quantity)| VoidLine {
                    line: *line,
                    quantity: *quantity,
                })
                .collect(),
            reason: "forkert vare".to_owned(),
        };
        let key = bed.key();
        match bed.ledger.refund(sale, &refund, &key, NOW) {
            Ok(receipt) => Ok(receipt.booking.amount),
            Err(LedgerError::Refused(refusal)) => Err(refusal.code()),
            Err(error) => panic!("{error}"),
        }
    }

    /// A void: its amount, its pieces, and what comes back to the account.
    type VoidCase<'a> = (i32, &'a [(u32, u32)], i32);

    #[track_caller]
    fn check(voids: &[VoidCase<'_>]) {
        let (mut bed, (account, _), mut till, of, _) = sold();
        let mut excess = kr(0);
        for (amount, lines, back) in voids {
            let before = bed.balance(account);
            bed.send(&mut till, [void_lines(account, of, kr(*amount), lines)]);
            let got = bed.balance(account).checked_sub(before).unwrap();
            assert_eq!(got, kr(*back), "{amount} {lines:?}");
            let over = kr(amount - back);
            excess = excess.checked_add(over).unwrap();
        }
        assert_eq!(bed.own_balance("suspense_refund_excess"), excess);
        assert_eq!(
            bed.flags().contains(&"refund_excess".to_owned()),
            excess > kr(0)
        );
        bed.check_books();
    }

    #[test]
    fn ref_01_each_piece_of_a_sale_is_taken_back_once() {
        check(&[(10, &[(0, 2)], 10), (5, &[(0, 1)], 5), (22, &[(1, 1)], 22)]);
        check(&[(10, &[(0, 2)], 10), (10, &[(0, 2)], 5)]);
        check(&[(5, &[(0, 1)], 5), (32, &[], 32), (22, &[(1, 1)], 0)]);
        check(&[(37, &[], 37), (5, &[(0, 1)], 0)]);
        check(&[(22, &[(7, 1)], 0)]);
        check(&[(30, &[(1, 1), (1, 1)], 22)]);
    }

    #[test]
    fn ref_02_an_operator_takes_back_lines_an_amount_or_all_that_is_left() {
        let (mut bed, (account, _), _, _, sale) = sold();
        assert_eq!(refund(&mut bed, sale, None, &[(0, 1)]), Ok(kr(5)));
        assert_eq!(refund(&mut bed, sale, Some(2), &[]), Ok(kr(2)));
        assert_eq!(refund(&mut bed, sale, Some(31), &[]), Err("refund-amount"));
        assert_eq!(refund(&mut bed, sale, Some(0), &[]), Err("refund-amount"));
        assert_eq!(refund(&mut bed, sale, None, &[(0, 9)]), Ok(kr(10)));
        assert_eq!(refund(&mut bed, sale, None, &[]), Ok(kr(20)));
        assert_eq!(refund(&mut bed, sale, None, &[]), Err("refund-amount"));
        assert_eq!(bed.balance(account), kr(100));
        let nothing = bed.ledger.account(account).unwrap().spent.day();
        assert_eq!(nothing, kr(0), "on the same day the limits are given back");
        let key = bed.key();
        let lost = BookingId(424_242);
        let refund = Refund {
            amount: None,
            lines: Vec::new(),
            reason: "x".to_owned(),
        };
        assert!(bed.ledger.refund(lost, &refund, &key, NOW).is_err());
        bed.check_books();
    }

    #[test]
    fn a_void_that_gives_nothing_back_is_told_to_the_till_that_counts_it() {
        let (mut bed, (account, _), mut till, of, sale) = sold();
        assert_eq!(refund(&mut bed, sale, None, &[]), Ok(kr(37)));
        let (hub_epoch, cursor) = bed.ledger.hub_position().unwrap();
        bed.send(&mut till, [void(account, of, 1, kr(37))]);
        let from = FeedPosition { hub_epoch, cursor };
        let page = bed.ledger.feed(&till.access, from, None, NOW);
        let records: Vec<_> = page.unwrap().unwrap().changes;
        let told = records.iter().find_map(|change| match &change.record {
            Record::Account(record) => Some((record.position, record.incl_seq)),
            _ => None,
        });
        assert_eq!(told, Some((kr(100), till.last_seq())));
    }

    #[test]
    fn ref_03_a_void_after_a_refund_goes_to_suspense_and_is_listed() {
        let (mut bed, (account, _), mut till, of, sale) = sold();
        assert_eq!(refund(&mut bed, sale, None, &[]), Ok(kr(37)));
        bed.send(&mut till, [void(account, of, 1, kr(37))]);
        assert_eq!(bed.balance(account), kr(100));
        assert_eq!(bed.own_balance("suspense_refund_excess"), kr(37));
        assert_eq!(bed.flags(), ["refund_excess"]);
        bed.check_books();
    }

    #[test]
    fn lim_03_a_refund_on_a_later_day_gives_no_limit_back() {
        let (mut bed, (account, _), _, _, sale) = sold();
        let tomorrow = NOW + std::time::Duration::from_secs(24 * 3600);
        let key = bed.key();
        let refund = Refund {
            amount: None,
            lines: Vec::new(),
            reason: "x".to_owned(),
        };
        bed.ledger.refund(sale, &refund, &key, tomorrow).unwrap();
        let again = bed.ledger.refund(sale, &refund, &key, tomorrow).unwrap();
        assert!(again.replayed);
        assert_eq!(bed.balance(account), kr(100));
        assert_eq!(bed.ledger.account(account).unwrap().spent.week(), kr(37));
    }

    #[test]
    fn rec_02_a_sale_on_an_unknown_account_is_assigned_once_and_its_void_follows() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(100));
        let mut till = bed.till("kasse-1");
        let of = bed.send(&mut till, [sale(AccountId(424_242), 1, kr(22))])[0];
        let sale_booking = bed
            .ledger
            .list_flags(Reach::Everything, None, i64::MAX, 1)
            .unwrap()[0]
            .booking
            .unwrap();
        bed.ledger.assign_sale(sale_booking, account, NOW).unwrap();
        assert_eq!(bed.balance(account), kr(78));
        assert_eq!(bed.own_balance("suspense_unknown_account"), kr(0));
        assert_eq!(bed.ledger.account(account).unwrap().spent.day(), kr(22));
        let again = bed.ledger.assign_sale(sale_booking, account, NOW);
        assert!(matches!(
            again,
            Err(LedgerError::Refused(Refusal::SaleKnown))
        ));
        bed.send(&mut till, [void(AccountId(424_242), of, 1, kr(22))]);
        assert_eq!(bed.balance(account), kr(100));
        let own = bed.send(&mut till, [sale(account, chip, kr(1))]);
        assert_eq!(own.len(), 1);
        let day = BusinessDay::of(NOW);
        let rows = bed.ledger.statement(account, day..=day).unwrap();
        let known = rows.last().unwrap().id;
        assert!(bed.ledger.assign_sale(known, account, NOW).is_err());
        bed.check_books();
    }

    #[test]
    fn rec_03_a_sale_on_a_moved_account_is_paid_by_its_successor() {
        let mut bed = Bed::new();
        let (first, chip) = bed.account(kr(0));
        let (second, _) = bed.account(kr(0));
        let (third, _) = bed.account(kr(50));
        for (from, to) in [(first, second), (second, third)] {
            assert!(
                bed.ledger
                    .close_account(from, crate::Rest::Moved(to), NOW)
                    .unwrap()
            );
        }
        let mut till = bed.till("kasse-1");
        let of = bed.send(&mut till, [sale(first, chip, kr(22))])[0];
        assert_eq!(bed.balance(third), kr(28));
        assert_eq!(bed.flags(), [""; 0]);
        bed.send(&mut till, [void(first, of, 1, kr(22))]);
        assert_eq!(bed.balance(third), kr(50));
        bed.check_books();
    }

    #[test]
    fn what_comes_back_to_a_closed_account_is_flagged_and_can_be_paid_out() {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(37));
        let mut till = bed.till("kasse-1");
        let of = bed.send(&mut till, [sale(account, chip, kr(37))])[0];
        bed.ledger.revoke_till(&till.access.till, NOW).unwrap();
        bed.ledger.retire_till(&till.access.till, NOW).unwrap();
        let closed = bed.ledger.close_account(account, crate::Rest::Nothing, NOW);
        assert!(closed.unwrap());

        let sale = bed.ledger.db.query_row(
            "SELECT id FROM booking WHERE kind = 'sale' AND reference = ?1",
            [of.to_string()],
            |row| row.get(0).map(BookingId),
        );
        let ten = Refund {
            amount: Some(kr(10)),
            lines: Vec::new(),
            reason: "kold mad".to_owned(),
        };
        let key = bed.key();
        bed.ledger.refund(sale.unwrap(), &ten, &key, NOW).unwrap();
        assert_eq!(bed.flags(), ["closed_account", "retired_till"]);
        till.write(void(account, of, 1, kr(27)));
        let seq = till.last_seq();
        let sent = bed.ledger.ingest_branch(&till.batch(seq..=seq), NOW);
        assert!(sent.unwrap().is_ok());
        assert_eq!(
            bed.flags(),
            ["closed_account", "closed_account", "retired_till"]
        );
        assert_eq!(bed.balance(account), kr(37));
        let key = bed.key();
        bed.ledger
            .pay_out(account, kr(37), "", false, &key, NOW)
            .unwrap();
        assert_eq!(bed.balance(account), kr(0));
        bed.check_books();
    }
}
