//! The answers that were given, by offset, and an append-only file of them. Reading them in order
//! gives the state that each offset must have.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Write,
    path::Path,
    sync::{Mutex, MutexGuard},
};

use super::{Model, Set};

/// A write that got OK.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Offset of its first change.
    pub first: u64,
    /// Offset of its last change.
    pub last: u64,
    /// What it says.
    pub set: Set,
}

/// What a reader of an edge has seen at an offset.
#[derive(Debug)]
struct Seen {
    edge: usize,
    offset: u64,
    what: What,
}

/// What can be seen.
#[derive(Debug)]
enum What {
    /// A zone's text; none: no such zone.
    Zone(String, Option<String>),
    /// The origins of all zones, in order.
    Origins(Vec<String>),
    /// Number of records of all zones.
    Records(u64),
    /// The lines of an owner in a zone.
    Owner { zone: String, owner: String, lines: Vec<String> },
}

impl What {
    /// How it differs from a model at its offset.
    fn difference(&self, model: &Model) -> Option<String> {
        match self {
            Self::Zone(zone, Some(text)) => model.difference(zone, text),
            Self::Zone(zone, None) => {
                model.origins().contains(zone).then(|| format!("{zone} is not there"))
            }
            Self::Origins(origins) => {
                let wanted = model.origins();
                (*origins != wanted).then(|| format!("zones {origins:?} instead of {wanted:?}"))
            }
            Self::Records(records) => {
                let wanted = model.records();
                (*records != wanted).then(|| format!("{records} records instead of {wanted}"))
            }
            Self::Owner { zone, owner, lines } => model.owner_difference(zone, owner, lines),
        }
    }
}

/// What became of writes whose answers were lost.
#[derive(Debug, Default, Clone, Copy)]
pub struct Resolved {
    /// They had come about.
    pub done: u64,
    /// They had not, and were written anew.
    pub not_done: u64,
    /// Of both, those of which reading said so first.
    pub read: u64,
}

struct Inner {
    file: File,
    written: u64,
    refused: u64,
    resolved: Resolved,
    broken: Vec<String>,
    base: Model,
    answers: BTreeMap<u64, (u64, Set)>,
    seen: Vec<Seen>,
    violations: Vec<String>,
}

/// Everything that was answered and seen, from which the oracle judges.
pub struct History(Mutex<Inner>);

