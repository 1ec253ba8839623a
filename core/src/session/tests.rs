//! Whole conversations in memory: the two ends in a world of their own, whose stream is cut, delayed,
//! and repeated wherever the test says.

mod repairs;
mod snapshots;
mod standing;
mod strange;
mod world;

use std::time::{Duration, Instant};

use proptest::prelude::*;

use self::world::{LOG, ModelLog, World, hello};
use super::*;
use crate::{
    limits::{FRAME_OCTETS, HEARTBEATS_AHEAD, HELLO_WAIT, SAMPLES_AHEAD},
    position::LogId,
};

/// What a test does to the world.
#[derive(Debug, Clone)]
enum Step {
    Append { changes: u64, octets: usize },
    Carry(usize),
    Write(usize),
    Cut,
    Connect,
    Repeat,
    Swap,
    Lose,
    RestartEdge,
    Pass(u64),
    Compact,
    Drift(usize),
    Sample,
    Busy(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => (1u64..4, 1usize..2_000).prop_map(|(changes, octets)| Step::Append { changes, octets }),
        1 => Just(Step::Append { changes: 2, octets: FRAME_OCTETS * 2 + 77 }),
        6 => (1usize..6).prop_map(Step::Carry),
        4 => (1usize..6).prop_map(Step::Write),
        1 => Just(Step::Cut),
        3 => Just(Step::Connect),
        1 => Just(Step::Repeat),
        1 => Just(Step::Swap),
        1 => Just(Step::Lose),
        1 => Just(Step::RestartEdge),
        2 => (1u64..1_500).prop_map(Step::Pass),
        1 => Just(Step::Compact),
        1 => any::<usize>().prop_map(Step::Drift),
        2 => Just(Step::Sample),
        1 => any::<bool>().prop_map(Step::Busy),
    ]
}

fn run(stride: u64, steps: Vec<Step>) {
    let mut world = World::new(stride);
    for step in steps {
        match step {
            Step::Append { changes, octets } => {
                world.log.append(changes, octets);
                let head = world.log.head;
                world.input(SenderInput::Head(head));
            }
            Step::Carry(count) => (0..count).for_each(|_| world.carry()),
            Step::Write(count) => world.write_store(count),
            Step::Cut => world.cut(),
            Step::Connect if world.sender.is_none() => world.connect(),
            Step::Connect => {}
            // What no good stream does: the receiver ignores it, or closes and comes back.
            Step::Repeat => {
                if let Some(ToEdge::Frame(parts)) = world.to_edge.front().cloned() {
                    world.to_edge.push_front(ToEdge::Frame(parts));
                }
            }
            Step::Swap if world.to_edge.len() > 1 => world.to_edge.swap(0, 1),
            Step::Swap => {}
            Step::Lose => drop(world.to_edge.pop_front()),
            Step::RestartEdge => world.restart_edge(),
            // Only while nobody is connected: what a session still needs is pinned.
            Step::Compact if world.sender.is_none() => world.log.compact(),
            Step::Compact => {}
            Step::Drift(place) if !world.store.applied.is_empty() => {
                world.store.applied.remove(place % world.store.applied.len());
            }
            Step::Drift(_) => {}
            Step::Sample => world.sample(),
            Step::Busy(busy) => world.log.busy = busy,
            Step::Pass(millis) => world.pass(Duration::from_millis(millis)),
        }
    }
    world.log.busy = false;
    world.settle();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_to_the_stream_each_set_takes_effect_once(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        run(1, steps);
    }

    #[test]
    fn a_filtered_edge_gets_its_sets_and_reaches_the_head(
        stride in 2u64..5, steps in prop::collection::vec(step(), 1..120),
    ) {
        run(stride, steps);
    }
}

#[test]
fn a_cut_after_every_message_loses_and_repeats_nothing() {
    for messages in 0..60 {
        let mut world = World::new(1);
        (0..20).for_each(|n| world.log.append(n % 3 + 1, 30_000));
        world.connect();
        for _ in 0..messages {
            world.carry();
            world.write_store(1);
        }
        world.cut();
        world.settle();
    }
}

#[test]
fn unacked_octets_stay_within_the_window() {
    let mut world = World::new(1);
    (0..500).for_each(|_| world.log.append(1, 1_000));
    world.connect();
    for _ in 0..1_000 {
        world.carry();
    }
    let taken: usize = world.store.waiting.len();
    assert!((57..=60).contains(&taken), "64 KiB of sets of 1,128 octets, not {taken}");
    world.settle();
}

