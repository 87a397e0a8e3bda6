//! The program itself: its arguments, its configuration, its start and its end.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const HUBD: &str = env!("CARGO_BIN_EXE_hubd");

fn write_config(directory: &Path, rest: &str) -> std::path::PathBuf {
    let path = directory.join("hub.toml");
    let database = directory.join("hub.sqlite");
    let text = format!(
        "[hub]\nlisten = \"127.0.0.1:0\"\ndatabase = {:?}\n{rest}",
        database.display().to_string()
    );
    fs::write(&path, text).unwrap();
    path
}

fn run(arguments: &[&str]) -> Output {
    Command::new(HUBD).args(arguments).output().unwrap()
}

#[track_caller]
fn check(rest: &str, expect: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let config = write_config(directory.path(), rest);
    let output = run(&["--config", config.to_str().unwrap(), "--check"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.success(), expect.is_empty(), "{said}");
    for part in expect {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    assert!(
        !directory.path().join("hub.sqlite").exists(),
        "checking makes nothing"
    );
}

#[test]
fn a_configuration_is_checked_without_starting() {
    check("", &[]);
    check(
        "[top_up]\nspacings = 1\n",
        &["hub.toml", "line 5", "spacings", "spacing"],
    );
    check(
        "[[operator]]\nname = \"a\"\ntoken_file = \"/nowhere/token\"\n",
        &["/nowhere/token"],
    );
    check(
        "[gateway]\nurl = \"https://cards.invalid\"\nsecret_file = \"/nowhere/key\"\n",
        &["/nowhere/key"],
    );
    check("[gateway]\nurl = \"http://192.0.2.1\"\n", &["plain http"]);
    check(
        "[notices]\nurl = \"http://192.0.2.1/notices\"\n",
        &["notices.url", "https://"],
    );
    check(
        "[notices]\nurl = \"https://portal.invalid\"\nsecret_file = \"/nowhere/secret\"\n",
        &["/nowhere/secret"],
    );
}

#[test]
fn the_program_loads_data_serves_and_ends_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let config = write_config(directory.path(), "");
    let config = config.to_str().unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/demo.toml");
    let loaded = run(&["--config", config, "load", demo.to_str().unwrap()]);
    assert!(loaded.status.success(), "{loaded:?}");
    assert!(String::from_utf8_lossy(&loaded.stdout).contains("16 accounts"));
    let log = directory.path().join("log");
    let mut hub = Command::new(HUBD)
        .args(["--config", config])
        .stderr(Stdio::from(fs::File::create(&log).unwrap()))
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !fs::read_to_string(&log).unwrap().contains("Ready") {
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "the hub does not start"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let asked = Command::new("kill")
        .arg(hub.id().to_string())
        .status()
        .unwrap();
    assert!(asked.success());
    assert!(hub.wait().unwrap().success());
    let said = fs::read_to_string(&log).unwrap();
    assert!(
        !said.contains("Elev Demo") && !said.contains("72BF9961"),
        "{said}"
    );
}

/// A hub that runs until it is asked to end.
struct Running {
    hub: std::process::Child,
}

impl Running {
    fn start(config: &str, directory: &Path) -> Running {
        let log = directory.join("log");
        let hub = Command::new(HUBD)
            .args(["--config", config])
            .stderr(Stdio::from(fs::File::create(&log).unwrap()))
            .spawn()
            .unwrap();
        let running = Running { hub };
        let began = Instant::now();
        while !fs::read_to_string(&log).unwrap().contains("Ready") {
            assert!(
                began.elapsed() < Duration::from_secs(20),
                "{}",
                fs::read_to_string(&log).unwrap()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        running
    }

    fn stop(mut self) {
        let pid = self.hub.id().to_string();
        let sent = Command::new("kill").arg(&pid).status().unwrap();
        assert!(sent.success());
        assert!(self.hub.wait().unwrap().success());
    }
}

#[test]
fn sy_25_a_hub_refuses_a_backup_until_it_is_told_that_it_is_one() {
    let directory = tempfile::tempdir().unwrap();
    let config = write_config(directory.path(), "");
    let config = config.to_str().unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/demo.toml");
    assert!(
        run(&["--config", config, "load", demo.to_str().unwrap()])
            .status
            .success()
    );
    Running::start(config, directory.path()).stop();
    let files = ["hub.sqlite", "hub.sqlite-wal"].map(|name| directory.path().join(name));
    let backup = files.each_ref().map(|file| fs::read(file).ok());
    let running = Running::start(config, directory.path());
    let held = run(&["--config", config, "restore", "--yes"]);
    assert!(!held.status.success());
    assert!(String::from_utf8_lossy(&held.stderr).contains("stop it first"));
    running.stop();
    // What is newer than the backup must go, or SQLite would mix the two.
    for (file, bytes) in files.iter().zip(backup) {
        match bytes {
            Some(bytes) => fs::write(file, bytes).unwrap(),
            None => drop(fs::remove_file(file)),
        }
    }
    drop(fs::remove_file(directory.path().join("hub.sqlite-shm")));

    let refused = run(&["--config", config]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    for words in ["an older copy of it", "hubd restore", "Nothing was changed"] {
        assert!(said.contains(words), "{said}");
    }
    let asked = run(&["--config", config, "restore"]);
    assert!(!asked.status.success());
    assert!(String::from_utf8_lossy(&asked.stdout).contains("GET /v1/restore"));
    assert!(!run(&["--config", config]).status.success());
    let restored = run(&["--config", config, "restore", "--yes"]);
    assert!(restored.status.success(), "{restored:?}");
    Running::start(config, directory.path()).stop();
    Running::start(config, directory.path()).stop();
}
