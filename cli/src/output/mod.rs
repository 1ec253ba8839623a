//! What the command prints: tables for people, JSON for programs. A closed output ends the command
//! quietly.

mod file;
mod table;

use std::io::{self, BufWriter, IsTerminal, Write};

use clap::ValueEnum;
use serde::Serialize;

pub use self::{
    file::TextFile,
    table::{Columns, fields},
};
use crate::failure::Failure;

/// Form of what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    // A doc comment here would take three lines in the help of every command.
    Table,
    Json,
}

/// One answer: a value in JSON, some lines for people.
pub trait Show: Serialize {
    /// The lines for people.
    fn show(&self) -> String;
}

/// One of many: an object in JSON, a row of a table for people.
pub trait Row: Serialize {
    /// What stands over the columns.
    const HEADER: &'static [&'static str];

    /// The row's cells.
    fn cells(&self) -> Vec<String>;
}

/// Prints in the form that was asked for.
pub struct Printer {
    format: Format,
    terminal: bool,
    out: Box<dyn Write>,
    columns: Columns,
}

impl Printer {
    /// Prints to stdout.
    #[must_use]
    pub fn stdout(format: Format) -> Self {
        let out = io::stdout();
        let terminal = out.is_terminal();
        Self::new(format, terminal, Box::new(BufWriter::new(out)))
    }

    fn new(format: Format, terminal: bool, out: Box<dyn Write>) -> Self {
        Self { format, terminal, out, columns: Columns::default() }
    }

    /// Prints one answer.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn value(&mut self, value: &impl Show) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.json(value),
            Format::Table => Ok(writeln!(self.out, "{}", value.show().trim_end())?),
        }
    }

    /// Prints one of the states of something that is followed, at once. On a terminal it takes the
    /// place of the one before.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn state(&mut self, value: &impl Show) -> Result<(), Failure> {
        if self.format == Format::Table {
            // Home, and clear to the end; else a blank line between.
            self.out.write_all(if self.terminal { b"\x1b[H\x1b[2J" } else { b"\n" })?;
        }
        self.value(value)?;
        self.flush()
    }

    /// Prints some of many: a page of a table whose header comes with the first, or JSON by line.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn rows<R: Row>(&mut self, rows: &[R]) -> Result<(), Failure> {
        match self.format {
            Format::Json => rows.iter().try_for_each(|row| self.json(row)),
            Format::Table => {
                let page = self.columns.page(R::HEADER, rows.iter().map(Row::cells).collect());
                Ok(self.out.write_all(page.as_bytes())?)
            }
        }
    }

    /// Prints text as it is.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn text(&mut self, text: &str) -> Result<(), Failure> {
        Ok(self.out.write_all(text.as_bytes())?)
    }

    /// Writes out what is held back.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    fn json<S: Serialize>(&mut self, value: &S) -> Result<(), Failure> {
        serde_json::to_writer(&mut self.out, value).map_err(io::Error::from)?;
        Ok(self.out.write_all(b"\n")?)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Rc<RefCell<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.borrow_mut().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[derive(Serialize)]
    struct Thing {
        name: &'static str,
        count: u32,
    }

    impl Row for Thing {
        const HEADER: &'static [&'static str] = &["NAME", "COUNT"];

        fn cells(&self) -> Vec<String> {
            vec![self.name.to_owned(), self.count.to_string()]
        }
    }

    impl Show for Thing {
        fn show(&self) -> String {
            format!("{}: {}\n", self.name, self.count)
        }
    }

    fn printed(format: Format, print: impl FnOnce(&mut Printer)) -> String {
        let out = Shared::default();
        let mut printer = Printer::new(format, false, Box::new(out.clone()));
        print(&mut printer);
        printer.flush().unwrap();
        String::from_utf8(out.0.take()).unwrap()
    }

    const THINGS: [Thing; 2] = [Thing { name: "a", count: 1 }, Thing { name: "bb", count: 22 }];

    #[test]
    fn json_is_one_object_a_line() {
        let text = printed(Format::Json, |printer| printer.rows(&THINGS).unwrap());
        assert_eq!(text, "{\"name\":\"a\",\"count\":1}\n{\"name\":\"bb\",\"count\":22}\n");
        let text = printed(Format::Json, |printer| printer.value(&THINGS[0]).unwrap());
        assert_eq!(text, "{\"name\":\"a\",\"count\":1}\n");
    }

    #[test]
    fn a_table_has_its_header_once() {
        let text = printed(Format::Table, |printer| {
            printer.rows(&THINGS).unwrap();
            printer.rows(&THINGS).unwrap();
        });
        assert_eq!(text, "NAME  COUNT\na     1\nbb    22\na     1\nbb    22\n");
    }

    #[test]
    fn a_closed_output_is_no_error_of_ours() {
        for format in [Format::Json, Format::Table] {
            let mut printer = Printer::new(format, false, Box::new(Closed));
            let failure = printer.value(&THINGS[0]).unwrap_err();
            assert!(matches!(failure, Failure::OutputClosed), "{failure}");
        }
    }
}