impl History {
    /// A history that begins with an empty log.
    pub fn begin(file: &Path) -> Self {
        let file = File::options().create_new(true).append(true).open(file).expect("a new file");
        let (base, answers) = (Model::default(), BTreeMap::new());
        let (seen, violations) = (Vec::new(), Vec::new());
        Self(Mutex::new(Inner {
            file,
            written: 0,
            refused: 0,
            resolved: Resolved::default(),
            broken: Vec::new(),
            base,
            answers,
            seen,
            violations,
        }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// A write got OK. Two writes never have the same offset, and each change has one of its own.
    pub fn answered(&self, key: &str, Answered { first, last, set }: Answered) {
        let mut inner = self.inner();
        writeln!(inner.file, "{first} {last} {key}").expect("the file of answers");
        inner.written += 1;
        let changes = set.changes.len() as u64;
        if last + 1 - first != changes {
            inner.violations.push(format!("{key}: {changes} changes at {first} to {last}"));
        }
        if let Some((_, other)) = inner.answers.insert(first, (last, set)) {
            inner.violations.push(format!("{key}: offset {first} twice, also {}", other.zone));
        }
    }

    /// Number of writes that got OK.
    pub fn count(&self) -> u64 {
        self.inner().written
    }

    /// A write was refused for want of room, and has changed nothing.
    pub fn refused(&self) {
        self.inner().refused += 1;
    }

    /// Number of times that writes were refused for want of room.
    pub fn refusals(&self) -> u64 {
        self.inner().refused
    }

    /// The answer to a write was lost, and it is known now whether it had come about, by the key
    /// and, if it could be read, by reading too.
    pub fn resolved(&self, had_come_about: bool, read: bool) {
        let resolved = &mut self.inner().resolved;
        let place = if had_come_about { &mut resolved.done } else { &mut resolved.not_done };
        *place += 1;
        resolved.read += u64::from(read);
    }

    /// A call was answered as no control plane answers that is alive and well.
    pub fn broken(&self, status: String) {
        self.inner().broken.push(status);
    }

    /// All such answers.
    pub fn all_broken(&self) -> Vec<String> {
        self.inner().broken.clone()
    }

    /// What became of the writes whose answers were lost.
    pub fn all_resolved(&self) -> Resolved {
        self.inner().resolved
    }

    /// The highest offset that was answered.
    pub fn highest(&self) -> u64 {
        let inner = self.inner();
        inner.answers.values().next_back().map_or(inner.base.offset, |(last, _)| *last)
    }

    /// Something was seen that must not be, whatever the offset.
    pub fn violation(&self, what: String) {
        self.inner().violations.push(what);
    }

    /// A reader has seen a zone at an offset of an edge.
    pub fn seen(&self, edge: usize, offset: u64, zone: &str, text: Option<String>) {
        self.note(edge, offset, What::Zone(zone.to_owned(), text));
    }

    /// A reader has seen which zones there are, in any order.
    pub fn seen_zones(&self, edge: usize, offset: u64, mut origins: Vec<String>) {
        origins.sort_unstable();
        self.note(edge, offset, What::Origins(origins));
    }

    /// A reader has been told how many records there are.
    pub fn seen_records(&self, edge: usize, offset: u64, records: u64) {
        self.note(edge, offset, What::Records(records));
    }

    /// A reader has looked up an owner in a zone.
    pub fn seen_owner(
        &self,
        edge: usize,
        offset: u64,
        (zone, owner): (&str, &str),
        lines: Vec<String>,
    ) {
        let (zone, owner) = (zone.to_owned(), owner.to_owned());
        self.note(edge, offset, What::Owner { zone, owner, lines });
    }

    fn note(&self, edge: usize, offset: u64, what: What) {
        self.inner().seen.push(Seen { edge, offset, what });
    }

    /// Judges all that was answered and seen so far, and forgets it. `head` is the control plane's:
    /// the answers have to fill all offsets up to it, without a gap. Gives back the state there,
    /// and the number of what was seen, or the violations.
    pub fn judge(&self, head: u64) -> Result<(Model, usize), Vec<String>> {
        let mut inner = self.inner();
        let mut seen = std::mem::take(&mut inner.seen);
        seen.sort_by_key(|seen| seen.offset);
        let count = seen.iter().filter(|seen| matches!(seen.what, What::Zone(..))).count();
        let mut seen = seen.into_iter().peekable();
        let answers = std::mem::take(&mut inner.answers);
        let mut model = std::mem::take(&mut inner.base);
        let mut wrong = std::mem::take(&mut inner.violations);
        judge_seen(&mut seen, &model, &mut wrong);
        for (first, (last, set)) in answers {
            if first != model.offset + 1 {
                let at = model.offset;
                wrong.push(format!("nobody got OK for what is between offset {at} and {first}"));
                break;
            }
            model.apply(&set);
            if model.offset != last {
                break;
            }
            judge_seen(&mut seen, &model, &mut wrong);
        }
        if model.offset != head {
            wrong.push(format!("the head is {head}, answered was up to {}", model.offset));
        }
        wrong.extend(seen.next().map(|seen| {
            format!("edge {} showed offset {}, where no change set ends", seen.edge, seen.offset)
        }));
        inner.base = model.clone();
        if wrong.is_empty() { Ok((model, count)) } else { Err(wrong) }
    }
}

/// Judges what was seen at the model's offset.
fn judge_seen(
    seen: &mut std::iter::Peekable<std::vec::IntoIter<Seen>>,
    model: &Model,
    wrong: &mut Vec<String>,
) {
    while let Some(Seen { edge, offset, what }) = seen.next_if(|s| s.offset <= model.offset) {
        let difference = if offset < model.offset {
            Some("no change set ends there".to_owned())
        } else {
            what.difference(model)
        };
        wrong.extend(difference.map(|what| format!("edge {edge} at offset {offset}: {what}")));
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Change, Line};
    use super::*;

    fn set(change: Change) -> Set {
        Set { zone: "x.".into(), changes: vec![change] }
    }

    fn answered(first: u64, last: u64, set: Set) -> Answered {
        Answered { first, last, set }
    }

    fn verdict(judged: impl FnOnce(&History) -> u64) -> Result<usize, String> {
        let dir = tempfile::tempdir().unwrap();
        let history = History::begin(&dir.path().join("answers"));
        let head = judged(&history);
        history.judge(head).map(|(_, seen)| seen).map_err(|wrong| wrong[0].clone())
    }

    type Case<'a> = (&'a str, &'a dyn Fn(&History) -> u64);

    fn all_found(bad: &[Case<'_>]) {
        for (what, run) in bad {
            let found = verdict(|history| run(history)).unwrap_err();
            assert!(found.contains(what), "{what}: {found}");
        }
    }

    fn line(n: u32) -> Line {
        Line { owner: "a.x.".into(), ttl: n, rtype: "TXT", rdata: "\"n\"".into() }
    }

    fn begin(history: &History) {
        history.answered("one", answered(1, 1, set(Change::ZoneCreate)));
        history.answered("two", answered(2, 2, set(Change::Create(line(2)))));
    }

    #[test]
    fn gaps_doubles_losses_and_parts_are_found() {
        let good = verdict(|history| {
            begin(history);
            history.seen(0, 1, "x.", Some(String::new()));
            history.seen(0, 2, "x.", Some(line(2).text()));
            history.seen(0, 0, "x.", None);
            history.seen_zones(0, 0, vec![]);
            history.seen_zones(0, 1, vec!["x.".into()]);
            history.seen_records(0, 2, 1);
            history.seen_owner(0, 1, ("x.", "a.x."), vec![]);
            history.seen_owner(0, 2, ("x.", "a.x."), vec![line(2).text()]);
            2
        });
        assert_eq!(good, Ok(3));
        let bad: [Case<'_>; 6] = [
            ("nobody got OK", &|history| {
                begin(history);
                history.answered("four", answered(4, 4, set(Change::ZoneDelete)));
                4
            }),
            ("the head is 3", &|history| {
                begin(history);
                3
            }),
            ("twice", &|history| {
                begin(history);
                history.answered("again", answered(2, 2, set(Change::ZoneDelete)));
                2
            }),
            ("1 changes at 3 to 4", &|history| {
                begin(history);
                history.answered("long", answered(3, 4, set(Change::ZoneDelete)));
                4
            }),
            ("not there", &|history| {
                begin(history);
                history.seen(0, 2, "x.", Some(String::new()));
                2
            }),
            ("no change set ends", &|history| {
                begin(history);
                history.seen(0, 7, "x.", None);
                2
            }),
        ];
        all_found(&bad);
    }

    #[test]
    fn zones_counts_and_owners_that_are_not_those_of_their_offset_are_found() {
        let bad: [Case<'_>; 4] = [
            ("zones [] instead of", &|history| {
                begin(history);
                history.seen_zones(0, 2, vec![]);
                2
            }),
            ("0 records instead of 1", &|history| {
                begin(history);
                history.seen_records(0, 2, 0);
                2
            }),
            ("a.x. has", &|history| {
                begin(history);
                history.seen_owner(0, 2, ("x.", "a.x."), vec![]);
                2
            }),
            ("a.x. has", &|history| {
                begin(history);
                history.seen_owner(0, 1, ("x.", "a.x."), vec![line(2).text()]);
                2
            }),
        ];
        all_found(&bad);
    }
}