#[test]
fn small_sets_count_with_what_they_cost_beside_their_body() {
    let mut world = World::new(1);
    (0..5_000).for_each(|_| world.log.append(1, 1));
    world.connect();
    let mut most = 0;
    for _ in 0..1_000 {
        world.carry();
        most = most.max(world.store.waiting.len());
    }
    assert!((500..520).contains(&most), "64 KiB at 129 octets each, not {most}");
    world.settle();
}

#[test]
fn an_edge_that_acks_and_does_not_read_is_sent_a_few_heartbeats_and_no_more() {
    let mut world = World::new(1);
    world.log.append(1, 10);
    world.connect();
    (0..4).for_each(|_| world.carry());
    world.to_edge.clear();
    let heartbeats = |world: &World| {
        let is = |m: &&ToEdge| matches!(m, ToEdge::Heartbeat { .. });
        u32::try_from(world.to_edge.iter().filter(is).count()).unwrap()
    };
    let samples = |world: &World| {
        let has = |m: &&ToEdge| matches!(m, ToEdge::Heartbeat { sample: Some(_), .. });
        u32::try_from(world.to_edge.iter().filter(has).count()).unwrap()
    };
    world.to_control.clear();
    for _ in 0..100 {
        let ack = Ack { first: Offset::ZERO, last: Offset::ZERO, apply: Duration::ZERO };
        world.input(SenderInput::Message(ToControl::Ack(ack)));
        world.sample();
        if let Some(sender) = &mut world.sender {
            world.now += Duration::from_secs(1);
            sender.handle_timeout(world.now);
        }
        world.poll_sender();
    }
    assert!(world.to_edge.iter().all(|m| !matches!(m, ToEdge::Goodbye { .. })), "it is alive");
    assert_eq!(heartbeats(&world), HEARTBEATS_AHEAD);
    assert!(samples(&world) <= SAMPLES_AHEAD, "{}", samples(&world));
    while !world.to_edge.is_empty() {
        world.carry();
    }
    world.write_store(100);
    (0..100).for_each(|_| world.carry());
    world.pass(Duration::from_secs(1));
    assert_eq!(heartbeats(&world), 1, "they go on when they are answered");
    world.settle();
}

#[test]
fn a_set_larger_than_a_frame_comes_in_parts_and_is_applied_whole() {
    let mut world = World::new(1);
    world.log.append(3, FRAME_OCTETS * 3 + 5);
    world.settle();
    assert_eq!(world.applied_parts, 4);
    assert_eq!(world.store.applied.len(), 1);
}

#[test]
fn another_history_is_never_applied_as_a_difference() {
    // Another log; the same log behind the edge; the same log with another change at the offset.
    let mut other_log = ModelLog::new(LogId([8; 16]));
    other_log.append(5, 10);
    let mut behind = ModelLog::new(LOG);
    behind.append(1, 10);
    let mut rewritten = ModelLog::new(LOG);
    rewritten.append(3, 11);
    rewritten.append(5, 10);
    for log in [behind, rewritten] {
        let mut world = World::new(1);
        world.log.append(3, 10);
        world.settle();
        world.log = log;
        world.cut();
        world.acked = Offset::ZERO;
        world.settle();
        assert_eq!(world.store.installs, 1);
    }
    let position = Position { log: LOG, ..other_log.head };
    let mut sender = Sender::new(
        SenderConfig { heartbeat: Duration::from_secs(1) },
        other_log.head,
        Instant::now(),
    );
    let (ours, head) = (other_log.hash_at(position.offset), other_log.head);
    let hello = hello(Some(position), Filter::All);
    let floor = Offset::ZERO;
    let filter = Filter::All;
    sender.handle(SenderInput::Hello { hello, filter, ours, floor, head }, Instant::now());
    let Some(SenderOutput::Send(ToEdge::Welcome(welcome))) = sender.poll() else { panic!() };
    let Start::Snapshot { diverged: true, of, .. } = welcome.start else { panic!("{welcome:?}") };
    assert_eq!(of, Some(position), "what Hello has said is said back");
}

#[test]
fn a_wrong_history_hash_closes_the_stream_before_anything_is_applied() {
    let mut world = World::new(1);
    world.log.append(1, 10);
    world.log.sets[0].body = Bytes::from_static(b"not what was hashed");
    world.connect();
    (0..10).for_each(|_| world.carry());
    assert!(world.store.waiting.is_empty());
    assert!(world.reconnects[0].contains("history hash"), "{:?}", world.reconnects);
}

