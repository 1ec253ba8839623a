//! What the other side never says, unless it is of another version or bits have turned on the way; and
//! messages that take longer to come than silence is borne.

use super::*;

/// An edge in session that has some sets.
fn live(stride: u64) -> World {
    let mut world = World::new(stride);
    (0..4).for_each(|_| world.log.append(1, 10));
    world.connect();
    for _ in 0..10 {
        world.carry();
        world.write_store(8);
    }
    assert!(world.receiver.is_live());
    world
}

fn welcome(log: &ModelLog, protocol: u32, start: Start) -> ReceiverInput {
    let heartbeat = Duration::from_secs(1);
    let (head, filter) = (log.head, Filter::All);
    ReceiverInput::Message(ToEdge::Welcome(Welcome { start, head, heartbeat, protocol, filter }))
}

#[test]
fn of_two_versions_that_meet_the_lower_is_spoken_or_both_are_told() {
    let mut world = World::new(1);
    for speaks in [0, PROTOCOL + 1, u32::MAX] {
        world.tell(ReceiverInput::Connected);
        world.tell(welcome(&world.log, speaks, Start::Resume));
        let told = world.reconnects.last().unwrap();
        assert!(told.contains(&format!("version {speaks} of the protocol")), "{told}");
        assert!(told.contains("update"), "{told}");
        assert!(!world.receiver.is_live());
        world.tell(ReceiverInput::Disconnected);
    }
    let greet = |protocol| {
        let config = SenderConfig { heartbeat: Duration::from_secs(1) };
        let mut sender = Sender::new(config, world.log.head, world.now);
        let hello = Hello { protocol, ..hello(None, Filter::All) };
        let (ours, floor, head) = (None, Offset::ZERO, world.log.head);
        sender.handle(
            SenderInput::Hello { filter: hello.filter.clone(), hello, ours, floor, head },
            world.now,
        );
        sender.poll()
    };
    let Some(SenderOutput::Send(ToEdge::Goodbye { reason, message, .. })) = greet(0) else {
        panic!()
    };
    assert_eq!(reason, GoodbyeReason::Refused);
    assert!(message.contains("version 0 of the protocol") && message.contains("update the edge"));
    for speaks in [PROTOCOL, PROTOCOL + 1, u32::MAX] {
        let Some(SenderOutput::Send(ToEdge::Welcome(welcome))) = greet(speaks) else { panic!() };
        assert_eq!(welcome.protocol, PROTOCOL, "an edge that speaks {speaks} too");
    }
}

#[test]
fn an_edge_of_all_zones_is_never_led_past_a_set_that_has_not_come() {
    for (stride, closes) in [(1, true), (2, false)] {
        let mut world = live(stride);
        let at = world.receiver.durable().unwrap();
        // As a heartbeat's progress is with one bit turned.
        let progress = Position { offset: at.offset.plus(2), ..at };
        let heartbeat =
            ToEdge::Heartbeat { prev: at.offset, progress, head: progress.offset, sample: None };
        world.to_control.clear();
        world.receiver.handle(ReceiverInput::Message(heartbeat), world.now);
        let outputs: Vec<_> = std::iter::from_fn(|| world.receiver.poll()).collect();
        let is_progress = |output: &ReceiverOutput| matches!(output, ReceiverOutput::Progress(_));
        let reconnects =
            |output: &ReceiverOutput| matches!(output, ReceiverOutput::Reconnect { .. });
        assert_eq!(outputs.iter().any(is_progress), !closes, "{outputs:?}");
        assert_eq!(outputs.iter().any(reconnects), closes, "{outputs:?}");
    }
}

#[test]
fn an_edge_that_asks_for_all_and_may_have_some_is_led_past_the_others() {
    let mut world = World::new(3);
    let own = Filter::Zones(vec![Name::root()]);
    let asks = Hello { filter: Filter::All, ..hello(None, own) };
    world.receiver = Receiver::new(asks);
    (0..4).for_each(|_| world.log.append(1, 10));
    world.settle();
    assert_eq!(world.reconnects, [""; 0]);
}

#[test]
fn sets_that_come_before_the_snapshot_that_was_announced_close_the_stream() {
    let mut world = World::new(1);
    (0..4).for_each(|_| world.log.append(1, 10));
    world.connect();
    // Hello only: what answers it waits.
    let hello = world.to_control.pop_front();
    let Some(ToControl::Hello(hello)) = hello else { panic!("{hello:?}") };
    let (ours, floor, head) = (None, world.log.floor, world.log.head);
    world.input(SenderInput::Hello { filter: hello.filter.clone(), hello, ours, floor, head });
    // As the answer to Hello is with one bit turned: nothing would ever be acked on this stream.
    let Some(ToEdge::Welcome(welcome)) = world.to_edge.front_mut() else { panic!() };
    welcome.start = Start::Snapshot { reason: String::new(), diverged: false, of: None };
    for _ in 0..10 {
        world.carry();
    }
    assert!(world.reconnects[0].contains("before the snapshot"), "{:?}", world.reconnects);
    assert!(!world.store.waiting.iter().any(|w| matches!(w, ReceiverOutput::Apply(_))));
    world.settle();
}

