//! A canteen of real processes: card gateway, hub, till, and pcscd with a virtual reader.

pub(crate) mod http;
pub(crate) mod link;
mod part;
mod programs;
pub(crate) mod sale;

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hw_tests::pcscd::{Driver, PrivatePcscd, VirtualReader};
use hw_tests::vpcd_card::{ChipScript, VirtualChip};
use serde_json::Value;
use tempfile::TempDir;
use toml::Table;

use http::Host;
use link::Link;
pub(crate) use part::Part;
pub(crate) use programs::{programs, workspace};
use sale::{Ctl, Row, Sale};

/// 149,50 kr., topped up by 300 kr. when it comes under 50 kr.
pub(crate) const ORDINARY: &str = "72BF9961";
/// 60,00 kr., at most 25 kr. a day.
pub(crate) const DAILY: &str = "A10A8925";
/// 200,00 kr., at most 50 kr. a week.
pub(crate) const WEEKLY: &str = "55667788";
/// 200,00 kr., at most 40 kr. a month.
pub(crate) const MONTHLY: &str = "99AABBCC";
/// 7,00 kr.
pub(crate) const POOR: &str = "11223344";
/// 100,00 kr., blocked.
pub(crate) const BLOCKED: &str = "04A1B2C3D4E5F6";
/// In nobody's books.
pub(crate) const UNKNOWN: &str = "C0FFEE01";
/// All that the demo's data knows.
pub(crate) const KNOWN: [&str; 6] = [ORDINARY, DAILY, WEEKLY, MONTHLY, POOR, BLOCKED];

pub(crate) const MEAL: &[&str] = &["1x Dagens ret 22,00"];
pub(crate) const SNACK: &[&str] = &["1x Ostehaps 3,00"];

/// What a test wants to be otherwise than in the demo.
#[derive(Debug, Default)]
pub(crate) struct Wishes {
    /// The till reaches the hub through a [`Link`].
    pub(crate) link: bool,
    /// The till's state lies on a file system of its own, this many MiB large.
    pub(crate) disk_mib: Option<u32>,
    /// Readers on serial lines beside the PC/SC one: the key of their list, and the line.
    pub(crate) serial: Vec<(&'static str, PathBuf)>,
    /// Whose driver the virtual PC/SC reader has.
    pub(crate) driver: Driver,
    /// The till opens its door to hub and siblings.
    pub(crate) door: bool,
    /// Settings of the hub: section, key, value.
    pub(crate) hub: Vec<(&'static str, &'static str, toml::Value)>,
}

/// A running canteen; dropping it ends every part, and tells the ends of their logs when the test
/// has failed.
#[derive(Debug)]
pub(crate) struct Site {
    till: Option<Part>,
    hub: Option<Part>,
    gateway: Option<Part>,
    /// The line to the hub, when asked for.
    pub(crate) link: Option<Link>,
    /// The reader's service.
    pub(crate) pcscd: PrivatePcscd,
    ports: Ports,
    disk_mib: Option<u32>,
    dir: TempDir,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    hub: u16,
    page: u16,
    gateway: u16,
    reader: u16,
    door: u16,
}

impl Site {
    /// A canteen with the demo's data, online and ready to sell.
    pub(crate) fn open() -> Site {
        Site::open_with(Wishes::default())
    }

    /// The same, with some things otherwise.
    pub(crate) fn open_with(wishes: Wishes) -> Site {
        let mut site = Site::lay_out(&wishes);
        site.start_gateway();
        site.load_demo_data();
        site.start_hub();
        site.start_till();
        site.wait_until_open();
        site
    }

    /// Another till of the same canteen and hub, with a reader of its own.
    #[allow(dead_code, reason = "not every program of tests has two tills")]
    pub(crate) fn open_sibling(&self) -> Site {
        self.open_sibling_with(&Wishes::default())
    }

    /// The same, with some things otherwise.
    #[allow(dead_code, reason = "not every program of tests has two tills")]
    pub(crate) fn open_sibling_with(&self, wishes: &Wishes) -> Site {
        self.open_till("kasse-2", "DEMO-KASSE-2", wishes)
    }

    /// A till that the hub waits for, with a reader of its own.
    pub(crate) fn open_till(&self, id: &str, code: &str, wishes: &Wishes) -> Site {
        let mut site = Site::lay_out_at(Some(self.ports.hub), wishes);
        let mut till = read_table(&site.path("till.toml"));
        put(&mut till, "till", "id", id);
        put(&mut till, "hub", "enrolment_code", code);
        fs::write(site.path("till.toml"), till.to_string()).unwrap();
        site.start_till();
        site.wait_until_open();
        site
    }

