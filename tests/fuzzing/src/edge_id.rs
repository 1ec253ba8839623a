//! Edge ids, which stand in metrics, file names and terminals: nothing but the few letters.

use edgesync_core::{edge_id::EdgeId, limits::EDGE_ID_CHARS};

use crate::assert_one_line;

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    match text.parse::<EdgeId>() {
        Ok(id) => {
            assert_eq!(id.as_str(), text);
            assert_eq!(id.to_string().parse(), Ok(id));
            assert!((1..=EDGE_ID_CHARS).contains(&text.len()));
            let plain = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.');
            assert!(text.chars().all(plain), "{text:?}");
        }
        Err(error) => assert_one_line(&error),
    }
}

pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("plain", b"fra-01.edge_7".to_vec()),
        ("longest", vec![b'x'; EDGE_ID_CHARS]),
        ("too-long", vec![b'x'; EDGE_ID_CHARS + 1]),
        ("upper", b"Fra-1".to_vec()),
        ("two-lines", b"fra\n1\x1b[2J".to_vec()),
    ]
}
