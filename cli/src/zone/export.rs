//! `edgesync zone export`: a zone as zone-file text, `owner ttl IN type rdata` with tabs between, in
//! the canonical order in which the server sends it.

use std::{fmt::Write, path::PathBuf};

use clap::Args;
use edgesync_proto::v1;
use serde::Serialize;

use crate::{
    connect::Server,
    failure::Failure,
    format,
    output::{Printer, Show, TextFile},
};

/// Arguments of `zone export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Origin of the zone.
    pub origin: String,
    /// File to write to, which appears when the export is whole [default: stdout].
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
}

/// What was exported into a file.
#[derive(Debug, Serialize)]
pub struct Exported {
    /// The zone.
    pub origin: String,
    /// Number of records.
    pub records: u64,
    /// Offset of the log that the text stands for.
    pub offset: u64,
    /// The file.
    pub file: String,
}

impl Show for Exported {
    fn show(&self) -> String {
        let Self { origin, records, offset, file } = self;
        format!("{} of {origin} at offset {offset} in {file}", format::count(*records, "record"))
    }
}

/// Where exported text goes: stdout, or a file.
pub struct Export<'a> {
    printer: &'a mut Printer,
    file: Option<(PathBuf, TextFile)>,
    origin: String,
    records: u64,
    offset: u64,
}

impl<'a> Export<'a> {
    /// Begins an export.
    ///
    /// # Errors
    /// If the file cannot be written to.
    pub fn begin(args: ExportArgs, printer: &'a mut Printer) -> Result<Self, Failure> {
        let ExportArgs { origin, out } = args;
        let file = out.map(|path| TextFile::create(&path).map(|file| (path, file))).transpose()?;
        Ok(Self { printer, file, origin, records: 0, offset: 0 })
    }

    /// Takes whole lines as they stand at a position.
    ///
    /// # Errors
    /// If they cannot be written.
    pub fn take(&mut self, text: &str, at: Option<&v1::Position>) -> Result<(), Failure> {
        let lines = text.lines().count();
        self.records = self.records.saturating_add(u64::try_from(lines).unwrap_or(u64::MAX));
        self.offset = at.map_or(self.offset, |position| position.offset);
        match &mut self.file {
            Some((_, file)) => file.write(text),
            None => self.printer.text(text),
        }
    }

    /// Ends it: the file takes its place.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn finish(self) -> Result<(), Failure> {
        let Self { printer, file, origin, records, offset } = self;
        let Some((path, file)) = file else {
            return Ok(());
        };
        file.finish()?;
        printer.value(&Exported { origin, records, offset, file: path.display().to_string() })
    }
}

/// Exports a zone.
///
/// # Errors
/// If the server refuses, or the text cannot be written.
pub async fn run(args: ExportArgs, server: &Server, printer: &mut Printer) -> Result<(), Failure> {
    let request = v1::ListRecordsRequest { zone: args.origin.clone(), ..Default::default() };
    let answer = server.records().list_records(request).await.map_err(server.failure())?;
    let mut pages = answer.into_inner();
    let mut export = Export::begin(args, printer)?;
    while let Some(page) = pages.message().await.map_err(server.failure())? {
        export.take(&lines(&page.records), page.position.as_ref())?;
    }
    export.finish()
}

fn lines(records: &[v1::Record]) -> String {
    let mut text = String::new();
    for record in records {
        let v1::Record { owner, ttl, r#type, rdata, .. } = record;
        // To write to a String cannot fail.
        let _ = writeln!(text, "{owner}\t{ttl}\tIN\t{type}\t{rdata}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_a_line_of_five_fields() {
        let record = v1::Record {
            owner: "www.example.com.".to_owned(),
            r#type: "MX".to_owned(),
            ttl: 60,
            rdata: "10 mail.example.com.".to_owned(),
            ..Default::default()
        };
        let text = lines(&[record.clone(), record]);
        let line = "www.example.com.\t60\tIN\tMX\t10 mail.example.com.\n";
        assert_eq!(text, format!("{line}{line}"));
    }
}