    /// The till meets its hub for the first time over a line that goes this way.
    #[allow(dead_code, reason = "not every program of tests has a line of its own")]
    pub(crate) fn open_behind(way: link::Way) -> Site {
        let mut site = Site::lay_out(&Wishes {
            link: true,
            ..Wishes::default()
        });
        site.start_gateway();
        site.load_demo_data();
        site.start_hub();
        if let Some(link) = &site.link {
            link.set(way);
        }
        site.start_till();
        site
    }

    /// A copy of this canteen's till with everything in its state directory, on a machine of its own
    /// and not started yet.
    #[allow(dead_code, reason = "not every program of tests has two tills")]
    pub(crate) fn copy_till(&self) -> Site {
        let site = Site::lay_out_at(Some(self.ports.hub), &Wishes::default());
        copy_files(&self.path("till"), &site.path("till"));
        site
    }

    /// A new one-time code for this canteen's first till.
    #[allow(dead_code, reason = "not every program of tests enrols twice")]
    pub(crate) fn new_code(&self) -> String {
        let path = "/v1/tills/kasse-1/enrolment-code";
        let answer = self
            .hub()
            .post(path, &Value::Object(serde_json::Map::new()));
        answer.json()["enrolment_code"].as_str().unwrap().to_owned()
    }

    /// Waits until the till says that it stands so.
    #[allow(dead_code, reason = "not every program of tests has such a till")]
    pub(crate) fn wait_for_standing(&self, state: &str) {
        eventually(&format!("the till to stand {state}"), || {
            (self.try_status()?["standing"]["state"] == state).then_some(())
        });
    }

    /// How the till is; `None` while it begins anew.
    pub(crate) fn try_status(&self) -> Option<Value> {
        let output = self.ctl(&["status"]).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status["standing"].is_object().then_some(status)
    }

    /// The same before the till is started for the first time.
    pub(crate) fn open_without_till() -> Site {
        let mut site = Site::lay_out(&Wishes::default());
        site.start_gateway();
        site.load_demo_data();
        site.start_hub();
        site
    }

    /// A canteen of which only the reader runs.
    pub(crate) fn lay_out(wishes: &Wishes) -> Site {
        Site::lay_out_at(None, wishes)
    }

    /// The same; `hub` is the port of a hub that runs already.
    fn lay_out_at(hub: Option<u16>, wishes: &Wishes) -> Site {
        let dir = TempDir::with_prefix("till-").unwrap();
        let mut ports = Ports::draw();
        ports.hub = hub.unwrap_or(ports.hub);
        let pcscd = PrivatePcscd::start_at(
            &dir.path().join("pcscd.comm"),
            &[VirtualReader {
                friendly_name: "Virtual PCD".to_owned(),
                driver: programs().driver(wishes.driver),
                first_port: ports.reader,
            }],
        )
        .unwrap();
        let site = Site {
            till: None,
            hub: None,
            gateway: None,
            link: wishes.link.then(|| Link::to(ports.hub)),
            pcscd,
            ports,
            disk_mib: wishes.disk_mib,
            dir,
        };
        site.write_settings(wishes);
        site
    }

    /// The till has enrolled, knows the accounts and has its readers.
    pub(crate) fn wait_until_open(&self) {
        self.wait_for_line("online");
        eventually("the accounts to arrive", || {
            let known = |chip: &&str| !self.ask(&["chip", "show", chip]).json["chip"].is_null();
            KNOWN.iter().all(known).then_some(())
        });
        self.wait_for_readers(true);
    }

    // The parts.

    fn start_gateway(&mut self) {
        let mut command = Command::new(&programs().gateway);
        command
            .args(["--listen", &address(self.ports.gateway)])
            .arg("--state")
            .arg(self.path("gateway.json"))
            .arg("--secret-file")
            .arg(self.path("gateway.key"))
            .args(["--agreement", CARD]);
        let mut part = Part::start(&command, &self.path("gateway.log"));
        let gateway = self.gateway();
        part.wait_until(|| gateway.is_there("/simulator/charges"));
        self.gateway = Some(part);
    }

