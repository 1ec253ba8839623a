//! An edge and a control plane on virtual time: the real sender and receiver, a log and a store that
//! are lists. The store is honest and the log is right; the stream between them is not.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::Bytes;
use edgesync_core::{
    limits::{RETRY_AFTER_MAX, WINDOW_OCTETS, WINDOW_OCTETS_MAX},
    name::Name,
    position::{HistoryHash, LogId, Offset, Position},
    session::{
        CommittedSet, Filter, Halt, Hello, InstanceId, PROTOCOL, Receiver, ReceiverInput,
        ReceiverOutput, Sender, SenderConfig, SenderInput, SenderOutput, SetPart, ToControl,
        ToEdge,
    },
    snapshot::{Chunk, Manifest, SnapshotId, Staged},
};

use super::{assert_plain, through_wire_to_control, through_wire_to_edge};

const LOG: LogId = LogId([7; 16]);

/// What one session of the sender has done.
struct Session {
    sender: Sender,
    window: usize,
    /// Sets sent and not acked: last offset and octets.
    unacked: VecDeque<(Offset, usize)>,
    acked: Offset,
    closed: bool,
}

/// What the store has been asked for and has done.
#[derive(Default)]
struct Store {
    waiting: VecDeque<ReceiverOutput>,
    /// The last offset handed out to be applied: it only rises, until a rebuild (invariant 8).
    handed: Offset,
    /// The last offset that the receiver was told to be durable.
    told: Offset,
    halted: bool,
    staging: Option<(Manifest, u32)>,
}

pub struct World {
    /// The snapshot whose chunks are handed out.
    staging: Option<Manifest>,
    now: Instant,
    sets: Vec<CommittedSet>,
    head: Position,
    filtered: bool,
    receiver: Receiver,
    edge_log: LogId,
    /// The receiver has given the stream up, and may say nothing on it.
    given_up: bool,
    /// A set has come in parts on this stream, and may be open.
    parts_seen: bool,
    store: Store,
    session: Option<Session>,
    to_edge: VecDeque<ToEdge>,
    to_control: VecDeque<ToControl>,
}

fn filter(filtered: bool) -> Filter {
    if filtered { Filter::Zones(vec![Name::root()]) } else { Filter::All }
}

impl World {
    pub fn new(filtered: bool) -> Self {
        let filter = filter(filtered);
        let identity = Hello {
            edge: "edge-1".parse().expect("an id"),
            instance: InstanceId([1; 16]),
            boot_epoch: 1,
            position: None,
            stored_filter: filter.hash(),
            filter,
            staged: None,
            protocol: PROTOCOL,
            version: "test".to_owned(),
            window: 1_024,
        };
        Self {
            staging: None,
            now: Instant::now(),
            sets: Vec::new(),
            head: Position::genesis(LOG),
            filtered,
            receiver: Receiver::new(identity),
            edge_log: LOG,
            given_up: true,
            parts_seen: false,
            store: Store::default(),
            session: None,
            to_edge: VecDeque::new(),
            to_control: VecDeque::new(),
        }
    }

    pub fn connect(&mut self) {
        self.cut();
        let config = SenderConfig { heartbeat: Duration::from_secs(1) };
        self.session = Some(Session {
            sender: Sender::new(config, self.head, self.now),
            window: 0,
            unacked: VecDeque::new(),
            acked: Offset::ZERO,
            closed: false,
        });
        (self.given_up, self.parts_seen) = (false, false);
        self.tell(ReceiverInput::Connected, 1);
    }

    pub fn cut(&mut self) {
        self.session = None;
        self.to_edge.clear();
        self.to_control.clear();
        self.given_up = true;
        self.tell(ReceiverInput::Disconnected, 0);
    }

    pub fn append(&mut self, changes: u64, octets: usize) {
        let (prev, first) = (self.head.offset, self.head.offset.next());
        let (last, body) = (prev.plus(changes), Bytes::from(vec![0x5a; octets]));
        self.head = self.head.after(last, &body);
        self.sets.push(CommittedSet { prev, first, last, hash: self.head.hash, body });
        self.input(SenderInput::Head(self.head));
    }

    pub fn end(&mut self, drain: Option<Duration>) {
        self.input(
            drain.map_or(SenderInput::Fence, |retry_after| SenderInput::Drain { retry_after }),
        );
    }

