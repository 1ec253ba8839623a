//! Takes an input apart: what is missing is zero or empty, so that every input means something.

/// The octets that are left.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        for place in &mut taken {
            let Some((octet, rest)) = self.0.split_first() else { break };
            (*place, self.0) = (*octet, rest);
        }
        taken
    }

    pub fn u8(&mut self) -> u8 {
        u8::from_be_bytes(self.take())
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.take())
    }

    /// Octets behind their length of 16 bits; fewer if there are fewer.
    pub fn octets(&mut self) -> &'a [u8] {
        let length = usize::from(self.u16()).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub const fn rest(self) -> &'a [u8] {
        self.0
    }
}

/// Octets behind their length, as [`Input::octets`] takes them.
pub fn sized(octets: &[u8]) -> Vec<u8> {
    let length = u16::try_from(octets.len()).expect("a seed is short");
    [&length.to_be_bytes(), octets].concat()
}
