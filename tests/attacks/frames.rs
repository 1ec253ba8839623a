//! HTTP/2 as octets (RFC 9113, RFC 7541), for a client that does what no library would let it do.

/// What a client says first (RFC 9113 section 3.4).
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Kinds of frames (section 6).
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

/// Flags.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// RST_STREAM's code CANCEL.
pub const CANCEL: [u8; 4] = [0, 0, 0, 8];

/// A call that is there, and answers at once.
const PATH: &str = "/edgesync.v1.FleetService/ListEdges";
/// The call that has a password looked at.
const LOGIN: &str = "/edgesync.v1.AccessService/Login";

/// Appends a frame.
pub fn frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("a small frame").to_be_bytes();
    to.extend_from_slice(&length[1..]);
    to.extend_from_slice(&[kind, flags]);
    to.extend_from_slice(&stream.to_be_bytes());
    to.extend_from_slice(payload);
}

/// What every connection begins with.
pub fn greeting() -> Vec<u8> {
    let mut octets = PREFACE.to_vec();
    frame(&mut octets, SETTINGS, 0, 0, &[]);
    octets
}

fn text(to: &mut Vec<u8>, text: &str) {
    to.push(u8::try_from(text.len()).expect("a short text"));
    to.extend_from_slice(text.as_bytes());
}

/// The header block of a gRPC call (RFC 7541 section 6: indexed, and literals that are not kept).
pub fn call() -> Vec<u8> {
    call_of(PATH)
}

/// The same of a login with a password that is nobody's.
pub fn login() -> Vec<u8> {
    let mut block = call_of(LOGIN);
    for (name, value) in [("username", "nobody"), ("password", "of nobody's")] {
        block.push(0x00);
        text(&mut block, name);
        text(&mut block, value);
    }
    block
}

fn call_of(path: &str) -> Vec<u8> {
    // :method POST, :scheme http
    let mut block = vec![0x83, 0x86, 0x04];
    text(&mut block, path);
    block.push(0x01);
    text(&mut block, "edgesync");
    // content-type is number 31 of the static table.
    block.extend_from_slice(&[0x0f, 0x10]);
    text(&mut block, "application/grpc");
    block.push(0x00);
    text(&mut block, "te");
    text(&mut block, "trailers");
    block
}

/// A header block that is small and becomes large: one field of 4,000 octets is put into the dynamic table,
/// then named again and again.
pub fn bomb(times: usize) -> Vec<u8> {
    let mut block = call();
    // A literal that is kept: name of one octet, value of 4,000 (127 + 3,873 as a prefixed integer).
    block.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend(std::iter::repeat_n(b'a', 4_000));
    // The newest entry of the dynamic table is number 62.
    block.extend(std::iter::repeat_n(0xbe, times));
    block
}