    pub fn lose(&mut self) {
        self.to_edge.pop_front();
        self.to_control.pop_front();
    }

    /// Carries a message each way; leaves it there to come again if it is to be repeated.
    pub fn carry(&mut self, repeat: bool) {
        if let Some(message) = self.to_control.pop_front() {
            if repeat {
                self.to_control.push_front(message.clone());
            }
            self.control_hears(through_wire_to_control(message));
        }
        if let Some(message) = self.to_edge.pop_front() {
            if repeat {
                self.to_edge.push_front(message.clone());
            }
            self.edge_hears(through_wire_to_edge(message));
        }
    }

    pub fn control_hears(&mut self, message: ToControl) {
        let input = match message {
            ToControl::Hello(hello) => {
                let asked = if hello.window == 0 { WINDOW_OCTETS } else { hello.window };
                if let Some(session) = self.session.as_mut().filter(|session| session.window == 0) {
                    session.window = asked.min(WINDOW_OCTETS_MAX) as usize;
                }
                let ours = self.hash_at(hello.position.map_or(Offset::ZERO, |p| p.offset));
                let (filter, floor) = (hello.filter.clone(), Offset::ZERO);
                SenderInput::Hello { hello, filter, ours, floor, head: self.head }
            }
            other => SenderInput::Message(other),
        };
        self.input(input);
    }

    pub fn edge_hears(&mut self, message: ToEdge) {
        let sets = if let ToEdge::Frame(parts) = &message { parts.len() } else { 0 };
        let log =
            if let ToEdge::Welcome(welcome) = &message { Some(welcome.head.log) } else { None };
        let was_live = self.receiver.is_live();
        // Before a snapshot that was announced nothing else may come, known or not.
        let known = was_live && self.is_known(&message) && !self.receiver.is_replacing();
        self.receiver.handle(ReceiverInput::Message(message), self.now);
        if let Some(log) = log.filter(|_| !was_live && self.receiver.is_live()) {
            self.edge_log = log;
        }
        self.poll_receiver(sets + 5);
        assert!(!known || self.receiver.is_live(), "what is there already is ignored (rule 11)");
    }

    /// True for a frame of whole sets that are all there already.
    fn is_known(&mut self, message: &ToEdge) -> bool {
        let ToEdge::Frame(parts) = message else { return false };
        let is_whole = |part: &SetPart| part.from == 0 && part.size == part.set.body.len();
        self.parts_seen |= !parts.iter().all(is_whole);
        !self.parts_seen && parts.iter().all(|part| part.set.last <= self.store.handed)
    }

    /// The store makes some of what waits durable, in order, and says so.
    pub fn store_writes(&mut self, count: usize) {
        for _ in 0..count {
            let Some(work) = self.store.waiting.pop_front() else { break };
            let position = match work {
                ReceiverOutput::Restart => continue,
                ReceiverOutput::Stage { manifest, next, .. } => {
                    self.store.staging = Some((manifest, next));
                    continue;
                }
                ReceiverOutput::StageChunk(_) => {
                    if let Some((manifest, next)) = &mut self.store.staging {
                        *next = next.saturating_add(1);
                        let staged = Staged { id: manifest.id, next: *next };
                        self.tell(ReceiverInput::Staged(staged), 1);
                    }
                    continue;
                }
                ReceiverOutput::Install(id) => {
                    self.install(id);
                    continue;
                }
                ReceiverOutput::Compare { sample, .. } => {
                    let zone = sample.changed.into_iter().next().map(|zone| zone.origin);
                    zone.into_iter().for_each(|zone| self.tell(ReceiverInput::Drifted { zone }, 1));
                    continue;
                }
                _ if self.store.halted => continue,
                ReceiverOutput::Apply(set) => {
                    Position { log: self.edge_log, offset: set.last, hash: set.hash }
                }
                ReceiverOutput::Progress(position) => position,
                _ => continue,
            };
            self.store.told = position.offset;
            self.tell(ReceiverInput::Durable { position, apply: Duration::from_millis(1) }, 1);
        }
    }

