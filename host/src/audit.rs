//! The audit: who did what to what, and what came of it, denials included. A file of JSON lines that is
//! only ever added to. Each line ends with a hash over itself and the hash before it, so that a line
//! which was changed, moved, put in or taken out is found. What was cut off at the end is not: the
//! last hash has to be known from elsewhere (it is shown by [`verify`] and in the log at each start).

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::Serialize;
use tracing_subscriber::fmt::{
    format::Writer,
    time::{FormatTime, SystemTime},
};

/// Characters of one field; what is longer is cut.
const FIELD_CHARS: usize = 512;
/// Octets of a line: eight fields, each character as an escape of a surrogate pair, and the rest.
const LINE_OCTETS: u64 = 64 * 1024;
/// What stands before a line's hash, which is its last field.
const HASH_FIELD: &str = ",\"hash\":\"";
/// Who may read the file: its owner and group.
const MODE: u32 = 0o640;

/// Hash of a line and all before it.
type Hash = blake3::Hash;

/// Something that was done, or refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct Entry<'a> {
    /// The principal.
    pub who: &'a str,
    /// Where the call came from.
    pub peer: &'a str,
    /// What was called, such as `edgesync.v1.EdgeService/SkipChangeSet`.
    pub what: &'a str,
    /// Origin of the zone; empty if it is about none.
    pub zone: &'a str,
    /// Offset of the change, or where it began; 0 if there is none.
    pub offset: u64,
    /// `ok`, or why not, as one word.
    pub result: &'a str,
    /// The rest, for people.
    pub detail: &'a str,
}

/// A line but for its hash.
#[derive(Serialize)]
struct Line<'a> {
    seq: u64,
    time: String,
    who: &'a str,
    peer: &'a str,
    what: &'a str,
    zone: &'a str,
    offset: u64,
    result: &'a str,
    detail: &'a str,
}

/// Why an audit file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It cannot be read or written.
    #[error("cannot use the audit file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A line is not what was written.
    #[error(
        "{}:{line}: {what}; from here on the audit proves nothing — keep the file aside, and begin \
         another",
        path.display()
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1; 0 if it is the last.
        line: u64,
        /// What is wrong with it.
        what: &'static str,
    },
}

/// An audit that is added to.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    file: File,
    last: Last,
}

/// The end of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Last {
    /// Number of lines.
    pub seq: u64,
    /// Hash of them all.
    pub hash: Hash,
}

impl Last {
    /// The beginning: no line.
    const NONE: Self = Self { seq: 0, hash: Hash::from_bytes([0; 32]) };

    /// What follows this, by the text of the line up to its hash.
    fn after(self, text: &str) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.hash.as_bytes()).update(text.as_bytes());
        Self { seq: self.seq.saturating_add(1), hash: hasher.finalize() }
    }
}

impl Audit {
    /// Opens or creates an audit. A last line that was not written to its end is cut off: who wrote it
    /// has got no answer.
    ///
    /// # Errors
    /// If the file cannot be used, or its last lines are not what was written.
    pub fn open(path: &Path) -> Result<Self, AuditError> {
        let failed = |source| AuditError::Io { path: path.to_owned(), source };
        let mut options = OpenOptions::new();
        let mut file =
            options.create(true).read(true).append(true).mode(MODE).open(path).map_err(failed)?;
        let tail = tail(&mut file).map_err(failed)?;
        if tail.torn > 0 {
            let octets = file.metadata().map_err(failed)?.len();
            tracing::warn!(
                octets = tail.torn,
                "the audit's last line was not whole, and is cut off"
            );
            file.set_len(octets.saturating_sub(tail.torn)).map_err(failed)?;
        }
        let broken = |what| AuditError::Broken { path: path.to_owned(), line: 0, what };
        let last = match (&tail.before, &tail.last) {
            (_, None) => Last::NONE,
            (None, Some(line)) => check(Last::NONE, line).map_err(broken)?,
            (Some(before), Some(line)) => {
                check(claimed(before).map_err(broken)?, line).map_err(broken)?
            }
        };
        Ok(Self { path: path.to_owned(), file, last })
    }

    /// Adds what was done, durably.
    ///
    /// # Errors
    /// If it cannot be written: what was to be done is not to be done then.
    pub fn add(&mut self, entry: &Entry<'_>) -> Result<(), AuditError> {
        self.add_all(std::slice::from_ref(entry))
    }

