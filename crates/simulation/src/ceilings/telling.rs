//! A world and what happens in it, in words.

use super::till::gross;
use super::{Action, Cap, Ceilings, DRAIN, Kroner, World};
use crate::check::Told;

impl Told for Ceilings {
    fn judging(&self, promises: &[&'static str]) -> Ceilings {
        Ceilings {
            promises: promises.to_vec(),
            ..self.clone()
        }
    }

    fn tell_action(&self, before: &World, action: &Action) -> String {
        let of = |till: &usize| before.tell_till(*till);
        match action {
            Action::Sell { till, amount } => format!("{} sells for {amount} kr", of(till)),
            Action::Void { till } => format!("{} voids its newest sale", of(till)),
            Action::FeedAck { till } => format!("{} writes its feed cursor", of(till)),
            Action::FeedAckBeside { till } => {
                format!(
                    "{} acknowledges its feed cursor beside the journal",
                    of(till)
                )
            }
            Action::Report { till } => {
                format!("{} learns of the restore and reports its ceiling", of(till))
            }
            Action::Push { till, first, last } => {
                format!("the hub takes in entries {first} to {last} of {}", of(till))
            }
            Action::HearAck { till, through } => {
                format!("{} hears that the hub has it through {through}", of(till))
            }
            Action::Prune { till, through } => {
                format!("{} deletes its entries through {through}", of(till))
            }
            Action::Issue { name, full: true } => {
                format!("the hub makes a page for till {}", name + 1)
            }
            Action::Issue { name, full: false } => {
                format!(
                    "the hub makes a page that revokes the ceiling of till {}",
                    name + 1
                )
            }
            Action::Fetch { till } => format!("the hub sends its pages to {}", of(till)),
            Action::Apply { till, cursor } => {
                format!("page {}.{} reaches {}", cursor.epoch, cursor.page, of(till))
            }
            Action::PayOut => "1 kr is paid out centrally".to_owned(),
            Action::Deposit => "1 kr is paid in".to_owned(),
            Action::Clone { till } => format!("the disk of {} is cloned", of(till)),
            Action::BackUp => "the hub is backed up".to_owned(),
            Action::Restore => "the hub is restored from its backup".to_owned(),
        }
    }

    fn tell_aftermath(&self, property: &str, world: &World) -> Option<String> {
        let drained = (property == DRAIN).then(|| self.drained(world))?;
        let (due, booked) = (self.due_balance(world), self.balance(&drained));
        Some(format!(
            "after a sync without losses the hub has {booked} and should have {due}"
        ))
    }

    fn tell_state(&self, world: &World) -> String {
        let mut told = format!(
            "true balance {}; hub: balance {}",
            self.true_balance(world),
            self.balance(world)
        );
        for (name, standing) in world.hub.standings.iter().enumerate() {
            told += &format!(", has {} of till {}", standing.chain.len(), name + 1);
            if self.rules.cap == Cap::Issued && !world.hub.is_frozen() {
                told += &format!(" (may sell {})", standing.outstanding(self.rules.room));
            }
        }
        for (at, till) in world.tills.iter().enumerate() {
            let name = world.tell_till(at);
            let sold: Kroner = till.journal.iter().map(|entry| gross(entry.kind)).sum();
            let shown = till.shown(self.rules.overlay);
            told += &format!("; {name}: shows {shown}, sold {sold}");
            if let Some(ceiling) = till.ceiling {
                told += &format!(" of {ceiling}");
            }
        }
        told
    }
}

impl World {
    fn tell_till(&self, at: usize) -> String {
        match self.tills.get(at) {
            Some(till) if usize::from(till.name) == at => format!("till {}", at + 1),
            Some(till) => format!("the clone of till {}", till.name + 1),
            None => "a till that is not there".to_owned(),
        }
    }
}