    /// Puts a snapshot in place: what is durable is it, whatever was before.
    fn install(&mut self, id: SnapshotId) {
        let Some((manifest, next)) = self.store.staging.take_if(|(m, _)| m.id == id) else {
            return;
        };
        assert!(next >= manifest.chunks, "invariant 11: whole, or not at all");
        self.store.halted = false;
        self.store.told = manifest.position.offset;
        let Manifest { position, scope, filter, .. } = manifest;
        self.edge_log = position.log;
        self.tell(ReceiverInput::Installed { position, scope, filter }, 4);
    }

    /// The store refuses what is next.
    pub fn poison(&mut self) {
        if let Some(ReceiverOutput::Apply(set)) = self.store.waiting.front()
            && !self.store.halted
        {
            let (first, last) = (set.first, set.last);
            self.store.waiting.pop_front();
            self.store.halted = true;
            let reason = "poison".to_owned();
            self.tell(ReceiverInput::Halted(Halt { first, last, held: false, reason }), 1);
        }
    }

    pub fn pass(&mut self, time: Duration) {
        self.now += time;
        self.receiver.handle_timeout(self.now);
        let due = self.receiver.poll_timeout();
        assert!(due.is_none_or(|due| due > self.now), "a timer that stays due would loop");
        self.poll_receiver(1);
        if let Some(session) = &mut self.session {
            session.sender.handle_timeout(self.now);
            let due = session.sender.poll_timeout();
            assert!(due.is_none_or(|due| due > self.now), "a timer that stays due would loop");
            self.poll_sender();
        }
    }

    fn tell(&mut self, input: ReceiverInput, most: usize) {
        self.receiver.handle(input, self.now);
        self.poll_receiver(most);
    }

    fn poll_receiver(&mut self, most: usize) {
        let mut count = 0;
        while let Some(output) = self.receiver.poll() {
            count += 1;
            assert!(count <= most, "what one input brings out is bounded: {output:?}");
            match output {
                ReceiverOutput::Send(message) => self.edge_says(message),
                ReceiverOutput::Reconnect { after, reason } => {
                    assert!(!self.given_up, "a stream is given up once");
                    assert!(after <= RETRY_AFTER_MAX, "the edge comes back (invariant 20)");
                    assert_plain(&reason);
                    self.given_up = true;
                }
                ReceiverOutput::Replacing { reason, .. } => assert_plain(&reason),
                ReceiverOutput::Restart => {
                    // What waits is void, but for what a snapshot needs.
                    self.store.waiting.clear();
                    self.store.staging = None;
                    self.store.handed = self.store.told;
                }
                work => self.hand_over(work),
            }
        }
    }

    fn edge_says(&mut self, message: ToControl) {
        assert!(!self.given_up, "nothing is said on a stream that was given up: {message:?}");
        match &message {
            ToControl::Ack(ack) | ToControl::Paused { ack, .. } => {
                assert!(ack.last <= self.store.told, "invariant 6: {ack:?}, {:?}", self.store.told);
                assert!(ack.first <= ack.last.next());
            }
            ToControl::Hello(hello) => {
                let durable = hello.position.map_or(Offset::ZERO, |position| position.offset);
                assert!(durable <= self.store.told, "invariant 6: Hello has {durable}");
            }
            ToControl::Nack(halt) => assert_plain(&halt.reason),
            ToControl::SnapshotAck(_) | ToControl::Repair { .. } => {}
        }
        self.to_control.push_back(message);
    }

    fn hand_over(&mut self, work: ReceiverOutput) {
        let snapshot = matches!(
            work,
            ReceiverOutput::Stage { .. }
                | ReceiverOutput::StageChunk(_)
                | ReceiverOutput::Install(_)
                | ReceiverOutput::Compare { .. }
        );
        if snapshot {
            if let ReceiverOutput::Stage { manifest, .. } = &work {
                self.staging = Some(manifest.clone());
            }
            if let (ReceiverOutput::Install(_), Some(manifest)) = (&work, &self.staging) {
                self.store.handed = manifest.position.offset;
            }
            return self.store.waiting.push_back(work);
        }
        assert!(self.receiver.halted().is_none(), "a halted edge applies nothing (rule 23)");
        let handed = self.store.handed;
        match &work {
            ReceiverOutput::Apply(set) => {
                assert_eq!(set.prev, handed, "rule 11");
                assert!(set.first > handed && set.last >= set.first, "invariant 7");
                assert!(self.filtered || set.first == handed.next(), "nothing is left out");
                self.store.handed = set.last;
            }
            ReceiverOutput::Progress(position) => {
                assert!(position.offset > handed, "invariant 8");
                assert!(self.filtered, "an edge of all zones is led past nothing (invariant 4)");
                self.store.handed = position.offset;
            }
            _ => unreachable!("only works are handed over"),
        }
        self.store.waiting.push_back(work);
    }

