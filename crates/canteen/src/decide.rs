//! The decision about one purchase: approved, or declined for exactly one reason.
//!
//! [`decide`] asks its questions in a fixed order and the first that fails gives the reason.
//! The order is a promise to tills, hub and integrators; the table test at the foot is its
//! specification.

use std::time::Duration;

use crate::account::{Account, Limits, Spent, Status};
use crate::calendar::BusinessDay;
use crate::money::{Money, PurchaseAmount};
use crate::proof::ChipIdentity;
use crate::top_up::{TopUpOutcome, top_up_due};

/// What the till knows about the chip that was tapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChipHolding {
    /// Whether the chip itself may buy.
    pub chip_status: Status,
    /// Whether the chip must prove itself: its bare UID does not count.
    pub must_prove: bool,
    /// The account that the chip pays from.
    pub account: Account,
}

/// One purchase to decide about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purchase {
    /// What it costs.
    pub amount: PurchaseAmount,
    /// The business day it counts on.
    pub on: BusinessDay,
    /// How old the till's data about accounts is.
    pub contact: Contact,
}

/// The till's contact with the hub at the moment of the purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// Whether the hub answers right now.
    pub online: bool,
    /// Since when the till has heard nothing new about accounts.
    pub age: Duration,
}

/// What a site allows without contact to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OfflineRules {
    /// Data older than this restricts purchases to the price of a meal.
    pub restricted_after: Duration,
    /// The price of a meal.
    pub meal_price: Money,
    /// Data older than this stops selling.
    pub stopped_after: Duration,
    /// The most that one purchase may cost without contact.
    pub purchase_max: Money,
}

impl Default for OfflineRules {
    fn default() -> OfflineRules {
        OfflineRules {
            restricted_after: HOUR * 72,
            meal_price: Money::from_kroner(60),
            stopped_after: HOUR * 24 * 14,
            purchase_max: Money::from_kroner(200),
        }
    }
}

/// The answer to a purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// The chip pays.
    Approve {
        /// What the account holds afterwards.
        balance_after: Money,
        /// What counts against the limits afterwards.
        spent_after: Spent,
        /// What it does to the automatic top-up.
        top_up: TopUpOutcome,
    },
    /// The chip does not pay.
    Decline {
        /// The first rule that was in the way.
        reason: DeclineReason,
        /// What it does to the automatic top-up.
        top_up: TopUpOutcome,
    },
}

/// Why a purchase is declined, with the figures a person needs, in order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclineReason {
    /// The till cannot write to its ledger, so nothing can be sold.
    JournalUnavailable,
    /// No account is known for the chip.
    UnknownChip,
    /// The chip must prove itself and did not: it may be a copy.
    ChipAuthFailed,
    /// The chip is blocked or closed.
    ChipBlocked,
    /// The account is blocked or closed.
    AccountBlocked,
    /// The till's data is too old for this purchase.
    StaleData {
        /// How old it is.
        age: Duration,
        /// What may still be bought for, if anything.
        purchase_max: Option<Money>,
    },
    /// The daily limit does not allow it.
    LimitDay(LimitFacts),
    /// The weekly limit does not allow it.
    LimitWeek(LimitFacts),
    /// The monthly limit does not allow it.
    LimitMonth(LimitFacts),
    /// The balance does not cover it.
    InsufficientFunds {
        /// What the account holds.
        balance: Money,
    },
    /// The limits are strict, and of what is left of them this till has no share that allows it.
    LimitNotHere {
        /// What it may still sell of them.
        left: Money,
    },
    /// The balance covers it, but without contact to the hub the till may not sell that much.
    OfflineAllowance {
        /// What it may still sell on the account in one purchase.
        left: Money,
    },
}

/// A limit and how much of it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitFacts {
    /// The limit.
    pub limit: Money,
    /// Spent in its window before this purchase.
    pub spent: Money,
    /// What is left of it; never below zero.
    pub left: Money,
}

impl LimitFacts {
    /// What a limit leaves when so much was spent in its window.
    pub fn of(limit: Money, spent: Money) -> LimitFacts {
        let left = limit.checked_sub(spent).unwrap_or(Money::ZERO);
        LimitFacts {
            limit,
            spent,
            left: left.max(Money::ZERO),
        }
    }
}

