//! What a principal proves itself with: passwords, kept as argon2id; tokens of 256 random bits, kept as
//! SHA-256, which is enough for what nobody can guess.

use std::{fmt, sync::LazyLock};

use argon2::{
    Algorithm, Argon2, Block, Params, PasswordHash, Version,
    password_hash::{self, PasswordHasher, SaltString},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::secret::Secret;

/// Memory of one password check, in KiB (19 MiB), its passes and its lanes: the least that OWASP names.
const ARGON2: (u32, u32, u32) = (19 * 1024, 2, 1);
/// Octets of a salt.
const SALT_OCTETS: usize = 16;
/// Octets of a password.
pub const PASSWORD_OCTETS: std::ops::RangeInclusive<usize> = 8..=128;
/// What a machine's token begins with, so that one that has leaked is recognised.
const MACHINE: &str = "edgesync_token_";
/// What a token of a login begins with.
const LOGIN: &str = "edgesync_login_";
/// Characters of a token after that.
const TOKEN_HEX: usize = 64;
/// Characters of a token's id.
const ID_HEX: usize = 16;

/// A password as it is kept.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct KeptPassword(String);

impl fmt::Debug for KeptPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeptPassword")
    }
}

/// Why a password is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// It is too short or too long.
    #[error("a password has 8 to 128 octets")]
    Length,
    /// The kept form is none.
    #[error(
        "a kept password has the form $argon2id$v=19$m=19456,t=2,p=1$SALT$HASH: \
         `edgesync access hash-password` makes one"
    )]
    Kept,
    /// The kept form of a token is none.
    #[error(
        "a kept token is its SHA-256 as 64 hexadecimal digits: `edgesync access new-token` makes one"
    )]
    Token,
    /// Hashing failed.
    #[error("the password cannot be hashed: {0}")]
    Hash(String),
}

fn argon2() -> Result<Argon2<'static>, CredentialError> {
    let (memory, passes, lanes) = ARGON2;
    let params = Params::new(memory, passes, lanes, None);
    let params = params.map_err(|error| CredentialError::Hash(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

impl KeptPassword {
    /// Hashes a password. Takes tens of milliseconds, and 19 MiB.
    ///
    /// # Errors
    /// If it is too short or too long.
    pub fn of(password: &Secret) -> Result<Self, CredentialError> {
        if !PASSWORD_OCTETS.contains(&password.expose().len()) {
            return Err(CredentialError::Length);
        }
        Self::hash(password.expose())
    }

    fn hash(password: &str) -> Result<Self, CredentialError> {
        let failed = |error: password_hash::Error| CredentialError::Hash(error.to_string());
        let salt = SaltString::encode_b64(&rand::random::<[u8; SALT_OCTETS]>()).map_err(failed)?;
        let hash = argon2()?.hash_password(password.as_bytes(), &salt).map_err(failed)?;
        Ok(Self(hash.to_string()))
    }

    /// Reads the kept form; only the one kind and cost that is made here is taken, so that every check
    /// costs the same.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        let hash = PasswordHash::new(text).map_err(|_| CredentialError::Kept)?;
        let (memory, passes, lanes) = ARGON2;
        let params = Params::try_from(&hash).map_err(|_| CredentialError::Kept)?;
        let same = (params.m_cost(), params.t_cost(), params.p_cost()) == (memory, passes, lanes);
        let whole = hash.salt.is_some() && hash.hash.is_some();
        let kind = hash.algorithm == argon2::ARGON2ID_IDENT && hash.version == Some(19);
        if same && whole && kind { Ok(Self(text.to_owned())) } else { Err(CredentialError::Kept) }
    }

    /// The kept form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What an unknown user's password is compared with, so that it takes as long.
static NOBODY: LazyLock<Option<KeptPassword>> = LazyLock::new(|| {
    let random = rand::random::<[u8; 32]>();
    KeptPassword::hash(&hex(&random)).ok()
});

/// Compares passwords, one after the other, in memory that it keeps: to take 19 MiB anew for each leaves the
/// allocator with many times that.
#[derive(Debug, Default)]
pub struct Checker {
    memory: Vec<Block>,
}

impl Checker {
    /// True if a password is the kept one. Takes as long if there is none.
    pub fn is_password(&mut self, kept: Option<&KeptPassword>, given: &Secret) -> bool {
        let compared = kept.or(NOBODY.as_ref());
        compared.is_some_and(|compared| self.compare(compared, given) == Some(true))
            && kept.is_some()
    }

    fn compare(&mut self, kept: &KeptPassword, given: &Secret) -> Option<bool> {
        let (hash, argon2) = (PasswordHash::new(&kept.0).ok()?, argon2().ok()?);
        let (expected, mut octets) = (hash.hash?, [0; 64]);
        let salt = hash.salt?.decode_b64(&mut octets).ok()?;
        self.memory.resize(argon2.params().block_count(), Block::new());
        let mut found = vec![0; expected.len()];
        let password = given.expose().as_bytes();
        let hashed =
            argon2.hash_password_into_with_memory(password, salt, &mut found, &mut self.memory);
        hashed.ok()?;
        Some(expected.as_bytes().ct_eq(&found).into())
    }
}

/// A token as it is kept: its SHA-256.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeptToken([u8; 32]);

impl fmt::Debug for KeptToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeptToken({})", self.id())
    }
}