#[test]
fn a_snapshot_in_place_of_what_the_edge_has_not_said_is_not_begun() {
    let mut world = live(1);
    let said = world.receiver.durable();
    // As Hello's position is with one bit turned: it would be of another history, and what is older would come.
    let turned = said.map(|said| Position { log: LogId([9; 16]), ..said });
    for (of, begins) in [(turned, false), (said, true), (None, true)] {
        world.tell(ReceiverInput::Disconnected);
        world.tell(ReceiverInput::Connected);
        let start = Start::Snapshot { reason: "another log".to_owned(), diverged: true, of };
        let welcome = welcome(&world.log, PROTOCOL, start);
        world.tell(welcome);
        assert_eq!(world.receiver.is_replacing(), begins);
        let told = world.reconnects.pop();
        assert_eq!(told.is_some_and(|told| told.contains("came to it changed")), !begins);
    }
}

#[test]
fn a_message_that_takes_long_to_come_ends_no_session_and_the_edge_says_that_it_lives() {
    let mut world = live(1);
    world.to_control.clear();
    for half in 1..=20usize {
        world.now += Duration::from_millis(500);
        world.receiver.handle(ReceiverInput::Part, world.now);
        world.receiver.handle_timeout(world.now);
        world.poll_receiver();
        let said = world.to_control.len();
        assert!(
            ((half / 2).saturating_sub(1)..=half / 2 + 1).contains(&said),
            "{said} after {half} halves"
        );
    }
    assert!(world.reconnects.is_empty(), "{:?}", world.reconnects);
    let signs =
        |message: &ToControl| matches!(message, ToControl::Ack(ack) if ack.first > ack.last);
    assert!(world.to_control.iter().all(signs), "nothing new is acked");
    // A part is no life of a stream that is not there.
    world.now += Duration::from_secs(3);
    world.receiver.handle_timeout(world.now);
    world.receiver.handle(ReceiverInput::Part, world.now);
    world.poll_receiver();
    assert_eq!(world.reconnects.len(), 1);
    world.settle();
}

#[test]
fn a_set_that_was_lost_on_the_way_closes_the_stream_before_what_follows_it() {
    for stride in [1, 2] {
        let mut world = live(stride);
        let at = world.receiver.durable().unwrap();
        // To an edge of some zones a hash tells nothing of what lies between.
        let (prev, first, last) = (at.offset.next(), at.offset.plus(2), at.offset.plus(2));
        let (hash, body) = (at.hash, Bytes::from_static(b"of a later set"));
        let set = CommittedSet { prev, first, last, hash, body };
        world.store.waiting.clear();
        world.tell(ReceiverInput::Message(ToEdge::Frame(vec![SetPart {
            size: set.body.len(),
            from: 0,
            set,
        }])));
        assert!(world.store.waiting.is_empty(), "{:?}", world.store.waiting);
        assert!(world.reconnects[0].contains("was the last"), "{:?}", world.reconnects);
    }
}

#[test]
fn another_log_is_not_gone_on_with_on_the_word_of_a_welcome() {
    let mut world = live(1);
    world.cut();
    world.tell(ReceiverInput::Connected);
    let other = ModelLog::new(LogId([8; 16]));
    world.tell(welcome(&other, PROTOCOL, Start::Resume));
    assert!(world.reconnects[0].contains("another log"), "{:?}", world.reconnects);
    assert!(!world.receiver.is_live());
}

/// F-60: nothing special happens where a signed number would end.
#[test]
fn offsets_around_two_to_the_63rd_are_offsets_like_any_other() {
    let begin = Offset((1 << 63) - 3);
    let hash = HistoryHash([1; 32]);
    let at = Position { log: LOG, offset: begin, hash };
    let now = Instant::now();
    let mut receiver = Receiver::new(hello(Some(at), Filter::All));
    receiver.handle(ReceiverInput::Connected, now);
    let mut log = ModelLog::new(LOG);
    log.head = at;
    (0..4).for_each(|_| log.append(2, 10));
    receiver.handle(welcome(&log, PROTOCOL, Start::Resume), now);
    let part = |set: &CommittedSet| SetPart { size: set.body.len(), from: 0, set: set.clone() };
    let frame = ToEdge::Frame(log.sets.iter().map(part).collect());
    receiver.handle(ReceiverInput::Message(frame), now);
    receiver.handle(ReceiverInput::Durable { position: log.head, apply: Duration::ZERO }, now);
    let outputs: Vec<_> = std::iter::from_fn(|| receiver.poll()).collect();
    let applied =
        outputs.iter().filter(|output| matches!(output, ReceiverOutput::Apply(_))).count();
    assert_eq!(applied, 4, "{outputs:?}");
    let (first, last) = (begin.next(), Offset((1 << 63) + 5));
    let acked = |output: &ReceiverOutput| matches!(output, ReceiverOutput::Send(ToControl::Ack(ack)) if ack.first == first && ack.last == last);
    assert!(outputs.iter().any(acked), "{outputs:?}");
    // And the very last ones there are end in no overflow.
    for (prev, last) in [(u64::MAX - 1, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX, 0)] {
        let (prev, first, last) = (Offset(prev), Offset(prev).next(), Offset(last));
        let set = CommittedSet { prev, first, last, hash, body: Bytes::from_static(b"x") };
        let frame = ToEdge::Frame(vec![part(&set)]);
        receiver.handle(ReceiverInput::Message(frame), now);
        let head = Position { offset: last, ..at };
        let heartbeat = ToEdge::Heartbeat { prev, progress: head, head: last, sample: None };
        receiver.handle(ReceiverInput::Message(heartbeat), now);
    }
    assert_eq!(receiver.durable(), Some(log.head));
}
