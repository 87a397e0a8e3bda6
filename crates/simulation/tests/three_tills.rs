//! Three tills and a hub with the real stores, and lines and machines that fail as a seed says.

use std::sync::atomic::{AtomicUsize, Ordering};

use simulation::world::{Fault, Invariant, Run, Runs, Tally};

/// So many worlds of three tills; `cargo xtask simulate` runs thousands of all kinds.
const WORLDS: usize = 120;
const TILLS: usize = 3;

#[test]
fn sy_35_three_tills_keep_every_promise_through_partitions_crashes_doubles_and_disorder() {
    let worlds = (10_001..).map(|seed| (seed, Run::of(seed)));
    let worlds = worlds.filter(|(_, run)| run.scene.tills == TILLS);
    let worlds: Vec<(u64, Run)> = worlds.take(WORLDS).collect();
    let next = AtomicUsize::new(0);
    let mut tally = Tally::new();
    std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, Into::into);
        let work = || try_out(&worlds, &next);
        let started: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        for thread in started {
            tally.add(&thread.join().expect("a world that keeps every promise"));
        }
    });
    for fault in [
        Fault::Partition,
        Fault::Lost,
        Fault::Late,
        Fault::Doubled,
        Fault::Reordered,
        Fault::TillRestart,
        Fault::TillPower,
        Fault::TillCut,
        Fault::HubKilled,
        Fault::HubCut,
    ] {
        assert!(tally.injected(fault) > 0, "no {fault}");
    }
    for invariant in &Invariant::ALL[..12] {
        // That the order of delivery does not matter is what sy_36 tries.
        let is_looked_at = *invariant == Invariant::Convergence || tally.checked(*invariant) > 0;
        assert!(is_looked_at, "{invariant} was not looked at");
    }
}

/// Tries out what nobody has tried, until all have been.
fn try_out(worlds: &[(u64, Run)], next: &AtomicUsize) -> Tally {
    let runs = Runs::new(None).expect("disks to begin with");
    let mut tally = Tally::new();
    while let Some((seed, run)) = worlds.get(next.fetch_add(1, Ordering::Relaxed)) {
        if let Err(failure) = runs.try_out(run, &mut tally) {
            let short = runs.shorten(run, &failure);
            panic!("seed {seed}:\n{}", runs.tell(&short));
        }
    }
    tally
}
