//! The first records of a zone: its SOA and NS records, from flags with defaults that suit most.

use bytes::Bytes;
use clap::Args;
use edgesync_core::name::{Name, NameError};
use edgesync_proto::v1;

use crate::{args::KeyArgs, failure::Failure};

/// What follows the options in the help.
const EXAMPLES: &str = "\
Examples:
  edgesync zone create example.com
  edgesync zone create example.com --ns ns1.example.net. ns2.example.net. --rname dns@example.net

Names are relative to ORIGIN unless they end in a dot.";

/// Arguments of `zone create`.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub struct CreateArgs {
    /// Origin of the zone.
    pub origin: String,
    /// Primary name server, for the SOA [default: the first --ns, or ns1 in the zone].
    #[arg(long, value_name = "NAME")]
    pub mname: Option<String>,
    /// Mailbox of who is responsible: hostmaster@example.com, or as a name.
    #[arg(long, value_name = "MBOX", default_value = "hostmaster")]
    pub rname: String,
    /// Name servers [default: that of --mname].
    #[arg(long, value_name = "NAME", num_args = 1..)]
    pub ns: Vec<String>,
    /// Time to live of the SOA and NS records, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    pub ttl: u32,
    /// First serial of the SOA.
    #[arg(long, default_value_t = 1)]
    pub serial: u32,
    /// Refresh of the SOA, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 7_200)]
    pub refresh: u32,
    /// Retry of the SOA, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 900)]
    pub retry: u32,
    /// Expire of the SOA, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 1_209_600)]
    pub expire: u32,
    /// Minimum of the SOA, which is the TTL of negative answers, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub minimum: u32,
    /// The idempotency key.
    #[command(flatten)]
    pub key: KeyArgs,
}

/// The call that creates the zone.
///
/// # Errors
/// If a name is none.
pub fn request(args: CreateArgs) -> Result<v1::CreateZoneRequest, Failure> {
    let wrong = |error: NameError| Failure::Usage(error.to_string());
    let origin = Name::parse_origin(&args.origin).map_err(wrong)?;
    let name = |text: &str| Name::parse(text, &origin).map_err(wrong);
    let mname =
        name(args.mname.as_deref().or(args.ns.first().map(String::as_str)).unwrap_or("ns1"))?;
    let rname = mailbox(&args.rname, &origin).map_err(wrong)?;
    let mut servers = args.ns.iter().map(|ns| name(ns)).collect::<Result<Vec<_>, _>>()?;
    if servers.is_empty() {
        servers.push(mname.clone());
    }
    let record = |rtype: &str, rdata: String| v1::RecordData {
        owner: origin.to_string(),
        r#type: rtype.to_owned(),
        ttl: args.ttl,
        rdata,
        rdata_wire: Bytes::new(),
    };
    let CreateArgs { serial, refresh, retry, expire, minimum, .. } = args;
    let soa = format!("{mname} {rname} {serial} {refresh} {retry} {expire} {minimum}");
    let mut records = vec![record("SOA", soa)];
    records.extend(servers.iter().map(|server| record("NS", server.to_string())));
    Ok(v1::CreateZoneRequest { origin: origin.to_string(), records, idempotency_key: args.key.key })
}

/// A mailbox as a name (RFC 1035 section 8): its first label is what stands before the `@`.
fn mailbox(text: &str, origin: &Name) -> Result<Name, NameError> {
    match text.rsplit_once('@') {
        Some((local, host)) if !local.is_empty() && !host.is_empty() => {
            let local = local.replace('.', "\\.");
            Name::parse_origin(&format!("{local}.{}", Name::parse_origin(host)?))
        }
        _ => Name::parse(text, origin),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CreateArgs,
    }

    fn records(words: &[&str]) -> Vec<(String, String)> {
        let line = Line::parse_from([&["create"], words].concat());
        let request = request(line.args).unwrap();
        request.records.into_iter().map(|record| (record.r#type, record.rdata)).collect()
    }

    fn pair(rtype: &str, rdata: &str) -> (String, String) {
        (rtype.to_owned(), rdata.to_owned())
    }

    #[test]
    fn an_origin_is_enough() {
        let soa = "ns1.example.com. hostmaster.example.com. 1 7200 900 1209600 300";
        let wanted = [pair("SOA", soa), pair("NS", "ns1.example.com.")];
        assert_eq!(records(&["Example.COM"]), wanted);
    }

    #[test]
    fn the_root_is_an_origin() {
        assert_eq!(records(&["."])[1], pair("NS", "ns1."));
    }

    #[test]
    fn what_is_given_is_taken() {
        let words =
            ["example.com", "--ns", "a", "b.example.net.", "--rname", "first.last@example.org"];
        let soa = "a.example.com. first\\.last.example.org. 7 7200 900 1209600 300";
        let wanted = [pair("SOA", soa), pair("NS", "a.example.com."), pair("NS", "b.example.net.")];
        assert_eq!(records(&[&words[..], &["--serial", "7"]].concat()), wanted);
    }

    #[test]
    fn what_is_no_name_is_refused_before_anything_is_sent() {
        for words in
            [["a..b", "--ttl", "1"], ["example.com", "--ns", "x..y"], ["c.d", "--rname", ".@"]]
        {
            let line = Line::parse_from([&["create"], &words[..]].concat());
            assert_eq!(request(line.args).unwrap_err().code(), 2, "{words:?}");
        }
    }
}