    /// Adds several, which share one sync.
    ///
    /// # Errors
    /// As [`Audit::add`]; then none of them is there.
    pub fn add_all(&mut self, entries: &[Entry<'_>]) -> Result<(), AuditError> {
        let (mut text, mut last) = (String::new(), self.last);
        for entry in entries {
            let line = line(last.seq.saturating_add(1), entry);
            last = last.after(&line);
            text.push_str(&line);
            text.push_str(HASH_FIELD);
            text.push_str(&last.hash.to_hex());
            text.push_str("\"}\n");
        }
        let octets = self.file.metadata().map(|file| file.len());
        let written = octets.and_then(|octets| {
            let written = self.file.write_all(text.as_bytes()).and_then(|()| self.file.sync_data());
            // What is there of it would be a torn line in the middle.
            written.inspect_err(|_| drop(self.file.set_len(octets)))
        });
        written.map_err(|source| AuditError::Io { path: self.path.clone(), source })?;
        self.last = last;
        Ok(())
    }

    /// The end of the chain.
    #[must_use]
    pub const fn last(&self) -> Last {
        self.last
    }
}

/// The text of a line up to its hash.
fn line(seq: u64, entry: &Entry<'_>) -> String {
    let Entry { who, peer, what, zone, offset, result, detail } = *entry;
    let [who, peer, what, zone, result, detail] =
        [who, peer, what, zone, result, detail].map(short);
    let mut time = String::new();
    // Only a formatter that fails could make it fail.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let line = Line { seq, time, who, peer, what, zone, offset, result, detail };
    // Text and numbers: nothing of it can be refused.
    let json = serde_json::to_string(&line).unwrap_or_default();
    ascii(json.strip_suffix('}').unwrap_or(&json))
}

/// A field, cut where it is too long.
fn short(text: &str) -> &str {
    text.char_indices().nth(FIELD_CHARS).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}

/// JSON of which every character can be seen: what no terminal shows, or all show as something else,
/// is escaped.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for char in json.chars() {
        match char {
            ' '..='~' => text.push(char),
            _ => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    text.push_str(&format!("\\u{unit:04x}"));
                }
            }
        }
    }
    text
}

/// The end of a file.
#[derive(Default)]
struct Tail {
    /// The line before the last.
    before: Option<String>,
    /// The last whole line.
    last: Option<String>,
    /// Octets after it, of a line that is not whole.
    torn: u64,
}

fn tail(file: &mut File) -> io::Result<Tail> {
    let octets = file.metadata()?.len();
    let from = octets.saturating_sub(3 * LINE_OCTETS);
    file.seek(SeekFrom::Start(from))?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    let whole = text.iter().rposition(|octet| *octet == b'\n').map_or(0, |end| end + 1);
    let torn = (text.len() - whole) as u64;
    text.truncate(whole);
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines().rev().map(str::to_owned);
    let (last, before) = (lines.next(), lines.next());
    Ok(Tail { before, last, torn })
}

/// A line's text up to its hash, and the hash that it says.
fn split(line: &str) -> Result<(&str, Hash), &'static str> {
    let (text, hash) = line.rsplit_once(HASH_FIELD).ok_or("the line has no hash")?;
    let hash = hash.strip_suffix("\"}").and_then(|hash| Hash::from_hex(hash).ok());
    Ok((text, hash.ok_or("the line's hash has not the form of one")?))
}

/// What a line says that it is the end of.
fn claimed(line: &str) -> Result<Last, &'static str> {
    let (text, hash) = split(line)?;
    let seq = text.strip_prefix("{\"seq\":").and_then(|rest| rest.split(',').next()?.parse().ok());
    Ok(Last { seq: seq.ok_or("the line has no number")?, hash })
}

/// Checks that a line follows what is before it.
fn check(before: Last, line: &str) -> Result<Last, &'static str> {
    let (text, hash) = split(line)?;
    let last = before.after(text);
    match claimed(line)?.seq == last.seq {
        false => Err("a line before this one is missing, or is too many"),
        true if hash != last.hash => Err("this line or one before it was changed"),
        true => Ok(last),
    }
}

