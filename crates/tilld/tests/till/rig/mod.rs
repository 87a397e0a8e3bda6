//! A canteen of real processes: card gateway, hub, till, and pcscd with a virtual reader.

mod daemons;
pub(crate) mod http;
pub(crate) mod link;
mod part;
mod people;
mod ports;
mod programs;
pub(crate) mod sale;
mod settings;
mod waits;

use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use hw_tests::pcscd::{Driver, Model, PrivatePcscd, VirtualReader};
use serde_json::Value;
use tempfile::TempDir;

use http::Host;
use link::Link;
use ports::Ports;
use settings::read_table;

pub(crate) use part::Part;
pub(crate) use people::{finish_sale, fresh_id, sell_words, uid};
pub(crate) use programs::{programs, workspace};
pub(crate) use settings::{put, shipped};
pub(crate) use waits::eventually;

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
    /// Whose behaviour that reader has.
    pub(crate) model: Model,
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

    /// The same before the till is started for the first time.
    pub(crate) fn open_without_till() -> Site {
        let mut site = Site::lay_out(&Wishes::default());
        site.start_gateway();
        site.load_demo_data();
        site.start_hub();
        site
    }

    /// Another till of the same canteen and hub, with a reader of its own.
    pub(crate) fn open_sibling(&self) -> Site {
        self.open_sibling_with(&Wishes::default())
    }

    /// The same, with some things otherwise.
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
    pub(crate) fn copy_till(&self) -> Site {
        let site = Site::lay_out_at(Some(self.ports.hub), &Wishes::default());
        copy_files(&self.path("till"), &site.path("till"));
        site
    }

    /// A new one-time code for this canteen's first till.
    pub(crate) fn new_code(&self) -> String {
        let path = "/v1/tills/kasse-1/enrolment-code";
        let answer = self
            .hub()
            .post(path, &Value::Object(serde_json::Map::new()));
        answer.json()["enrolment_code"].as_str().unwrap().to_owned()
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
                friendly_name: match wishes.model {
                    Model::Plain => "Virtual PCD".to_owned(),
                    Model::Acr122u => "Virtual ACR122U PICC".to_owned(),
                },
                driver: programs().driver(wishes.driver),
                first_port: ports.reader,
                model: wishes.model,
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
    pub(crate) fn reader_port(&self) -> u16 {
        self.ports.reader
    }

    /// The hub's port.
    pub(crate) fn hub_port(&self) -> u16 {
        self.ports.hub
    }

    /// The cashier page's port.
    pub(crate) fn page_port(&self) -> u16 {
        self.ports.page
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

/// Copies the files of a directory.
pub(crate) fn copy_files(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for file in fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

const CARD: &str = "demo-card-1";
const OPERATOR_TOKEN: &str = "operator-token-of-the-tests";
