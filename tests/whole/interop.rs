//! Programs that are not ours: a gRPC client in Python, zone-file readers in C.

use std::{fs, process::Command};

use edgesync_tests::{Stack, compile_zone, have, missing, output_of};

/// The Python with grpcio, if there is one; says so if there is not.
fn python() -> Option<String> {
    let python = std::env::var("EDGESYNC_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let import = Command::new(&python).args(["-c", "import grpc, grpc_tools"]).output();
    let found = import.is_ok_and(|output| output.status.success());
    if !found {
        missing(&format!("{python} has no grpcio and grpcio-tools"));
    }
    found.then_some(python)
}

#[test]
fn a_python_client_made_of_the_proto_files_writes_reads_and_follows_the_log() {
    let Some(python) = python() else { return };
    let stack = Stack::start(0);
    let here = env!("CARGO_MANIFEST_DIR");
    let mut client = Command::new(python);
    client.arg("-B").arg(format!("{here}/interop/client.py")).arg(format!("{here}/../proto"));
    client.arg(stack.url().trim_start_matches("http://"));
    let output = output_of(&mut client, "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    println!("{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_python_client_logs_in_by_its_metadata_and_may_do_what_it_may() {
    let Some(python) = python() else { return };
    for over_tls in [false, true] {
        log_in(&python, over_tls);
    }
}

/// Has the client log in; over TLS its token goes along as CallCredentials.
fn log_in(python: &str, over_tls: bool) {
    let mut stack = Stack::prepare(0);
    let password = stack.dir().join("password");
    fs::write(&password, "correct horse").unwrap();
    fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let path = password.to_str().unwrap();
    let hash = stack.run(&["access", "hash-password", "--password-file", path]).good();
    let grant = "[[principal.grant]]\nrole = \"editor\"\nzones = [\"interop.example\"]\n";
    let policy = format!("[[principal]]\nname = \"python\"\n{hash}{grant}");
    if over_tls {
        stack.secure(&policy);
    } else {
        stack.keep_access(&policy);
    }
    stack.start_control();
    let _ = stack.run(&["zone", "create", "interop.example", "--ns", "ns1.example."]).good();
    let _ = stack.run(&["zone", "create", "other.example", "--ns", "ns1.example."]).good();
    let here = env!("CARGO_MANIFEST_DIR");
    let mut client = Command::new(python);
    client.arg("-B").arg(format!("{here}/interop/access.py")).arg(format!("{here}/../proto"));
    client.arg(stack.url().split_once("//").unwrap().1).args(["python", path]);
    client.args(over_tls.then(|| stack.certs().file("ca.pem")));
    let output = output_of(&mut client, "");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    println!("{}", String::from_utf8_lossy(&output.stdout));
}

/// Records of many types, as people write them.
const TYPES: &str = r#"$TTL 300
@ SOA ns1 hostmaster 1 1800 900 604800 300
@ NS ns1.example.net.
@ MX 10 mail
@ CAA 0 issue "ca.example; policy=ev"
@ TXT "v=spf1 -all" "a \"quoted\" word; and a semicolon" "back\\slash"
@ DNSKEY 257 3 13 mdsswUyr3DPW132mOi8V9xESWE8jTo0dxCjjnopKl+GqJxpVXckHAeF+KkxLbxILfDLUT0rAK9iUzy1L53eKGQ==
@ NSEC a A NS SOA MX TXT RRSIG NSEC DNSKEY CAA
a A 192.0.2.1
a AAAA 2001:db8::1
a HINFO "PDP-11" "UNIX"
alias CNAME a
_sip._tcp SRV 0 5 5060 a
_443._tcp TLSA 3 1 1 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
host SSHFP 4 2 123456789abcdef67890123456789abcdef67890123456789abcdef123456789
naptr NAPTR 100 10 "U" "E2U+sip" "!^.*$!sip:info@example.com!" .
svc HTTPS 1 . alpn="h2,h3" ipv4hint=192.0.2.1
svcb SVCB 0 a
child DS 60485 8 2 D4B7D520E7BB5F0F67674A0CCEB1E3E0614B93C4F9E99B8383F6A1E4469DA50A
dname DNAME a
rp RP hostmaster a
loc TYPE29 \# 16 00 12 16 13 8B 0D 2D 8C 70 BE 15 F0 00 98 8D 20
x TYPE65280 \# 4 0a000001
es\.caped A 192.0.2.2
sp\032ace A 192.0.2.3
*.wild A 192.0.2.4
"#;

#[test]
fn exports_of_many_types_read_in_bind_and_ldns_as_the_source_does() {
    if !have("named-compilezone") {
        return;
    }
    let stack = Stack::start(1);
    let source = stack.dir().join("source.zone");
    fs::write(&source, TYPES).unwrap();
    let _ =
        stack.run(&["zone", "import", source.to_str().unwrap(), "--origin", "example.com"]).good();
    stack.settle();
    let export = stack.dir().join("export.zone");
    fs::write(&export, stack.run_edge(0, &["export", "example.com"]).good()).unwrap();
    let (wanted, got) =
        (compile_zone("example.com", &source), compile_zone("example.com", &export));
    assert_eq!(got.first_difference(&wanted), None);
    assert_eq!(got.records(), wanted.records());
    if have("ldns-compare-zones") {
        let output =
            Command::new("ldns-compare-zones").arg("-s").args([&source, &export]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    }
    // It also reads back where it came from, without any change.
    let again = stack.run(&[
        "zone",
        "import",
        export.to_str().unwrap(),
        "--origin",
        "example.com",
        "--output",
        "json",
    ]);
    let again = again.json();
    assert_eq!(
        (again["created"].as_u64(), again["edited"].as_u64(), again["deleted"].as_u64()),
        (Some(0), Some(0), Some(0))
    );
}