    fn load_demo_data(&self) {
        let output = Command::new(&programs().hubd)
            .arg("--config")
            .arg(self.path("hub.toml"))
            .arg("load")
            .arg(workspace().join("config/demo.toml"))
            .output()
            .unwrap();
        assert!(output.status.success(), "hubd load: {output:?}");
    }

    /// Starts the hub.
    pub(crate) fn start_hub(&mut self) {
        let mut command = Command::new(&programs().hubd);
        command.arg("--config").arg(self.path("hub.toml"));
        let mut part = Part::start(&command, &self.path("hubd.log"));
        let hub = Host::new(self.ports.hub);
        part.wait_until(|| hub.is_there("/readyz"));
        self.hub = Some(part);
    }

    /// Stops the hub as a service manager does.
    pub(crate) fn stop_hub(&mut self) {
        let status = self.hub.take().unwrap().stop();
        assert!(status.success(), "hubd ended with {status}");
    }

    /// Runs the hub's program beside the hub, and to its end.
    #[allow(dead_code, reason = "not every program of tests restores a hub")]
    pub(crate) fn run_hubd(&self, words: &[&str]) -> Output {
        let mut command = Command::new(&programs().hubd);
        command.arg("--config").arg(self.path("hub.toml"));
        command.args(words).output().unwrap()
    }

    /// Ends the hub as a crash does.
    pub(crate) fn kill_hub(&mut self) {
        self.hub.take().unwrap().kill();
    }

    /// Starts the till and does not wait until it is ready.
    pub(crate) fn begin_till(&mut self) {
        let part = Part::start(&self.till_command(), &self.path("tilld.log"));
        self.till = Some(part);
    }

    /// Starts the till.
    pub(crate) fn start_till(&mut self) {
        let mut part = Part::start(&self.till_command(), &self.path("tilld.log"));
        let (page, socket) = (Host::new(self.ports.page), self.control_socket());
        part.wait_until(|| UnixStream::connect(&socket).is_ok() && page.is_there("/livez"));
        self.till = Some(part);
    }

    /// The till as it is started.
    pub(crate) fn till_command(&self) -> Command {
        let mut command = self.bare_till_command();
        command
            .arg("--config")
            .arg(self.path("till.toml"))
            .env("PCSCLITE_CSOCK_NAME", self.pcscd.socket());
        command
    }

    /// The program alone, or in a mount namespace of its own with a small disk for its state.
    fn bare_till_command(&self) -> Command {
        let tilld = &programs().tilld;
        let Some(size) = self.disk_mib else {
            return Command::new(tilld);
        };
        let state = self.path("till");
        fs::create_dir_all(&state).unwrap();
        let mount = format!("mount -t tmpfs -o size={size}m,mode=700 tmpfs \"$0\" && exec \"$@\"");
        let mut command = Command::new("unshare");
        let namespace = if nix::unistd::geteuid().is_root() {
            "-m"
        } else {
            "-Urm"
        };
        command.args([namespace, "sh", "-c", &mount]);
        command.arg(state).arg(tilld);
        command
    }

