//! A world and what happens in it, in words.

use super::gateway::Request;
use super::{Action, CREDITED, TopUps, World};
use crate::check::Told;

impl Told for TopUps {
    fn judging(&self, promises: &[&'static str]) -> TopUps {
        TopUps {
            promises: promises.to_vec(),
            ..self.clone()
        }
    }

    fn tell_action(&self, before: &World, action: &Action) -> String {
        let of = |request: &usize| match before.requests.get(*request) {
            Some(Request { reference, .. }) => {
                format!(
                    "attempt {} of top-up {}",
                    reference.attempt,
                    reference.top_up + 1
                )
            }
            None => "no request".to_owned(),
        };
        match action {
            Action::Purchase(account) => {
                format!("account {} buys for {} kr", account + 1, self.scope.price)
            }
            Action::Dispatch(top_up) => {
                format!("the hub starts an attempt of top-up {}", top_up + 1)
            }
            Action::Send(top_up) => format!("the request of top-up {} leaves", top_up + 1),
            Action::WriteBehind(top_up) => {
                format!("the hub writes down what it sent for top-up {}", top_up + 1)
            }
            Action::Arrive { request, approve } => {
                let bank = if *approve {
                    "would approve"
                } else {
                    "would decline"
                };
                format!("{} reaches the gateway, the bank {bank}", of(request))
            }
            Action::Lose(request) => format!("{} is lost", of(request)),
            Action::Hear(top_up) => format!("the hub reads the answer for top-up {}", top_up + 1),
            Action::Timeout(top_up) => format!("the hub stops waiting for top-up {}", top_up + 1),
            Action::LookUp(top_up) => format!("the hub looks up top-up {}", top_up + 1),
            Action::Notice(top_up) => {
                format!("the gateway reports top-up {} as charged", top_up + 1)
            }
            Action::Book(top_up) => format!("the hub books top-up {}", top_up + 1),
            Action::Refund(top_up) => format!("the gateway refunds top-up {}", top_up + 1),
            Action::Crash => "the hub crashes and starts again".to_owned(),
            Action::Block(account) if before.accounts[*account].blocked => {
                format!("account {} is reactivated", account + 1)
            }
            Action::Block(account) => format!("account {} is blocked", account + 1),
            Action::Deposit(account) => {
                format!(
                    "a guardian pays {} kr into account {}",
                    self.scope.amount,
                    account + 1
                )
            }
            Action::Tick => "time passes".to_owned(),
        }
    }

    fn tell_aftermath(&self, property: &str, world: &World) -> Option<String> {
        let end = (property == CREDITED).then(|| self.recovered(world))?;
        Some(format!("left alone, it ends so: {}", self.tell_state(&end)))
    }

    fn tell_state(&self, world: &World) -> String {
        let accounts = world.accounts.iter().enumerate().map(|(account, holding)| {
            let blocked = if holding.blocked { ", blocked" } else { "" };
            format!("account {}: {} kr{blocked}", account + 1, holding.balance)
        });
        let turns = world.turns.iter().enumerate().map(|(top_up, turn)| {
            format!(
                "top-up {}: {:?}, attempt {} {} ago{}, charged {}, credited {}, refunded {}",
                top_up + 1,
                turn.stage,
                turn.attempt,
                turn.age,
                if world.request_of(top_up) {
                    ", request under way"
                } else {
                    ""
                },
                world.gateway.approved(top_up),
                turn.credits,
                turn.refunds
            )
        });
        accounts.chain(turns).collect::<Vec<_>>().join("; ")
    }
}
