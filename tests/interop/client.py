"""A client written against the .proto files alone: creates, edits, deletes, lists, and follows a
Sync stream with acks. Prints one JSON object; any failure ends it with a traceback.

    client.py PROTO_DIR HOST:PORT
"""

import hashlib
import json
import os
import queue
import sys

import grpc

from generated import generate

PROTO_DIR, TARGET = sys.argv[1:3]
FILES = ["position", "change_set", "record", "zone", "fleet", "snapshot", "sync"]

messages, services = generate(PROTO_DIR, FILES)
record, zone, sync, fleet = (messages[name] for name in ("record", "zone", "sync", "fleet"))
channel = grpc.insecure_channel(TARGET)
records = services["record"].RecordServiceStub(channel)
zones = services["zone"].ZoneServiceStub(channel)
edges = services["fleet"].FleetServiceStub(channel)
stream = services["sync"].SyncServiceStub(channel)
ORIGIN = "interop.example."


def data(owner, rtype, rdata, ttl=300):
    return record.RecordData(owner=owner, type=rtype, ttl=ttl, rdata=rdata)


def refused(code, call):
    """The message with which a call is refused."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        return error.details()
    raise AssertionError("the call was not refused")


# Unary calls.
soa = data("@", "SOA", "ns1 hostmaster 1 1800 900 604800 300")
zones.CreateZone(zone.CreateZoneRequest(origin=ORIGIN, records=[soa, data("@", "NS", "ns1")]))
made = records.CreateRecord(record.CreateRecordRequest(
    zone=ORIGIN, record=data("www", "A", "192.0.2.1"), idempotency_key="once"))
again = records.CreateRecord(record.CreateRecordRequest(
    zone=ORIGIN, record=data("www", "A", "192.0.2.1"), idempotency_key="once"))
assert again.receipt.replayed and again.receipt.position == made.receipt.position
edited = records.EditRecord(record.EditRecordRequest(
    id=made.record.id, rdata="192.0.2.2", ttl=60, if_version=made.record.version))
assert edited.record.rdata == "192.0.2.2" and edited.record.ttl == 60
refused(grpc.StatusCode.ABORTED, lambda: records.EditRecord(record.EditRecordRequest(
    id=made.record.id, rdata="192.0.2.3", if_version=made.record.version)))
refused(grpc.StatusCode.FAILED_PRECONDITION, lambda: records.CreateRecord(record.CreateRecordRequest(
    zone=ORIGIN, record=data("www", "CNAME", "ns1"))))
refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: records.CreateRecord(record.CreateRecordRequest(
    zone=ORIGIN, record=data("www", "A", "not an address"))))
assert records.GetRecord(record.GetRecordRequest(id=made.record.id)).record == edited.record

# A stream in, a stream out, and both.
text = b"$TTL 300\n@ SOA ns1 hostmaster 9 1800 900 604800 300\n@ NS ns1\nwww 60 A 192.0.2.2\nimported A 192.0.2.4\n"
chunks = [record.ImportZoneRequest(zone=ORIGIN if at == 0 else "", text=text[at:at + 20]) for at in range(0, len(text), 20)]
refused(grpc.StatusCode.INVALID_ARGUMENT, lambda: records.ImportZone(iter(chunks)))
chunks[-1].last = True
imported = records.ImportZone(iter(chunks))
assert (imported.created, imported.deleted, imported.zone_created) == (1, 0, False), imported
wishes = [record.Operation(create=data(f"n{n}", "AAAA", f"2001:db8::{n:x}")) for n in range(50)]
sets = (record.ApplyChangeSetsRequest(zone=ORIGIN, operations=[wish], raise_serial=True) for wish in wishes)
answers = list(records.ApplyChangeSets(sets))
assert len(answers) == 50 and all(answer.HasField("receipt") for answer in answers)
records.DeleteRecord(record.DeleteRecordRequest(id=made.record.id))
refused(grpc.StatusCode.NOT_FOUND, lambda: records.GetRecord(record.GetRecordRequest(id=made.record.id)))
listed = [r for page in records.ListRecords(record.ListRecordsRequest(zone=ORIGIN)) for r in page.records]
assert len(listed) == 53, len(listed)


# A Sync stream: what an edge does, by the comments of sync.proto.
def follow(position, until):
    """Follows the log to an offset, acking each frame; the position, and what came."""
    requests = queue.Queue()
    hello = sync.Hello(edge_id="python", instance_id=os.urandom(16), boot_epoch=1,
                       filter=sync.Filter(all_zones=True), protocol=1, version="python")
    if position is not None:
        hello.position.CopyFrom(position)
    requests.put(sync.SyncRequest(hello=hello))
    replies = stream.Sync(iter(requests.get, None))
    welcome = next(replies).welcome
    assert welcome.start == sync.SESSION_START_RESUME, welcome
    at = position or messages["position"].Position(log_id=welcome.head.log_id)
    sets, body = [], b""
    for reply in replies:
        for part in reply.frame.sets:
            assert part.prev == at.offset, (part.prev, at.offset)
            body += part.body
            if len(body) < part.size:
                continue
            change_set = messages["change_set"].ChangeSet.FromString(body)
            assert change_set.first == part.first
            assert part.last == part.first + len(change_set.changes) - 1
            sets.append(change_set)
            at = messages["position"].Position(log_id=at.log_id, offset=part.last, history_hash=part.history_hash)
            body = b""
        if sets and reply.HasField("frame"):
            requests.put(sync.SyncRequest(ack=sync.Ack(first=sets[0].first, last=at.offset, apply_us=1)))
        if at.offset >= until:
            break
    receipt = edges.WaitForOffset(fleet.WaitForOffsetRequest(position=at, ids=fleet.EdgeIds(ids=["python"])))
    assert receipt.reached, receipt
    requests.put(None)
    replies.cancel()
    return at, sets


head = edges.ListEdges(fleet.ListEdgesRequest()).head.offset
position, first = follow(None, head)
assert position.offset == head


def fold(change_sets):
    """The records of the zone by the meaning that change_set.proto gives each change."""
    held = {}
    for change_set in change_sets:
        for offset, change in enumerate(change_set.changes, change_set.first):
            kind = change.WhichOneof("change")
            body = getattr(change, kind)
            if kind == "record_create":
                held[offset] = (body.owner, body.type, body.ttl, body.rdata)
            elif kind == "record_edit":
                held[body.id] = (body.owner, body.type, body.ttl, body.rdata)
            elif kind == "record_delete":
                del held[body.id]
    return held


def wire(name):
    return b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"


by_list = {(r.id, wire(r.owner), r.ttl, r.rdata_wire) for r in listed}
by_fold = {(key, owner, ttl, rdata) for key, (owner, _, ttl, rdata) in fold(first).items()}
assert by_list == by_fold, by_list ^ by_fold

# Gone, and back: it resumes where it was.
records.CreateRecord(record.CreateRecordRequest(zone=ORIGIN, record=data("late", "TXT", '"back again"')))
resumed_from = position.offset
position, later = follow(position, resumed_from + 2)
assert later[0].first == resumed_from + 1, "resumed at the next offset"
digest = hashlib.sha256(repr(sorted(by_fold)).encode()).hexdigest()
print(json.dumps({"records": len(listed), "sets": len(first), "resumed_from": resumed_from,
                  "offset": position.offset, "digest": digest}))
