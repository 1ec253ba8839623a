//! The credentials of a call, as they stand in its metadata, and whether the connection may carry any.

use base64::{Engine, engine::general_purpose::STANDARD};
use edgesync_host::{
    peer::{Peer, Transport},
    secret::Secret,
};
use hyper::http::{Extensions, HeaderMap, HeaderValue};
use tonic::transport::server::{TcpConnectInfo, UdsConnectInfo};

use super::denied::Denied;

/// Metadata of the one way and the other.
const AUTHORIZATION: &str = "authorization";
const USER: &str = "username";
const PASSWORD: &str = "password";

/// What a call proves itself with.
#[derive(Debug, PartialEq, Eq)]
pub enum Given {
    /// Nothing.
    Nothing,
    /// A token.
    Token(Secret),
    /// A user name and a password.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: Secret,
    },
}

/// Reads what a call proves itself with.
///
/// # Errors
/// If it is in no form that is known, or in two.
pub fn given(headers: &HeaderMap) -> Result<Given, Denied> {
    let authorization = one(headers, AUTHORIZATION)?;
    let (user, password) = (one(headers, USER)?, one(headers, PASSWORD)?);
    match (authorization, user, password) {
        (None, None, None) => Ok(Given::Nothing),
        (Some(text), None, None) => authorized(text),
        (None, Some(user), Some(password)) => {
            Ok(Given::Password { user: user.to_owned(), password: secret(password) })
        }
        (None, ..) => Err(Denied::Malformed("username and password go together")),
        (Some(_), ..) => Err(Denied::Malformed("there are two kinds of them")),
    }
}

fn one<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Denied> {
    let mut values = headers.get_all(name).iter();
    let text = |value: &'h HeaderValue| {
        value.to_str().map_err(|_| Denied::Malformed("they are no ASCII text"))
    };
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => text(value).map(Some),
        (Some(_), Some(_)) => Err(Denied::Malformed("they are there twice")),
    }
}

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

fn authorized(text: &str) -> Result<Given, Denied> {
    let (scheme, rest) = text.split_once(' ').ok_or(Denied::Malformed("the scheme is missing"))?;
    let rest = rest.trim();
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Given::Token(secret(rest)));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(Denied::Malformed("the scheme is not Bearer or Basic"));
    }
    let malformed = || Denied::Malformed("Basic is not BASE64(NAME:PASSWORD)");
    let octets = STANDARD.decode(rest).map_err(|_| malformed())?;
    let text = String::from_utf8(octets).map_err(|_| malformed())?;
    let (user, password) = text.split_once(':').ok_or_else(malformed)?;
    Ok(Given::Password { user: user.to_owned(), password: secret(password) })
}

/// The other end of the connection that a request came on.
#[must_use]
pub fn peer_of(extensions: &Extensions) -> Peer {
    if let Some(peer) = extensions.get::<Peer>() {
        return peer.clone();
    }
    let unix = extensions.get::<UdsConnectInfo>().is_some();
    let transport = if unix { Transport::Unix } else { Transport::Plain };
    let address = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    Peer::new(address, transport, None)
}

/// True if nobody else can read what the connection carries.
#[must_use]
pub fn is_private(peer: &Peer) -> bool {
    match peer.transport {
        Transport::Tls | Transport::Unix => true,
        Transport::Plain => peer.address.is_some_and(|address| address.ip().is_loopback()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&'static str, &str)]) -> Result<Given, Denied> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        given(&headers)
    }

    #[test]
    fn credentials_come_in_three_forms() {
        let anna = || Given::Password { user: "anna".to_owned(), password: secret("a:b") };
        assert_eq!(read(&[]), Ok(Given::Nothing));
        assert_eq!(read(&[("authorization", "bearer  x")]), Ok(Given::Token(secret("x"))));
        assert_eq!(read(&[("authorization", "Basic YW5uYTphOmI=")]), Ok(anna()));
        assert_eq!(read(&[("username", "anna"), ("password", "a:b")]), Ok(anna()));
    }

    #[test]
    fn what_is_half_or_double_is_refused_and_not_guessed() {
        for bad in [
            &[("authorization", "x")][..],
            &[("authorization", "Digest x")],
            &[("authorization", "Basic !")],
            &[("authorization", "Basic YW5uYQ==")],
            &[("authorization", "Bearer x"), ("authorization", "Bearer y")],
            &[("authorization", "Bearer x"), ("username", "anna"), ("password", "b")],
            &[("username", "anna")],
            &[("password", "b")],
        ] {
            assert!(matches!(read(bad), Err(Denied::Malformed(_))), "{bad:?}");
        }
    }

    #[test]
    fn a_plain_connection_from_elsewhere_is_not_private() {
        let peer = |address: Option<&str>, transport| {
            Peer::new(address.map(|text| text.parse().unwrap()), transport, None)
        };
        for (address, transport, private) in [
            (Some("127.0.0.1:1"), Transport::Plain, true),
            (Some("[::1]:1"), Transport::Plain, true),
            (Some("192.0.2.1:1"), Transport::Plain, false),
            (None, Transport::Plain, false),
            (None, Transport::Unix, true),
            (Some("192.0.2.1:1"), Transport::Tls, true),
        ] {
            assert_eq!(is_private(&peer(address, transport)), private, "{address:?} {transport:?}");
        }
    }
}
