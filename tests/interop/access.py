"""A client with credentials, written against the .proto files alone: logs in with user name and password
in the call's metadata, then calls with the token. Over TLS, if a CA is given, the token goes along as
CallCredentials; without, as metadata of each call (gRPC sends CallCredentials over TLS only).

    access.py PROTO_DIR HOST:PORT USER PASSWORD_FILE [CA_FILE]
"""

import base64
import json
import sys

import grpc

from generated import generate

PROTO_DIR, TARGET, USER, PASSWORD_FILE = sys.argv[1:5]
CA_FILE = sys.argv[5] if len(sys.argv) > 5 else None
FILES = ["access", "position", "record", "zone"]

messages, services = generate(PROTO_DIR, FILES)
access, record = messages["access"], messages["record"]
password = open(PASSWORD_FILE).read().strip()


def channel(token=None):
    """A channel, and the metadata that each call on it needs."""
    if CA_FILE is None:
        bearer = [("authorization", f"Bearer {token}")] if token else []
        return grpc.insecure_channel(TARGET), bearer
    tls = grpc.ssl_channel_credentials(open(CA_FILE, "rb").read())
    if token:
        tls = grpc.composite_channel_credentials(tls, grpc.access_token_call_credentials(token))
    return grpc.secure_channel(TARGET, tls), []


def refused(code, call):
    """The message with which a call is refused."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, (error.code(), error.details())
        return error.details()
    raise AssertionError("the call was not refused")


def create(at, zone):
    connection, metadata = at
    data = record.RecordData(owner="www", type="A", ttl=60, rdata="192.0.2.1")
    stub = services["record"].RecordServiceStub(connection)
    return stub.CreateRecord(record.CreateRecordRequest(zone=zone, record=data), metadata=metadata)


plain, _ = anonymous = channel()
login = services["access"].AccessServiceStub(plain).Login
refused(grpc.StatusCode.UNAUTHENTICATED, lambda: create(anonymous, "interop.example."))
wrong = [("username", USER), ("password", "wrong horse")]
refused(grpc.StatusCode.UNAUTHENTICATED, lambda: login(access.LoginRequest(), metadata=wrong))
basic = base64.b64encode(f"{USER}:{password}".encode()).decode()
forms = [[("username", USER), ("password", password)], [("authorization", f"Basic {basic}")]]
tokens = [login(access.LoginRequest(), metadata=form).token for form in forms]
mine = channel(tokens[0])
made = create(mine, "interop.example.")
denied = refused(grpc.StatusCode.PERMISSION_DENIED, lambda: create(mine, "other.example."))
assert "edgesync.v1.RecordService/CreateRecord" in denied, denied
connection, metadata = mine
services["access"].AccessServiceStub(connection).Logout(access.LogoutRequest(), metadata=metadata)
refused(grpc.StatusCode.UNAUTHENTICATED, lambda: create(mine, "interop.example."))
print(json.dumps({"grpcio": grpc.__version__, "tls": CA_FILE is not None, "record": made.record.id}))
