//! RDATA: wire and text say the same, canonical form is stable, and what is shown is one line.

use bytes::Bytes;
use edgesync_core::{
    Rtype,
    limits::RDATA_OCTETS,
    name::Name,
    position::Offset,
    rdata,
    record::{Record, RecordId},
    zone_file,
};

use crate::{
    assert_one_line,
    input::{Input, sized},
};

/// Type, origin in wire form, then RDATA in wire form and as text.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let rtype = Rtype::from_int(input.u16());
    let origin = Name::from_wire(Bytes::copy_from_slice(input.octets()));
    let origin = origin.unwrap_or_else(|_| Name::root());
    let octets = input.rest();
    match rdata::check(rtype, &Bytes::copy_from_slice(octets)) {
        Ok(wire) => check(rtype, &wire, &origin),
        Err(error) => assert_one_line(&error),
    }
    // What stands in a store was once taken, but the type's form is not looked at again.
    let shown = rdata::display(rtype, &Bytes::copy_from_slice(octets));
    assert!(!shown.contains(char::is_control), "RDATA is shown in one line: {rtype} {shown:?}");
    let _ = (rdata::covered(rtype, octets), rdata::soa_serial(octets));
    if let Ok(text) = std::str::from_utf8(octets) {
        match rdata::parse(rtype, text, &origin) {
            Ok(wire) => check(rtype, &wire, &origin),
            Err(error) => assert_one_line(&error),
        }
        match rdata::parse_type(text) {
            Ok(rtype) => assert_eq!(rdata::parse_type(&rtype.to_string()), Ok(rtype)),
            Err(error) => assert_one_line(&error),
        }
    }
}

/// What holds for RDATA that was taken.
pub fn check(rtype: Rtype, wire: &Bytes, owner: &Name) {
    assert!(wire.len() <= RDATA_OCTETS);
    assert_eq!(rdata::check(rtype, wire).as_ref(), Ok(wire), "what was taken is taken again");
    let canonical = rdata::canonical(rtype, wire);
    assert_eq!(rdata::canonical(rtype, &canonical), canonical, "canonical form is stable");
    assert_eq!(rdata::check(rtype, &canonical).as_ref(), Ok(&canonical));
    let text = rdata::display(rtype, wire);
    assert!(!text.contains(char::is_control), "RDATA is shown in one line: {rtype} {text:?}");
    let again = rdata::parse(rtype, &text, &Name::root());
    assert_eq!(again.as_ref(), Ok(wire), "{rtype} {text} reads back");
    let (id, version) = (RecordId(1), Offset(2));
    let record = Record { id, version, owner: owner.clone(), rtype, ttl: 60, rdata: wire.clone() };
    let line = record.zone_file_line();
    let read = zone_file::parse(line.as_bytes(), &Name::root());
    let read = read.unwrap_or_else(|error| panic!("{line:?} reads back: {error}"));
    let [read] = &read[..] else { panic!("{line:?} is one record") };
    assert_eq!((&read.owner, read.rtype, read.ttl, &read.rdata), (owner, rtype, 60, wire));
    if let Some(serial) = rdata::soa_serial(wire).filter(|_| rtype == Rtype::SOA) {
        let raised = rdata::with_soa_serial(wire, serial.wrapping_add(1)).expect("it has a serial");
        assert_eq!(rdata::soa_serial(&raised), Some(serial.wrapping_add(1)));
        assert_eq!(rdata::check(rtype, &raised).as_ref(), Ok(&raised));
    }
}

/// Records of many types, as text.
pub const SAMPLES: [(&str, &str); 36] = [
    ("A", "192.0.2.1"),
    ("AAAA", "2001:db8::1"),
    ("NS", "ns1.Example.net."),
    ("CNAME", "www"),
    ("DNAME", "other.example."),
    ("PTR", "\\000a\\.b.example."),
    ("MX", "10 mail"),
    ("SOA", "ns1 hostmaster 2024010100 7200 3600 1209600 3600"),
    ("TXT", "\"a b\" c \"\\\"\\\\\\007\""),
    ("TXT", "\"\""),
    ("SPF", "\"v=spf1 -all\""),
    ("SRV", "0 5 5060 sip"),
    ("CAA", "0 issue \"ca.example; a=b\""),
    ("HINFO", "\"PC\" \"Linux\""),
    ("NAPTR", "100 10 \"u\" \"E2U+sip\" \"!^.*$!sip:a@b!\" ."),
    ("RP", "a.b. c.d."),
    ("AFSDB", "1 afs.example."),
    ("DS", "60485 5 1 2bb183af5f22588179a53b0a98631fad1a292118"),
    ("CDS", "0 0 0 00"),
    ("CDNSKEY", "0 3 0 AA=="),
    (
        "DNSKEY",
        "257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==",
    ),
    ("RRSIG", "A 13 2 3600 20300101000000 20200101000000 12345 example.com. AAECAwQF"),
    ("NSEC", "host.example.com. A MX RRSIG NSEC TYPE1234"),
    ("NSEC3", "1 1 12 aabbccdd 2t7b4g4vsa5smi47k61mv5bv1a22bojr MX RRSIG"),
    ("NSEC3", "1 0 0 - 2t7b4g4vsa5smi47k61mv5bv1a22bojr"),
    ("NSEC3PARAM", "1 0 12 aabbccdd"),
    ("TLSA", "3 1 1 0123456789abcdef"),
    ("SMIMEA", "3 1 1 0123456789abcdef"),
    ("SSHFP", "1 1 0123456789abcdef"),
    ("OPENPGPKEY", "AAECAw=="),
    ("SVCB", "1 svc.example. alpn=h2,h3 port=443 ipv4hint=192.0.2.1 key667=hello"),
    ("HTTPS", "0 other.example."),
    ("HTTPS", "1 . mandatory=alpn alpn=h2 no-default-alpn ipv6hint=2001:db8::1 ech=AAE="),
    (
        "ZONEMD",
        "2018031500 1 1 fead00fead00fead00fead00fead00fead00fead00fead00fead00fead00fead00fead00fead00fead00fead00fead00",
    ),
    ("TYPE65280", "\\# 3 abcdef"),
    ("LOC", "\\# 16 00121613893a2e807099fa0000989680"),
];

pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let origin = Name::parse_origin("example.com.").expect("a seed's name");
    let mut seeds = Vec::new();
    for (name, text) in SAMPLES {
        let rtype = rdata::parse_type(name).expect("a seed's type");
        let head = [&rtype.to_int().to_be_bytes()[..], &sized(origin.wire())].concat();
        seeds.push((name, [&head[..], text.as_bytes()].concat()));
        if let Ok(wire) = rdata::parse(rtype, text, &origin) {
            seeds.push((name, [&head[..], &wire].concat()));
        }
    }
    seeds
}
