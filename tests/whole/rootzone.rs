//! The real DNS root zone and 1,684 real versions of it, against what BIND makes of the same text.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use edgesync_tests::{Stack, compile_zone, eventually, have, output_of, shared};

/// Unpacks a file beside the tests' own.
fn unpacked(packed: &Path, into: &Path) -> PathBuf {
    let file = into.join(packed.file_stem().unwrap());
    let output = Command::new("xz").args(["-dkc"]).arg(packed).output().expect("xz runs");
    assert!(output.status.success());
    fs::write(&file, output.stdout).unwrap();
    file
}

/// The last version, made by nothing but taking lines out and putting lines in.
fn apply_by_lines(zone: &str, changes: &str) -> String {
    let mut lines: BTreeSet<&str> = zone.lines().collect();
    for line in changes.lines() {
        match line.split_at(2) {
            ("- ", record) => assert!(lines.remove(record), "{record}"),
            ("+ ", record) => assert!(lines.insert(record), "{record}"),
            _ => {}
        }
    }
    lines.into_iter().map(|line| format!("{line}\n")).collect()
}

#[test]
fn rootzone_versions_reach_every_edge_one_killed_in_the_middle() {
    let zone = shared("data/rootzone/root-2023110400.zone.xz");
    let changes = shared("data/rootzone/changes-2023110401-2025083199.txt.xz");
    let (Some(zone), Some(changes), true) = (zone, changes, have("named-compilezone")) else {
        return;
    };
    let mut stack = Stack::start(3);
    let (zone, changes) = (unpacked(&zone, stack.dir()), unpacked(&changes, stack.dir()));
    let started = Instant::now();

    let _ = stack.run(&["zone", "import", zone.to_str().unwrap(), "--origin", "."]).good();
    let imported = started.elapsed();
    stack.settle();
    for edge in 0..3 {
        assert_eq!(stack.edge_status(edge).unwrap()["records"], 22_286);
    }

    // Applied by the command, in the background; one edge is killed when a third is through.
    let stack_dir = stack.dir().to_owned();
    let (killed_at, applied) = std::thread::scope(|scope| {
        let mut apply = Command::new(edgesync_tests::program("edgesync"));
        apply.args(["apply", changes.to_str().unwrap(), "--origin", "."]);
        apply.env("EDGESYNC_CONTROL", stack.url());
        let apply = scope.spawn(move || output_of(&mut apply, ""));
        eventually("a third is applied", || {
            stack.edge_metric(2, "edgesync_edge_position").is_some_and(|at| at > 28_000.0)
        });
        stack.edge(2).kill();
        let killed_at = stack.edge_metric(1, "edgesync_edge_position");
        stack.start_edge(2);
        (killed_at, apply.join().unwrap())
    });
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    stack.settle();
    let all = started.elapsed();

    let expected = stack_dir.join("expected.zone");
    let lines =
        apply_by_lines(&fs::read_to_string(&zone).unwrap(), &fs::read_to_string(&changes).unwrap());
    fs::write(&expected, lines).unwrap();
    let expected = compile_zone(".", &expected);
    for edge in 0..3 {
        let file = stack_dir.join(format!("export-{edge}.zone"));
        fs::write(&file, stack.run_edge(edge, &["export", "."]).good()).unwrap();
        let exported = compile_zone(".", &file);
        assert_eq!(exported.first_difference(&expected), None);
        assert_eq!(exported.records(), expected.records());
        let _ = stack.run_edge(edge, &["verify"]).good();
    }

    let status = stack.edge_status(2).unwrap();
    let (resumed, applied) =
        (status["resumed_from"].as_u64().unwrap(), status["applied_changes"].as_u64().unwrap());
    let head = stack.edge_metric(2, "edgesync_edge_position").unwrap();
    assert!(resumed >= 28_000, "it resumed from its offset, not from the beginning: {resumed}");
    #[allow(clippy::cast_precision_loss)]
    let sum = (resumed + applied) as f64;
    assert!((sum - head).abs() < 0.5, "no change skipped, none applied twice");
    println!(
        "imported in {imported:.1?}; with 1,684 versions on three edges {all:.1?}; edge-2 killed near \
         {killed_at:?}, resumed from {resumed}, {} records equal to BIND's",
        expected.records()
    );
}
