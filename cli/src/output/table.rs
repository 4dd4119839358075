//! Aligned tables. On a terminal one column gives way, so that a row stays on one line.

use super::terminal::{columns, fit};
use super::{Style, Tone, one_line};

/// Columns that a text cell has where no terminal says how many there are.
const UNBOUND: usize = 72;

/// The least that the column which gives way keeps.
const LEAST: usize = 12;

/// On which side the cells of a column stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
    /// Text that gives way; at most one column of a table.
    Flexible,
}

/// A column's head.
pub(crate) type Column = (&'static str, Align);

/// Rows of text under heads.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    heads: Vec<Column>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(heads: &[Column]) -> Self {
        Self { heads: heads.to_vec(), rows: Vec::new() }
    }

    /// Adds a row; a cell is one line, and harmless on a terminal.
    pub(crate) fn row(&mut self, cells: &[&str]) {
        self.rows.push(cells.iter().map(|cell| one_line(cell, 512)).collect());
    }

    pub(super) fn lines(&self, style: Style) -> Vec<String> {
        let widths = self.widths(style);
        let heads: Vec<String> = self.heads.iter().map(|(name, _)| (*name).to_owned()).collect();
        let mut lines = vec![style.paint(Tone::Faint, &self.line(&heads, &widths))];
        lines.extend(self.rows.iter().map(|row| self.line(row, &widths)));
        lines
    }

    fn widths(&self, style: Style) -> Vec<usize> {
        let mut widths: Vec<usize> = self
            .heads
            .iter()
            .enumerate()
            .map(|(index, (name, _))| {
                let cells = self.rows.iter().filter_map(|row| row.get(index));
                cells.map(|cell| columns(cell)).max().unwrap_or(0).max(name.len())
            })
            .collect();
        let gaps = 2 * widths.len().saturating_sub(1);
        let total: usize = widths.iter().sum::<usize>() + gaps;
        let flexible = self.heads.iter().position(|(_, align)| *align == Align::Flexible);
        if let Some(width) = flexible.and_then(|index| widths.get_mut(index)) {
            let room = match style.width {
                Some(screen) => screen.saturating_sub(total - *width).max(LEAST),
                None => UNBOUND,
            };
            *width = (*width).min(room);
        }
        widths
    }

    fn line(&self, cells: &[String], widths: &[usize]) -> String {
        let mut out = String::new();
        for ((cell, width), (_, align)) in cells.iter().zip(widths).zip(&self.heads) {
            if !out.is_empty() {
                out.push_str("  ");
            }
            let cell = fit(cell, *width);
            let padding = " ".repeat(width.saturating_sub(columns(&cell)));
            match align {
                Align::Right => {
                    out.push_str(&padding);
                    out.push_str(&cell);
                }
                Align::Left | Align::Flexible => {
                    out.push_str(&cell);
                    out.push_str(&padding);
                }
            }
        }
        out.truncate(out.trim_end().len());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pretty_assertions::assert_eq;

    #[test]
    fn columns_are_aligned_and_one_gives_way() {
        let mut table = Table::new(&[("id", Align::Left), ("n", Align::Right), ("said", Align::Flexible)]);
        table.row(&["a", "7", "short"]);
        table.row(&["漢", "1,000", "a long\u{1b} sentence that does not fit"]);
        assert_eq!(
            table.lines(Style { colour: false, width: Some(24) }),
            ["id      n  said", "a       7  short", "漢  1,000  a long\\u{1b}…"]
        );
    }
}
