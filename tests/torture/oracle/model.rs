//! Zones as lines of text, and what a change set does to them.

use std::collections::BTreeMap;

/// A record, as a zone file has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// Absolute owner name.
    pub owner: String,
    /// Time to live, in seconds.
    pub ttl: u32,
    /// Type mnemonic.
    pub rtype: &'static str,
    /// RDATA in presentation form.
    pub rdata: String,
}

impl Line {
    /// As an export prints it.
    pub fn text(&self) -> String {
        format!("{}\t{}\tIN\t{}\t{}", self.owner, self.ttl, self.rtype, self.rdata)
    }
}

/// One change of a set.
#[derive(Debug, Clone)]
pub enum Change {
    /// The zone begins.
    ZoneCreate,
    /// The zone ends, with all that is in it.
    ZoneDelete,
    /// A record comes.
    Create(Line),
    /// A record becomes another.
    Replace(Line, Line),
    /// A record goes.
    Delete(Line),
}

/// A change set: all of it is visible, or nothing.
#[derive(Debug, Clone)]
pub struct Set {
    /// Origin of its zone.
    pub zone: String,
    /// One offset each.
    pub changes: Vec<Change>,
}

/// All zones, at one offset.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// The offset.
    pub offset: u64,
    zones: BTreeMap<String, BTreeMap<String, u32>>,
}

impl Model {
    /// Does what a set says.
    pub fn apply(&mut self, set: &Set) {
        for change in &set.changes {
            match change {
                Change::ZoneCreate => {
                    let before = self.zones.insert(set.zone.clone(), BTreeMap::new());
                    assert!(before.is_none(), "the load creates {} twice", set.zone);
                }
                Change::ZoneDelete => drop(self.zones.remove(&set.zone).expect("a zone")),
                Change::Create(line) => self.put(&set.zone, line),
                Change::Delete(line) => self.take(&set.zone, line),
                Change::Replace(old, new) => {
                    self.take(&set.zone, old);
                    self.put(&set.zone, new);
                }
            }
        }
        self.offset += set.changes.len() as u64;
    }

    fn put(&mut self, zone: &str, line: &Line) {
        *self.zones.get_mut(zone).expect("a zone").entry(line.text()).or_default() += 1;
    }

    fn take(&mut self, zone: &str, line: &Line) {
        let zone = self.zones.get_mut(zone).expect("a zone");
        let count = zone.get_mut(&line.text()).unwrap_or_else(|| panic!("no line {line:?}"));
        *count -= 1;
        if *count == 0 {
            zone.remove(&line.text());
        }
    }

    /// The origins.
    pub fn origins(&self) -> Vec<String> {
        self.zones.keys().cloned().collect()
    }

    /// Number of records of all zones.
    pub fn records(&self) -> u64 {
        self.zones.values().flat_map(BTreeMap::values).map(|count| u64::from(*count)).sum()
    }

    /// How the lines of an owner in a zone differ; none if they are the same, each as often.
    pub fn owner_difference(&self, zone: &str, owner: &str, lines: &[String]) -> Option<String> {
        let range = format!("{owner}\t")..format!("{owner}\n");
        let there = self.zones.get(zone).map(|zone| zone.range(range)).into_iter().flatten();
        let mut wanted: Vec<&str> = there
            .flat_map(|(line, count)| std::iter::repeat_n(line.as_str(), *count as usize))
            .collect();
        let mut found: Vec<&str> = lines.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        found.sort_unstable();
        (found != wanted).then(|| format!("{owner} has {found:?} instead of {wanted:?}"))
    }

    /// The first way in which a zone's text differs; none if it is the same lines, each as often.
    pub fn difference(&self, zone: &str, text: &str) -> Option<String> {
        let Some(expected) = self.zones.get(zone) else {
            return Some(format!("{zone} should not be there"));
        };
        let mut found: BTreeMap<&str, u32> = BTreeMap::new();
        text.lines().for_each(|line| *found.entry(line).or_default() += 1);
        for (line, count) in expected {
            match found.remove(line.as_str()) {
                Some(there) if there == *count => {}
                Some(there) => return Some(format!("{there} times instead of {count}: {line}")),
                None => return Some(format!("not there: {line}")),
            }
        }
        found.keys().next().map(|line| format!("should not be there: {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(rdata: &str) -> Line {
        Line { owner: "a.x.".into(), ttl: 1, rtype: "TXT", rdata: rdata.into() }
    }

    #[test]
    fn the_oracle_tells_what_is_lost_doubled_and_too_much() {
        let mut model = Model::default();
        let begin = vec![Change::ZoneCreate, Change::Create(line("1")), Change::Create(line("2"))];
        model.apply(&Set { zone: "x.".into(), changes: begin });
        let changes = vec![Change::Replace(line("1"), line("3"))];
        model.apply(&Set { zone: "x.".into(), changes });
        assert_eq!(model.offset, 4);
        let (two, three) = (line("2").text(), line("3").text());
        assert_eq!(model.difference("x.", &format!("{three}\n{two}\n")), None);
        let lost = model.difference("x.", &two).unwrap();
        assert!(lost.starts_with("not there"), "{lost}");
        let twice = model.difference("x.", &format!("{two}\n{two}\n{three}\n")).unwrap();
        assert!(twice.starts_with("2 times"), "{twice}");
        let old = model.difference("x.", &format!("{two}\n{three}\n{}\n", line("1").text()));
        assert!(old.unwrap().starts_with("should not be there"));
        assert!(model.difference("y.", "").is_some());
    }
}
