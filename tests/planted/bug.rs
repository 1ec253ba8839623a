//! What a patch says of its bug, in the lines before the difference.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A planted bug, and one test that has to find it.
#[derive(Clone)]
pub struct Bug {
    /// The patch's name.
    pub name: String,
    /// The patch.
    pub patch: PathBuf,
    /// What is wrong with it.
    pub what: String,
    /// Which promise it breaks.
    pub breaks: String,
    /// What has to find it.
    pub found_by: TestCommand,
    /// What the test has to say then, so that it fails because of this, and not of something else.
    pub says: Option<String>,
    /// True if that takes seconds, and does not need root.
    pub is_quick: bool,
}

/// A command that runs one test: `[NAME=VALUE …] cargo test … PATH::OF::THE::TEST`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TestCommand {
    /// Where its package stands in [`PACKAGES`].
    order: usize,
    /// What cargo gets, without the test.
    pub cargo: Vec<String>,
    /// The test, by its whole path.
    pub test: String,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
}

/// The packages that have tests, those first that others are built on: a bug in one of them makes
/// the others be built again, once.
const PACKAGES: [&str; 4] =
    ["edgesync-core", "edgesync-control", "edgesync-daemon", "edgesync-tests"];

impl TestCommand {
    fn read(text: &str) -> Option<Self> {
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        let cargo = words.iter().position(|word| word == "cargo")?;
        let (test, arguments) = words[cargo + 1..].split_last()?;
        let variable = |word: &String| {
            let (name, value) = word.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        let environment = words[..cargo].iter().map(variable).collect::<Option<_>>()?;
        let package = arguments.iter().skip_while(|word| *word != "-p").nth(1)?;
        let order = PACKAGES.iter().position(|known| known == package)?;
        (arguments.first()? == "test").then(|| Self {
            order,
            cargo: arguments.to_vec(),
            test: test.clone(),
            environment,
        })
    }

    /// The files in which the test may stand, by its package, target and module, as git's patterns.
    pub fn places(&self) -> Vec<String> {
        let after = |flag: &str| self.cargo.iter().skip_while(|word| *word != flag).nth(1);
        let package = after("-p").map_or("", |package| package.trim_start_matches("edgesync-"));
        let target = after("--test").map(String::as_str);
        // The whole-system tests' package keeps them beside its own sources.
        let folder = match (package, target) {
            ("tests", Some(target)) => format!("tests/{target}"),
            (package, Some(target)) => format!("{package}/tests/{target}"),
            (package, None) => format!("{package}/src"),
        };
        let mut modules: Vec<&str> = self.test.split("::").collect();
        modules.pop();
        let within = |modules: &[&str]| match modules {
            [] if target.is_some() => vec![format!("{folder}.rs"), format!("{folder}/main.rs")],
            [] => vec![format!("{folder}/lib.rs")],
            modules => {
                let path = modules.join("/");
                vec![format!("{folder}/{path}.rs"), format!("{folder}/{path}/mod.rs")]
            }
        };
        let mut places = within(&modules);
        // A module `tests` may stand in the file of what it tests.
        if modules.last() == Some(&"tests") {
            places.extend(within(&modules[..modules.len() - 1]));
        }
        places
    }

    /// The test's name without its modules.
    pub fn function(&self) -> &str {
        self.test.rsplit("::").next().unwrap_or_default()
    }
}

impl Bug {
    /// All that are planted here, once for each test, in the order in which they are built fastest.
    pub fn all() -> Vec<Self> {
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("planted");
        let entries = fs::read_dir(here).expect("the patches");
        let paths = entries.map(|entry| entry.expect("a file").path());
        let patches = paths.filter(|path| path.extension().is_some_and(|end| end == "patch"));
        let mut bugs: Vec<Self> = patches.flat_map(|patch| Self::read(&patch)).collect();
        bugs.sort_by(|a, b| (&a.found_by, &a.name).cmp(&(&b.found_by, &b.name)));
        bugs
    }

    /// Those of a choice.
    pub fn chosen(which: &str) -> Vec<Self> {
        let mut bugs = Self::all();
        let names: Vec<&str> = which.split(',').collect();
        if !matches!(which, "all" | "quick") {
            let unknown = names.iter().find(|name| bugs.iter().all(|bug| bug.name != **name));
            assert!(unknown.is_none(), "EDGESYNC_PLANTED: there is no bug {unknown:?}");
        }
        bugs.retain(|bug| match which {
            "all" => true,
            "quick" => bug.is_quick,
            _ => names.contains(&&*bug.name),
        });
        bugs
    }

    fn read(patch: &Path) -> Vec<Self> {
        let name = patch.file_stem().and_then(|stem| stem.to_str()).expect("UTF-8").to_owned();
        let text = fs::read_to_string(patch).expect("a patch can be read");
        let head = || text.lines().take_while(|line| !line.starts_with("--- "));
        let said = |what: &str| -> Vec<String> {
            let after = head().filter_map(|line| line.strip_prefix(what)?.strip_prefix(": "));
            after.map(str::to_owned).collect()
        };
        let one = |what: &str| match &said(what)[..] {
            [line] => line.clone(),
            lines => panic!("{name} has {} lines `{what}: …`", lines.len()),
        };
        let (what, breaks, mut says) = (one("Bug"), one("Breaks"), said("Says"));
        assert!(says.len() <= 1, "{name} has {} lines `Says: …`", says.len());
        let says = says.pop();
        let tests = |kind, is_quick| said(kind).into_iter().map(move |test| (test, is_quick));
        let tests: Vec<_> = tests("Found by", true).chain(tests("By hand", false)).collect();
        assert!(!tests.is_empty(), "{name} names no test that has to find it");
        let bug = |(command, is_quick): (String, bool)| Self {
            found_by: TestCommand::read(&command)
                .unwrap_or_else(|| panic!("{name}: `{command}` runs no test")),
            name: name.clone(),
            patch: patch.to_owned(),
            what: what.clone(),
            breaks: breaks.clone(),
            says: says.clone(),
            is_quick,
        };
        tests.into_iter().map(bug).collect()
    }
}
