//! Logins: how many passwords may be tried, and the short-lived tokens that they give. The tokens live in
//! memory: a restart ends them.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant, SystemTime},
};

use edgesync_host::{
    aside,
    credential::{Checker, KeptPassword, KeptToken, TokenKind, new_token},
    secret::Secret,
};
use tokio::sync::{Semaphore, oneshot};

use super::{
    bucket::{Buckets, Rate},
    denied::Denied,
    policy::is_good,
};

/// Passwords that wait to be checked.
const WAITING: usize = 32;
/// Time after which one that found no room is worth another try.
const BUSY: Duration = Duration::from_secs(1);
/// User names and addresses that are remembered.
const REMEMBERED: usize = 10_000;
/// Tokens at the most, and of one principal.
const TOKENS: usize = 10_000;
const TOKENS_OF_ONE: usize = 32;
/// Octets of a user name that are remembered.
const USER_OCTETS: usize = 80;

/// A login that was let in.
#[derive(Clone, Debug)]
pub struct Login {
    /// Who.
    pub principal: Arc<str>,
    /// The password that was right: another one ends the login.
    password: KeptPassword,
    created: SystemTime,
    /// When it ends.
    pub expires: SystemTime,
}

/// All of it.
#[derive(Debug)]
pub struct Logins {
    tries: Mutex<Tries>,
    tokens: Mutex<HashMap<KeptToken, Login>>,
    checks: Sender<Check>,
    waiting: Semaphore,
}

/// A password that is to be checked.
struct Check {
    kept: Option<KeptPassword>,
    given: Secret,
    answer: oneshot::Sender<bool>,
}

/// Checks one password after the other, on a thread of its own that yields: each takes 19 MiB and a core, and
/// what memory a thread has had it keeps. Who floods with logins takes no time from anybody.
fn check_all(checks: &Receiver<Check>) {
    let mut checker = Checker::default();
    while let Ok(Check { kept, given, answer }) = checks.recv() {
        // Who has gone does not want to know.
        let _ = answer.send(checker.is_password(kept.as_ref(), &given));
    }
}

#[derive(Debug)]
struct Tries {
    by_user: Buckets<String>,
    by_address: Buckets<Option<IpAddr>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Logins {
    /// With so many tries in a minute, by user and by address.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        let rate = Rate { per_second: f64::from(per_minute) / 60.0, burst: f64::from(per_minute) };
        let tries = Tries {
            by_user: Buckets::new(rate, REMEMBERED),
            by_address: Buckets::new(rate, REMEMBERED),
        };
        let (checks, to_check) = channel();
        if let Err(error) = aside::spawn("passwords", move || check_all(&to_check)) {
            tracing::error!(%error, "no password can be checked: the host gives no thread");
        }
        let waiting = Semaphore::new(WAITING);
        Self { tries: Mutex::new(tries), tokens: Mutex::default(), checks, waiting }
    }

    /// Checks a password; `kept` is none for who has none. Takes as long then.
    pub async fn check(
        &self,
        user: &str,
        address: Option<IpAddr>,
        kept: Option<KeptPassword>,
        given: Secret,
    ) -> Result<(), Denied> {
        let too_many = |retry_after| Denied::TooMany { retry_after };
        let user: String = user.chars().take(USER_OCTETS).collect();
        {
            let mut tries = locked(&self.tries);
            let now = Instant::now();
            tries.by_address.take(address, now).map_err(too_many)?;
            tries.by_user.take(user.clone(), now).map_err(too_many)?;
        }
        let busy = || too_many(BUSY);
        let _place = self.waiting.try_acquire().map_err(|_| busy())?;
        let (answer, checked) = oneshot::channel();
        self.checks.send(Check { kept, given, answer }).map_err(|_| busy())?;
        let checked = checked.await;
        if !checked.unwrap_or(false) {
            return Err(Denied::BadLogin);
        }
        let mut tries = locked(&self.tries);
        tries.by_user.give(&user);
        tries.by_address.give(&address);
        Ok(())
    }

    /// Gives a token for a login that was right.
    pub fn begin(
        &self,
        principal: Arc<str>,
        password: KeptPassword,
        lifetime: Duration,
        now: SystemTime,
    ) -> (Secret, SystemTime) {
        let token = new_token(TokenKind::Login);
        let expires = now + lifetime;
        let login = Login { principal, password, created: now, expires };
        let mut tokens = locked(&self.tokens);
        if tokens.len() >= TOKENS {
            tokens.retain(|_, login| login.is_good(now));
        }
        make_room(&mut tokens, &login.principal);
        if let Some((_, kept)) = KeptToken::of(&token) {
            tokens.insert(kept, login);
        }
        (token, expires)
    }

