//! Snapshots and repairs in whole conversations.

use super::*;
use crate::snapshot::{Manifest, Scope};

/// An edge that has the first sets of a log that is then compacted away beyond them.
fn left_behind() -> World {
    let mut world = World::new(1);
    (0..3).for_each(|_| world.log.append(2, 10));
    world.settle();
    world.cut();
    (0..20).for_each(|_| world.log.append(2, 10));
    world.log.floor = Offset(20);
    world
}

#[test]
fn an_edge_at_the_floor_resumes_and_one_before_it_gets_a_snapshot() {
    for (floor, installs) in [(5, 0), (6, 0), (7, 1), (46, 1)] {
        let mut world = left_behind();
        world.log.floor = Offset(floor);
        world.settle();
        assert_eq!(world.store.installs, installs, "floor {floor}, the edge was at 6");
    }
}

#[test]
fn a_cut_after_every_message_of_a_snapshot_goes_on_where_it_stopped() {
    for messages in 0..40 {
        let mut world = left_behind();
        world.connect();
        for _ in 0..messages {
            world.carry();
            world.write_store(1);
        }
        if messages % 2 == 0 {
            world.restart_edge();
        }
        world.cut();
        let staged = world.store.staged();
        world.connect();
        for _ in 0..200 {
            if let Some(ToEdge::SnapshotBegin { next, .. }) = world.to_edge.front() {
                assert!(staged.is_none_or(|staged| *next >= staged.next), "sent again");
            }
            world.carry();
            world.write_store(1);
        }
        world.settle();
        assert!(world.store.installs >= 1);
    }
}

#[test]
fn a_halted_edge_is_halted_again_when_the_snapshot_that_it_was_promised_does_not_come() {
    // What comes while it is halted is not handed out; so nothing that follows may be (fuzzing).
    let mut world = World::new(1);
    (0..3).for_each(|_| world.log.append(2, 10));
    world.settle();
    let (first, last) = (Offset(7), Offset(8));
    let halt = Halt { first, last, held: false, reason: "poison".to_owned() };
    let now = Instant::now();
    let drain =
        |receiver: &mut Receiver| std::iter::from_fn(|| receiver.poll()).collect::<Vec<_>>();
    let receiver = &mut world.receiver;
    receiver.handle(ReceiverInput::Halted(halt.clone()), now);
    receiver.handle(ReceiverInput::Disconnected, now);
    receiver.handle(ReceiverInput::Connected, now);
    let welcome = |start| {
        let (head, filter) = (world.log.head, Filter::All);
        let heartbeat = Duration::from_secs(1);
        ToEdge::Welcome(Welcome { start, head, heartbeat, protocol: 1, filter })
    };
    let of = receiver.durable();
    let snapshot = Start::Snapshot { reason: "compacted".to_owned(), diverged: false, of };
    receiver.handle(ReceiverInput::Message(welcome(snapshot)), now);
    receiver.handle(ReceiverInput::Disconnected, now);
    receiver.handle(ReceiverInput::Connected, now);
    drain(receiver);
    receiver.handle(ReceiverInput::Message(welcome(Start::Resume)), now);
    assert_eq!(receiver.halted(), Some(&halt));
    let said = drain(receiver);
    assert!(
        matches!(&said[..], [ReceiverOutput::Send(ToControl::Nack(again))] if *again == halt),
        "{said:?}"
    );
}

#[test]
fn nothing_is_acked_between_a_snapshots_beginning_and_its_end() {
    let mut world = left_behind();
    world.acked = Offset::ZERO;
    world.connect();
    (0..30).for_each(|_| world.carry());
    assert!(world.receiver.is_replacing());
    let position = world.store.position.unwrap();
    world.tell(ReceiverInput::Durable { position, apply: Duration::ZERO });
    // A heartbeat of what the edge had before, on its way since.
    let (prev, progress, head) = (Offset(4), position, world.log.head.offset);
    let heartbeat = ToEdge::Heartbeat { prev, progress, head, sample: None };
    world.tell(ReceiverInput::Message(heartbeat));
    let is_ack = |said: &&ToControl| matches!(said, ToControl::Ack(ack) if ack.first <= ack.last);
    assert_eq!(world.to_control.iter().find(is_ack), None);
    (0..30).for_each(|_| world.carry());
    assert_eq!(world.acked, Offset::ZERO, "what the old store has does not count");
    world.settle();
}

#[test]
fn a_held_snapshot_waits_for_a_person_and_goes_on_without_a_second_download() {
    let mut world = left_behind();
    world.store.holds = true;
    world.connect();
    for _ in 0..60 {
        world.carry();
        world.write_store(1);
    }
    assert!(world.receiver.halted().is_some_and(|halt| halt.held));
    assert_eq!(world.store.applied.len(), 3, "what was there is served");
    world.cut();
    world.connect();
    for _ in 0..60 {
        world.carry();
        world.write_store(1);
    }
    assert_eq!(world.log.snapshots.len(), 1, "the snapshot at the edge is still the one");
    assert!(world.receiver.halted().is_some_and(|halt| halt.held), "and it is still held");
    world.store.holds = false;
    let id = world.store.staged().unwrap().id;
    let told = world.store.install(id, &world.log).unwrap();
    world.tell(told);
    world.settle();
}

#[test]
fn a_held_snapshot_is_let_go_when_the_log_goes_on_from_what_is_here() {
    let mut world = left_behind();
    world.store.holds = true;
    world.connect();
    for _ in 0..60 {
        world.carry();
        world.write_store(1);
    }
    assert!(world.receiver.halted().is_some_and(|halt| halt.held));
    // The control plane that was meant is back.
    world.log.floor = Offset::ZERO;
    world.cut();
    world.settle();
    assert_eq!((world.store.installs, world.receiver.halted()), (0, None));
}