impl DeclineReason {
    /// The stable code of the reason, as on the wire and in `tillctl`.
    pub fn code(&self) -> &'static str {
        match self {
            DeclineReason::JournalUnavailable => "journal_unavailable",
            DeclineReason::UnknownChip => "unknown_chip",
            DeclineReason::ChipAuthFailed => "chip_auth_failed",
            DeclineReason::ChipBlocked => "chip_blocked",
            DeclineReason::AccountBlocked => "account_blocked",
            DeclineReason::StaleData { .. } => "stale_data",
            DeclineReason::LimitDay(_) => "limit_day",
            DeclineReason::LimitWeek(_) => "limit_week",
            DeclineReason::LimitMonth(_) => "limit_month",
            DeclineReason::InsufficientFunds { .. } => "insufficient_funds",
            DeclineReason::LimitNotHere { .. } => "limit_not_here",
            DeclineReason::OfflineAllowance { .. } => "offline_allowance",
        }
    }

    /// The limit that was in the way, if one was.
    pub fn limit(&self) -> Option<LimitFacts> {
        match self {
            DeclineReason::LimitDay(facts)
            | DeclineReason::LimitWeek(facts)
            | DeclineReason::LimitMonth(facts) => Some(*facts),
            DeclineReason::JournalUnavailable
            | DeclineReason::UnknownChip
            | DeclineReason::ChipAuthFailed
            | DeclineReason::ChipBlocked
            | DeclineReason::AccountBlocked
            | DeclineReason::StaleData { .. }
            | DeclineReason::InsufficientFunds { .. }
            | DeclineReason::LimitNotHere { .. }
            | DeclineReason::OfflineAllowance { .. } => None,
        }
    }

    /// Whether only the hub's leave is missing: a till that reaches the hub asks it for more.
    pub fn can_be_raised(&self) -> bool {
        match self {
            DeclineReason::LimitNotHere { .. } | DeclineReason::OfflineAllowance { .. } => true,
            DeclineReason::JournalUnavailable
            | DeclineReason::UnknownChip
            | DeclineReason::ChipAuthFailed
            | DeclineReason::ChipBlocked
            | DeclineReason::AccountBlocked
            | DeclineReason::StaleData { .. }
            | DeclineReason::LimitDay(_)
            | DeclineReason::LimitWeek(_)
            | DeclineReason::LimitMonth(_)
            | DeclineReason::InsufficientFunds { .. } => false,
        }
    }
}

/// Decides about a purchase by the chip that a reader identified; `None` is a chip that the till
/// does not know.
pub fn decide(
    holding: Option<&ChipHolding>,
    identity: ChipIdentity,
    purchase: &Purchase,
    rules: &OfflineRules,
) -> Decision {
    let Some(holding) = holding else {
        return Decision::Decline {
            reason: unknown(identity),
            top_up: TopUpOutcome::None,
        };
    };
    let account = &holding.account;
    answer(account, first_obstacle(holding, identity, purchase, rules))
}

fn answer(account: &Account, obstacle: Result<(Money, Spent), DeclineReason>) -> Decision {
    match obstacle {
        Ok((balance_after, spent_after)) => Decision::Approve {
            balance_after,
            spent_after,
            top_up: top_up_due(balance_after, account.top_up.as_ref()),
        },
        Err(reason @ DeclineReason::InsufficientFunds { balance }) => Decision::Decline {
            reason,
            top_up: top_up_due(balance, account.top_up.as_ref()),
        },
        Err(reason) => Decision::Decline {
            reason,
            top_up: TopUpOutcome::None,
        },
    }
}

/// A chip that shows a random UID and fails to prove itself claims to be nobody in particular.
fn unknown(identity: ChipIdentity) -> DeclineReason {
    match identity {
        ChipIdentity::Failed { claimed: None } => DeclineReason::ChipAuthFailed,
        ChipIdentity::Bare(_) | ChipIdentity::Proven { .. } | ChipIdentity::Failed { .. } => {
            DeclineReason::UnknownChip
        }
    }
}

fn first_obstacle(
    holding: &ChipHolding,
    identity: ChipIdentity,
    purchase: &Purchase,
    rules: &OfflineRules,
) -> Result<(Money, Spent), DeclineReason> {
    let account = &holding.account;
    if holding.must_prove && !identity.is_proven() {
        return Err(DeclineReason::ChipAuthFailed);
    }
    if holding.chip_status != Status::Active {
        return Err(DeclineReason::ChipBlocked);
    }
    if account.status != Status::Active {
        return Err(DeclineReason::AccountBlocked);
    }
    fresh_enough(purchase, rules)?;
    let spent_after = within_limits(account, purchase)?;
    let balance_after = covered(account, purchase)?;
    within_share(account, purchase)?;
    allowed_offline(account, purchase, rules)?;
    Ok((balance_after, spent_after))
}

