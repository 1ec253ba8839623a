//! A small store that a real edge has written, and what it must say.

use std::{
    fs,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use edgesync_tests::Stack;
use rand::{RngExt, rngs::StdRng};
use tempfile::TempDir;

use crate::{
    load::{Caller, Script, runtime},
    oracle::{History, Model},
};

/// Records of what is large in it.
const LARGE: u32 = 400;

/// How the edge that wrote it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By SIGTERM.
    InOrder,
    /// By SIGTERM, several times: sled has a snapshot of where things are, and does not read its
    /// whole log when it opens.
    Reopened,
    /// By SIGKILL: what is written down beside the store may be some seconds old.
    Killed,
}

/// A directory with the store, to be copied, and the states that it may have.
pub struct Base {
    dir: PathBuf,
    _own: Option<TempDir>,
}

impl Base {
    /// Has a real edge write it.
    pub fn make(end: End) -> Self {
        let own = tempfile::tempdir().expect("a directory");
        let dir = own.path().to_owned();
        let mut stack = Stack::start(1);
        let history = History::begin(&stack.dir().join("answers"));
        let url = stack.url();
        let sets = Script::of(LARGE).sets;
        for (number, set) in sets.into_iter().enumerate() {
            let key = format!("set-{number}");
            runtime().block_on(async { Caller::new(&url).commit(&key, set, &history).await });
            // Each set is synced by itself, as when changes are rare.
            stack.settle();
            if end == End::Reopened && number % 8 == 7 {
                assert_eq!(stack.edge(0).stop().code(), Some(0));
                stack.start_edge(0);
            }
        }
        match end {
            End::InOrder | End::Reopened => assert_eq!(stack.edge(0).stop().code(), Some(0)),
            End::Killed => stack.edge(0).kill(),
        }
        copy(stack.edge_dir(0), &dir.join("edge"));
        Self { dir, _own: Some(own) }
    }

    /// One that another process has made.
    pub fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), _own: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// The state at each offset where a set ends: what was written is always the same.
    pub fn models() -> Vec<Model> {
        let mut models = vec![Model::default()];
        for set in Script::of(LARGE).sets {
            let mut model = models.last().expect("a state").clone();
            model.apply(&set);
            models.push(model);
        }
        models
    }

    /// The state that it has.
    pub fn last(&self) -> Model {
        Self::models().pop().expect("a state")
    }

    /// Copies it and flips one bit of the copy; says which.
    pub fn flipped(&self, to: &Path, random: &mut StdRng) -> String {
        copy(&self.dir.join("edge"), to);
        let mut files: Vec<(PathBuf, u64)> = files(&to.join("store"));
        files.push((to.join("store.witness"), 0));
        files.retain_mut(|(path, size)| {
            *size = fs::metadata(path).map_or(0, |metadata| metadata.len());
            *size > 0
        });
        files.sort_unstable();
        // Mostly by size; sometimes by file, so that the small ones are not forgotten.
        let chosen = if random.random_ratio(1, 10) {
            random.random_range(0..files.len())
        } else {
            let all: u64 = files.iter().map(|(_, size)| size).sum();
            let mut place = random.random_range(0..all);
            let hit = files.iter().position(|(_, size)| {
                let here = place < *size;
                place = place.saturating_sub(*size);
                here
            });
            hit.expect("a file")
        };
        let (path, size) = &files[chosen];
        let (octet, bit) = (random.random_range(0..*size), random.random_range(0..8));
        let file = fs::File::options().read(true).write(true).open(path).expect("a file");
        let mut value = [0];
        file.read_exact_at(&mut value, octet).expect("an octet");
        file.write_all_at(&[value[0] ^ (1 << bit)], octet).expect("an octet");
        let name = path.strip_prefix(to).expect("a path").display();
        format!("{name} octet {octet} of {size}, bit {bit} (was {:#04x})", value[0])
    }
}

/// All files under a directory.
fn files(dir: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push((path, 0));
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).expect("a copy")),
        }
    }
}
