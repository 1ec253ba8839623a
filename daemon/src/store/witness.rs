//! Station 6, the witness: a small file beside the store that says how far the store is known to
//! have been durable. A sled whose log is damaged can open empty, without an error; this is how it
//! is found out. Written after the store, so never ahead of it.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use edgesync_core::position::{LogId, Offset};

/// First line of the file.
const HEAD: &str = "edgesync store witness 1";

/// How far a store is known to have been durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// Which log.
    pub log: LogId,
    /// How far.
    pub offset: Offset,
    /// Number of visible records there.
    pub records: u64,
}

/// What the file says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Witness {
    /// How often stores have been opened here, whatever became of them.
    pub epoch: u64,
    /// How far the present one has been; none if it was empty.
    pub mark: Option<Mark>,
}

impl Witness {
    /// Reads the file. One that is not there, or not whole, says nothing.
    pub fn read(path: &Path) -> io::Result<Self> {
        let text = match fs::read_to_string(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => String::new(),
            other => other?,
        };
        Ok(Self::parse(&text).unwrap_or_else(|| {
            tracing::warn!(file = %path.display(), "not whole, and not used");
            Self::default()
        }))
    }

    /// Puts the file in place of the one before, durably: after a power loss there is one of both.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(self.text().as_bytes())?;
        file.sync_data()?;
        fs::rename(&new, path)?;
        path.parent().map_or(Ok(()), |dir| File::open(dir)?.sync_all())
    }

    fn text(&self) -> String {
        let mut text = format!("{HEAD}\nepoch {}\n", self.epoch);
        if let Some(Mark { log, offset, records }) = self.mark {
            text += &format!("log {log}\noffset {offset}\nrecords {records}\n");
        }
        let check = blake3::hash(text.as_bytes());
        text + &format!("check {check}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let (said, check) = text.split_at(text.rfind("check ")?);
        let right = blake3::hash(said.as_bytes());
        if check.trim_end().strip_prefix("check ")? != right.to_string() {
            return None;
        }
        let mut lines = said.lines();
        if lines.next()? != HEAD {
            return None;
        }
        let epoch = lines.next()?.strip_prefix("epoch ")?.parse().ok()?;
        let mark = match lines.next() {
            None => None,
            Some(log) => Some(Mark {
                log: read_log(log.strip_prefix("log ")?)?,
                offset: Offset(lines.next()?.strip_prefix("offset ")?.parse().ok()?),
                records: lines.next()?.strip_prefix("records ")?.parse().ok()?,
            }),
        };
        Some(Self { epoch, mark })
    }
}

/// A log id in hexadecimal digits.
fn read_log(text: &str) -> Option<LogId> {
    let number = u128::from_str_radix(text, 16).ok()?;
    (text.len() == 32).then(|| LogId(number.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_is_not_believed_when_any_octet_differs() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.witness");
        assert_eq!(Witness::read(&path).unwrap(), Witness::default());
        let mark = Mark { log: LogId([0xa5; 16]), offset: Offset(77), records: 5 };
        for witness in [Witness { epoch: 3, mark: Some(mark) }, Witness { epoch: 9, mark: None }] {
            witness.write(&path).unwrap();
            assert_eq!(Witness::read(&path).unwrap(), witness);
            let whole = fs::read(&path).unwrap();
            for place in 0..whole.len() - 1 {
                let mut other = whole.clone();
                other[place] ^= 1;
                fs::write(&path, &other).unwrap();
                assert_eq!(Witness::read(&path).unwrap(), Witness::default(), "octet {place}");
            }
        }
    }
}
