//! What fuzzing has kept, replayed without a fuzzer: every file of `fuzz/corpus` through its target,
//! and seeded mutations of them. `EDGESYNC_FUZZ_MUTATIONS=100000` tries more of them for each target
//! (bounded in number and in time by default), `EDGESYNC_FUZZ_SEED=7` others.

use std::{
    collections::BTreeSet,
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use edgesync_fuzzing::{TARGETS, Target, mutation::mutated};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// Mutations of each target, unless they take longer than [`PATIENCE`].
const MUTATIONS: u64 = 4_000;
/// How long the mutations of one target may take.
const PATIENCE: Duration = Duration::from_millis(1_000);
/// Files and octets of a corpus at the most.
const CORPUS: (usize, usize) = (300, 1 << 20);

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().and_then(|value| value.parse().ok())
}

/// The files of a target's corpus, by name.
fn inputs(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = corpus().join(target.name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut inputs: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.display().to_string(), fs::read(&path).expect("a file")))
        .collect();
    inputs.sort();
    inputs
}

/// Runs an input; says how to run it again if it fails.
fn run(target: &Target, input: &[u8], which: &dyn Fn() -> String) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        let kept = env::temp_dir().join(format!("edgesync-fuzz-{}", target.name));
        let _ = fs::write(&kept, input);
        eprintln!("target {}: {}; the input is in {}", target.name, which(), kept.display());
        resume_unwind(panic);
    }
}

#[test]
fn every_kept_input_and_its_mutations_hold_the_properties() {
    let seed = number("EDGESYNC_FUZZ_SEED").unwrap_or(1);
    let asked = number("EDGESYNC_FUZZ_MUTATIONS");
    for target in TARGETS {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "{}: the corpus is empty", target.name);
        let replay = Instant::now();
        for (name, input) in &inputs {
            run(target, input, &|| name.clone());
        }
        let replay = replay.elapsed().as_millis();
        let mut rng = StdRng::seed_from_u64(seed);
        let begin = Instant::now();
        let mut tried = 0;
        while tried < asked.unwrap_or(MUTATIONS) && (asked.is_some() || begin.elapsed() < PATIENCE)
        {
            let (_, one) = &inputs[rng.random_range(0..inputs.len())];
            let (_, other) = &inputs[rng.random_range(0..inputs.len())];
            let input = mutated(&mut rng, one, other);
            run(target, &input, &|| format!("mutation {tried} of EDGESYNC_FUZZ_SEED={seed}"));
            tried += 1;
        }
        println!(
            "{}: {} files in {replay} ms, {tried} mutations (seed {seed}) in {} ms",
            target.name,
            inputs.len(),
            begin.elapsed().as_millis()
        );
    }
}

#[test]
fn each_corpus_has_a_target_is_small_and_holds_the_seeds() {
    let listed = |dir: PathBuf| -> BTreeSet<String> {
        let entries = fs::read_dir(dir).expect("a folder").map(|entry| entry.expect("an entry"));
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    };
    let named: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(listed(corpus()), named, "a corpus without a target is not replayed");
    let files = named.iter().map(|name| format!("{name}.rs")).collect();
    assert_eq!(listed(corpus().join("../fuzz_targets")), files, "each target can be fuzzed");
    for target in TARGETS {
        let inputs = inputs(target);
        let octets: usize = inputs.iter().map(|(_, input)| input.len()).sum();
        let (most, most_octets) = CORPUS;
        assert!(inputs.len() <= most, "{}: {} files", target.name, inputs.len());
        assert!(octets <= most_octets, "{}: {octets} octets", target.name);
        for (name, seed) in (target.seeds)() {
            let kept = inputs.iter().any(|(_, input)| *input == seed);
            assert!(kept, "{}: `{name}` is missing: cargo run -p edgesync-fuzzing", target.name);
        }
    }
}