    /// The till's state directory as the till sees it.
    #[allow(dead_code, reason = "not every program of tests fills a disk")]
    pub(crate) fn till_state(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.till_pid()));
        let state = self.path("till");
        root.join(state.strip_prefix("/").unwrap())
    }

    /// Stops the till as a service manager does.
    pub(crate) fn stop_till(&mut self) {
        let status = self.till.take().unwrap().stop();
        assert!(status.success(), "tilld ended with {status}");
    }

    /// Ends the till as a power cut does, but for the disk.
    pub(crate) fn kill_till(&mut self) {
        self.till.take().unwrap().kill();
    }

    /// The till's process id.
    pub(crate) fn till_pid(&self) -> u32 {
        self.till.as_ref().unwrap().pid()
    }

    /// What the till has logged, over all its starts.
    pub(crate) fn till_log(&self) -> String {
        self.till.as_ref().unwrap().said()
    }

    /// A file of this canteen.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The till's control socket.
    pub(crate) fn control_socket(&self) -> PathBuf {
        self.path("tilld.sock")
    }

    /// The hub, as an operator reaches it.
    pub(crate) fn hub(&self) -> Host {
        Host::new(self.ports.hub).with(&format!("Authorization: Bearer {OPERATOR_TOKEN}"))
    }

    /// The card gateway.
    pub(crate) fn gateway(&self) -> Host {
        Host::new(self.ports.gateway)
    }

    /// The cashier page, as its own script reaches it.
    pub(crate) fn page(&self) -> Host {
        let port = self.ports.page;
        Host::new(port).with(&format!("Origin: http://127.0.0.1:{port}"))
    }

    /// The cashier page, as anybody on the machine reaches it.
    pub(crate) fn bare_page(&self) -> Host {
        Host::new(self.ports.page)
    }

    /// The port of the reader's slot.
    #[allow(
        dead_code,
        reason = "only cashiers with a queue lay their chips themselves"
    )]
    pub(crate) fn reader_port(&self) -> u16 {
        self.ports.reader
    }

    /// The hub's port.
    #[allow(
        dead_code,
        reason = "not every program of tests puts something before the hub"
    )]
    pub(crate) fn hub_port(&self) -> u16 {
        self.ports.hub
    }

    /// From the next start on the till reaches the hub by TLS at a port, and trusts what is in a
    /// file of this canteen.
    #[allow(
        dead_code,
        reason = "not every program of tests puts something before the hub"
    )]
    pub(crate) fn go_by_tls(&self, port: u16, ca_file: &str) {
        let mut till = read_table(&self.path("till.toml"));
        put(
            &mut till,
            "hub",
            "url",
            format!("https://{}", address(port)),
        );
        put(&mut till, "hub", "ca_file", self.text_of(ca_file));
        fs::write(self.path("till.toml"), till.to_string()).unwrap();
    }

    /// The cashier page's port.
    pub(crate) fn page_port(&self) -> u16 {
        self.ports.page
    }

    // What people see.

    /// What the cashier's page shows now.
    pub(crate) fn shown(&self) -> Value {
        Host::new(self.ports.page).first_event("/events").unwrap()
    }

    /// Runs `tillctl --json` and reads what it prints.
    pub(crate) fn ask(&self, words: &[&str]) -> Ctl {
        Ctl::read(self.ctl(words).output().unwrap())
    }

    /// Starts `tillctl --json` beside the test.
    pub(crate) fn begin(&self, words: &[&str]) -> Child {
        self.ctl(words).spawn().unwrap()
    }

    fn ctl(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&programs().tillctl);
        command
            .arg("--socket")
            .arg(self.control_socket())
            .arg("--json")
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// How the till is.
    pub(crate) fn status(&self) -> Value {
        self.ask(&["status"]).json
    }

    /// What the till knows of a chip's account.
    pub(crate) fn account(&self, chip: &str) -> Value {
        let answer = self.ask(&["chip", "show", chip]).json;
        assert!(answer["chip"]["account"].is_object(), "{answer}");
        answer["chip"]["account"].clone()
    }

    /// What the till believes that a chip's account holds, in øre.
    pub(crate) fn balance(&self, chip: &str) -> i64 {
        self.account(chip)["balance"].as_i64().unwrap()
    }

    /// What the hub knows of a chip's account.
    pub(crate) fn hub_account(&self, chip: &str) -> Value {
        let found = self.hub().json(&format!("/v1/chips?number={chip}"));
        let account = found["chips"][0]["account"].as_i64();
        let account = account.unwrap_or_else(|| panic!("no account of {chip} in {found}"));
        self.hub().json(&format!("/v1/accounts/{account}"))
    }

    /// What a chip's account holds at the hub, in øre.
    pub(crate) fn hub_balance(&self, chip: &str) -> i64 {
        self.hub_account(chip)["balance"].as_i64().unwrap()
    }

    /// A chip's statement at the hub, the oldest row first.
    pub(crate) fn statement(&self, chip: &str) -> Vec<Row> {
        let account = self.account(chip)["id"].as_i64().unwrap();
        let statement = self
            .hub()
            .json(&format!("/v1/accounts/{account}/statement"));
        let rows = statement["rows"].as_array().unwrap();
        rows.iter().map(Row::read).collect()
    }

    /// The amounts of the sales on a chip's statement.
    pub(crate) fn sales(&self, chip: &str) -> Vec<i64> {
        let rows = self.statement(chip).into_iter();
        let sales = rows.filter(|row| row.kind == "sale");
        sales.map(|row| row.amount).collect()
    }

    // What people do.

    /// Lays a chip on the reader.
    pub(crate) fn lay(&self, chip: &str) -> VirtualChip {
        self.lay_script(ChipScript::new(&uid(chip)))
    }

    /// Lays a chip of any kind on the reader.
    pub(crate) fn lay_script(&self, script: ChipScript) -> VirtualChip {
        VirtualChip::insert(self.ports.reader, script).unwrap()
    }

    /// Lays a chip on the reader and waits until the till has seen it.
    pub(crate) fn lay_and_wait(&self, chip: &str) -> VirtualChip {
        let laid = self.lay(chip);
        self.wait_for_shown("the chip to be seen", |shown| !shown["chip"].is_null());
        laid
    }

    /// Sells to a chip that is tapped once the till asks for it.
    pub(crate) fn sell(&self, chip: &str, lines: &[&str]) -> Sale {
        self.sell_as(chip, lines, None)
    }

    /// The same, under an id.
    pub(crate) fn sell_as(&self, chip: &str, lines: &[&str], id: Option<&str>) -> Sale {
        let waiting = self.begin_sale(lines, id);
        let laid = self.lay(chip);
        let sale = finish_sale(waiting);
        laid.remove();
        sale
    }

    /// Rings up a sale, and returns once the till waits for a chip.
    pub(crate) fn begin_sale(&self, lines: &[&str], id: Option<&str>) -> Child {
        let waiting = self.begin(&sell_words(lines, id, "15"));
        self.wait_for_shown("the till to ask for a chip", |shown| {
            shown["phase"] == "waiting"
        });
        waiting
    }

    /// Sells to the chip that lies on the reader.
    pub(crate) fn sell_to_laid(&self, lines: &[&str], id: Option<&str>) -> Sale {
        self.ask(&sell_words(lines, id, "15")).sale()
    }

    /// Lays the gateway's next outcomes down.
    pub(crate) fn script_gateway(&self, script: &Value) {
        let path = format!("/simulator/agreements/{CARD}/outcomes");
        self.gateway().post(&path, script);
    }

    /// The charges that reached the gateway.
    pub(crate) fn charges(&self) -> Vec<Value> {
        let charges = self.gateway().json("/simulator/charges");
        charges.as_array().unwrap().clone()
    }

    // What is waited for.

    /// Waits until the page shows something.
    pub(crate) fn wait_for_shown(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        eventually(what, || Some(self.shown()).filter(&is_so))
    }

    /// Waits until the line to the hub is in a state.
    pub(crate) fn wait_for_line(&self, state: &str) {
        eventually(&format!("the line to be {state}"), || {
            (self.status()["line"]["state"] == state).then_some(())
        });
    }

    /// Waits until all readers work, or none does.
    pub(crate) fn wait_for_readers(&self, ok: bool) -> Value {
        eventually(&format!("all readers to be ok: {ok}"), || {
            let list = self.ask(&["reader", "list"]).json;
            let readers = list["readers"].as_array().unwrap();
            let are_so = !readers.is_empty() && readers.iter().all(|reader| reader["ok"] == ok);
            are_so.then_some(list)
        })
    }

    /// Waits until the hub has all entries.
    pub(crate) fn wait_until_sent(&self) {
        eventually("everything to be sent", || {
            (self.status()["waiting"] == 0).then_some(())
        });
    }

    /// Waits until the balance of a chip is this at till and hub.
    pub(crate) fn wait_for_balance(&self, chip: &str, balance: i64) {
        eventually(&format!("{balance} øre of {chip} at till and hub"), || {
            (self.balance(chip) == balance && self.hub_balance(chip) == balance).then_some(())
        });
    }

    /// Waits until till and hub have all entries and the same balances, and everything verifies.
    pub(crate) fn wait_until_agreed(&self) {
        self.wait_until_sent();
        for chip in KNOWN {
            eventually(&format!("till and hub to agree on {chip}"), || {
                (self.balance(chip) == self.hub_balance(chip)).then_some(())
            });
        }
        let verdict = self.ask(&["ledger", "verify"]);
        assert_eq!(verdict.code, 0, "{verdict:?}");
        assert_eq!(verdict.json["ok"], true, "{verdict:?}");
        let quarantine = self.hub().json("/v1/quarantine");
        assert_eq!(quarantine["entries"], Value::Array(vec![]));
        assert!(Host::new(self.ports.hub).is_there("/readyz"));
    }

    // The settings.

    fn write_settings(&self, wishes: &Wishes) {
        let hub_port = self.link.as_ref().map_or(self.ports.hub, Link::port);
        let mut till = shipped("till.toml");
        put(&mut till, "till", "state_dir", self.text_of("till"));
        put(
            &mut till,
            "till",
            "control_socket",
            self.text_of("tilld.sock"),
        );
        put(
            &mut till,
            "hub",
            "url",
            format!("http://{}", address(hub_port)),
        );
        put(&mut till, "hub", "enrolment_code", ENROLMENT_CODE);
        put(&mut till, "page", "listen", address(self.ports.page));
        if wishes.door {
            put(&mut till, "pull", "listen", address(self.ports.door));
        }
        // Many tills run side by side on the machine's own disk.
        let ballast = if wishes.disk_mib.is_some() { 4 } else { 1 };
        put(&mut till, "till", "ballast_mib", ballast);
        for (key, line) in &wishes.serial {
            let line = line.to_string_lossy().into_owned();
            put(&mut till, "readers", key, vec![line]);
        }
        let mut hub = shipped("hub.toml");
        put(&mut hub, "hub", "listen", address(self.ports.hub));
        put(&mut hub, "hub", "database", self.text_of("hub.sqlite"));
        let gateway = format!("http://{}", address(self.ports.gateway));
        put(&mut hub, "gateway", "url", gateway);
        put(
            &mut hub,
            "gateway",
            "secret_file",
            self.text_of("gateway.key"),
        );
        for (section, key, value) in &wishes.hub {
            put(&mut hub, section, key, value.clone());
        }
        let operator: Table = [("name", "test"), ("token", OPERATOR_TOKEN)]
            .map(|(key, value)| (key.to_owned(), value.into()))
            .into_iter()
            .collect();
        hub.insert("operator".to_owned(), vec![operator].into());
        fs::write(self.path("till.toml"), till.to_string()).unwrap();
        fs::write(self.path("hub.toml"), hub.to_string()).unwrap();
        fs::write(self.path("gateway.key"), "demo-gateway-secret\n").unwrap();
    }

    fn text_of(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if thread::panicking() {
            for log in ["tilld.log", "hubd.log", "gateway.log"] {
                eprintln!("{}", part::tail(&self.path(log)));
            }
        }
    }
}

