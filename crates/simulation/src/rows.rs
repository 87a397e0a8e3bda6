//! What the tables of rows have in common.

/// How much a table of rows tries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Small enough for every test run.
    Quick,
    /// As much as fits a coffee break.
    Full,
}

impl Scale {
    /// One of two scopes.
    pub fn pick<T>(self, quick: T, full: T) -> T {
        match self {
            Scale::Quick => quick,
            Scale::Full => full,
        }
    }
}

/// Makes a test of each row of a table, and one that no row is left out.
#[cfg(test)]
macro_rules! checked_rows {
    ($table:ident; $($test:ident: $name:literal;)+) => {
        $(
            #[test]
            fn $test() {
                crate::rows::check($table(), $name);
            }
        )+

        #[test]
        fn every_row_has_its_test() {
            let tested = std::collections::BTreeSet::from([$($name),+]);
            let rows: std::collections::BTreeSet<&str> =
                $table().iter().map(|row| row.name).collect();
            assert_eq!(rows, tested);
        }
    };
}

#[cfg(test)]
pub(crate) use checked_rows;

/// Checks the rows of a name; what is not as expected is told step by step.
#[cfg(test)]
#[track_caller]
pub(crate) fn check<M: crate::check::Told>(table: Vec<crate::check::Row<M>>, name: &str) {
    let rows: Vec<_> = table.into_iter().filter(|row| row.name == name).collect();
    assert!(!rows.is_empty(), "no row {name}");
    for row in rows {
        let finding = row.check(1);
        let stories: String = finding.stories.iter().map(ToString::to_string).collect();
        assert!(finding.states > 1, "{finding}: nothing was tried");
        assert!(finding.is_as_expected(), "{finding}\n{stories}");
    }
}
