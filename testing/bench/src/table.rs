//! A table, as Markdown that a terminal shows as well.

use std::fmt;

/// Figures under a name that is a marker in the page.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    name: &'static str,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
    notes: Vec<String>,
}

impl Table {
    /// An empty table with these columns.
    #[must_use]
    pub(crate) fn new(name: &'static str, head: &[&str]) -> Self {
        let head = head.iter().map(|column| (*column).to_owned()).collect();
        Self { name, head, rows: Vec::new(), notes: Vec::new() }
    }

    /// The marker's name.
    #[must_use]
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Adds a row.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Adds a line below the table.
    pub(crate) fn note(&mut self, line: impl Into<String>) {
        self.notes.push(line.into());
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = || std::iter::once(&self.head).chain(&self.rows);
        let widths: Vec<usize> = (0..self.head.len())
            .map(|column| lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max())
            .map(Option::unwrap_or_default)
            .collect();
        for (number, line) in lines().enumerate() {
            write!(f, "|")?;
            for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, " {cell:<width$} |")?,
                    _ => write!(f, " {cell:>width$} |")?,
                }
            }
            writeln!(f)?;
            if number == 0 {
                let rules = widths.iter().enumerate().map(|(column, width)| match column {
                    0 => "-".repeat(width + 2),
                    _ => "-".repeat(width + 1) + ":",
                });
                writeln!(f, "|{}|", rules.collect::<Vec<_>>().join("|"))?;
            }
        }
        for note in &self.notes {
            writeln!(f, "\n{note}")?;
        }
        Ok(())
    }
}