    /// The login of a token, if it is good now.
    #[must_use]
    pub fn of(&self, kept: &KeptToken, now: SystemTime) -> Option<Login> {
        let tokens = locked(&self.tokens);
        let (known, login) = tokens.get_key_value(kept)?;
        (known.is(kept) && login.is_good(now)).then(|| login.clone())
    }

    /// Ends a login.
    pub fn end(&self, kept: &KeptToken) {
        locked(&self.tokens).remove(kept);
    }
}

impl Login {
    fn is_good(&self, now: SystemTime) -> bool {
        is_good(self.created, Some(self.expires), now)
    }

    /// True if the principal still has the password that was right.
    #[must_use]
    pub fn is_by(&self, password: Option<&KeptPassword>) -> bool {
        password == Some(&self.password)
    }
}

/// Ends the oldest login, of a principal that has many or of all while there are too many.
fn make_room(tokens: &mut HashMap<KeptToken, Login>, principal: &Arc<str>) {
    let of_one = tokens.values().filter(|login| login.principal == *principal).count();
    let all = tokens.len() >= TOKENS;
    if !all && of_one < TOKENS_OF_ONE {
        return;
    }
    let candidates = tokens.iter().filter(|(_, login)| all || login.principal == *principal);
    let oldest = candidates.min_by_key(|(_, login)| login.created).map(|(kept, _)| *kept);
    oldest.map(|kept| tokens.remove(&kept));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn tries_are_limited_by_user_and_by_address_and_good_ones_do_not_count() {
        let kept = KeptPassword::of(&secret("correct horse")).unwrap();
        let logins = Logins::new(3);
        let address = |last| Some(IpAddr::from([192, 0, 2, last]));
        for _ in 0..5 {
            let good = secret("correct horse");
            logins.check("anna", address(1), Some(kept.clone()), good).await.unwrap();
        }
        for last in 1..=3 {
            let bad = logins.check("anna", address(last), Some(kept.clone()), secret("x")).await;
            assert_eq!(bad, Err(Denied::BadLogin));
        }
        // Now also with the right one, and from elsewhere.
        let good = secret("correct horse");
        let refused = logins.check("anna", address(9), Some(kept), good).await;
        assert!(matches!(refused, Err(Denied::TooMany { .. })), "{refused:?}");
        for user in ["a", "b", "c"] {
            let bad = logins.check(user, address(7), None, secret("x")).await;
            assert_eq!(bad, Err(Denied::BadLogin));
        }
        let refused = logins.check("d", address(7), None, secret("x")).await;
        assert!(matches!(refused, Err(Denied::TooMany { .. })), "{refused:?}");
    }

    #[test]
    fn a_login_ends_in_time_and_with_its_password() {
        let now = SystemTime::now();
        let kept = |salt: &str| {
            KeptPassword::parse(&format!(
                "$argon2id$v=19$m=19456,t=2,p=1${salt}$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g"
            ))
            .unwrap()
        };
        let logins = Logins::new(1);
        let (token, expires) =
            logins.begin("anna".into(), kept("c2FsdHNhbHQ"), Duration::from_secs(60), now);
        let (_, hash) = KeptToken::of(&token).unwrap();
        let login = logins.of(&hash, now).unwrap();
        assert!(login.is_by(Some(&kept("c2FsdHNhbHQ"))));
        assert!(!login.is_by(Some(&kept("c2FsdHNhbHU"))) && !login.is_by(None));
        assert!(logins.of(&hash, expires).is_none());
        assert!(
            logins.of(&hash, now - Duration::from_secs(61)).is_none(),
            "the clock was set back"
        );
        logins.end(&hash);
        assert!(logins.of(&hash, now).is_none());
    }

    #[test]
    fn logins_of_one_principal_are_bounded_and_the_oldest_goes() {
        let password =
            KeptPassword::parse("$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g").unwrap();
        let logins = Logins::new(1);
        let now = SystemTime::now();
        let begin = |second: u64| {
            let at = now + Duration::from_secs(second);
            let (token, _) =
                logins.begin("anna".into(), password.clone(), Duration::from_secs(9_999), at);
            KeptToken::of(&token).unwrap().1
        };
        let first = begin(0);
        let second = begin(1);
        for second in 2..=TOKENS_OF_ONE as u64 {
            begin(second);
        }
        let later = now + Duration::from_secs(100);
        assert!(logins.of(&first, later).is_none());
        assert!(logins.of(&second, later).is_some());
    }
}
