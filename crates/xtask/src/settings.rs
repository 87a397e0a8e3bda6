//! The shipped settings with a few values replaced, so that the demo runs on what is shipped.

use anyhow::{Context, bail};

/// A settings file, kept as it is written but for the values that are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    lines: Vec<String>,
}

impl Settings {
    /// Takes the text of a settings file.
    pub(crate) fn new(text: &str) -> Settings {
        let lines = text.lines().map(str::to_owned).collect();
        Settings { lines }
    }

    /// Replaces a value, or puts a key into force that stands in the file as a comment. A key that
    /// is in neither form is an error: the shipped file has changed, and the demo must follow.
    pub(crate) fn set(&mut self, section: &str, key: &str, value: &str) -> anyhow::Result<()> {
        let (from, to) = self.section(section)?;
        let lines = self.lines.get_mut(from..to).unwrap_or_default();
        let in_force = lines.iter().position(|line| is_key(line, key));
        let as_comment = || {
            lines.iter().position(|line| {
                let Some(text) = line.trim_start().strip_prefix('#') else {
                    return false;
                };
                is_key(text, key)
            })
        };
        let Some(line) = in_force.or_else(as_comment) else {
            bail!("no key {key} in [{section}]");
        };
        if let Some(line) = lines.get_mut(line) {
            *line = format!("{key} = {value}");
        }
        Ok(())
    }

    /// Replaces a value by a text.
    pub(crate) fn set_text(&mut self, section: &str, key: &str, text: &str) -> anyhow::Result<()> {
        // A basic string of TOML and a string of JSON escape these alike.
        self.set(section, key, &serde_json::Value::from(text).to_string())
    }

    /// The whole file.
    pub(crate) fn text(&self) -> String {
        self.lines.join("\n") + "\n"
    }

    fn section(&self, section: &str) -> anyhow::Result<(usize, usize)> {
        let header = format!("[{section}]");
        let lines = || self.lines.iter().enumerate();
        let (from, _) = lines()
            .find(|(_, line)| line.trim() == header)
            .with_context(|| format!("no section {header}"))?;
        let to = lines()
            .skip(from + 1)
            .find(|(_, line)| line.starts_with('['))
            .map_or(self.lines.len(), |(to, _)| to);
        Ok((from + 1, to))
    }
}

fn is_key(line: &str, key: &str) -> bool {
    line.split_once('=')
        .is_some_and(|(name, _)| name.trim() == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHIPPED: &str = "\
# What this is.
[page]
# Where it listens. listen = what?
listen = \"127.0.0.1:8070\"

[log]
# listen = \"never\"
filter = \"info\"
";

    #[track_caller]
    fn check(section: &str, key: &str, value: &str, line: &str) {
        let mut settings = Settings::new(SHIPPED);
        settings.set_text(section, key, value).unwrap();
        let text = settings.text();
        let changed: Vec<&str> = text
            .lines()
            .zip(SHIPPED.lines())
            .filter_map(|(now, before)| (now != before).then_some(now))
            .collect();
        assert_eq!(changed, [line]);
    }

    #[test]
    fn a_value_is_replaced_in_its_section_alone() {
        check("page", "listen", "[::1]:1", "listen = \"[::1]:1\"");
        check("log", "filter", "a\"b\\", "filter = \"a\\\"b\\\\\"");
        check("log", "listen", "x", "listen = \"x\"");
    }

    #[test]
    fn what_is_not_in_the_shipped_file_cannot_be_set() {
        let mut settings = Settings::new(SHIPPED);
        let mut refusal = |section, key| settings.set(section, key, "1").unwrap_err().to_string();
        assert_eq!(refusal("hub", "listen"), "no section [hub]");
        assert_eq!(refusal("page", "filter"), "no key filter in [page]");
    }
}
