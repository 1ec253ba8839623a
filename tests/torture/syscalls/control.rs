//! The control plane: opening, commits, the end.

use std::sync::Arc;

use edgesync_tests::{Stack, eventually};

use super::{Sweep, edge::copy, points};
use crate::{
    load::{Caller, Script, runtime},
    oracle::{History, Model},
    plan,
    trace::{Tracer, can_trace},
};

/// One run of the script, with a kill after the `kill_at`th call: how many there were, and whether
/// it was killed. With `restart` the control plane has the first half of the script before.
fn run(restart: bool, kill_at: u64, unborn: &mut u64) -> (u64, bool) {
    let mut stack = Stack::prepare(0);
    let history = Arc::new(History::begin(&stack.dir().join("answers")));
    let mut sets = Script::new().sets;
    if restart {
        stack.start_control();
        let rest = sets.split_off(sets.len() / 2);
        write("first", &stack.url(), sets, &history);
        stack.control().kill();
        sets = rest;
    }
    let dir = stack.control_dir().to_owned();
    let tracer = Tracer::new(stack.dir(), &dir, kill_at);
    stack.begin_control(&tracer.command());
    tracer.set_process(stack.control().id());
    let (url, noted) = (stack.url(), Arc::clone(&history));
    let writing = std::thread::spawn(move || write("second", &url, sets, &noted));
    eventually("all is written, or it is killed", || tracer.has_killed() || writing.is_finished());
    if !tracer.has_killed() {
        stack.control().signal("TERM");
    }
    stack.control().wait();
    let killed = tracer.has_killed();
    let answered = history.highest();
    // What was there after the kill, to look at if this fails.
    copy(&dir, &stack.dir().join("after-the-kill"));
    *unborn += u64::from(!opens(&mut stack));
    assert!(head(&stack) >= answered, "invariant 1: {answered} got OK, there is {}", head(&stack));
    writing.join().expect("the caller has panicked");
    let (count, last) = tracer.finish();
    println!("  {}{kill_at}: {last}", if killed { "killed after " } else { "not killed at " });
    let (model, _) = history.judge(head(&stack)).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    compare(&stack, &model);
    (count, killed)
}

/// Starts the control plane again. False if it refused: known for a log that was killed before redb
/// had written its first page, in which nothing can have got OK. It is removed then, by hand.
fn opens(stack: &mut Stack) -> bool {
    stack.begin_control(&[]);
    let mut ended = false;
    eventually("the control plane is ready, or refuses", || {
        ended = stack.control().has_ended();
        ended || stack.control_page("/readyz").is_some()
    });
    if ended {
        let log = stack.control().log_text();
        let refusal = log.lines().last().expect("a line");
        let file = stack.control_dir().join("log.redb");
        let begin = std::fs::read(&file).expect("the log").into_iter().take(4096);
        let known = refusal.contains("magic number") && begin.clone().all(|octet| octet == 0);
        assert!(known, "{refusal}");
        println!("  KNOWN: {refusal}");
        std::fs::remove_file(file).expect("it can be removed");
        stack.start_control();
    }
    !ended
}

fn write(key: &str, url: &str, sets: Vec<crate::oracle::Set>, history: &History) {
    runtime().block_on(async {
        let mut caller = Caller::new(url);
        for (number, set) in sets.into_iter().enumerate() {
            caller.commit(&format!("{key}-{number}"), set, history).await;
        }
    });
}

fn head(stack: &Stack) -> u64 {
    stack.run(&["fleet", "--output", "json"]).json()["head"].as_u64().expect("a head")
}

fn compare(stack: &Stack, model: &Model) {
    for zone in model.origins() {
        let text = stack.run(&["zone", "export", &zone]).good();
        assert_eq!(model.difference(&zone, &text), None);
    }
}

#[test]
fn a_control_plane_killed_after_any_system_call_opens_and_has_what_got_ok() {
    if !can_trace() {
        return;
    }
    let mut random = plan::random("syscalls of the control plane");
    for (name, restart) in [("a new log", false), ("half a log", true)] {
        let mut unborn = 0;
        let (total, killed) = run(restart, u64::MAX, &mut unborn);
        assert!(!killed && total > 20, "{total} calls");
        let mut sweep = Sweep::default();
        for point in points(total, &mut random) {
            let (_, killed) = run(restart, point, &mut unborn);
            if sweep.take(killed) {
                break;
            }
        }
        let Sweep { kills, ended } = sweep;
        println!(
            "syscalls: control, {name}: {total} calls, {kills} kills, {ended} ended before, \
             {unborn} refused"
        );
        assert!(kills > 0, "nothing was killed");
        assert!(unborn == 0 || !restart, "a log that had been there was refused");
    }
}
