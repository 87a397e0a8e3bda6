//! The ledger against a model of twenty lines: whatever is sold, taken back, told by the hub,
//! acknowledged or lost in a power cut, both hold the same money.

use canteen::{Decision, Money};
use proptest::prelude::*;
use proptest::sample::Index;
use sync_proto::Record;
use uuid::Uuid;

use crate::world::*;

#[derive(Debug, Clone)]
enum Step {
    Sell(i64),
    Repeat(Index),
    Void(Index),
    /// The hub books what it has of the till, and something of its own, and tells the account.
    Feed {
        deposit: i64,
        seen: Index,
        ceiling: Option<i64>,
    },
    Acknowledge(Index),
    PowerCut,
    Rest,
    Away,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (1..90_00_i64).prop_map(Step::Sell),
        1 => any::<Index>().prop_map(Step::Repeat),
        2 => any::<Index>().prop_map(Step::Void),
        3 => (-50_00..200_00_i64, any::<Index>(), prop::option::of(0..900_00_i64))
            .prop_map(|(deposit, seen, ceiling)| Step::Feed { deposit, seen, ceiling }),
        1 => any::<Index>().prop_map(Step::Acknowledge),
        1 => Just(Step::PowerCut),
        1 => Just(Step::Rest),
        1 => Just(Step::Away),
    ];
    prop::collection::vec(step, 1..60)
}

/// All that there is to know: the hub's own bookings, and what the till did, in order.
#[derive(Default)]
struct Model {
    hub: i64,
    /// Id and movement of each entry; a decline moves nothing.
    entries: Vec<(Uuid, i64)>,
    gross: i64,
    /// The part of it that the hub's last record contains.
    gross_seen: i64,
    ceiling: Option<i64>,
    voided: Vec<Uuid>,
    away: bool,
}

impl Model {
    fn balance(&self) -> i64 {
        self.hub + self.entries.iter().map(|(_, moved)| moved).sum::<i64>()
    }

    fn booked(&self, through: usize) -> i64 {
        self.hub
            + self.entries[..through]
                .iter()
                .map(|(_, moved)| moved)
                .sum::<i64>()
    }

    fn sales(&self) -> Vec<(Uuid, i64)> {
        let sales = self.entries.iter().filter(|(_, moved)| *moved < 0);
        sales.copied().collect()
    }
}

fn step(till: &mut Till, model: &mut Model, step: Step) {
    match step {
        Step::Sell(ore) => {
            let request = till.request(Money::from_ore(ore));
            let id = request.id;
            let answer = till.purchase(request).unwrap();
            let approved = matches!(answer.decision, Decision::Approve { .. });
            // Without any ceiling: 200 kr. on top of what the hub has booked.
            let ceiling = model.ceiling.unwrap_or(model.gross_seen + 200_00);
            let allowed = model.gross + ore <= ceiling;
            let expected = !model.away && model.balance() >= ore && allowed;
            assert_eq!(approved, expected, "{answer:?}");
            if approved {
                model.gross += ore;
            }
            if !model.away {
                model.entries.push((id, if approved { -ore } else { 0 }));
            }
        }
        Step::Repeat(index) => {
            let sales = model.sales();
            if sales.is_empty() {
                return;
            }
            let (id, moved) = *index.get(&sales);
            let mut request = till.request(Money::from_ore(-moved));
            request.id = id;
            assert!(till.purchase(request).unwrap().replayed);
        }
        Step::Void(index) => {
            let sales = model.sales();
            if sales.is_empty() {
                return;
            }
            let (of, moved) = *index.get(&sales);
            let answer = till.void(of);
            assert_eq!(answer.is_ok(), !model.voided.contains(&of), "{answer:?}");
            if let Ok(voided) = answer {
                model.voided.push(of);
                model.entries.push((voided.entry.id, -moved));
                assert_eq!(voided.balance_after.ore(), model.balance());
            }
        }
        Step::Feed {
            deposit,
            seen,
            ceiling,
        } => {
            model.hub += deposit;
            model.away = false;
            model.ceiling = ceiling.or(model.ceiling);
            let through = seen.index(model.entries.len() + 1);
            let position = Money::from_ore(model.booked(through));
            let sold = model.entries[..through]
                .iter()
                .filter(|(_, moved)| *moved < 0);
            model.gross_seen = -sold.map(|(_, moved)| moved).sum::<i64>();
            let mut record = account(ANNA, position, through as u64);
            record.ceiling = ceiling.map(Money::from_ore);
            till.tell(vec![Record::Account(record)]);
        }
        Step::Acknowledge(index) => {
            let through = index.index(model.entries.len() + 1) as u64;
            let now = till.now;
            let most = usize::try_from(through).unwrap();
            let acked = till.store().progress().acked;
            let batch = till
                .store()
                .batch(most, 1 << 20, &key(), Default::default());
            if let Some(batch) = batch.unwrap() {
                batch.verify(&key().public()).unwrap();
                assert_eq!(batch.first_seq, acked + 1);
                till.store().acknowledge(batch.head, 0, now).unwrap();
            }
        }
        Step::PowerCut => till.restart(),
        Step::Rest => {
            let now = till.now;
            till.store().rest(now).unwrap();
        }
        Step::Away => {
            model.away = true;
            till.tell(vec![Record::AccountGone { id: ANNA }]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn the_ledger_holds_what_the_model_holds(steps in steps()) {
        let mut till = Till::with(|_| {});
        let mut model = Model { hub: 500_00, ..Model::default() };
        for one in steps {
            step(&mut till, &mut model, one);
            prop_assert_eq!(till.head().seq, model.entries.len() as u64);
            if !model.away {
                prop_assert_eq!(till.balance().ore(), model.balance());
            }
        }
        prop_assert_eq!(till.store().repaired(), []);
        till.verified();
    }
}
