//! The settings of a canteen: what is shipped, with the places and ports of the test.

use std::fs;
use std::path::Path;

use toml::Table;

use super::link::Link;
use super::programs::workspace;
use super::{OPERATOR_TOKEN, Site, Wishes};

impl Site {
    pub(super) fn write_settings(&self, wishes: &Wishes) {
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

    /// From the next start on the till reaches the hub by TLS at a port, and trusts what is in a
    /// file of this canteen.
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

    fn text_of(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }
}

/// A shipped settings file.
pub(crate) fn shipped(name: &str) -> Table {
    let path = workspace().join("config").join(name);
    read_table(&path)
}

pub(super) fn read_table(path: &Path) -> Table {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap()
}

/// Sets a value in a section that the shipped file must have.
pub(crate) fn put(table: &mut Table, section: &str, key: &str, value: impl Into<toml::Value>) {
    let section = table[section].as_table_mut().unwrap();
    section.insert(key.to_owned(), value.into());
}

pub(super) fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

const ENROLMENT_CODE: &str = "DEMO-KASSE-1";
