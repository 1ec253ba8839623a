//! What is to be mended is asked for until it is mended, and nothing waits for a repair that is not being made.

use super::*;
use crate::{limits::REPAIR_LAG_CHANGES, snapshot::Scope};

/// A world at rest, and its zone found to have drifted.
fn at_rest() -> (World, ReceiverInput) {
    let mut world = World::new(1);
    (0..5).for_each(|_| world.log.append(1, 10));
    world.settle();
    (world, ReceiverInput::Drifted { zone: Name::root() })
}

/// Lets heartbeats go to and fro, without any sample.
fn beat(world: &mut World, times: u32) {
    for _ in 0..times {
        world.pass(Duration::from_secs(1));
        for _ in 0..20 {
            world.carry();
            world.write_store(4);
        }
    }
}

#[test]
fn what_was_found_while_no_stream_was_there_is_mended_when_one_is() {
    let (mut world, drifted) = at_rest();
    world.cut();
    world.tell(drifted);
    assert!(world.receiver.is_to_be_mended(&Name::root()));
    world.connect();
    beat(&mut world, 3);
    assert_eq!((world.store.installs, world.receiver.to_be_mended()), (1, 0));
}

#[test]
fn a_repair_that_a_cut_has_taken_away_is_asked_for_again_though_nothing_finds_it_again() {
    for messages in 0..8 {
        let (mut world, drifted) = at_rest();
        world.tell(drifted);
        for _ in 0..messages {
            world.carry();
            world.write_store(1);
        }
        world.connect();
        beat(&mut world, 5);
        assert_eq!(world.store.installs, 1, "cut after {messages}");
        assert_eq!(world.receiver.to_be_mended(), 0);
    }
}

#[test]
fn what_drifts_again_waits_out_the_interval_and_is_then_mended_without_being_found_again() {
    let (mut world, drifted) = at_rest();
    world.tell(drifted);
    beat(&mut world, 3);
    world.tell(ReceiverInput::Drifted { zone: Name::root() });
    beat(&mut world, 300);
    assert_eq!(
        (world.store.installs, world.receiver.to_be_mended()),
        (1, 1),
        "it waits, and says so"
    );
    beat(&mut world, 300);
    assert_eq!((world.store.installs, world.receiver.to_be_mended()), (2, 0));
}

#[test]
fn more_than_one_zone_is_mended_and_what_the_session_is_not_for_is_forgotten() {
    let now = Instant::now();
    let (mut world, _) = at_rest();
    world.cut();
    let zones = ["a.example", "b.example"].map(|name| Name::parse_origin(name).unwrap());
    for zone in zones.clone() {
        world.receiver.handle(ReceiverInput::Drifted { zone }, now);
    }
    world.receiver.handle(ReceiverInput::Connected, now);
    let (head, heartbeat) = (world.log.head, Duration::from_secs(1));
    let filter = Filter::Zones(vec![zones[1].clone()]);
    let welcome = Welcome { start: Start::Resume, head, heartbeat, protocol: 1, filter };
    world.receiver.handle(ReceiverInput::Message(ToEdge::Welcome(welcome)), now);
    let said: Vec<_> = std::iter::from_fn(|| world.receiver.poll()).collect();
    let asked = said.iter().filter_map(|said| match said {
        ReceiverOutput::Send(ToControl::Repair { zone }) => Some(zone),
        _ => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), [&zones[1]], "{said:?}");
    assert_eq!(world.receiver.to_be_mended(), 1);
}

#[test]
fn a_repair_that_cannot_be_had_lets_the_log_go_on_and_is_asked_for_in_its_time() {
    let (mut world, _) = at_rest();
    let World { log, sender, now, .. } = &mut world;
    let (sender, now) = (sender.as_mut().unwrap(), *now);
    let drain = |sender: &mut Sender| std::iter::from_fn(|| sender.poll()).collect::<Vec<_>>();
    let is_fetch = |said: &SenderOutput| matches!(said, SenderOutput::Fetch { .. });
    let is_asked = |said: &SenderOutput| matches!(said, SenderOutput::Snapshot { .. });
    sender.handle(SenderInput::Message(ToControl::Repair { zone: Name::root() }), now);
    let late = log.snapshot(Scope::Zone(Name::root()), 1);
    log.append(1, 10);
    sender.handle(SenderInput::Head(log.head), now);
    let (sets, read_to) = log.fetch(Offset(5), log.head.offset, 1 << 20, 1);
    sender.handle(SenderInput::Fetched { sets, read_to }, now);
    sender.handle(SenderInput::Snapshot { manifest: late, next: 0 }, now);
    log.append(1, 10);
    sender.handle(SenderInput::Head(log.head), now);
    assert!(drain(sender).iter().any(is_asked), "it came too late");
    let (retry_after, message) = (Duration::from_secs(2), "too many".to_owned());
    sender.handle(SenderInput::SnapshotBusy { retry_after, message }, now);
    let said = drain(sender);
    assert!(said.iter().any(is_fetch), "the log waits for nothing: {said:?}");
    assert!(!said.iter().any(is_asked), "{said:?}");
    let (sets, read_to) = log.fetch(Offset(6), log.head.offset, 1 << 20, 1);
    sender.handle(SenderInput::Fetched { sets, read_to }, now);
    for (seconds, asks) in [(1, false), (2, true)] {
        sender.handle_timeout(now + Duration::from_secs(seconds));
        assert_eq!(drain(sender).iter().any(is_asked), asks, "after {seconds} s");
    }
    log.append(1, 10);
    sender.handle(SenderInput::Head(log.head), now);
    assert!(drain(sender).iter().any(is_fetch), "nor for the next, which may be in time");
}

#[test]
fn a_repair_that_the_store_refuses_waits_out_the_interval() {
    let (mut world, drifted) = at_rest();
    world.tell(drifted);
    let asks = |world: &World| {
        world.to_control.iter().filter(|said| matches!(said, ToControl::Repair { .. })).count()
    };
    assert_eq!(asks(&world), 1);
    world.tell(ReceiverInput::Rejected { reason: "it is not what it says".to_owned() });
    world.connect();
    beat(&mut world, 300);
    assert_eq!((world.store.installs, world.receiver.to_be_mended()), (0, 1));
    beat(&mut world, 400);
    assert_eq!((world.store.installs, world.receiver.to_be_mended()), (1, 0));
}

#[test]
fn an_edge_that_is_far_behind_comes_up_before_its_zones_are_mended() {
    let (mut world, _) = at_rest();
    let (sender, now) = (world.sender.as_mut().unwrap(), world.now);
    let drain = |sender: &mut Sender| std::iter::from_fn(|| sender.poll()).collect::<Vec<_>>();
    let is_asked = |said: &SenderOutput| matches!(said, SenderOutput::Snapshot { .. });
    let far = Position { offset: Offset(6 + REPAIR_LAG_CHANGES), ..world.log.head };
    sender.handle(SenderInput::Head(far), now);
    sender.handle(SenderInput::Message(ToControl::Repair { zone: Name::root() }), now);
    assert!(!drain(sender).iter().any(is_asked), "it would hold a turn for all of the way");
    let set = CommittedSet {
        prev: Offset(5),
        first: Offset(6),
        last: Offset(6),
        hash: far.hash,
        body: vec![0; 10].into(),
    };
    let read_to = Position { offset: Offset(6), ..far };
    sender.handle(SenderInput::Fetched { sets: vec![set], read_to }, now);
    sender.handle_timeout(now + Duration::from_secs(1));
    assert!(drain(sender).iter().any(is_asked));
}
