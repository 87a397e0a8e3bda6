//! What becomes of a world in which nothing goes wrong any more.

use stateright::Model;

use super::{Action, TopUps, Turn, World};

impl TopUps {
    /// Whether all that was charged is credited or refunded once nothing goes wrong any more:
    /// requests under way arrive, answers come, the hub does what it has to do, time passes.
    pub(super) fn recovers(&self, world: &World) -> bool {
        let world = self.recovered(world);
        let credited = |(top_up, turn): (usize, &Turn)| {
            let charged = world.gateway.approved(top_up);
            !turn.stage.is_active()
                && turn.credits + turn.refunds <= 1
                && charged == usize::from(turn.credits + turn.refunds)
        };
        world.turns.iter().enumerate().all(credited)
    }

    pub(super) fn recovered(&self, world: &World) -> World {
        let mut world = world.clone();
        while let Some(next) = self.recovery_step(&world) {
            world = next;
        }
        world
    }

    fn recovery_step(&self, world: &World) -> Option<World> {
        let mut actions = vec![];
        self.actions(world, &mut actions);
        actions.sort_by_key(recovery_rank);
        actions
            .into_iter()
            .filter(|action| recovery_rank(action).is_some())
            .find_map(|action| self.next_state(world, action))
    }
}

/// The order of recovery; what is not part of it has no rank.
fn recovery_rank(action: &Action) -> Option<u8> {
    match action {
        Action::Arrive { approve: true, .. } => Some(0),
        Action::Hear(_) => Some(1),
        Action::Send(_) => Some(2),
        Action::WriteBehind(_) => Some(3),
        Action::Timeout(_) => Some(4),
        Action::LookUp(_) => Some(5),
        Action::Book(_) => Some(6),
        Action::Refund(_) => Some(7),
        Action::Dispatch(_) => Some(8),
        Action::Tick => Some(9),
        Action::Arrive { approve: false, .. }
        | Action::Purchase(_)
        | Action::Lose(_)
        | Action::Notice(_)
        | Action::Crash
        | Action::Block(_)
        | Action::Deposit(_) => None,
    }
}
