//! What people, browsers and programs send that they should not.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::rig::http::Host;
use crate::rig::sale::Outcome;
use crate::rig::{MEAL, ORDINARY, Site, Wishes, programs, put, shipped};

/// Runs a program that should refuse; its exit code and what it said.
fn run(mut command: Command) -> (Option<i32>, String) {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
        }
        thread::sleep(Duration::from_millis(5));
    }
    let Output { status, stderr, .. } = child.wait_with_output().unwrap();
    (status.code(), String::from_utf8_lossy(&stderr).into_owned())
}

/// A settings file with one value changed, and what must be said about it.
type BadValue = (
    &'static str,
    &'static str,
    toml::Value,
    &'static [&'static str],
);

#[track_caller]
fn check_settings(program: &str, text: &[u8], expected: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("settings.toml");
    fs::write(&file, text).unwrap();
    let path = match program {
        "tilld" => &programs().tilld,
        _ => &programs().hubd,
    };
    let mut command = Command::new(path);
    command.arg("--config").arg(&file).arg("--check");
    let (code, said) = run(command);
    let text = String::from_utf8_lossy(text);
    assert!(code.is_some_and(|code| code != 0), "{program} took {text}");
    assert!(said.contains("settings.toml"), "{said:?} names no file");
    for words in expected {
        assert!(said.contains(words), "{said:?} does not say {words:?}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

#[track_caller]
fn check_value(program: &str, bad: &BadValue) {
    let (section, key, value, expected) = bad;
    let mut settings = shipped(match program {
        "tilld" => "till.toml",
        _ => "hub.toml",
    });
    put(&mut settings, section, key, value.clone());
    check_settings(program, settings.to_string().as_bytes(), expected);
}

#[test]
fn a_till_refuses_settings_it_cannot_keep_to_and_names_the_key() {
    let bad: &[BadValue] = &[
        ("till", "id", "Kasse 1".into(), &["till.id"]),
        ("till", "id", "".into(), &["till.id"]),
        (
            "till",
            "idd",
            "kasse-1".into(),
            &["till.idd", "unknown field"],
        ),
        (
            "till",
            "state_dir",
            "kasse".into(),
            &["till.state_dir", "absolute"],
        ),
        ("till", "control_socket", 7.into(), &["till.control_socket"]),
        (
            "hub",
            "url",
            "http://hub.example".into(),
            &["hub.url", "in the clear"],
        ),
        ("hub", "url", "ftp://127.0.0.1/".into(), &["hub.url"]),
        (
            "hub",
            "url",
            "https://me:you@hub.example".into(),
            &["hub.url"],
        ),
        ("hub", "url", "hub".into(), &["hub.url", "no URL"]),
        (
            "hub",
            "enrolment_code",
            "  ".into(),
            &["hub.enrolment_code", "empty"],
        ),
        (
            "page",
            "listen",
            "0.0.0.0:8070".into(),
            &["page.listen", "other machines"],
        ),
        (
            "page",
            "listen",
            "127.0.0.1".into(),
            &["page.listen", "127.0.0.1:PORT"],
        ),
        ("page", "listen", "localhost:8070".into(), &["page.listen"]),
        ("readers", "pcsc", "yes".into(), &["readers.pcsc"]),
        (
            "readers",
            "serial",
            vec!["ttyUSB0"].into(),
            &["readers.serial", "absolute"],
        ),
        (
            "checkout",
            "chip_wait_seconds",
            4.into(),
            &["checkout.chip_wait_seconds", "5 to 300"],
        ),
        (
            "checkout",
            "chip_wait_seconds",
            (-1).into(),
            &["checkout.chip_wait_seconds"],
        ),
        (
            "checkout",
            "chip_wait_seconds",
            30.5.into(),
            &["checkout.chip_wait_seconds"],
        ),
        (
            "offline",
            "meal_price",
            "0,00".into(),
            &["offline.meal_price", "above zero"],
        ),
        (
            "offline",
            "meal_price",
            "-5,00".into(),
            &["offline.meal_price"],
        ),
        (
            "offline",
            "meal_price",
            "cheap".into(),
            &["offline.meal_price"],
        ),
        (
            "offline",
            "purchase_max",
            200.into(),
            &["offline.purchase_max"],
        ),
        ("offline", "restricted_after_hours", 0.into(), &["1 to 720"]),
        (
            "offline",
            "stopped_after_days",
            1.into(),
            &["offline.stopped_after_days", "72"],
        ),
        ("log", "filter", "loud,,=".into(), &["log.filter"]),
        ("log", "format", "xml".into(), &["log.format"]),
    ];
    bad.iter().for_each(|bad| check_value("tilld", bad));
    for (text, expected) in [
        (&b""[..], "must be set"),
        (b"[till", "[till"),
        (b"[till]\nid = \"kasse-1\"\nid = \"kasse-2\"\n", "duplicate"),
        (b"[till]\nid = \"kasse-1\"\n[tilll]\n", "tilll"),
        (
            b"[till]\nid = \"kasse-1\"\n[hub]\nurl = \"https://h.invalid\"\nca_file = \"/nowhere/ca.pem\"\n",
            "cannot use hub.ca_file /nowhere/ca.pem",
        ),
        (b"\xff\xfe\x00junk", "settings.toml"),
    ] {
        check_settings("tilld", text, &[expected]);
    }
}

#[test]
fn a_hub_refuses_settings_it_cannot_keep_to_and_names_the_key() {
    let bad: &[BadValue] = &[
        ("hub", "listen", "everywhere".into(), &["listen"]),
        ("hub", "lisen", "127.0.0.1:1".into(), &["lisen"]),
        ("hub", "database", 7.into(), &["database"]),
        ("gateway", "url", 7.into(), &["url"]),
        (
            "top_up",
            "attempts_max",
            0.into(),
            &["top_up.attempts_max", "1 or more"],
        ),
        (
            "top_up",
            "look_up_after",
            Vec::<i64>::new().into(),
            &["top_up.look_up_after"],
        ),
        ("top_up", "spacing", (-720).into(), &["spacing"]),
        ("top_up", "spacing", i64::MAX.into(), &["top_up.spacing"]),
    ];
    bad.iter().for_each(|bad| check_value("hubd", bad));
    for (text, expected) in [
        ("[hub", "[hub"),
        ("[hubb]", "hubb"),
        ("[[operator]]\nname = \"drift\"", "token_file"),
        (
            "[[operator]]\nname = \"drift\"\ntoken = \"short\"",
            "16 characters",
        ),
        (
            "[[operator]]\nname = \"drift\"\ntoken_file = \"/nowhere/token\"",
            "/nowhere/token",
        ),
        (
            "[hub]\nlisten = \"0.0.0.0:8080\"\n[[operator]]\nname = \"drift\"\n\
             token = \"0123456789abcdef\"",
            "loopback",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("settings.toml");
        fs::write(&file, text).unwrap();
        let mut command = Command::new(&programs().hubd);
        command.arg("--config").arg(&file).arg("--check");
        let (code, said) = run(command);
        assert!(code.is_some_and(|code| code != 0), "hubd took {text}");
        assert!(
            said.contains(expected),
            "{said:?} does not say {expected:?}"
        );
    }
}

#[test]
fn a_till_that_cannot_start_says_why_and_ends() {
    let mut site = Site::lay_out(&Wishes::default());
    site.start_till();
    // Another one on the same files, then one on other files at the same address.
    let (code, said) = run(site.till_command());
    assert_eq!(code, Some(70), "{said}");
    assert!(said.contains("ledger"), "{said}");
    let settings = site.path("till.toml");
    let good = fs::read_to_string(&settings).unwrap();
    let start_with = |site: &Site, section, key, value: String| {
        let mut changed: toml::Table = good.parse().unwrap();
        put(&mut changed, section, key, value);
        fs::write(&settings, changed.to_string()).unwrap();
        let (code, said) = run(site.till_command());
        fs::write(&settings, &good).unwrap();
        assert_eq!(code, Some(70), "{said}");
        said
    };
    let elsewhere = site.path("elsewhere").to_string_lossy().into_owned();
    let said = start_with(&site, "till", "state_dir", elsewhere);
    assert!(said.contains("is another tilld running?"), "{said}");
    site.stop_till();

    let said = start_with(&site, "till", "id", "kasse-2".to_owned());
    assert!(said.contains("a till keeps its name"), "{said}");

    // The log beside a ledger may hold all of it, until it is emptied into the file.
    for file in ["till/ledger.db-wal", "till/ledger.db-shm"] {
        let _ = fs::remove_file(site.path(file));
    }
    for (file, damage, expected) in [
        ("till/ledger.db", &b"this was a ledger"[..], "ledger"),
        ("till/till.key", b"no key at all", "is no till key"),
    ] {
        let path = site.path(file);
        let before = fs::read(&path).unwrap();
        fs::write(&path, damage).unwrap();
        let (code, said) = run(site.till_command());
        assert_eq!(code, Some(70), "{file}: {said}");
        assert!(said.contains(expected), "{file}: {said}");
        assert_eq!(fs::read(&path).unwrap(), damage, "{file} was overwritten");
        fs::write(&path, before).unwrap();
    }
    fs::write(site.path("till/enrolment.json"), "{\"till\":").unwrap();
    let (code, said) = run(site.till_command());
    assert_eq!(code, Some(70), "{said}");
    assert!(said.contains("damaged"), "{said}");
}

#[test]
fn a_till_takes_no_control_socket_from_another_and_deletes_no_file_in_its_place() {
    let mut site = Site::lay_out(&Wishes::default());
    site.start_till();
    let notes = site.path("notes.txt");
    fs::write(&notes, "not to be lost").unwrap();
    let mut settings: toml::Table = fs::read_to_string(site.path("till.toml"))
        .unwrap()
        .parse()
        .unwrap();
    let taken = settings["till"]["control_socket"].clone();
    let elsewhere = site.path("elsewhere").to_string_lossy().into_owned();
    put(&mut settings, "till", "state_dir", elsewhere);
    put(&mut settings, "page", "listen", "127.0.0.1:0".to_owned());
    let other = site.path("other.toml");
    let start_at = |socket: toml::Value| {
        let mut settings = settings.clone();
        put(&mut settings, "till", "control_socket", socket);
        fs::write(&other, settings.to_string()).unwrap();
        let mut command = Command::new(&programs().tilld);
        command.arg("--config").arg(&other);
        let (code, said) = run(command);
        assert_eq!(code, Some(70), "{said}");
        assert_eq!(said.matches("cannot run").count(), 1, "{said}");
        said
    };
    let said = start_at(taken);
    assert!(said.contains("another tilld answers at"), "{said}");
    let said = start_at(notes.to_string_lossy().into_owned().into());
    assert!(said.contains("is no socket"), "{said}");
    assert_eq!(fs::read_to_string(&notes).unwrap(), "not to be lost");
    // The first one is still commanded through it, and finds it again after a power cut.
    site.status();
    site.kill_till();
    site.start_till();
    site.status();
}

/// A request to the page and the status that answers it.
struct BadRequest<'a> {
    method: &'a str,
    path: &'a str,
    header: &'a str,
    body: &'a str,
    status: u16,
}

#[test]
fn the_page_refuses_what_is_not_its_own_and_changes_nothing() {
    let site = Site::open();
    let large = format!("{{\"line\":\"{}\"}}", "x".repeat(1 << 20));
    let deep = format!("{}{}", "[".repeat(8000), "]".repeat(8000));
    let post = |path, body, status| BadRequest {
        method: "POST",
        path,
        header: "",
        body,
        status,
    };
    let from = |header, status| BadRequest {
        header,
        ..post("/basket/lines", r#"{"line":"1x Dagens ret 22,00"}"#, status)
    };
    let get = |path, status| BadRequest {
        method: "GET",
        ..post(path, "", status)
    };
    let bad = [
        post("/basket/lines", "{", 400),
        post("/basket/lines", "", 400),
        post("/basket/lines", "[]", 422),
        post("/basket/lines", &deep, 422),
        post("/basket/lines", "{\"line\":\"\\ud800\"}", 400),
        post("/basket/lines", r#"{"line":"1x A 1,00","free":true}"#, 422),
        post("/basket/lines", r#"{"product":1,"line":"1x A 1,00"}"#, 422),
        post("/basket/lines", "{}", 422),
        post("/basket/lines", r#"{"product":"1"}"#, 422),
        post("/basket/lines", r#"{"product":999999999}"#, 422),
        post("/basket/lines", r#"{"product":99999999999999999999}"#, 422),
        post("/basket/lines", r#"{"line":"1x Dagens ret -22,00"}"#, 422),
        post("/basket/lines", r#"{"line":"1x Dagens ret 0,00"}"#, 422),
        post("/basket/lines", r#"{"line":"0x Dagens ret 22,00"}"#, 422),
        post("/basket/lines", r#"{"line":"1x Dagens ret 22,005"}"#, 422),
        post(
            "/basket/lines",
            r#"{"line":"99999999999x A 99999999999,00"}"#,
            422,
        ),
        post("/basket/lines", r#"{"line":"1x A\u0000B 1,00"}"#, 422),
        post("/basket/lines", &large, 413),
        post("/basket/lines/remove", r#"{"index":0}"#, 422),
        post("/basket/lines/remove", r#"{"index":-1}"#, 422),
        post("/basket/clear", r#"{"all":true}"#, 422),
        post("/checkout/pay", "{}", 422),
        post("/checkout/cancel", "{}", 422),
        post("/sales/void", r#"{"id":"me"}"#, 422),
        post(
            "/sales/void",
            r#"{"id":"00000000-0000-0000-0000-000000000000"}"#,
            422,
        ),
        from("Origin: http://evil.example", 403),
        from("Origin: null", 403),
        from("Origin: ", 403),
        from("Host: evil.example", 403),
        from("Host: ", 403),
        from("Sec-Fetch-Site: cross-site", 403),
        from("Content-Type: text/plain", 415),
        from("Content-Type: application/x-www-form-urlencoded", 415),
        get("/static/../../../../etc/passwd", 404),
        get("/static/..%2f..%2f..%2fetc%2fpasswd", 404),
        get("/static/%2e%2e/%2e%2e/etc/passwd", 404),
        get("/../../etc/passwd", 404),
        get("//etc/passwd", 404),
        get("/photo/../../etc/passwd", 404),
        get("/photo/999999", 404),
        get("/basket/lines", 405),
        get("/nothing", 404),
        BadRequest {
            method: "DELETE",
            ..post("/basket/lines", "", 405)
        },
    ];
    for request in &bad {
        check_page(&site, request);
    }
    let bare = site.bare_page();
    let without_origin = bare.ask("POST", "/basket/lines", Some(r#"{"line":"1x A 1,00"}"#));
    assert_eq!(without_origin.status, 403, "{without_origin:?}");
    for junk in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        &[b'A'; 300_000],
    ] {
        // Any answer but success will do, and none at all.
        if let Ok(answer) = bare.send(junk) {
            assert!(answer.status >= 400, "{answer:?}");
        }
    }

    let shown = site.shown();
    assert_eq!(shown["basket"]["lines"], Value::Array(vec![]), "{shown}");
    assert_eq!(shown["phase"], "open", "{shown}");
    let sale = site.sell(ORDINARY, MEAL);
    assert_eq!(sale.outcome, Outcome::approved(127_50));
}

#[track_caller]
fn check_page(site: &Site, request: &BadRequest<'_>) {
    let BadRequest {
        method,
        path,
        header,
        body,
        status,
    } = *request;
    let port = site.page_port();
    let mut host = Host::new(port);
    // The last of equal headers is not the one that counts, so each is sent once.
    let name = header.split(':').next().unwrap_or_default();
    if name != "Origin" {
        host = host.with(&format!("Origin: http://127.0.0.1:{port}"));
    }
    if !header.is_empty() && name != "Content-Type" {
        host = host.with(header);
    }
    let answer = if name == "Content-Type" {
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\
             Origin: http://127.0.0.1:{port}\r\n{header}\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        host.send(text.as_bytes()).unwrap()
    } else {
        host.ask(method, path, (method == "POST").then_some(body))
    };
    let what = format!("{method} {path} {header} {:.60}", body);
    assert_eq!(answer.status, status, "{what}: {answer:?}");
    assert!(!answer.body.contains("root:"), "{what}: {answer:?}");
    let is_problem = answer.head.contains("application/problem+json");
    if matches!(status, 400 | 403 | 413 | 415 | 422) {
        assert!(is_problem, "{what}: {answer:?}");
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        assert!(problem["type"].is_string(), "{problem}");
    }
}

#[test]
fn garbage_on_the_control_socket_is_answered_and_forgotten() {
    let site = Site::open();
    let long = [vec![b'x'; 200_000], b"\n".to_vec()].concat();
    let deep = format!("{{\"do\":{}\n", "[".repeat(60_000));
    let garbage: &[&[u8]] = &[
        b"\n",
        b"hello\n",
        b"\x00\xff\xfe\n",
        b"{\"do\":\"sell\"}\n",
        b"{\"do\":\"rob\"}\n",
        b"{\"do\":\"sell\",\"lines\":[],\"timeout_s\":5}\n",
        b"{\"do\":\"sell\",\"lines\":[\"1x A 1,00\"],\"timeout_s\":-1}\n",
        b"{\"do\":\"sell\",\"id\":\"x\",\"lines\":[\"1x A 1,00\"],\"timeout_s\":5}\n",
        b"{\"do\":\"sell\",\"lines\":[\"1x A -1,00\"],\"timeout_s\":5}\n",
        b"{\"do\":\"chip_show\",\"number\":\"' OR 1=1 --\"}\n",
        b"{\"do\":\"ledger_list\",\"limit\":-1}\n",
        deep.as_bytes(),
        &long,
    ];
    for bytes in garbage {
        let mut socket = UnixStream::connect(site.control_socket()).unwrap();
        // It may answer and close before it has read everything.
        let _ = socket.write_all(bytes);
        let _ = socket.shutdown(Shutdown::Write);
        let mut answer = String::new();
        let _ = socket.read_to_string(&mut answer);
        let what = String::from_utf8_lossy(&bytes[..bytes.len().min(60)]);
        let line = answer.lines().next();
        let Some(line) = line else {
            assert!(bytes.len() > 64 * 1024, "{what} is not answered");
            continue;
        };
        let answer: Value = serde_json::from_str(line).unwrap();
        assert_eq!(answer["answer"], "error", "{what}: {answer}");
    }
    // A caller who stops in the middle of a line, and many who say nothing.
    let mut half = UnixStream::connect(site.control_socket()).unwrap();
    half.write_all(b"{\"do\":\"sta").unwrap();
    let idle: Vec<UnixStream> = (0..200)
        .map(|_| UnixStream::connect(site.control_socket()).unwrap())
        .collect();
    let sale = site.sell(ORDINARY, MEAL);
    assert_eq!(sale.outcome, Outcome::approved(127_50));
    drop((half, idle));
    assert_eq!(site.status()["journal"], json!({"ok": true, "text": ""}));
    let log = site.till_log();
    assert!(!log.contains("panicked"), "{log}");
}

#[test]
fn tillctl_refuses_what_it_cannot_read_before_anybody_is_asked_for_a_chip() {
    let site = Site::lay_out(&Wishes::default());
    for (words, code, error) in [
        (&["sell", "--line", "Dagens ret"][..], 2, "bad_line"),
        (&["sell", "--line", "1x Dagens ret -22,00"], 2, "bad_line"),
        (&["chip", "show", "GGGG"], 2, "bad_chip_number"),
        (&["sell"], 2, "usage"),
        (&["dance"], 2, "usage"),
        (&["status"], 69, "unavailable"),
        (&["chip", "show", ORDINARY], 69, "unavailable"),
    ] {
        let answer = site.ask(words);
        assert_eq!(answer.code, code, "{words:?}: {answer:?}");
        assert_eq!(answer.json["error"]["code"], error, "{words:?}");
    }
}
