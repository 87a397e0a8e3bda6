//! The gateway's settlement file, held against the books.
//!
//! What the gateway says at the moment of a charge is not the last word: it may approve a repeated
//! charge and hold it back from settlement. The file is the last word. What it calls settled is
//! booked, if it was not; what it calls suspended is not money on an account, whatever was answered
//! before, and a person must look; and what differs otherwise is an alarm.

use canteen::Money;
use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension};

use crate::bookings::BookingId;
use crate::error::LedgerError;
use crate::flags::{Origin, raise_flag};
use crate::restore::tenants;
use crate::store::{HubLedger, millis};
use crate::tenancy::TenantId;
use crate::top_ups::{Held, Reconciled, reconcile_top_up};

/// What the gateway lists of a period.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SettlementFile {
    /// The charges.
    pub charges: Vec<ListedCharge>,
    /// When given, the file lists every charge made from the first moment to the second: what the books
    /// have of that time and the file has not is missing.
    pub covers: Option<(Timestamp, Timestamp)>,
}

/// A charge in a settlement file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedCharge {
    /// Our name for it, or the portal's.
    pub reference: String,
    /// The gateway's name for it.
    pub transaction: String,
    /// The gateway's name for the stored card, when the file tells it.
    pub card: Option<String>,
    /// How much.
    pub amount: Money,
    /// What the gateway does with the money.
    pub state: ChargeState,
}

/// What the gateway does with the money of a charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChargeState {
    /// It is paid out.
    Settled,
    /// It is held back.
    Suspended,
}

/// How a file and the books differ; charges go by their references.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settlement {
    /// Charges that the books had as the file has them.
    pub agreed: u32,
    /// Charges that are booked now, or on their way back because the account is blocked.
    pub booked: u32,
    /// Charges that the gateway holds back.
    pub suspended: Vec<String>,
    /// Charges whose amount or end is another one in the books.
    pub differing: Vec<String>,
    /// Charges that the books do not know.
    pub unknown: Vec<String>,
    /// Charges in the books that the file should have and has not.
    pub missing: Vec<String>,
}

impl HubLedger {
    /// Holds a settlement file against the books, and flags what a person must look at. The same file
    /// again changes nothing.
    pub fn reconcile(
        &mut self,
        file: &SettlementFile,
        now: Timestamp,
    ) -> Result<Settlement, LedgerError> {
        let rules = self.top_up_rules.clone();
        let db = self.change()?;
        let mut settlement = Settlement::default();
        for charge in &file.charges {
            let name = charge.reference.clone();
            let reconciled = match reconcile_top_up(&db, &rules, charge, now)? {
                Some(reconciled) => reconciled,
                None => reconcile_deposit(&db, charge, now)?,
            };
            match reconciled {
                Reconciled::Agreed => settlement.agreed += 1,
                Reconciled::Booked => settlement.booked += 1,
                Reconciled::Suspended(_) => settlement.suspended.push(name),
                Reconciled::Differs(_) => settlement.differing.push(name),
                Reconciled::Unknown => settlement.unknown.push(name),
            }
            alarm(&db, charge, reconciled, now)?;
        }
        if let Some((from, through)) = file.covers {
            settlement.missing = find_missing(&db, from, through, now)?;
        }
        db.commit()?;
        Ok(settlement)
    }
}

/// A guardian's own deposit needs nothing booked; the portal has told of it before.
fn reconcile_deposit(
    db: &Connection,
    charge: &ListedCharge,
    now: Timestamp,
) -> Result<Reconciled, LedgerError> {
    let found = db
        .prepare_cached(
            "UPDATE card_deposit SET reconciled_at = coalesce(reconciled_at, ?2)
             WHERE gateway_transaction = ?1
             RETURNING amount, (SELECT a.tenant FROM booking b JOIN account a ON a.id = b.holder
                                WHERE b.id = card_deposit.booking),
               (SELECT holder FROM booking WHERE id = card_deposit.booking), booking",
        )?
        .query_row((&charge.transaction, millis(now)), |row| {
            let held = Held {
                tenant: TenantId(row.get(1)?),
                account: canteen::AccountId(row.get(2)?),
                booking: Some(BookingId(row.get(3)?)),
            };
            Ok((Money::from_ore(row.get(0)?), held))
        })
        .optional()?;
    Ok(match (found, charge.state) {
        (None, _) => Reconciled::Unknown,
        (Some((_, held)), ChargeState::Suspended) => Reconciled::Suspended(held),
        (Some((amount, _)), ChargeState::Settled) if amount == charge.amount => Reconciled::Agreed,
        (Some((_, held)), ChargeState::Settled) => Reconciled::Differs(held),
    })
}

