//! Runs seeded worlds with the real stores and says what was injected, what was checked, and what
//! went wrong.

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use anyhow::{Context, anyhow};
use clap::Parser;
use simulation::world::{Fault, Invariant, Mistake, Run, Runs, Tally};

/// Run seeded worlds: tills, hub, gateway, lines, clocks and disks, with faults.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many seeds.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, alias = "seed", value_name = "SEED", default_value_t = 1)]
    from: u64,
    /// Begin no more seeds after so many seconds.
    #[arg(long, value_name = "SECONDS")]
    seconds: Option<u64>,
    /// Put a bug in by hand, which must be found.
    #[arg(long, value_name = "NAME", value_parser = mistake)]
    bug: Option<Mistake>,
    /// Threads; as many as the machine has if not said.
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// Tell the first seed step by step.
    #[arg(long)]
    tell: bool,
}

fn mistake(code: &str) -> Result<Mistake, String> {
    let codes = Mistake::ALL.map(Mistake::code).join(", ");
    Mistake::from_code(code).ok_or_else(|| format!("the bugs are {codes}"))
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if arguments.tell {
        let runs = ready(&arguments)?;
        print!(
            "seed {}:\n{}",
            arguments.from,
            runs.tell(&Run::of(arguments.from))
        );
        return Ok(ExitCode::SUCCESS);
    }
    let found = search(&arguments)?;
    found.report(&arguments);
    let Some(seed) = found.failing else {
        return Ok(match arguments.bug {
            None => ExitCode::SUCCESS,
            Some(bug) => {
                println!("the bug {} was not found", bug.code());
                ExitCode::FAILURE
            }
        });
    };
    tell_shortest(&arguments, seed)?;
    Ok(match arguments.bug {
        None => ExitCode::FAILURE,
        Some(bug) => {
            println!("the bug {} was found by seed {seed}", bug.code());
            ExitCode::SUCCESS
        }
    })
}

/// What all seeds together showed.
struct Found {
    tally: Tally,
    seeds: u64,
    seconds: f32,
    /// The lowest seed that failed.
    failing: Option<u64>,
}

fn ready(arguments: &Arguments) -> anyhow::Result<Runs> {
    Runs::new(arguments.bug).map_err(|violation| anyhow!("{violation}"))
}

fn search(arguments: &Arguments) -> anyhow::Result<Found> {
    let begin = Instant::now();
    let end = arguments.from + arguments.seeds;
    let next = AtomicU64::new(arguments.from);
    let lowest = AtomicU64::new(u64::MAX);
    let all = Mutex::new((Tally::new(), 0));
    let available = std::thread::available_parallelism().map_or(1, Into::into);
    let threads = arguments.threads.unwrap_or(available);
    let work = || -> anyhow::Result<()> {
        let runs = ready(arguments)?;
        let mut tally = Tally::new();
        let mut seeds = 0;
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let is_late = arguments
                .seconds
                .is_some_and(|seconds| begin.elapsed().as_secs() >= seconds);
            if is_late || seed >= end || seed > lowest.load(Ordering::Relaxed) {
                break;
            }
            seeds += 1;
            if runs.try_out(&Run::of(seed), &mut tally).is_err() {
                lowest.fetch_min(seed, Ordering::Relaxed);
            }
        }
        let mut all = all.lock().map_err(|_| anyhow!("another thread panicked"))?;
        all.0.add(&tally);
        all.1 += seeds;
        Ok(())
    };
    std::thread::scope(|scope| -> anyhow::Result<()> {
        let started: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        for thread in started {
            thread.join().map_err(|_| anyhow!("a thread panicked"))??;
        }
        Ok(())
    })?;
    let (tally, seeds) = all.into_inner().map_err(|_| anyhow!("a thread panicked"))?;
    let lowest = lowest.into_inner();
    Ok(Found {
        tally,
        seeds,
        seconds: begin.elapsed().as_secs_f32(),
        failing: (lowest != u64::MAX).then_some(lowest),
    })
}

impl Found {
    fn report(&self, arguments: &Arguments) {
        println!("Injected:");
        for fault in Fault::ALL {
            match self.tally.injected(*fault) {
                0 => println!("  {:>10}  {fault}", "-"),
                count => println!("  {count:>10}  {fault}"),
            }
        }
        println!("Checked:");
        for invariant in Invariant::ALL {
            match self.tally.checked(*invariant) {
                0 => println!("  {:>10}  {invariant}", "-"),
                count => println!("  {count:>10}  {invariant}"),
            }
        }
        #[expect(clippy::float_arithmetic, reason = "a rate, no money")]
        let rate = self.seeds as f32 / self.seconds.max(0.001);
        println!(
            "{} seeds from {}, {} steps, {:.0} s, {rate:.0} seeds/s: {} violations",
            self.seeds,
            arguments.from,
            self.tally.steps,
            self.seconds,
            u8::from(self.failing.is_some()),
        );
    }
}

fn tell_shortest(arguments: &Arguments, seed: u64) -> anyhow::Result<()> {
    let runs = ready(arguments)?;
    let run = Run::of(seed);
    let failure = runs.try_out(&run, &mut Tally::new()).err();
    let failure = failure.with_context(|| format!("seed {seed} does not fail twice"))?;
    let short = runs.shorten(&run, &failure);
    println!(
        "seed {seed}: {} of {} actions are enough\n{}",
        short.actions.len(),
        run.actions.len(),
        runs.tell(&short)
    );
    Ok(())
}