impl Ports {
    /// Below the ports that the OS gives to outgoing connections, and apart from those of other
    /// tests of this process.
    fn draw() -> Ports {
        static DRAWN: AtomicU16 = AtomicU16::new(0);
        loop {
            let turn = DRAWN.fetch_add(PORTS, Ordering::Relaxed);
            let own = u16::try_from(std::process::id() % 500).unwrap() * 20;
            let first = 12_000 + (own + turn) % 10_000;
            let are_free =
                (first..first + PORTS).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
            if are_free {
                return Ports {
                    hub: first,
                    page: first + 1,
                    gateway: first + 2,
                    reader: first + 3,
                    // The reader has two slots.
                    door: first + 5,
                };
            }
        }
    }
}

/// Polls until there is something, and fails when it takes too long.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Copies the files of a directory.
pub(crate) fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

/// The outcome of a sale that runs beside the test.
pub(crate) fn finish_sale(waiting: Child) -> Sale {
    Ctl::read(waiting.wait_with_output().unwrap()).sale()
}

/// The words of `tillctl sell`.
pub(crate) fn sell_words<'a>(
    lines: &[&'a str],
    id: Option<&'a str>,
    timeout: &'a str,
) -> Vec<&'a str> {
    let mut words = vec!["sell", "--timeout", timeout];
    words.extend(lines.iter().flat_map(|line| ["--line", *line]));
    words.extend(id.into_iter().flat_map(|id| ["--id", id]));
    words
}

/// The bytes of a chip number in hexadecimal.
pub(crate) fn uid(chip: &str) -> Vec<u8> {
    hex::decode(chip).unwrap()
}

/// A new name for a sale.
pub(crate) fn fresh_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// A shipped settings file.
pub(crate) fn shipped(name: &str) -> Table {
    let path = workspace().join("config").join(name);
    read_table(&path)
}

fn read_table(path: &Path) -> Table {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap()
}

/// Sets a value in a section that the shipped file must have.
pub(crate) fn put(table: &mut Table, section: &str, key: &str, value: impl Into<toml::Value>) {
    let section = table[section].as_table_mut().unwrap();
    section.insert(key.to_owned(), value.into());
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

const PATIENCE: Duration = Duration::from_secs(30);
const PORTS: u16 = 6;
const CARD: &str = "demo-card-1";
const OPERATOR_TOKEN: &str = "operator-token-of-the-tests";
const ENROLMENT_CODE: &str = "DEMO-KASSE-1";
