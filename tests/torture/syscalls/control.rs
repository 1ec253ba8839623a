//! The control plane: opening, commits, the end.

use std::sync::Arc;

use edgesync_tests::{Stack, eventually};

use super::{Sweep, edge::copy, points};
use crate::{
    load::{Caller, Script, runtime},
    oracle::{History, Model},
    plan,
    trace::{Run, Tracer, can_trace},
    world,
};

/// One run of the script, with a kill after the `kill_at`th call. With `restart` the control plane has
/// the first half of the script before.
fn run(restart: bool, kill_at: u64) -> Run {
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
    let answered = history.highest();
    // What was there after the kill, to look at if this fails.
    copy(&dir, &stack.dir().join("after-the-kill"));
    stack.start_control();
    assert!(head(&stack) >= answered, "invariant 1: {answered} got OK, there is {}", head(&stack));
    writing.join().expect("the caller has panicked");
    let run = tracer.finish();
    println!("  {run}");
    let (model, _) = history.judge(head(&stack)).unwrap_or_else(|wrong| panic!("{wrong:#?}"));
    compare(&stack, &model);
    run
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
    assert_eq!(world::zones(stack), model.origins(), "the zones");
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
        let whole = run(restart, u64::MAX);
        assert!(!whole.killed && whole.calls > 20, "{whole}");
        let sweep = Sweep::over(points(whole.calls, &mut random), |point| run(restart, point));
        println!("syscalls: control, {name}: {} calls, {sweep}", whole.calls);
        sweep.check();
    }
}