    fn input(&mut self, input: SenderInput) {
        if let Some(session) = &mut self.session {
            session.sender.handle(input, self.now);
            self.poll_sender();
        }
    }

    fn poll_sender(&mut self) {
        let Some(session) = &mut self.session else { return };
        let largest = self.sets.iter().map(|set| set.body.len()).max().unwrap_or(0);
        while let Some(output) = session.sender.poll() {
            assert!(!session.closed, "nothing comes after the end: {output:?}");
            match output {
                SenderOutput::Send(message) => {
                    if let ToEdge::Frame(parts) = &message {
                        for part in parts {
                            session.unacked.push_back((part.set.last, part.set.body.len()));
                        }
                        let octets: usize = session.unacked.iter().map(|(_, octets)| octets).sum();
                        assert!(octets <= session.window + largest, "invariant 16: {octets}");
                    }
                    self.to_edge.push_back(message);
                }
                SenderOutput::Snapshot { scope, .. } => {
                    let (id, position) = (SnapshotId([3; 16]), self.head);
                    let (zones, records, octets, chunks) = (1, 1, 1, 2);
                    let filter = filter(self.filtered).hash();
                    let manifest =
                        Manifest { id, position, scope, filter, zones, records, octets, chunks };
                    let input = SenderInput::Snapshot { manifest, next: 0 };
                    session.sender.handle(input, self.now);
                }
                SenderOutput::FetchChunk { id, index } => {
                    let body = Bytes::from_static(b"rows");
                    let chunk = Chunk { snapshot: id, index, hash: [0; 32], body };
                    session.sender.handle(SenderInput::Chunk(chunk), self.now);
                }
                SenderOutput::Staged(_) => {}
                SenderOutput::Paused(pause) => {
                    pause.iter().for_each(|pause| assert_plain(&pause.why));
                }
                SenderOutput::Fetch { after, octets, .. } => {
                    let (sets, read_to) =
                        fetch(&self.sets, self.head, self.filtered, after, octets);
                    session.sender.handle(SenderInput::Fetched { sets, read_to }, self.now);
                }
                SenderOutput::Acked { durable, .. } => {
                    assert!(durable.offset <= self.head.offset, "an ack for what is not there");
                    assert!(durable.offset >= session.acked, "acks only rise");
                    session.acked = durable.offset;
                    session.unacked.retain(|(last, _)| *last > durable.offset);
                }
                SenderOutput::Nacked(halt) => assert_plain(&halt.reason),
                SenderOutput::Close => {
                    session.closed = true;
                    assert_eq!(session.sender.poll_timeout(), None, "it is over");
                }
            }
        }
    }

    fn hash_at(&self, offset: Offset) -> Option<HistoryHash> {
        let genesis = (Offset::ZERO, HistoryHash::genesis(LOG));
        let mut ends = std::iter::once(genesis).chain(self.sets.iter().map(|s| (s.last, s.hash)));
        ends.find(|(last, _)| *last == offset).map(|(_, hash)| hash)
    }
}

/// What the log has after an offset; of a filtered edge every second set.
fn fetch(
    log: &[CommittedSet],
    head: Position,
    filtered: bool,
    after: Offset,
    octets: usize,
) -> (Vec<CommittedSet>, Position) {
    let (mut left, mut sets, mut read_to) = (octets, Vec::new(), head);
    for (index, set) in log.iter().enumerate().filter(|(_, set)| set.first > after) {
        if !sets.is_empty() && set.body.len() > left {
            break;
        }
        left = left.saturating_sub(set.body.len());
        read_to = Position { offset: set.last, hash: set.hash, ..head };
        if !filtered || index % 2 == 0 {
            sets.push(set.clone());
        }
    }
    (sets, read_to)
}