#[test]
fn a_set_that_is_held_where_a_repair_was_to_stand_stays_held() {
    let mut world = World::new(1);
    (0..4).for_each(|_| world.log.append(1, 10));
    world.settle();
    let there = Manifest { chunks: 0, ..world.log.snapshot(Scope::Zone(Name::root()), 1) };
    world.tell(ReceiverInput::Message(ToEdge::SnapshotBegin { manifest: there, next: 0 }));
    let (first, last) = (Offset(4), Offset(4));
    let halt = Halt { first, last, held: true, reason: "it takes much away".to_owned() };
    world.tell(ReceiverInput::Halted(halt.clone()));
    world.tell(ReceiverInput::Rejected { reason: "it is of offset 4".to_owned() });
    assert_eq!(world.receiver.halted(), Some(&halt));
}

#[test]
fn a_repair_that_came_too_late_has_the_log_wait_for_the_next() {
    let mut world = World::new(1);
    (0..4).for_each(|_| world.log.append(1, 10));
    world.settle();
    let World { log, sender, now, .. } = &mut world;
    let (sender, now) = (sender.as_mut().unwrap(), *now);
    let drain = |sender: &mut Sender| std::iter::from_fn(|| sender.poll()).collect::<Vec<_>>();
    let is_fetch = |said: &SenderOutput| matches!(said, SenderOutput::Fetch { .. });
    let is_asked = |said: &SenderOutput| matches!(said, SenderOutput::Snapshot { .. });
    let zone = || Scope::Zone(Name::root());
    sender.handle(SenderInput::Message(ToControl::Repair { zone: Name::root() }), now);
    assert!(drain(sender).iter().any(is_asked));
    let late = log.snapshot(zone(), 1);
    for is_late in [true, false] {
        log.append(1, 10);
        sender.handle(SenderInput::Head(log.head), now);
        let said = drain(sender);
        assert_eq!(said.iter().any(is_fetch), is_late, "{said:?}");
        if is_late {
            let (sets, read_to) = log.fetch(Offset(4), log.head.offset, 1 << 20, 1);
            sender.handle(SenderInput::Fetched { sets, read_to }, now);
            sender.handle(SenderInput::Snapshot { manifest: late.clone(), next: 0 }, now);
            let said = drain(sender);
            assert!(said.iter().any(is_asked) && !said.iter().any(is_fetch), "{said:?}");
        }
    }
    sender.handle(SenderInput::Snapshot { manifest: log.snapshot(zone(), 1), next: 0 }, now);
    assert!(drain(sender).iter().any(is_fetch), "the log goes on to where it was made");
    let (sets, read_to) = log.fetch(Offset(5), log.head.offset, 1 << 20, 1);
    sender.handle(SenderInput::Fetched { sets, read_to }, now);
    let is_begun =
        |said: &SenderOutput| matches!(said, SenderOutput::Send(ToEdge::SnapshotBegin { .. }));
    assert!(drain(sender).iter().any(is_begun));
}

#[test]
fn a_drifted_zone_is_mended_in_line_with_the_stream() {
    let mut world = World::new(1);
    (0..5).for_each(|_| world.log.append(1, 10));
    world.settle();
    world.store.applied.remove(2);
    world.connect();
    for round in 0..40 {
        world.log.append(1, 10);
        let head = world.log.head;
        world.input(SenderInput::Head(head));
        if round % 5 == 0 {
            world.sample();
        }
        world.carry();
        world.write_store(2);
    }
    world.settle();
    assert_eq!((world.store.installs, world.log.snapshots.len()), (1, 1));
    assert!(world.log.snapshots.values().all(|(m, _)| m.scope == Scope::Zone(Name::root())));
}

#[test]
fn a_zone_that_drifts_again_at_once_is_not_fetched_again_and_again() {
    let mut world = World::new(1);
    (0..5).for_each(|_| world.log.append(1, 10));
    world.settle();
    for _ in 0..5 {
        world.store.applied.pop();
        world.connect();
        for _ in 0..40 {
            world.sample();
            world.carry();
            world.write_store(2);
        }
    }
    assert_eq!(world.store.installs, 1);
    assert!(world.store.drifts > 1);
}

#[test]
fn samples_under_load_reach_an_edge_that_is_never_at_the_head() {
    let mut world = World::new(1);
    world.connect();
    let mut compared = 0;
    for _ in 0..200 {
        (0..3).for_each(|_| world.log.append(1, 3_000));
        world.sample();
        let head = world.log.head;
        world.input(SenderInput::Head(head));
        world.carry();
        compared += world
            .store
            .waiting
            .iter()
            .filter(|w| matches!(w, ReceiverOutput::Compare { .. }))
            .count();
        world.write_store(1);
    }
    assert!(compared > 0);
}

#[test]
fn a_snapshot_that_cannot_be_had_is_asked_for_again_later() {
    let mut world = left_behind();
    world.log.busy = true;
    world.connect();
    (0..10).for_each(|_| world.carry());
    assert!(world.reconnects[0].contains("too many snapshots"), "{:?}", world.reconnects);
    world.log.busy = false;
    world.settle();
}

#[test]
fn a_sample_that_a_snapshot_has_gone_beyond_is_not_compared() {
    let mut world = left_behind();
    world.connect();
    world.sample();
    // The sample waits while the snapshot is sent; more is committed before it is taken.
    world.log.append(1, 10);
    (0..60).for_each(|_| world.carry());
    world.write_store(100);
    assert_eq!(world.store.drifts, 0);
    world.settle();
    assert_eq!(world.store.drifts, 0);
}
