//! Automatic top-up: when a purchase makes the till ask the hub for one.

use crate::money::Money;

/// A balance strictly below this fires the top-up; exactly 50,00 does not.
pub const TOP_UP_THRESHOLD: Money = Money::from_kroner(50);

/// What must have been paid into an account in all before its agreement takes effect.
pub const TOP_UP_ARMED_FROM: Money = Money::from_kroner(100);

/// An automatic top-up agreement as the till knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopUp {
    /// The agreed amount, in whole kroner.
    pub amount: Money,
    /// Whether at least [`TOP_UP_ARMED_FROM`] has been paid in.
    pub armed: bool,
    /// What became of the latest top-up.
    pub state: TopUpState,
}

/// Where an account's top-up stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopUpState {
    /// None is under way.
    Idle,
    /// One was asked for and its outcome is not known yet.
    Pending,
    /// The latest one failed; the hub says when the next may be tried.
    Failed,
}

impl TopUpState {
    /// The word for it on the wire.
    pub fn code(self) -> &'static str {
        match self {
            TopUpState::Idle => "idle",
            TopUpState::Pending => "pending",
            TopUpState::Failed => "failed",
        }
    }

    /// Reads [`TopUpState::code`].
    pub fn from_code(code: &str) -> Option<TopUpState> {
        [TopUpState::Idle, TopUpState::Pending, TopUpState::Failed]
            .into_iter()
            .find(|state| state.code() == code)
    }
}

/// What a purchase does to the top-up, told to the cashier with the decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopUpOutcome {
    /// Nothing: no agreement, not armed, or the balance is high enough.
    None,
    /// This purchase asks for a top-up.
    Requested,
    /// One is under way already; no second is asked for.
    Pending,
    /// One would be due, but the latest failed and a new one may not be tried yet.
    Failed,
}

impl TopUpOutcome {
    /// The word for it on the wire and in `tillctl`.
    pub fn code(self) -> &'static str {
        match self {
            TopUpOutcome::None => "none",
            TopUpOutcome::Requested => "requested",
            TopUpOutcome::Pending => "pending",
            TopUpOutcome::Failed => "failed",
        }
    }

    /// Reads [`TopUpOutcome::code`].
    pub fn from_code(code: &str) -> Option<TopUpOutcome> {
        [
            TopUpOutcome::None,
            TopUpOutcome::Requested,
            TopUpOutcome::Pending,
            TopUpOutcome::Failed,
        ]
        .into_iter()
        .find(|outcome| outcome.code() == code)
    }
}

/// Whether a purchase that leaves `balance` (or is refused at it) fires a top-up.
///
/// A purchase never raises a balance, so looking at it afterwards also covers a purchase that
/// found it under the threshold.
pub fn top_up_due(balance: Money, top_up: Option<&TopUp>) -> TopUpOutcome {
    let Some(top_up) = top_up.filter(|top_up| top_up.armed && balance < TOP_UP_THRESHOLD) else {
        return TopUpOutcome::None;
    };
    match top_up.state {
        TopUpState::Idle => TopUpOutcome::Requested,
        TopUpState::Pending => TopUpOutcome::Pending,
        TopUpState::Failed => TopUpOutcome::Failed,
    }
}

/// Whether the deposits of an account's life arm its agreement.
pub fn is_armed(paid_in: Money) -> bool {
    paid_in >= TOP_UP_ARMED_FROM
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(balance_ore: i64, armed: bool, state: TopUpState, expect: TopUpOutcome) {
        let top_up = TopUp {
            amount: Money::from_kroner(300),
            armed,
            state,
        };
        let balance = Money::from_ore(balance_ore);
        assert_eq!(
            top_up_due(balance, Some(&top_up)),
            expect,
            "{balance} {armed} {state:?}"
        );
    }

    #[test]
    fn a_balance_strictly_under_50_kr_fires_once() {
        use {TopUpOutcome as O, TopUpState as S};
        check(50_00, true, S::Idle, O::None);
        check(49_99, true, S::Idle, O::Requested);
        check(0, true, S::Idle, O::Requested);
        check(-180_00, true, S::Idle, O::Requested);
        check(49_99, true, S::Pending, O::Pending);
        check(49_99, true, S::Failed, O::Failed);
        check(50_00, true, S::Pending, O::None);
    }

    #[test]
    fn an_agreement_that_is_not_armed_never_fires() {
        check(10_00, false, TopUpState::Idle, TopUpOutcome::None);
        assert_eq!(top_up_due(Money::ZERO, None), TopUpOutcome::None);
    }

    #[test]
    fn a_hundred_kroner_in_all_arm_the_agreement() {
        assert!(!is_armed(Money::from_ore(99_99)));
        assert!(is_armed(Money::from_kroner(60 + 40)));
    }
}