fn alarm(
    db: &Connection,
    charge: &ListedCharge,
    reconciled: Reconciled,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let ListedCharge {
        reference, amount, ..
    } = charge;
    match reconciled {
        Reconciled::Agreed | Reconciled::Booked => Ok(()),
        Reconciled::Suspended(held) => {
            let detail = format!(
                "the gateway holds the charge {reference} of {amount} back; look at the gateway"
            );
            flag_once(db, "charge_suspended", held, &detail, now)
        }
        Reconciled::Differs(held) => {
            let detail = format!(
                "the gateway's settlement has the charge {reference} with {amount}, the books have \
                 it otherwise"
            );
            flag_once(db, "settlement_differs", held, &detail, now)
        }
        Reconciled::Unknown => {
            let detail = format!(
                "the gateway's settlement has a charge {reference} of {amount} that is not in the \
                 books"
            );
            for tenant in tenants_of_card(db, charge.card.as_deref())? {
                flag_tenant_once(db, "settlement_unknown", tenant, &detail, now)?;
            }
            Ok(())
        }
    }
}

/// Whose charge it may be: that of the tenant whose account has an agreement on the card, else
/// anybody's.
pub(crate) fn tenants_of_card(
    db: &Connection,
    card: Option<&str>,
) -> Result<Vec<TenantId>, LedgerError> {
    let of_card: Vec<TenantId> = db
        .prepare_cached(
            "SELECT DISTINCT a.tenant FROM agreement g JOIN account a ON a.id = g.account
             WHERE g.card = ?1",
        )?
        .query_map([card], |row| row.get(0).map(TenantId))?
        .collect::<Result<_, _>>()?;
    if of_card.is_empty() {
        return tenants(db);
    }
    Ok(of_card)
}

/// What is booked of that time and in no file. Each is missed once.
fn find_missing(
    db: &Connection,
    from: Timestamp,
    through: Timestamp,
    now: Timestamp,
) -> Result<Vec<String>, LedgerError> {
    let mut missing = Vec::new();
    for sql in [
        "UPDATE top_up SET reconciled_at = ?3
         WHERE state = 'settled' AND reconciled_at IS NULL AND sent_at BETWEEN ?1 AND ?2
         RETURNING coalesce(reference, id), account, booking",
        "UPDATE card_deposit SET reconciled_at = ?3
         WHERE reconciled_at IS NULL AND charged_at BETWEEN ?1 AND ?2
         RETURNING reference, (SELECT holder FROM booking WHERE id = card_deposit.booking), booking",
    ] {
        let mut statement = db.prepare_cached(sql)?;
        let mut rows = statement.query((millis(from), millis(through), millis(now)))?;
        while let Some(row) = rows.next()? {
            let reference: String = row.get(0)?;
            let account = canteen::AccountId(row.get(1)?);
            let booking = row.get::<_, Option<i64>>(2)?.map(BookingId);
            missing.push((reference, account, booking));
        }
    }
    for (reference, account, booking) in &missing {
        let account = crate::accounts::read_account(db, *account)?;
        let held = Held {
            tenant: account.tenant,
            account: account.id,
            booking: *booking,
        };
        let detail = format!(
            "the charge {reference} is booked and missing in the gateway's settlement; ask the \
             gateway"
        );
        flag_once(db, "settlement_missing", held, &detail, now)?;
    }
    Ok(missing.into_iter().map(|(name, _, _)| name).collect())
}

fn flag_once(
    db: &Connection,
    code: &str,
    held: Held,
    detail: &str,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let known = db
        .prepare_cached("SELECT 1 FROM flag WHERE account = ?1 AND code = ?2 AND detail = ?3")?
        .exists((held.account.0, code, detail))?;
    if known {
        return Ok(());
    }
    let origin = of_tenant(held.tenant);
    let (account, booking) = (Some(held.account), held.booking);
    raise_flag(db, code, &origin, account, booking, detail, now)
}

fn flag_tenant_once(
    db: &Connection,
    code: &str,
    tenant: TenantId,
    detail: &str,
    now: Timestamp,
) -> Result<(), LedgerError> {
    let known = db
        .prepare_cached(
            "SELECT 1 FROM flag WHERE account IS NULL AND tenant = ?1 AND code = ?2 AND detail = ?3",
        )?
        .exists((tenant.0, code, detail))?;
    if known {
        return Ok(());
    }
    raise_flag(db, code, &of_tenant(tenant), None, None, detail, now)
}

fn of_tenant(tenant: TenantId) -> Origin<'static> {
    Origin::hub(tenant)
}
