//! What people see at till and hub, and what they do there.

use std::process::{Child, Command, Stdio};

use hw_tests::vpcd_card::{ChipScript, VirtualChip};
use serde_json::Value;

use super::http::Host;
use super::programs::programs;
use super::sale::{Ctl, Row, Sale};
use super::{CARD, Site};

impl Site {
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

    /// How the till is; `None` while it begins anew.
    pub(crate) fn try_status(&self) -> Option<Value> {
        let output = self.ctl(&["status"]).output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status["standing"].is_object().then_some(status)
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

    /// The charges that reached the gateway.
    pub(crate) fn charges(&self) -> Vec<Value> {
        let charges = self.gateway().json("/simulator/charges");
        charges.as_array().unwrap().clone()
    }
}

impl Site {
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