/// Decides about an order that no chip is read for, by a hub, whose data is always the newest.
pub fn decide_order(account: &Account, amount: PurchaseAmount, on: BusinessDay) -> Decision {
    let purchase = Purchase {
        amount,
        on,
        contact: Contact {
            online: true,
            age: Duration::ZERO,
        },
    };
    let may_pay = || {
        if account.status != Status::Active {
            return Err(DeclineReason::AccountBlocked);
        }
        let spent_after = within_limits(account, &purchase)?;
        let balance_after = covered(account, &purchase)?;
        Ok((balance_after, spent_after))
    };
    answer(account, may_pay())
}

fn fresh_enough(purchase: &Purchase, rules: &OfflineRules) -> Result<(), DeclineReason> {
    let age = purchase.contact.age;
    if age > rules.stopped_after {
        return Err(DeclineReason::StaleData {
            age,
            purchase_max: None,
        });
    }
    if age > rules.restricted_after && purchase.amount.money() > rules.meal_price {
        return Err(DeclineReason::StaleData {
            age,
            purchase_max: Some(rules.meal_price),
        });
    }
    Ok(())
}

fn within_limits(account: &Account, purchase: &Purchase) -> Result<Spent, DeclineReason> {
    let Limits {
        day, week, month, ..
    } = account.limits;
    let spent = account.spent.as_of(purchase.on);
    let amount = purchase.amount.money();
    within(day, spent.day(), amount).map_err(DeclineReason::LimitDay)?;
    within(week, spent.week(), amount).map_err(DeclineReason::LimitWeek)?;
    within(month, spent.month(), amount).map_err(DeclineReason::LimitMonth)?;
    // Counters out of range: nothing sensible is left of any limit.
    spent
        .plus(amount, purchase.on)
        .ok_or(DeclineReason::LimitMonth(LimitFacts {
            limit: month.unwrap_or(spent.month()),
            spent: spent.month(),
            left: Money::ZERO,
        }))
}

fn within(limit: Option<Money>, spent: Money, amount: Money) -> Result<(), LimitFacts> {
    let Some(limit) = limit else { return Ok(()) };
    let facts = LimitFacts::of(limit, spent);
    if amount > facts.left {
        Err(facts)
    } else {
        Ok(())
    }
}

fn within_share(account: &Account, purchase: &Purchase) -> Result<(), DeclineReason> {
    let strict = account.strict.as_ref();
    let left = strict.and_then(|strict| strict.left(&account.limits, purchase.on));
    match left {
        Some(left) if purchase.amount.money() > left => Err(DeclineReason::LimitNotHere { left }),
        Some(_) | None => Ok(()),
    }
}

fn covered(account: &Account, purchase: &Purchase) -> Result<Money, DeclineReason> {
    let obstacle = DeclineReason::InsufficientFunds {
        balance: account.balance,
    };
    let after = account
        .balance
        .checked_sub(purchase.amount.money())
        .ok_or(obstacle)?;
    let with_credit = after.checked_add(account.credit).ok_or(obstacle)?;
    if with_credit < Money::ZERO {
        Err(obstacle)
    } else {
        Ok(after)
    }
}

fn allowed_offline(
    account: &Account,
    purchase: &Purchase,
    rules: &OfflineRules,
) -> Result<(), DeclineReason> {
    let amount = purchase.amount.money();
    if let Some(allowance) = account.allowance
        && amount > allowance
    {
        return Err(DeclineReason::OfflineAllowance {
            left: allowance.max(Money::ZERO),
        });
    }
    if !purchase.contact.online && amount > rules.purchase_max {
        let left = account
            .allowance
            .unwrap_or(rules.purchase_max)
            .min(rules.purchase_max);
        return Err(DeclineReason::OfflineAllowance { left });
    }
    Ok(())
}

