//! Tables without lines: columns side by side, that people can read and awk can split.

use comfy_table::{ColumnConstraint, Table, Width, presets::NOTHING};

/// Blanks between two columns.
const GAP: u16 = 2;
/// Characters of a cell that are shown; JSON and exports have the whole.
const CELL_CHARS: usize = 1_000;

/// The columns of a table that comes page by page: they keep their width from page to page, so that
/// it need not be held in memory as a whole.
#[derive(Debug, Default)]
pub struct Columns {
    widths: Vec<u16>,
}

impl Columns {
    /// A page as text; the first one has the header.
    pub fn page(&mut self, header: &[&str], rows: Vec<Vec<String>>) -> String {
        let mut table = plain();
        if self.widths.is_empty() {
            table.add_row(header.to_vec());
        }
        for row in rows {
            table.add_row(row.into_iter().map(cut).collect::<Vec<_>>());
        }
        self.widths.resize(header.len(), 0);
        for (known, now) in self.widths.iter_mut().zip(table.column_max_content_widths()) {
            *known = now.max(*known);
        }
        lay_out(&mut table, &self.widths)
    }
}

/// Names and what they stand for, one a line.
#[must_use]
pub fn fields(fields: &[(&str, String)]) -> String {
    let mut table = plain();
    for (name, value) in fields {
        table.add_row(vec![(*name).to_owned(), cut(value.clone())]);
    }
    let widths = table.column_max_content_widths();
    lay_out(&mut table, &widths)
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).force_no_tty();
    table
}

fn lay_out(table: &mut Table, widths: &[u16]) -> String {
    if table.row_count() == 0 {
        return String::new();
    }
    for (column, width) in table.column_iter_mut().zip(widths) {
        column.set_padding((0, GAP));
        let width = Width::Fixed(width.saturating_add(GAP));
        column.set_constraint(ColumnConstraint::Absolute(width));
    }
    table.trim_fmt() + "\n"
}

fn cut(text: String) -> String {
    match text.char_indices().nth(CELL_CHARS) {
        Some((end, _)) => text.get(..end).unwrap_or_default().to_owned() + "…",
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(cells: [&str; 2]) -> Vec<String> {
        cells.map(str::to_owned).to_vec()
    }

    #[test]
    fn a_later_page_keeps_the_columns_of_the_first() {
        let mut columns = Columns::default();
        let first = columns.page(&["OWNER", "TTL"], vec![row(["www.example.com.", "60"])]);
        assert_eq!(first, "OWNER             TTL\nwww.example.com.  60\n");
        assert_eq!(
            columns.page(&["OWNER", "TTL"], vec![row(["a.", "5"])]),
            format!("{:18}5\n", "a.")
        );
        assert_eq!(columns.page(&["OWNER", "TTL"], Vec::new()), "");
    }

    #[test]
    fn a_long_cell_is_cut_and_never_wrapped() {
        let long = "x".repeat(5_000);
        let page = Columns::default().page(&["A", "B"], vec![row(["1", &long])]);
        assert_eq!(page.lines().count(), 2);
        assert!(page.ends_with("x…\n"));
    }

    #[test]
    fn fields_are_one_a_line() {
        let text = fields(&[("offset", "7".to_owned()), ("a longer name", "8".to_owned())]);
        assert_eq!(text, "offset         7\na longer name  8\n");
    }
}
