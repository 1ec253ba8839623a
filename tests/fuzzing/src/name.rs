//! Names: both forms agree, the order of store keys is that of names, and zones hold whole labels.

use bytes::Bytes;
use edgesync_core::{
    change::Generation,
    key::{owner_prefix, zone_key},
    name::Name,
};

use crate::{
    assert_one_line,
    input::{Input, sized},
};

/// Wire form of a name, wire form of another, then text.
pub fn run(input: &[u8]) {
    let mut input = Input(input);
    let (first, second) = (input.octets(), input.octets());
    let wire = |octets: &[u8]| Name::from_wire(Bytes::copy_from_slice(octets)).ok();
    let (first, second) = (wire(first), wire(second));
    for name in first.iter().chain(&second) {
        check(name);
    }
    let origin = first.clone().unwrap_or_else(Name::root);
    if let (Some(a), Some(b)) = (&first, &second) {
        compare(a, b);
    }
    if let Ok(text) = std::str::from_utf8(input.rest()) {
        match Name::parse(text, &origin) {
            Ok(name) => check(&name),
            Err(error) => assert_one_line(&error),
        }
    }
}

/// What holds for each name.
pub fn check(name: &Name) {
    let wire = name.wire();
    assert!(wire.len() <= 255 && !wire.iter().any(u8::is_ascii_uppercase));
    assert_eq!(Name::from_wire(wire.clone()).as_ref(), Ok(name));
    let labels: usize = name.labels().map(|label| label.len() + 1).sum();
    assert_eq!(labels + 1, wire.len(), "the labels are the whole name");
    let shown = name.to_string();
    assert!(shown.is_ascii() && !shown.contains(|c: char| c.is_control() || c == ' '), "{shown:?}");
    assert_eq!(Name::parse_origin(&shown).as_ref(), Ok(name), "{shown} reads back");
    assert!(name.is_within(name) && name.is_within(&Name::root()));
    if let Some(parent) = name.parent() {
        assert!(name.is_within(&parent) && !parent.is_within(name));
        assert!(parent < *name, "a parent sorts before its children");
    }
}

fn compare(a: &Name, b: &Name) {
    let root = Name::root();
    let prefix = |name| owner_prefix(Generation(1), &root, name);
    assert_eq!(prefix(a).cmp(&prefix(b)), a.cmp(b));
    assert_eq!(zone_key(a).cmp(&zone_key(b)), a.cmp(b));
    assert!(a == b || !prefix(a).starts_with(&prefix(b)), "{a} is in the range of {b}");
    if a.is_within(b) {
        assert!(b <= a && a.labels().count() >= b.labels().count());
        assert!(a == b || !b.is_within(a));
        assert!(a.wire().ends_with(b.wire()));
    }
}

pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let seed = |first: &str, second: &str, text: &str| {
        let wire = |text| Name::parse_origin(text).expect("a seed's name").wire().to_vec();
        [sized(&wire(first)), sized(&wire(second)), text.as_bytes().to_vec()].concat()
    };
    let long = [&"a".repeat(63), ".", &"b".repeat(63), ".", &"c".repeat(63), "."].concat();
    vec![
        ("plain", seed("www.example.com.", "example.com.", "www")),
        ("root", seed(".", "com.", "@")),
        ("escapes", seed("\\000\\001.a\\.b.example.", "\\001.example.", "\\\"x\\ y.\\255")),
        ("long", seed(&long, "*.example.", &long)),
        ("many-labels", seed(&"a.".repeat(127), "a.", "b")),
        ("absolute", seed("example.com.", "evilexample.com.", "WWW.Example.NET.")),
    ]
}
