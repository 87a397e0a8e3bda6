//! Larger worlds of the offline protocol, for seeded walks.

use super::claims::{covered, mutant, sound};
use super::{AfterRestore, BOUND, Cap, Ceilings, Counting, Payouts, Room, Rules, Scope};
use crate::walk::Walk;

/// Larger worlds for seeded walks, with what is known about each.
pub fn walks() -> Vec<Walk<Ceilings>> {
    let rules = Rules::default();
    let busy = Scope {
        tills: 3,
        opening: 5,
        cap: 3,
        slack: 2,
        amounts: &[1, 2, 3],
        sales: 8,
        voids: 3,
        pages: 8,
        deposits: 3,
        payouts: 3,
        ..Scope::default()
    };
    let strict = Scope {
        tills: 4,
        slack: 0,
        ..busy.clone()
    };
    let restored = Scope {
        slack: 1,
        restores: 1,
        ..busy.clone()
    };
    let narrow = Scope {
        tills: 2,
        opening: 2,
        cap: 2,
        slack: 0,
        amounts: &[1],
        sales: 4,
        pages: 4,
        restores: 1,
        ..Scope::default()
    };
    let cloned = Scope {
        slack: 1,
        cap: 2,
        clones: 1,
        ..busy.clone()
    };
    let static_cap = Scope {
        tills: 2,
        cap: 2,
        slack: 0,
        ..busy.clone()
    };
    let capped = Rules {
        cap: Cap::Static,
        payouts: Payouts::Unguarded,
        ..Rules::default()
    };
    let by_issue = Rules {
        room: Room::WhenIssued,
        ..Rules::default()
    };
    let reissued = Rules {
        after_restore: AfterRestore::ReissueBackup,
        ..Rules::default()
    };
    let net = Rules {
        counting: Counting::NetOfVoids,
        ..Rules::default()
    };
    [
        covered(
            "W1",
            "3 tills, R 2, C 3, voids, deposits, payouts",
            &rules,
            &busy,
            2,
        ),
        covered("W2", "4 tills, R 0", &rules, &strict, 0),
        covered("W3", "3 tills, hub restored, R 1", &rules, &restored, 1),
        sound("W4", "3 tills, one cloned: R+C", &rules, &cloned, 3),
        sound(
            "W5",
            "2 tills, static cap, payouts: n·C",
            &capped,
            &static_cap,
            4,
        ),
        mutant(
            "W6",
            "a lower ceiling counts when issued",
            &by_issue,
            &busy,
            2,
            &[BOUND],
        ),
        mutant(
            "W7",
            "the backup's ceilings issued again",
            &reissued,
            &narrow,
            0,
            &[BOUND],
        ),
        mutant(
            "W8",
            "ceilings net of voids, one till cloned",
            &net,
            &cloned,
            3,
            &[BOUND],
        ),
    ]
    .map(|row| Walk {
        row,
        worst: |model, world| i64::from(model.true_balance(world)),
    })
    .into_iter()
    .collect()
}
