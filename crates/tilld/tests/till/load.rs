//! A rush: many sales one after the other, and what they cost.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use serde_json::{Value, json};

use crate::rig::sale::Sale;
use crate::rig::{ORDINARY, Site, fresh_id};

/// A figure of the kernel's about a process: kilobytes, or a number.
fn kernel_figure(pid: u32, name: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .unwrap();
    let figure = line.trim_start_matches(':').split_whitespace().next();
    figure.unwrap().parse().unwrap()
}

fn open_files(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn five_hundred_sales_leave_the_till_small() {
    let site = Site::open();
    let chip = site.lay_and_wait(ORDINARY);
    let pid = site.till_pid();
    let mut writing = UnixStream::connect(site.control_socket()).unwrap();
    let mut reading = BufReader::new(writing.try_clone().unwrap());
    let mut line = String::new();
    let (mut threads, mut files) = (0, 0);
    let mut times = Vec::new();
    for number in 1..=SALES {
        let begun = Instant::now();
        let request = json!({
            "do": "sell", "id": fresh_id(), "lines": ["1x Serviet 0,10"], "timeout_s": 10
        });
        writeln!(writing, "{request}").unwrap();
        line.clear();
        reading.read_line(&mut line).unwrap();
        times.push(begun.elapsed());
        let answer: Value = serde_json::from_str(&line).unwrap();
        let sale = Sale::read(&answer).unwrap_or_else(|| panic!("{answer}"));
        assert!(sale.is_approved(), "{answer}");
        assert_eq!(sale.outcome.balance, Some(149_50 - 10 * number));
        if number == SALES / 5 {
            (threads, files) = (kernel_figure(pid, "Threads"), open_files(pid));
        }
    }
    times.sort();
    let (median, slowest) = (times[times.len() / 2], times[times.len() - 1]);
    let memory = kernel_figure(pid, "VmRSS") / 1024;
    let most = kernel_figure(pid, "VmHWM") / 1024;
    println!(
        "{SALES} sales, {median:?} each, the slowest {slowest:?}; {memory} MB in use, {most} MB \
         at most, {threads} threads"
    );
    assert!(memory < MEMORY_MAX_MB, "{memory} MB");
    // One of each may come and go with a connection to the hub.
    assert!(
        kernel_figure(pid, "Threads") <= threads + 2,
        "threads pile up"
    );
    assert!(open_files(pid) <= files + 4, "open files pile up");
    chip.remove();
    site.wait_until_agreed();
    assert_eq!(
        site.sales(ORDINARY),
        vec![-10; usize::try_from(SALES).unwrap()]
    );
}

const SALES: i64 = 500;
const MEMORY_MAX_MB: u64 = 60;