const HOUR: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::account::AccountId;
    use crate::chip::ChipId;
    use crate::proof::KeyVersion;
    use crate::strict_limits::{LimitMode, LimitShare, LimitShares, StrictLimits};
    use crate::top_up::{TopUp, TopUpState};

    fn kr(kroner: i32) -> Money {
        Money::from_kroner(kroner)
    }

    fn today() -> BusinessDay {
        "2026-11-20".parse().unwrap()
    }

    fn holding(balance: Money) -> ChipHolding {
        ChipHolding {
            chip_status: Status::Active,
            must_prove: false,
            account: Account {
                id: AccountId(1),
                status: Status::Active,
                balance,
                credit: Money::ZERO,
                limits: Limits::default(),
                spent: Spent::nothing(today()),
                strict: None,
                allowance: None,
                top_up: None,
            },
        }
    }

    fn bare() -> ChipIdentity {
        ChipIdentity::Bare(ChipId::from_uid(&[0x72, 0xBF, 0x99, 0x61]).unwrap())
    }

    fn proven() -> ChipIdentity {
        ChipIdentity::Proven {
            chip: ChipId::from_uid(&[0x72, 0xBF, 0x99, 0x61]).unwrap(),
            key_version: KeyVersion(1),
        }
    }

    fn purchase(amount: Money) -> Purchase {
        Purchase {
            amount: PurchaseAmount::new(amount).unwrap(),
            on: today(),
            contact: Contact {
                online: true,
                age: Duration::ZERO,
            },
        }
    }

    /// What `change` makes of an account with 500 kr and nothing spent, offered at `amount`.
    #[track_caller]
    fn check(change: impl FnOnce(&mut ChipHolding, &mut Purchase), amount: Money, expect: &str) {
        let mut holding = holding(kr(500));
        let mut purchase = purchase(amount);
        change(&mut holding, &mut purchase);
        let decision = decide(Some(&holding), bare(), &purchase, &OfflineRules::default());
        let shown = match decision {
            Decision::Approve {
                balance_after,
                top_up,
                ..
            } => {
                format!(
                    "approve, {} left, top-up {}",
                    balance_after.bare(),
                    top_up.code()
                )
            }
            Decision::Decline { reason, top_up } => {
                let facts = reason.limit().map_or(String::new(), |facts| {
                    let LimitFacts { limit, spent, left } = facts;
                    format!(
                        " of {}, {} spent, {} left",
                        limit.bare(),
                        spent.bare(),
                        left.bare()
                    )
                });
                format!("{}{facts}, top-up {}", reason.code(), top_up.code())
            }
        };
        assert_eq!(shown, expect);
    }

    #[test]
    fn an_unknown_chip_is_its_own_reason() {
        assert_eq!(
            decide(None, bare(), &purchase(kr(1)), &OfflineRules::default()),
            Decision::Decline {
                reason: DeclineReason::UnknownChip,
                top_up: TopUpOutcome::None
            }
        );
    }

    /// What becomes of a purchase by a chip that the till knows, or does not, by what the reader
    /// found out about it.
    #[track_caller]
    fn check_identity(known: bool, must_prove: bool, identity: ChipIdentity, expect: &str) {
        let holding = ChipHolding {
            must_prove,
            ..holding(kr(500))
        };
        let holding = known.then_some(&holding);
        let rules = OfflineRules::default();
        let shown = match decide(holding, identity, &purchase(kr(22)), &rules) {
            Decision::Approve { .. } => "approve",
            Decision::Decline { reason, .. } => reason.code(),
        };
        assert_eq!(shown, expect, "{identity:?}");
    }

    #[test]
    fn a_chip_that_must_prove_itself_pays_only_when_it_has() {
        let failed = |claimed| ChipIdentity::Failed { claimed };
        check_identity(true, true, proven(), "approve");
        check_identity(true, true, bare(), "chip_auth_failed");
        check_identity(true, true, failed(bare().chip()), "chip_auth_failed");
    }

    #[test]
    fn a_chip_that_need_not_prove_itself_pays_by_its_uid() {
        let failed = |claimed| ChipIdentity::Failed { claimed };
        check_identity(true, false, proven(), "approve");
        check_identity(true, false, bare(), "approve");
        check_identity(true, false, failed(bare().chip()), "approve");
    }

    #[test]
    fn an_unknown_chip_is_unknown_unless_it_hides_who_it_is_and_fails() {
        let failed = |claimed| ChipIdentity::Failed { claimed };
        check_identity(false, false, proven(), "unknown_chip");
        check_identity(false, false, failed(bare().chip()), "unknown_chip");
        check_identity(false, false, failed(None), "chip_auth_failed");
    }

    #[test]
    fn the_balance_must_cover_the_purchase() {
        check(
            |h, _| h.account.balance = kr(60),
            kr(60),
            "approve, 0,00 left, top-up none",
        );
        let over = Money::from_ore(60_01);
        check(
            |h, _| h.account.balance = kr(60),
            over,
            "insufficient_funds, top-up none",
        );
        check(
            |h, _| h.account.balance = kr(-1),
            kr(1),
            "insufficient_funds, top-up none",
        );
        check(
            |h, _| h.account.balance = Money::from_ore(i64::MIN),
            kr(1),
            "insufficient_funds, top-up none",
        );
    }

    #[test]
    fn a_credit_line_extends_the_balance() {
        let payroll = |h: &mut ChipHolding, _: &mut Purchase| {
            h.account.credit = kr(300);
            h.account.balance = kr(-250);
        };
        check(payroll, kr(50), "approve, -300,00 left, top-up none");
        check(payroll, kr(51), "insufficient_funds, top-up none");
    }

    #[test]
    fn a_limit_counts_what_was_spent_in_its_window() {
        let spent = |h: &mut ChipHolding, _: &mut Purchase| {
            h.account.limits.day = Some(kr(50));
            h.account.spent = Spent::new(today(), kr(45), kr(45), kr(45));
        };
        check(spent, kr(5), "approve, 495,00 left, top-up none");
        check(
            spent,
            kr(6),
            "limit_day of 50,00, 45,00 spent, 5,00 left, top-up none",
        );
        check(
            |h, p| {
                spent(h, p);
                p.on = today().next().unwrap();
            },
            kr(50),
            "approve, 450,00 left, top-up none",
        );
    }

    #[test]
    fn each_window_has_a_reason_of_its_own() {
        check(
            |h, _| h.account.limits.week = Some(kr(50)),
            kr(51),
            "limit_week of 50,00, 0,00 spent, 50,00 left, top-up none",
        );
        check(
            |h, _| h.account.limits.month = Some(kr(40)),
            kr(41),
            "limit_month of 40,00, 0,00 spent, 40,00 left, top-up none",
        );
        check(
            |h, _| {
                h.account.limits.day = Some(kr(10));
                h.account.spent = Spent::new(today(), kr(30), kr(30), kr(30));
            },
            kr(1),
            "limit_day of 10,00, 30,00 spent, 0,00 left, top-up none",
        );
    }

    #[test]
    fn a_limit_of_zero_lets_nothing_through() {
        check(
            |h, _| h.account.limits.day = Some(Money::ZERO),
            Money::from_ore(1),
            "limit_day of 0,00, 0,00 spent, 0,00 left, top-up none",
        );
    }

    #[test]
    fn old_data_restricts_and_then_stops() {
        let aged = |hours: u32| {
            move |_: &mut ChipHolding, p: &mut Purchase| {
                p.contact = Contact {
                    online: false,
                    age: HOUR * hours,
                };
            }
        };
        check(aged(25), kr(60), "approve, 440,00 left, top-up none");
        check(aged(72), kr(61), "approve, 439,00 left, top-up none");
        check(aged(80), kr(60), "approve, 440,00 left, top-up none");
        check(aged(80), kr(61), "stale_data, top-up none");
        check(aged(15 * 24), kr(10), "stale_data, top-up none");
    }

    #[test]
    fn without_contact_the_till_sells_inside_its_allowance() {
        check(
            |h, _| h.account.allowance = Some(kr(50)),
            kr(50),
            "approve, 450,00 left, top-up none",
        );
        check(
            |h, _| h.account.allowance = Some(kr(50)),
            kr(51),
            "offline_allowance, top-up none",
        );
        check(
            |_, p| p.contact.online = false,
            kr(200),
            "approve, 300,00 left, top-up none",
        );
        check(
            |_, p| p.contact.online = false,
            kr(201),
            "offline_allowance, top-up none",
        );
    }

    #[test]
    fn the_first_rule_in_the_way_is_the_reason() {
        // Every rule is broken; they are mended one by one in the order of precedence.
        type Mend = fn(&mut ChipHolding, &mut Purchase);
        let mends: [(&str, Mend); 11] = [
            ("chip_auth_failed", |h, _| h.must_prove = false),
            ("chip_blocked", |h, _| h.chip_status = Status::Active),
            ("account_blocked", |h, _| h.account.status = Status::Active),
            ("stale_data", |_, p| p.contact.age = Duration::ZERO),
            ("limit_day", |h, _| h.account.limits.day = None),
            ("limit_week", |h, _| h.account.limits.week = None),
            ("limit_month", |h, _| h.account.limits.month = Some(kr(300))),
            ("insufficient_funds", |h, _| h.account.balance = kr(1000)),
            ("limit_not_here", |h, _| h.account.strict = None),
            ("offline_allowance", |h, _| h.account.allowance = None),
            ("offline_allowance", |_, p| p.contact.online = true),
        ];
        let mut broken = holding(kr(5));
        let identity = bare();
        broken.must_prove = true;
        broken.chip_status = Status::Blocked;
        broken.account.status = Status::Closed;
        broken.account.limits = Limits {
            day: Some(kr(1)),
            week: Some(kr(1)),
            month: Some(kr(1)),
            mode: LimitMode::Strict,
        };
        broken.account.strict = Some(StrictLimits {
            shares: None,
            gross: Money::ZERO,
            sold: Spent::nothing(today()),
        });
        broken.account.allowance = Some(kr(1));
        let mut purchase = purchase(kr(300));
        purchase.contact = Contact {
            online: false,
            age: HOUR * 24 * 30,
        };
        for (code, mend) in mends {
            let Decision::Decline { reason, .. } =
                decide(Some(&broken), identity, &purchase, &OfflineRules::default())
            else {
                panic!("approved although {code} is in the way");
            };
            assert_eq!(reason.code(), code);
            mend(&mut broken, &mut purchase);
        }
        let decision = decide(Some(&broken), identity, &purchase, &OfflineRules::default());
        assert!(matches!(decision, Decision::Approve { .. }));
    }

    /// The daily limit is 50 kr, of which this till has a share of 30 and has sold 10.
    fn strict(h: &mut ChipHolding) {
        h.account.limits.day = Some(kr(50));
        h.account.limits.mode = LimitMode::Strict;
        let day = LimitShare {
            ceiling: kr(30),
            ahead: kr(50),
        };
        h.account.strict = Some(StrictLimits {
            shares: Some(LimitShares {
                on: today(),
                day: Some(day),
                week: None,
                month: None,
            }),
            gross: kr(10),
            sold: Spent::new(today(), kr(10), kr(10), kr(10)),
        });
    }

    #[test]
    fn of_a_strict_limit_a_till_sells_its_own_share() {
        check(
            |h, _| strict(h),
            kr(20),
            "approve, 480,00 left, top-up none",
        );
        check(|h, _| strict(h), kr(21), "limit_not_here, top-up none");
        // What the till knows of the limit itself comes first.
        check(
            |h, _| strict(h),
            kr(51),
            "limit_day of 50,00, 0,00 spent, 50,00 left, top-up none",
        );
    }

    #[test]
    fn a_purchase_fires_the_top_up_when_it_leaves_or_finds_too_little() {
        let armed = |balance: Money| {
            move |h: &mut ChipHolding, _: &mut Purchase| {
                h.account.balance = balance;
                h.account.top_up = Some(TopUp {
                    amount: kr(300),
                    armed: true,
                    state: TopUpState::Idle,
                });
            }
        };
        check(armed(kr(60)), kr(10), "approve, 50,00 left, top-up none");
        check(
            armed(kr(60)),
            Money::from_ore(10_01),
            "approve, 49,99 left, top-up requested",
        );
        check(
            armed(kr(20)),
            kr(45),
            "insufficient_funds, top-up requested",
        );
        check(armed(kr(60)), kr(80), "insufficient_funds, top-up none");
        check(
            |h, p| {
                armed(kr(20))(h, p);
                h.chip_status = Status::Blocked;
            },
            kr(45),
            "chip_blocked, top-up none",
        );
        check(
            |h, p| {
                armed(kr(20))(h, p);
                h.account.limits.day = Some(kr(1));
            },
            kr(10),
            "limit_day of 1,00, 0,00 spent, 1,00 left, top-up none",
        );
    }

    proptest! {
        #[test]
        fn an_approved_purchase_never_leaves_less_than_nothing_and_keeps_every_limit(
            balance: i64,
            amount in 1..=PurchaseAmount::MAX.ore(),
            limit in proptest::option::of(0..500_00_i64),
            spent in 0..500_00_i64,
        ) {
            let mut holding = holding(Money::from_ore(balance));
            let spent = Money::from_ore(spent);
            holding.account.limits.week = limit.map(Money::from_ore);
            holding.account.spent = Spent::new(today(), spent, spent, spent);
            let purchase = purchase(Money::from_ore(amount));
            let decision = decide(Some(&holding), bare(), &purchase, &OfflineRules::default());
            if let Decision::Approve { balance_after, spent_after, .. } = decision {
                prop_assert!(balance_after >= Money::ZERO);
                prop_assert_eq!(balance_after.ore(), balance - amount);
                prop_assert!(limit.is_none_or(|limit| spent_after.week().ore() <= limit));
            }
        }
    }
}
