//! Mutations without coverage, for the test that replays the corpus: seeded, so that what is found
//! is found again.

use rand::{RngExt, rngs::StdRng};

/// Octets of the longest mutated input.
const LONGEST: usize = 8_192;
/// Numbers at the edges of their types.
const EDGES: [u64; 8] = [0, 1, 0x7f, 0xff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// An input made of one of the corpus, and a part of another.
pub fn mutated(rng: &mut StdRng, input: &[u8], other: &[u8]) -> Vec<u8> {
    let mut octets = input.to_vec();
    for _ in 0..rng.random_range(1..=4) {
        mutate(rng, &mut octets, other);
    }
    octets.truncate(LONGEST);
    octets
}

fn mutate(rng: &mut StdRng, octets: &mut Vec<u8>, other: &[u8]) {
    let place = rng.random_range(0..=octets.len());
    let end = (place + rng.random_range(1..=16usize)).min(octets.len());
    match rng.random_range(0..7u8) {
        0 => {
            if let Some(octet) = octets.get_mut(place) {
                *octet ^= 1 << rng.random_range(0..8u8);
            }
        }
        1 => {
            if let Some(octet) = octets.get_mut(place) {
                *octet = rng.random();
            }
        }
        2 => octets.insert(place, rng.random()),
        3 => drop(octets.drain(place..end)),
        4 => {
            let twice = octets[place..end].to_vec();
            octets.splice(place..place, twice);
        }
        5 => {
            let number = EDGES[rng.random_range(0..EDGES.len())].to_be_bytes();
            let width = [1, 2, 4, 8][rng.random_range(0..4usize)];
            let end = (place + width).min(octets.len());
            octets.splice(place..end, number[8 - width..].iter().copied());
        }
        _ => {
            let from = rng.random_range(0..=other.len());
            let to = (from + rng.random_range(1..=64usize)).min(other.len());
            octets.splice(place..end, other[from..to].iter().copied());
        }
    }
}
