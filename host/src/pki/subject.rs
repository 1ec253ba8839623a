//! Whom a certificate is for: the names in it. They are checked here, so that nothing that is no name
//! comes into a certificate, or becomes the name of a file.

use std::net::IpAddr;

/// What the names of edges and clients begin with. Edges are found by it, see [`crate::peer`].
const TRUST_DOMAIN: &str = "spiffe://edgesync";
/// Characters of a common name (RFC 5280, `ub-common-name`).
const COMMON_NAME_CHARS: usize = 64;
/// Characters of the name of an edge or a client.
const NAME_CHARS: usize = 63;
/// Characters of a DNS name and of one of its labels (RFC 1035 §2.3.4).
const DNS_CHARS: usize = 253;
const LABEL_CHARS: usize = 63;
/// Names of one server.
const SERVER_NAMES: usize = 64;

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// What people read; nothing is decided by it.
    pub(super) common_name: String,
    /// URIs of its alternative names.
    pub(super) uris: Vec<String>,
    /// Its DNS names.
    pub(super) dns_names: Vec<String>,
    /// Its addresses.
    pub(super) addresses: Vec<IpAddr>,
}

/// Why something is no name for a certificate. The text is told escaped: it may be anything.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// No name of an edge or a client.
    #[error("`{}` is no name for a certificate: 1 to 63 of a-z, A-Z, 0-9, `-`, `_` and `.`, not dots alone", shown(.0))]
    Name(String),
    /// No name of a server.
    #[error("`{}` is no name of a server: a DNS name without wildcards, or an address, as callers write it", shown(.0))]
    Server(String),
    /// No name of an authority.
    #[error("`{}` is no name of an authority: 1 to 64 characters that can be printed", shown(.0))]
    Authority(String),
    /// No name at all, or too many.
    #[error("a server's certificate has 1 to {SERVER_NAMES} names, not {0}")]
    Number(usize),
}

fn shown(text: &str) -> String {
    text.escape_debug().take(80).collect()
}

impl Subject {
    /// An edge: `spiffe://edgesync/edge/ID`.
    ///
    /// # Errors
    /// If that is no name.
    pub fn edge(id: &str) -> Result<Self, SubjectError> {
        Self::path("edge", id)
    }

    /// A caller: `spiffe://edgesync/client/NAME`.
    ///
    /// # Errors
    /// If that is no name.
    pub fn client(name: &str) -> Result<Self, SubjectError> {
        Self::path("client", name)
    }

    /// A server, by its DNS names and addresses.
    ///
    /// # Errors
    /// If one of them is neither, or there are none or too many.
    pub fn server<S: AsRef<str>>(names: &[S]) -> Result<Self, SubjectError> {
        if !(1..=SERVER_NAMES).contains(&names.len()) {
            return Err(SubjectError::Number(names.len()));
        }
        let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
        for name in names.iter().map(AsRef::as_ref) {
            match name.parse() {
                Ok(address) => addresses.push(address),
                Err(_) if is_dns_name(name) => dns_names.push(name.to_ascii_lowercase()),
                Err(_) => return Err(SubjectError::Server(name.to_owned())),
            }
        }
        let first = names.first().map_or("", AsRef::as_ref);
        let fits = first.len() <= COMMON_NAME_CHARS;
        let common_name = if fits { first } else { "edgesync server" }.to_owned();
        Ok(Self { common_name, uris: Vec::new(), dns_names, addresses })
    }

    fn path(kind: &str, name: &str) -> Result<Self, SubjectError> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || b"-_.".contains(&c);
        let fits = (1..=NAME_CHARS).contains(&name.len()) && name.bytes().all(allowed);
        // `.` and `..` are steps of a path, and no names in one.
        if !fits || name == "." || name == ".." {
            return Err(SubjectError::Name(name.to_owned()));
        }
        let uris = vec![format!("{TRUST_DOMAIN}/{kind}/{name}")];
        let (dns_names, addresses) = (Vec::new(), Vec::new());
        Ok(Self { common_name: name.to_owned(), uris, dns_names, addresses })
    }

    /// All names that something is decided by.
    pub fn names(&self) -> impl Iterator<Item = String> + '_ {
        let addresses = self.addresses.iter().map(IpAddr::to_string);
        self.uris.iter().chain(&self.dns_names).cloned().chain(addresses)
    }
}

/// Whether an authority may be called so.
pub(super) fn check_authority(name: &str) -> Result<(), SubjectError> {
    let fits = (1..=COMMON_NAME_CHARS).contains(&name.chars().count());
    if fits && !name.chars().any(char::is_control) && name.trim() == name {
        Ok(())
    } else {
        Err(SubjectError::Authority(name.to_owned()))
    }
}

/// A host's name (RFC 1123 §2.1): no wildcards, no dot at the end. One that ends in a number would be
/// read as an address.
fn is_dns_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=LABEL_CHARS).contains(&label.len())
            && label.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-' || c == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= DNS_CHARS
        && name.split('.').all(label)
        && !last.bytes().all(|c| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_and_a_client_are_named_by_one_uri() {
        let edge = Subject::edge("fra-01").unwrap();
        assert_eq!(edge.names().collect::<Vec<_>>(), ["spiffe://edgesync/edge/fra-01"]);
        let client = Subject::client("Deploy_1").unwrap();
        assert_eq!(client.names().collect::<Vec<_>>(), ["spiffe://edgesync/client/Deploy_1"]);
        for bad in ["", ".", "..", "a/b", "../ca", "a b", "é", "a\n", "a%2f", &"x".repeat(64)] {
            let told = Subject::edge(bad).unwrap_err().to_string();
            assert!(!told.contains(char::is_control), "{told:?} is one line");
            Subject::client(bad).unwrap_err();
        }
    }

    #[test]
    fn a_server_is_named_by_hosts_and_addresses() {
        let server = Subject::server(&["Control.Example", "192.0.2.1", "2001:db8::1"]).unwrap();
        let names: Vec<_> = server.names().collect();
        assert_eq!(names, ["control.example", "192.0.2.1", "2001:db8::1"]);
        let long = format!("{0}.{0}.example", "a".repeat(60));
        assert_eq!(Subject::server(&[&long]).unwrap().common_name, "edgesync server");
        for bad in [
            "",
            "*.example",
            "a..b",
            "a.",
            ".a",
            "-a",
            "a-",
            "a/b",
            "192.0.2.300",
            "1.2",
            "ä.example",
        ] {
            Subject::server(&["fine.example", bad]).unwrap_err();
        }
        assert_eq!(Subject::server::<&str>(&[]), Err(SubjectError::Number(0)));
        assert_eq!(Subject::server(&["a.example"; 65]), Err(SubjectError::Number(65)));
    }
}
