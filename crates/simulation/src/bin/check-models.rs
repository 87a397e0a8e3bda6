//! Checks the models: every row exhaustively, then seeded walks, each with its verdict.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use simulation::check::{Row, Told};
use simulation::rows::Scale;
use simulation::walk::Walk;
use simulation::{ceilings, strict_limits, top_up};

/// Check the models of the offline protocol, of strict limits and of the top-up.
#[derive(Debug, Parser)]
struct Arguments {
    /// Search the larger scopes, too (minutes, and some gigabytes of memory).
    #[arg(long)]
    full: bool,
    /// Tell every violation step by step, also those that had to be found.
    #[arg(long)]
    stories: bool,
    /// Only the rows whose names begin so.
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Seconds to walk in each larger world.
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    walk: u64,
    /// The seed of the first walk.
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    from: u64,
    /// Threads of an exhaustive search.
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let scale = if arguments.full {
        Scale::Full
    } else {
        Scale::Quick
    };
    let mut all_well = arguments.check_rows("The offline protocol", ceilings::rows(scale));
    all_well &= arguments.check_rows("Strict limits", strict_limits::rows(scale));
    all_well &= arguments.check_rows("The top-up", top_up::rows(scale));
    all_well &= arguments.walk(ceilings::walks());
    all_well &= arguments.walk(top_up::walks());
    if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

impl Arguments {
    fn check_rows<M: Told>(&self, title: &str, rows: Vec<Row<M>>) -> bool {
        println!("{title}, every reachable state:");
        let mut all_well = true;
        for row in rows.into_iter().filter(|row| self.wants(row.name)) {
            let finding = row.check(self.threads);
            println!("  {finding}");
            all_well &= finding.is_as_expected();
            if self.stories || !finding.is_as_expected() {
                finding.stories.iter().for_each(|story| println!("{story}"));
            }
        }
        all_well
    }

    fn walk<M: Told>(&self, walks: Vec<Walk<M>>) -> bool {
        println!("Seeded walks from seed {}:", self.from);
        let mut all_well = true;
        for walk in walks.into_iter().filter(|walk| self.wants(walk.row.name)) {
            let end = Instant::now() + Duration::from_secs(self.walk);
            let trail = walk.from_seed(self.from, |_| Instant::now() < end);
            println!("  {trail}");
            all_well &= trail.is_as_expected();
            if let Some((_, story)) = &trail.violation
                && (self.stories || !trail.is_as_expected())
            {
                println!("{story}");
            }
        }
        all_well
    }

    fn wants(&self, name: &str) -> bool {
        self.only
            .as_ref()
            .is_none_or(|only| name.starts_with(only.as_str()))
    }
}
