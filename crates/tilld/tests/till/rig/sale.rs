//! What `tillctl` answers, and what stands on a statement.

use std::process::Output;

use serde_json::Value;

/// What `tillctl --json` printed and how it ended.
#[derive(Debug, Clone)]
pub(crate) struct Ctl {
    /// Its exit code.
    pub(crate) code: i32,
    /// The one object that it prints.
    pub(crate) json: Value,
}

/// The outcome of a sale, but for the words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sale {
    /// Its name for ever.
    pub(crate) id: String,
    /// Whether it was recorded earlier.
    pub(crate) replayed: bool,
    /// Its place in the ledger, if it has one.
    pub(crate) seq: Option<u64>,
    /// The account that the chip pays from.
    pub(crate) account: Option<i64>,
    /// Whose it is.
    pub(crate) holder: Option<String>,
    /// The outcome with its figures.
    pub(crate) outcome: Outcome,
}

/// Whether a sale was approved and the figures that go with it, in øre.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Outcome {
    /// `approved`, or why not.
    pub(crate) decision: String,
    /// What the account holds now.
    pub(crate) balance: Option<i64>,
    /// The limit that was in the way.
    pub(crate) limit: Option<i64>,
    /// What is left of it.
    pub(crate) left: Option<i64>,
    /// What the sale does to the automatic top-up.
    pub(crate) top_up: String,
}

/// A row of a statement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    /// `sale`, `top_up`, …
    pub(crate) kind: String,
    /// What it did to the balance, in øre.
    pub(crate) amount: i64,
    /// The balance after it, in øre.
    pub(crate) balance: i64,
    /// What was bought.
    pub(crate) lines: Vec<String>,
}

impl Ctl {
    /// Reads what one command printed.
    pub(crate) fn read(output: Output) -> Ctl {
        let json = serde_json::from_slice(&output.stdout);
        Ctl {
            code: output.status.code().unwrap_or(-1),
            json: json
                .unwrap_or_else(|error| panic!("tillctl printed no JSON: {error} {output:?}")),
        }
    }

    /// The sale that it tells of; its exit code must fit.
    pub(crate) fn sale(&self) -> Sale {
        let json = &self.json;
        let sale = Sale::read(json).unwrap_or_else(|| panic!("no sale in {self:?}"));
        let expected = i32::from(sale.outcome.decision != "approved");
        assert_eq!(self.code, expected, "{json}");
        sale
    }
}

impl Sale {
    /// Reads an answer to `sell`, if it is one.
    pub(crate) fn read(json: &Value) -> Option<Sale> {
        let decision = match json["decision"].as_str()? {
            "approved" => "approved",
            _ => json["reason"].as_str()?,
        };
        Some(Sale {
            id: json["id"].as_str()?.to_owned(),
            replayed: json["replayed"].as_bool()?,
            seq: json["entry"]["seq"].as_u64(),
            account: json["account"].as_i64(),
            holder: json["holder"].as_str().map(str::to_owned),
            outcome: Outcome {
                decision: decision.to_owned(),
                balance: json["balance_after"].as_i64(),
                limit: json["limit"].as_i64(),
                left: json["left"].as_i64(),
                top_up: json["top_up"].as_str()?.to_owned(),
            },
        })
    }

    /// Whether the chip paid.
    pub(crate) fn is_approved(&self) -> bool {
        self.outcome.decision == "approved"
    }
}

impl Outcome {
    /// An approval that leaves this balance.
    pub(crate) fn approved(balance: i64) -> Outcome {
        Outcome::declined("approved", Some(balance))
    }

    /// A refusal without a limit.
    pub(crate) fn declined(reason: &str, balance: Option<i64>) -> Outcome {
        Outcome {
            decision: reason.to_owned(),
            balance,
            top_up: "none".to_owned(),
            ..Outcome::default()
        }
    }

    /// A refusal by a limit.
    pub(crate) fn over(reason: &str, balance: i64, limit: i64, left: i64) -> Outcome {
        Outcome {
            limit: Some(limit),
            left: Some(left),
            ..Outcome::declined(reason, Some(balance))
        }
    }

    /// The same with another word about the top-up.
    pub(crate) fn with_top_up(self, top_up: &str) -> Outcome {
        Outcome {
            top_up: top_up.to_owned(),
            ..self
        }
    }
}

impl Row {
    /// Reads a row of the hub's answer.
    pub(crate) fn read(row: &Value) -> Row {
        let figure = |key| {
            row[key]
                .as_i64()
                .unwrap_or_else(|| panic!("no {key} in {row}"))
        };
        let lines = row["lines"].as_array().unwrap().iter();
        let lines = lines.map(|line| line["text"].as_str().unwrap().to_owned());
        Row {
            kind: row["kind"].as_str().unwrap().to_owned(),
            amount: figure("amount"),
            balance: figure("balance_after"),
            lines: lines.collect(),
        }
    }
}
