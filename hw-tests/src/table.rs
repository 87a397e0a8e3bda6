//! The table of the bench's README: which virtual rig shows which behaviour. It is written from
//! what the bench printed, and the tests hold it against what they saw.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// What a rig showed of one behaviour.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The behaviour's sentence.
    pub sentence: String,
    /// Why it is not possible there, if it is not.
    pub impossible: Option<String>,
}

/// The README that has the table.
pub fn readme() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")
}

/// What the bench printed of a rig. Failures are no outcomes.
pub fn outcomes(rig: &str, printed: &str) -> Vec<Outcome> {
    let outcome = |line: &str| {
        let said = line.strip_prefix(rig)?.strip_prefix(": ")?;
        if let Some(sentence) = said.strip_prefix("ok, ") {
            return Some(Outcome {
                sentence: sentence.to_owned(),
                impossible: None,
            });
        }
        let (reason, sentence) = said
            .strip_prefix("not possible here (")?
            .split_once("), ")?;
        Some(Outcome {
            sentence: sentence.to_owned(),
            impossible: Some(reason.to_owned()),
        })
    };
    printed.lines().filter_map(outcome).collect()
}

/// The README's text with the table of these rigs in the place of the one that it has.
pub fn with_table(text: &str, rigs: &[(String, Vec<Outcome>)]) -> anyhow::Result<String> {
    let (before, _, after) = parts(text)?;
    Ok(format!("{before}{START}\n{}{END}{after}", table(rigs)?))
}

/// What the README's table says of a rig.
pub fn column(text: &str, rig: &str) -> anyhow::Result<Vec<Outcome>> {
    let (_, table, _) = parts(text)?;
    let cells = |line: &str| -> Vec<String> {
        let line = line.trim().trim_matches('|');
        line.split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let mut rows = table
        .lines()
        .filter(|line| line.starts_with('|'))
        .map(cells);
    let head = rows.next().context("the table has no head")?;
    let at = head
        .iter()
        .position(|cell| cell == rig)
        .with_context(|| format!("the table has no column {rig}"))?;
    let reason = |number: &str| {
        let start = format!("{number}. ");
        let line = table.lines().find_map(|line| line.strip_prefix(&start));
        line.map(str::to_owned)
    };
    let outcome = |row: Vec<String>| {
        let cell = row.get(at).context("a row is too short")?;
        let impossible = match cell
            .strip_prefix("no (")
            .and_then(|cell| cell.strip_suffix(')'))
        {
            Some(number) => Some(reason(number).context("a reason is missing")?),
            None => {
                ensure!(cell == "yes", "a cell says {cell:?}");
                None
            }
        };
        let sentence = row.first().cloned().unwrap_or_default();
        Ok(Outcome {
            sentence,
            impossible,
        })
    };
    rows.skip(1).map(outcome).collect()
}

fn table(rigs: &[(String, Vec<Outcome>)]) -> anyhow::Result<String> {
    let (_, first) = rigs.first().context("no rig was run")?;
    let mut reasons: Vec<&str> = Vec::new();
    let mut text = "| a reader must show that |".to_owned();
    rigs.iter()
        .for_each(|(rig, _)| text += &format!(" {rig} |"));
    text += &format!("\n|{}\n", "---|".repeat(rigs.len() + 1));
    for (row, Outcome { sentence, .. }) in first.iter().enumerate() {
        text += &format!("| {sentence} |");
        for (rig, outcomes) in rigs {
            let outcome = outcomes
                .get(row)
                .filter(|outcome| outcome.sentence == *sentence);
            let outcome = outcome.with_context(|| format!("{rig} did not show: {sentence}"))?;
            match &outcome.impossible {
                None => text += " yes |",
                Some(reason) => {
                    let known = reasons.iter().position(|known| known == reason);
                    let at = known.unwrap_or_else(|| {
                        reasons.push(reason);
                        reasons.len() - 1
                    });
                    text += &format!(" no ({}) |", at + 1);
                }
            }
        }
        text += "\n";
    }
    text += "\n";
    for (at, reason) in reasons.iter().enumerate() {
        text += &format!("{}. {reason}\n", at + 1);
    }
    Ok(text)
}

/// What is before, in and after the table.
fn parts(text: &str) -> anyhow::Result<(&str, &str, &str)> {
    let (before, rest) = text
        .split_once(START)
        .context("the table's start is missing")?;
    let (table, after) = rest.split_once(END).context("the table's end is missing")?;
    Ok((before, table, after))
}

const START: &str = "<!-- Written by: cargo run -p hw-tests --bin bench -- --write-table -->";
const END: &str = "<!-- The end of what is written. -->";

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "a: ok, one\na: not possible here (no line, no light), two\nb: ok, one\n";

    fn outcome(sentence: &str, impossible: Option<&str>) -> Outcome {
        Outcome {
            sentence: sentence.to_owned(),
            impossible: impossible.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_written_is_what_was_printed() {
        let a = outcomes("a", PRINTED);
        assert_eq!(
            a,
            [
                outcome("one", None),
                outcome("two", Some("no line, no light"))
            ]
        );
        let b = vec![outcome("one", None), outcome("two", None)];
        let rigs = [("a".to_owned(), a.clone()), ("b".to_owned(), b.clone())];
        let text = with_table(&format!("x{START}old{END}y"), &rigs).unwrap();
        assert_eq!(column(&text, "a").unwrap(), a);
        assert_eq!(column(&text, "b").unwrap(), b);
        assert!(text.starts_with('x') && text.ends_with('y') && !text.contains("old"));
        assert!(column(&text, "c").is_err());
    }

    #[test]
    fn a_rig_that_failed_writes_no_table() {
        let whole = vec![outcome("one", None), outcome("two", None)];
        let rigs = [
            ("a".to_owned(), whole),
            ("b".to_owned(), outcomes("b", PRINTED)),
        ];
        let error = with_table(&format!("{START}{END}"), &rigs).unwrap_err();
        assert_eq!(error.to_string(), "b did not show: two");
    }
}
