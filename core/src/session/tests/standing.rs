//! An edge that stands still says so where people look for it, and waits end (rule 21).

use super::*;

fn at_rest() -> World {
    let mut world = World::new(1);
    (0..5).for_each(|_| world.log.append(1, 10));
    world.settle();
    world
}

fn carry(world: &mut World) {
    for _ in 0..20 {
        world.carry();
        world.write_store(4);
    }
}

#[test]
fn a_paused_edge_says_so_at_once_in_each_session_and_when_it_goes_on() {
    let mut world = at_rest();
    let why = Some(Pause { why: "frozen by a file".to_owned(), is_frozen: true });
    world.tell(ReceiverInput::Paused(why.clone()));
    carry(&mut world);
    assert_eq!(world.paused, why, "without a heartbeat");
    world.paused = None;
    world.connect();
    carry(&mut world);
    assert_eq!(world.paused, why, "a new session knows it too");
    // An ack of what was in hand says nothing of it.
    let ack = Ack { first: Offset(5), last: Offset(5), apply: Duration::ZERO };
    world.input(SenderInput::Message(ToControl::Ack(ack)));
    assert_eq!(world.paused, why);
    for _ in 0..5 {
        world.pass(Duration::from_secs(1));
        carry(&mut world);
    }
    assert_eq!((&world.paused, world.sender.is_some()), (&why, true), "the session goes on");
    world.tell(ReceiverInput::Paused(None));
    carry(&mut world);
    assert_eq!(world.paused, None);
    // It may have to take a snapshot first, for which there is no room.
    world.tell(ReceiverInput::Paused(why.clone()));
    (0..20).for_each(|_| world.log.append(2, 10));
    world.log.floor = Offset(20);
    world.connect();
    carry(&mut world);
    assert_eq!((&world.paused, world.reconnects.len()), (&why, 0), "{:?}", world.reconnects);
}

#[test]
fn positions_without_sets_fill_a_window_too_and_a_full_one_keeps_its_session() {
    // Nothing that comes is for this edge, and it makes nothing durable.
    let mut world = World::new(1_000_000);
    world.connect();
    for _ in 0..1_500 {
        world.log.append(1, 10);
        world.input(SenderInput::Head(world.log.head));
        world.pass(Duration::from_millis(100));
        world.carry();
    }
    let most = 64 * 1024 / crate::limits::SET_OVERHEAD_OCTETS;
    let waiting = world.store.waiting.len();
    assert!(waiting > most / 2 && waiting <= most + 1, "{waiting} positions wait, {most} may");
    assert_eq!(
        (world.reconnects.len(), world.sender.is_some()),
        (0, true),
        "{:?}",
        world.reconnects
    );
    for _ in 0..10 {
        world.pass(Duration::from_secs(1));
        (0..4).for_each(|_| world.carry());
    }
    assert_eq!(
        (world.reconnects.len(), world.sender.is_some()),
        (0, true),
        "{:?}",
        world.reconnects
    );
    (0..40).for_each(|_| {
        world.write_store(100);
        world.carry();
    });
    world.settle();
}

#[test]
fn an_edge_whose_store_has_failed_is_halted_in_each_session_and_nobody_resumes_it() {
    let mut world = at_rest();
    world.tell(ReceiverInput::Failed { reason: "the store has failed".to_owned() });
    carry(&mut world);
    assert_eq!(world.nacks, 1);
    world.tell(ReceiverInput::Resumed);
    assert!(world.receiver.halted().is_some(), "only a restart helps");
    world.connect();
    carry(&mut world);
    assert_eq!(world.nacks, 2);
    // What would take the place of all that it has cannot be stored.
    (0..20).for_each(|_| world.log.append(2, 10));
    world.log.floor = Offset(20);
    world.connect();
    carry(&mut world);
    for _ in 0..5 {
        world.pass(Duration::from_secs(1));
        carry(&mut world);
    }
    assert_eq!((world.nacks, world.store.waiting.len()), (3, 0));
    assert_eq!((world.store.staged(), world.reconnects.len()), (None, 0), "{:?}", world.reconnects);
}

#[test]
fn what_was_on_its_way_to_a_failed_store_is_neither_acked_nor_followed() {
    // The whole snapshot and the log behind it are sent before the Nack is heard; of before what the edge
    // has, as by a control plane that was restored, and of after it.
    for at in [3, 9] {
        let mut world = at_rest();
        world.tell(ReceiverInput::Failed { reason: "the store has failed".to_owned() });
        world.tell(ReceiverInput::Disconnected);
        world.tell(ReceiverInput::Connected);
        world.to_control.clear();
        let head =
            Position { offset: Offset(at), ..Position::genesis(crate::position::LogId([9; 16])) };
        let of = world.receiver.durable();
        let start = Start::Snapshot { reason: "another history".to_owned(), diverged: true, of };
        let (heartbeat, filter) = (Duration::from_secs(1), Filter::All);
        let welcome = Welcome { start, head, heartbeat, protocol: PROTOCOL, filter };
        let beat = |prev: u64, progress: u64| {
            let (prev, progress) = (Offset(prev), Position { offset: Offset(progress), ..head });
            ToEdge::Heartbeat { prev, progress, head: head.offset, sample: None }
        };
        let manifest = world.log.snapshot(crate::snapshot::Scope::Store, 1);
        let begin =
            ToEdge::SnapshotBegin { manifest: Manifest { position: head, ..manifest }, next: 0 };
        for message in [ToEdge::Welcome(welcome), begin, beat(at, at), beat(at, at + 1)] {
            world.tell(ReceiverInput::Message(message));
        }
        let acked = world.to_control.iter().filter_map(|said| match said {
            ToControl::Ack(ack) => Some(ack.last),
            _ => None,
        });
        assert_eq!(acked.max(), Some(Offset::ZERO), "signs of life, at {at}");
        assert_eq!(world.reconnects.len(), 0, "{:?}", world.reconnects);
        let halt =
            Halt { first: Offset(1), last: Offset(1), held: true, reason: "guard".to_owned() };
        world.tell(ReceiverInput::Halted(halt));
        assert!(world.receiver.halted().unwrap().reason.contains("failed"), "that comes first");
    }
}