#[test]
fn a_halted_edge_says_so_in_every_session_and_applies_nothing() {
    let mut world = World::new(1);
    world.log.append(1, 10);
    world.log.append(1, 10);
    world.connect();
    (0..4).for_each(|_| world.carry());
    world.store.waiting.clear();
    let (first, last) = (Offset(1), Offset(1));
    let reason = "no such record".to_owned();
    world.tell(ReceiverInput::Halted(Halt { first, last, held: false, reason }));
    let nacks =
        |world: &World| world.to_control.iter().filter(|m| matches!(m, ToControl::Nack(_))).count();
    assert_eq!(nacks(&world), 1);
    world.connect();
    assert_eq!(nacks(&world), 0);
    world.carry();
    assert_eq!(nacks(&world), 1, "again after Welcome");
    world.log.append(1, 10);
    world.input(SenderInput::Head(world.log.head));
    (0..10).for_each(|_| world.carry());
    assert!(world.store.waiting.is_empty());
    assert_eq!(world.acked, Offset::ZERO);
}

#[test]
fn silence_ends_a_session_on_both_ends() {
    let mut world = World::new(1);
    world.connect();
    (0..4).for_each(|_| world.carry());
    assert!(world.receiver.is_live());
    world.to_edge.clear();
    for _ in 0..4 {
        world.pass(Duration::from_millis(1_000));
        world.to_edge.clear();
    }
    assert!(world.reconnects[0].contains("silent"), "{:?}", world.reconnects);
    let config = SenderConfig { heartbeat: Duration::from_secs(1) };
    let mut sender = Sender::new(config, world.log.head, world.now);
    assert_eq!(sender.poll_timeout(), Some(world.now + HELLO_WAIT), "whatever the heartbeat is");
    sender.handle_timeout(world.now + HELLO_WAIT);
    let Some(SenderOutput::Send(ToEdge::Goodbye { reason, .. })) = sender.poll() else { panic!() };
    assert_eq!(reason, GoodbyeReason::Timeout);
}

#[test]
fn a_goodbye_is_waited_out_and_a_fenced_edge_waits_longer() {
    for (reason, least) in [(GoodbyeReason::Busy, 5), (GoodbyeReason::Fenced, 30)] {
        let mut receiver = Receiver::new(hello(None, Filter::All));
        receiver.handle(ReceiverInput::Connected, Instant::now());
        let retry_after = Duration::from_secs(5);
        let goodbye = ToEdge::Goodbye { reason, retry_after, message: "wait".to_owned() };
        receiver.handle(ReceiverInput::Message(goodbye), Instant::now());
        receiver.poll();
        let Some(ReceiverOutput::Reconnect { after, .. }) = receiver.poll() else { panic!() };
        assert_eq!(after, Duration::from_secs(least));
        assert_eq!(receiver.is_fenced(), reason == GoodbyeReason::Fenced);
        receiver.handle(ReceiverInput::Disconnected, Instant::now());
        receiver.handle(ReceiverInput::Connected, Instant::now());
        assert!(!receiver.is_fenced(), "the next stream is judged by itself");
    }
}

#[test]
fn an_ack_for_what_was_never_sent_ends_the_session() {
    let mut world = World::new(1);
    world.connect();
    (0..4).for_each(|_| world.carry());
    let ack = Ack { first: Offset(1), last: Offset(9), apply: Duration::ZERO };
    world.to_control.push_back(ToControl::Ack(ack));
    (0..4).for_each(|_| world.carry());
    assert!(world.reconnects[0].contains("never sent"), "{:?}", world.reconnects);
}

#[test]
fn what_comes_again_is_ignored_and_the_stream_goes_on() {
    let mut world = World::new(1);
    world.log.append(2, 10);
    world.connect();
    while !world.to_edge.iter().any(|message| matches!(message, ToEdge::Frame(_))) {
        world.carry();
    }
    let frame = world.to_edge.back().cloned().unwrap();
    world.to_edge.push_back(frame);
    (0..4).for_each(|_| world.carry());
    assert_eq!((world.store.waiting.len(), world.receiver.duplicates()), (1, 2));
    assert!(world.reconnects.is_empty(), "{:?}", world.reconnects);
    world.settle();
}
