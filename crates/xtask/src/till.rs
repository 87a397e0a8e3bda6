//! What people do at the demo's till: lay chips on the reader, and ask with `tillctl`.

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use serde_json::Value;

use crate::chip::Chip;
use crate::site::Site;

/// A till with a virtual reader.
#[derive(Debug, Clone)]
pub(crate) struct Till {
    tillctl: PathBuf,
    socket: PathBuf,
    reader: u16,
}

/// A chip by its number in hexadecimal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ChipNumber(pub(crate) &'static str);

/// What the till answered to a sale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sale {
    /// Its name for ever.
    pub(crate) id: String,
    /// `approved`, or why not.
    pub(crate) decision: String,
    /// What the account holds now, in øre.
    pub(crate) balance: Option<i64>,
    /// The limit that was in the way, in øre.
    pub(crate) limit: Option<i64>,
    /// What is left of that limit, in øre.
    pub(crate) left: Option<i64>,
    /// What it does to the automatic top-up.
    pub(crate) top_up: String,
    /// Where it stands in the ledger.
    pub(crate) seq: Option<u64>,
    /// Whether it is the recorded answer to an id used before.
    pub(crate) replayed: bool,
}

impl Till {
    /// The till of a site.
    pub(crate) fn of(site: &Site) -> Till {
        Till {
            tillctl: site.programs().tillctl.clone(),
            socket: site.control_socket(),
            reader: site.ports().readers,
        }
    }

    /// Sells the lines to a chip that is laid on the reader when the till waits for it.
    pub(crate) fn sell(
        &self,
        chip: ChipNumber,
        lines: &[&str],
        id: Option<&str>,
    ) -> anyhow::Result<Sale> {
        let mut command = self.command(&["sell", "--timeout", "10"]);
        lines.iter().for_each(|line| {
            command.args(["--line", line]);
        });
        id.into_iter().for_each(|id| {
            command.args(["--id", id]);
        });
        let waiting = command.spawn().context("failed to run tillctl")?;
        // Time to ring it up; customers take longer.
        thread::sleep(Duration::from_millis(150));
        let chip = Chip::lay(self.reader, &chip.uid()?)?;
        let output = waiting.wait_with_output()?;
        chip.take_away();
        Sale::read(&answer(&output, "sell")?)
    }

    /// Asks for a sale again by its id; no chip is needed for what is recorded.
    pub(crate) fn ask_again(&self, id: &str, lines: &[&str]) -> anyhow::Result<Sale> {
        let mut words = vec!["sell", "--timeout", "10", "--id", id];
        for line in lines {
            words.extend(["--line", line]);
        }
        Sale::read(&self.ask(&words)?)
    }

    /// Runs a command of `tillctl` and reads what it prints.
    pub(crate) fn ask(&self, words: &[&str]) -> anyhow::Result<Value> {
        let output = self.command(words).output();
        let output = output.context("failed to run tillctl")?;
        answer(&output, words.first().unwrap_or(&""))
    }

    /// How the till is.
    pub(crate) fn status(&self) -> anyhow::Result<Value> {
        self.ask(&["status"])
    }

    /// What the till believes that a chip's account holds, in øre.
    pub(crate) fn balance(&self, chip: ChipNumber) -> anyhow::Result<i64> {
        let answer = self.ask(&["chip", "show", chip.0])?;
        let balance = answer["chip"]["account"]["balance"].as_i64();
        balance.with_context(|| format!("no balance of {} in {answer}", chip.0))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.tillctl);
        command
            .arg("--socket")
            .arg(&self.socket)
            .arg("--json")
            .args(words)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

impl ChipNumber {
    fn uid(self) -> anyhow::Result<Vec<u8>> {
        ensure!(
            self.0.len().is_multiple_of(2),
            "{} is half a byte short",
            self.0
        );
        let digits = self.0.as_bytes().chunks_exact(2);
        digits
            .map(|pair| Ok(u8::from_str_radix(std::str::from_utf8(pair)?, 16)?))
            .collect()
    }
}

impl Sale {
    fn read(answer: &Value) -> anyhow::Result<Sale> {
        let word = |key| answer[key].as_str().map(str::to_owned);
        let decision = match word("decision").as_deref() {
            Some("approved") => "approved".to_owned(),
            Some("declined") => word("reason").context("declined without a reason")?,
            Some(_) | None => bail!("no decision in {answer}"),
        };
        Ok(Sale {
            id: word("id").context("a sale without an id")?,
            decision,
            balance: answer["balance_after"].as_i64(),
            limit: answer["limit"].as_i64(),
            left: answer["left"].as_i64(),
            top_up: word("top_up").context("a sale that is silent about the top-up")?,
            seq: answer["entry"]["seq"].as_u64(),
            replayed: answer["replayed"] == true,
        })
    }
}

/// Reads the one object that tillctl prints. Its exit code 1 says that there were findings, such as
/// a declined sale, which is an answer like others.
fn answer(output: &Output, command: &str) -> anyhow::Result<Value> {
    let said = String::from_utf8_lossy(&output.stdout);
    let complaint = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    if !matches!(code, Some(0 | 1)) {
        bail!(
            "tillctl {command} ended with {}: {said}{complaint}",
            output.status
        );
    }
    let answer: Value = serde_json::from_str(&said)
        .with_context(|| format!("tillctl {command} printed no JSON: {said}{complaint}"))?;
    if let Some(error) = answer.get("error") {
        bail!("tillctl {command}: {error}");
    }
    if let Some(decision) = answer["decision"].as_str() {
        let expected = i32::from(decision != "approved");
        ensure!(
            code == Some(expected),
            "tillctl {command} ended with {} for {said}",
            output.status
        );
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    fn output(code: i32, said: &str) -> Output {
        Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: said.into(),
            stderr: Vec::new(),
        }
    }

    const DECLINED: &str = r#"{"decision":"declined","reason":"limit_day","id":"x","total":2200,
        "balance_after":3800,"limit":2500,"left":300,"entry":{"seq":7},"top_up":"none","replayed":false}"#;

    #[test]
    fn a_sale_is_read_with_its_figures() {
        let sale = Sale::read(&answer(&output(1, DECLINED), "sell").unwrap()).unwrap();
        let expected = Sale {
            id: "x".to_owned(),
            decision: "limit_day".to_owned(),
            balance: Some(3800),
            limit: Some(2500),
            left: Some(300),
            top_up: "none".to_owned(),
            seq: Some(7),
            replayed: false,
        };
        assert_eq!(sale, expected);
    }

    #[test]
    fn an_exit_code_that_does_not_fit_the_answer_is_an_error() {
        let refused = |code, said| answer(&output(code, said), "sell").is_err();
        assert!(refused(0, DECLINED));
        assert!(refused(1, r#"{"decision":"approved"}"#));
        assert!(refused(69, r#"{"error":{"code":"unavailable"}}"#));
        assert!(refused(1, r#"{"error":{"code":"no_such_sale"}}"#));
        assert!(refused(0, "hello"));
    }

    #[test]
    fn a_chip_number_is_read_as_bytes() {
        let uid = ChipNumber("04A1B2C3D4E5F6").uid().unwrap();
        assert_eq!(uid, [0x04, 0xA1, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6]);
    }
}