/// What a token is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// A machine: it is good until it is revoked.
    Machine,
    /// A login: it is good for a short time.
    Login,
}

impl KeptToken {
    /// What is kept of a token; none for what has not the form of one.
    #[must_use]
    pub fn of(token: &Secret) -> Option<(TokenKind, Self)> {
        let text = token.expose();
        let machine = text.strip_prefix(MACHINE).map(|rest| (TokenKind::Machine, rest));
        let login = || text.strip_prefix(LOGIN).map(|rest| (TokenKind::Login, rest));
        let (kind, rest) = machine.or_else(login)?;
        let good = rest.len() == TOKEN_HEX && rest.bytes().all(|octet| octet.is_ascii_hexdigit());
        good.then(|| (kind, Self(Sha256::digest(text.as_bytes()).into())))
    }

    /// Reads the kept form: 64 hexadecimal digits.
    ///
    /// # Errors
    /// If it is none.
    pub fn parse(text: &str) -> Result<Self, CredentialError> {
        let mut octets = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 2 * octets.len() {
            return Err(CredentialError::Token);
        }
        for (octet, pair) in octets.iter_mut().zip(digits.chunks(2)) {
            let pair = str::from_utf8(pair).map_err(|_| CredentialError::Token)?;
            *octet = u8::from_str_radix(pair, 16).map_err(|_| CredentialError::Token)?;
        }
        Ok(Self(octets))
    }

    /// The kept form.
    #[must_use]
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// What the token is named by: it tells nothing about it.
    #[must_use]
    pub fn id(&self) -> String {
        self.to_hex().chars().take(ID_HEX).collect()
    }

    /// True if both are of one token, in a time that does not tell where they differ.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

/// Draws a token.
#[must_use]
pub fn new_token(kind: TokenKind) -> Secret {
    let prefix = match kind {
        TokenKind::Machine => MACHINE,
        TokenKind::Login => LOGIN,
    };
    Secret::new(prefix.to_owned() + &hex(&rand::random::<[u8; 32]>()))
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[test]
    fn a_password_is_known_again_and_another_is_not() {
        let kept = KeptPassword::of(&secret("correct horse")).unwrap();
        assert!(kept.as_str().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"));
        let mut checker = Checker::default();
        assert!(checker.is_password(Some(&kept), &secret("correct horse")));
        assert!(!checker.is_password(Some(&kept), &secret("correct horsf")));
        assert!(!checker.is_password(None, &secret("correct horse")));
        assert!(checker.is_password(Some(&kept), &secret("correct horse")), "in the same memory");
        let again = KeptPassword::parse(kept.as_str()).unwrap();
        assert_eq!(again, kept);
        assert_ne!(KeptPassword::of(&secret("correct horse")).unwrap(), kept, "salted");
        assert_eq!(KeptPassword::of(&secret("short")), Err(CredentialError::Length));
    }

    #[test]
    fn a_kept_password_of_another_cost_or_kind_is_refused() {
        let kept = KeptPassword::of(&secret("correct horse")).unwrap();
        for bad in [
            kept.as_str().replace("m=19456", "m=8"),
            kept.as_str().replace("argon2id", "argon2i"),
            kept.as_str().replace("t=2", "t=200"),
            kept.as_str().rsplit_once('$').unwrap().0.to_owned(),
            "hunter2".to_owned(),
        ] {
            assert_eq!(KeptPassword::parse(&bad), Err(CredentialError::Kept), "{bad}");
        }
    }

    #[test]
    fn an_unknown_user_takes_as_long_as_a_known_one() {
        let kept = KeptPassword::of(&secret("correct horse")).unwrap();
        let wrong = secret("wrong horse");
        let mut checker = Checker::default();
        let _ = checker.is_password(None, &wrong);
        let mut time = |kept: Option<&KeptPassword>| {
            let began = std::time::Instant::now();
            assert!(!checker.is_password(kept, &wrong));
            began.elapsed()
        };
        // In turn, and the best of each: what else runs here is in none of both.
        let times = (0..15).map(|_| (time(Some(&kept)), time(None)));
        let (known, unknown): (Vec<_>, Vec<_>) = times.unzip();
        let best = |times: Vec<std::time::Duration>| times.into_iter().min().unwrap();
        let ratio = best(known).as_secs_f64() / best(unknown).as_secs_f64();
        assert!((0.4..2.5).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_token_is_known_by_its_hash_and_by_its_form() {
        for kind in [TokenKind::Machine, TokenKind::Login] {
            let token = new_token(kind);
            let (known, kept) = KeptToken::of(&token).unwrap();
            assert_eq!(known, kind);
            assert!(kept.is(&KeptToken::parse(&kept.to_hex()).unwrap()));
            assert!(!kept.is(&KeptToken::of(&new_token(kind)).unwrap().1));
            assert!(!format!("{kept:?}").contains(token.expose()));
            let cut = secret(&token.expose()[..token.expose().len() - 1]);
            assert_eq!(KeptToken::of(&cut), None);
        }
        assert_eq!(KeptToken::of(&secret("hunter2")), None);
        assert!(KeptToken::parse("zz").is_err());
        assert!(KeptToken::parse(&"\u{e9}".repeat(32)).is_err());
    }
}
