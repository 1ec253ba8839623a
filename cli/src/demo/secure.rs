//! The demo's certificates and rights: an authority of its own, a certificate for each process, and a policy
//! that lets one principal run the demo and each edge have all zones. All of it is in the demo's directory.

use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use edgesync_host::{
    credential::{KeptToken, TokenKind, new_token},
    pki::{Authority, PkiError, Purpose, SKEW, Subject},
    secret::Secret,
    tls::TlsFiles,
};

use crate::{connect::Target, failure::Failure};

/// How long the demo's certificates live.
const DAYS: u32 = 1;
/// A day.
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The files, and the token of who runs the demo.
pub struct Secure {
    dir: PathBuf,
    token: Secret,
}

impl Secure {
    /// Makes all of it, for so many edges.
    pub fn make(root: &Path, edges: u8) -> Result<Self, Failure> {
        let dir = root.join("secure");
        fs::create_dir(&dir).map_err(|source| Failure::File { file: dir.clone(), source })?;
        let secure = Self { dir, token: new_token(TokenKind::Machine) };
        let told = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
        let authority = Authority::create("Edgesync demo", DAYS).map_err(|error| told(&error))?;
        secure.write("ca.pem", authority.certificate())?;
        let control = Subject::server(&["127.0.0.1"]).map_err(|error| told(&error))?;
        secure.issue(&authority, "control", &control, Purpose::Server)?;
        for number in 0..edges {
            let name = format!("edge-{number}");
            let subject = Subject::edge(&name).map_err(|error| told(&error))?;
            secure.issue(&authority, &name, &subject, Purpose::Client)?;
        }
        secure.write("policy.toml", &secure.policy())?;
        let TlsFiles { cert, key, ca, .. } = secure.files("control");
        let policy = secure.dir.join("policy.toml");
        let config = format!(
            "[tls]\ncert = {cert:?}\nkey = {key:?}\nca = {ca:?}\n[access]\npolicy = {policy:?}\n"
        );
        secure.write("control.toml", &config)?;
        Ok(secure)
    }

    /// The control plane's configuration.
    pub fn config(&self) -> PathBuf {
        self.dir.join("control.toml")
    }

    /// The files of a process.
    pub fn files(&self, name: &str) -> TlsFiles {
        let file = |name: String| self.dir.join(name);
        let (cert, key) = (file(format!("{name}.pem")), file(format!("{name}.key")));
        TlsFiles { cert, key, ca: file("ca.pem".to_owned()), crl: PathBuf::new() }
    }

    /// The control plane as who runs the demo reaches it.
    pub fn target(&self, url: String) -> Target {
        let ca = self.dir.join("ca.pem");
        let tls = TlsFiles { ca, ..TlsFiles::default() };
        Target { url, tls, server_name: None, token: Some(self.token.clone()) }
    }

    fn issue(
        &self,
        authority: &Authority,
        name: &str,
        subject: &Subject,
        purpose: Purpose,
    ) -> Result<(), Failure> {
        let now = SystemTime::now();
        let issued = authority.issue(subject, purpose, &(now - SKEW..now + DAY));
        let pair = issued.map_err(|error: PkiError| Failure::Usage(error.to_string()))?;
        self.write(&format!("{name}.key"), pair.key.expose())?;
        self.write(&format!("{name}.pem"), &pair.certificate)
    }

    /// One principal may do everything, and each edge have every zone.
    fn policy(&self) -> String {
        let hash = KeptToken::of(&self.token).map(|(_, kept)| kept.to_hex()).unwrap_or_default();
        let grant = |role| format!("[[principal.grant]]\nrole = \"{role}\"\nzones = [\".\"]\n");
        format!(
            "[[principal]]\nname = \"demo\"\n[[principal.token]]\nsha256 = \"{hash}\"\n{}{}\
             [[principal]]\nname = \"edge/*\"\n{}",
            grant("operator"),
            grant("zone_admin"),
            grant("edge")
        )
    }

    /// Writes a new file that nobody else can read.
    fn write(&self, name: &str, text: &str) -> Result<(), Failure> {
        let file = self.dir.join(name);
        let made = fs::File::options().create_new(true).write(true).mode(0o600).open(&file);
        let written = made.and_then(|mut made| made.write_all(text.as_bytes()));
        written.map_err(|source| Failure::File { file, source })
    }
}