/// Reads a whole audit and checks its chain; `each` gets every line that is right, in order. A last
/// line that is not whole is passed over.
///
/// # Errors
/// With the first line that is not what was written.
pub fn verify(path: &Path, mut each: impl FnMut(&str)) -> Result<Last, AuditError> {
    let failed = |source| AuditError::Io { path: path.to_owned(), source };
    let mut reader = BufReader::new(fs::File::open(path).map_err(failed)?);
    let (mut last, mut text) = (Last::NONE, Vec::new());
    loop {
        text.clear();
        let read =
            reader.by_ref().take(LINE_OCTETS).read_until(b'\n', &mut text).map_err(failed)?;
        let number = last.seq.saturating_add(1);
        let broken = |what| AuditError::Broken { path: path.to_owned(), line: number, what };
        if text.pop_if(|octet| *octet == b'\n').is_none() {
            let is_end = (read as u64) < LINE_OCTETS;
            return if is_end { Ok(last) } else { Err(broken("the line is too long")) };
        }
        let line = str::from_utf8(&text).map_err(|_| broken("the line is no text"))?;
        last = check(last, line).map_err(broken)?;
        each(line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skip(offset: u64) -> Entry<'static> {
        let what = "edgesync.v1.EdgeService/SkipChangeSet";
        Entry { who: "alice", peer: "uid 1000", what, offset, result: "ok", ..Entry::default() }
    }

    fn lines(path: &Path) -> Vec<String> {
        fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
    }

    fn with_three(dir: &Path) -> PathBuf {
        let path = dir.join("audit.log");
        let mut audit = Audit::open(&path).unwrap();
        audit.add(&skip(1)).unwrap();
        audit.add_all(&[skip(2), skip(3)]).unwrap();
        path
    }

    #[test]
    fn what_is_added_is_there_in_order_and_goes_on_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = with_three(dir.path());
        let mut audit = Audit::open(&path).unwrap();
        audit.add(&skip(4)).unwrap();
        let mut seen = Vec::new();
        let last = verify(&path, |line| seen.push(line.to_owned())).unwrap();
        assert_eq!((last, last.seq), (audit.last(), 4));
        let offsets = seen.iter().map(|line| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(
                (line["who"].as_str(), line["result"].as_str()),
                (Some("alice"), Some("ok"))
            );
            line["offset"].as_u64().unwrap()
        });
        assert_eq!(offsets.collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn a_line_that_was_changed_moved_or_taken_out_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = with_three(dir.path());
        let good = lines(&path);
        let swapped = [&*good[1], &good[0], &good[2]].join("\n");
        let without = [&*good[0], &good[2]].join("\n");
        let changed = good.join("\n").replacen("alice", "mallory", 1);
        let later = good.join("\n").replace("\"offset\":3", "\"offset\":4");
        for (bad, line) in [(swapped, 1), (without, 2), (changed, 1), (later, 3)] {
            fs::write(&path, bad + "\n").unwrap();
            let found = verify(&path, |_| {}).unwrap_err();
            let AuditError::Broken { line: found, .. } = found else { panic!("{found}") };
            assert_eq!(found, line);
        }
        assert!(Audit::open(&path).is_err(), "the last line is looked at before anything is added");
    }

    #[test]
    fn a_line_that_was_not_written_to_its_end_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = with_three(dir.path());
        let text = fs::read(&path).unwrap();
        for cut in 1..60 {
            fs::write(&path, &text[..text.len() - cut]).unwrap();
            assert_eq!(verify(&path, |_| {}).unwrap().seq, 2);
            let mut audit = Audit::open(&path).unwrap();
            audit.add(&skip(3)).unwrap();
            assert_eq!(verify(&path, |_| {}).unwrap(), audit.last());
        }
    }

    #[test]
    fn no_field_breaks_its_line_or_writes_to_a_terminal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.log");
        let mut audit = Audit::open(&path).unwrap();
        let hostile = "a\n{\"seq\":9}\u{1b}[2J\u{202e}\u{7f}\",\"hash\":\"00\"}";
        let long = "\u{1f600}".repeat(10_000);
        audit.add(&Entry { who: hostile, detail: &long, ..skip(1) }).unwrap();
        audit.add(&skip(2)).unwrap();
        assert_eq!(verify(&path, |_| {}).unwrap().seq, 2);
        assert_eq!(Audit::open(&path).unwrap().last().seq, 2);
        let lines = lines(&path);
        assert!(lines.iter().all(|line| line.bytes().all(|octet| (b' '..=b'~').contains(&octet))));
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(line["who"], hostile);
    }
}
