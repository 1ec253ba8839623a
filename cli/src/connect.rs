//! Connections: to the control plane by HTTP/2 over TCP, and to an edge daemon's unix socket.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use edgesync_host::{
    secret::Secret,
    tls::{self, ClientSide, Material, ServerName, Side, TlsError, TlsFiles},
};
use edgesync_proto::v1::{
    access_service_client::AccessServiceClient, edge_service_client::EdgeServiceClient,
    fleet_service_client::FleetServiceClient, record_service_client::RecordServiceClient,
    zone_service_client::ZoneServiceClient,
};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint, Error, Uri},
};

use crate::{
    args::ControlArgs,
    failure::{Failure, deepest},
};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How often a silent server is asked whether it is there, and how long it has for the answer.
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Octets that a server may send ahead.
const WINDOW_OCTETS: u32 = 4 * 1024 * 1024;
/// Octets of the largest message taken.
const MESSAGE_OCTETS: usize = 8 * 1024 * 1024;

/// Where a control plane is, and what this command proves itself with.
#[derive(Debug, Clone)]
pub struct Target {
    /// `https://HOST:PORT`, or `http://` on this host.
    pub url: String,
    /// How it is known to be that.
    pub tls: TlsFiles,
    /// The name that its certificate has to be for; none: the one in the URL.
    pub server_name: Option<String>,
    /// The token of each call.
    pub token: Option<Secret>,
}

impl Target {
    /// A control plane on this host that asks nothing of anybody.
    #[cfg(test)]
    #[must_use]
    pub fn open(url: &str) -> Self {
        let tls = TlsFiles::default();
        Self { url: url.to_owned(), tls, server_name: None, token: None }
    }

    /// The control plane that arguments name, without a token.
    #[must_use]
    pub fn of(control: &ControlArgs) -> Self {
        let path = |path: &Option<PathBuf>| path.clone().unwrap_or_default();
        let (cert, key) = (path(&control.cert), path(&control.key));
        let tls = TlsFiles { cert, key, ca: path(&control.ca), crl: PathBuf::new() };
        let (url, server_name) = (control.url.clone(), control.server_name.clone());
        Self { url, tls, server_name, token: None }
    }
}

/// Sends a token with each call.
#[derive(Debug, Clone)]
pub struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.0 {
            request.metadata_mut().insert("authorization", value.clone());
        }
        Ok(request)
    }
}

/// What carries calls.
pub type Calls = InterceptedService<Channel, Bearer>;

/// A server that is connected.
#[derive(Debug, Clone)]
pub struct Server {
    channel: Calls,
    name: String,
}

impl Server {
    /// Connects to a control plane.
    ///
    /// # Errors
    /// If the URL is none, the files of TLS cannot be used, or nobody answers who may.
    pub async fn control(target: &Target) -> Result<Self, Failure> {
        let url = &target.url;
        let uri = uri(url).map_err(Failure::Usage)?;
        let bearer = bearer(target.token.as_ref(), &uri)?;
        let endpoint = endpoint(uri.clone());
        let connected = match Tls::of(&uri, target)? {
            Some(tls) => endpoint.connect_with_connector(tls.connector()).await,
            None => endpoint.connect().await,
        };
        let channel = connected.map_err(|error| Failure::Unreachable {
            server: uri.to_string().trim_end_matches('/').to_owned(),
            reason: reason(&error),
            way_out: "is edgesync-control running? set --control or EDGESYNC_CONTROL".to_owned(),
        })?;
        let channel = InterceptedService::new(channel, bearer);
        Ok(Self { channel, name: format!("edgesync-control at {url}") })
    }

    /// Connects to an edge daemon's socket.
    ///
    /// # Errors
    /// If nobody answers.
    pub async fn edge(socket: &Path) -> Result<Self, Failure> {
        let path: PathBuf = socket.to_owned();
        let connector = tower::service_fn(move |_: Uri| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The name goes nowhere: it only gives requests an authority.
        let endpoint = endpoint(Uri::from_static("http://edgesyncd"));
        let connected = endpoint.connect_with_connector(connector).await;
        let channel = connected.map_err(|error| Failure::Unreachable {
            server: socket.display().to_string(),
            reason: reason(&error),
            way_out: "is edgesyncd running? set --socket".to_owned(),
        })?;
        let channel = InterceptedService::new(channel, Bearer(None));
        Ok(Self { channel, name: format!("edgesyncd at {}", socket.display()) })
    }

    /// Calls about records.
    #[must_use]
    pub fn records(&self) -> RecordServiceClient<Calls> {
        RecordServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_OCTETS)
    }

    /// Calls about zones.
    #[must_use]
    pub fn zones(&self) -> ZoneServiceClient<Calls> {
        ZoneServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_OCTETS)
    }

    /// Calls about the fleet.
    #[must_use]
    pub fn fleet(&self) -> FleetServiceClient<Calls> {
        FleetServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_OCTETS)
    }

    /// Calls to an edge daemon.
    #[must_use]
    pub fn edge_calls(&self) -> EdgeServiceClient<Calls> {
        EdgeServiceClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_OCTETS)
    }

    /// Calls about who may do what.
    #[must_use]
    pub fn access(&self) -> AccessServiceClient<Calls> {
        AccessServiceClient::new(self.channel.clone())
    }

    /// What a failed call means; for `map_err`.
    pub fn failure(&self) -> impl Fn(Status) -> Failure {
        |status| Failure::from_status(&status, &self.name)
    }

    /// The server as errors name it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

fn endpoint(uri: Uri) -> Endpoint {
    Endpoint::from(uri)
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .initial_stream_window_size(WINDOW_OCTETS)
        .initial_connection_window_size(WINDOW_OCTETS)
}

/// Why a connection did not come about.
fn reason(error: &Error) -> String {
    match deepest(error) {
        text if text.contains("deadline has elapsed") || text.contains("timed out") => {
            format!("no answer within {} s", CONNECT.as_secs())
        }
        text => text,
    }
}

/// What goes with each call. Nothing secret goes where others can read it.
fn bearer(token: Option<&Secret>, uri: &Uri) -> Result<Bearer, Failure> {
    let Some(token) = token else { return Ok(Bearer(None)) };
    check_private(uri)?;
    let value = format!("Bearer {}", token.expose()).parse::<MetadataValue<Ascii>>();
    let mut value = value.map_err(|_| Failure::Usage("the token is no ASCII text".to_owned()))?;
    value.set_sensitive(true);
    Ok(Bearer(Some(value)))
}

/// True if nobody but this host can read what goes to a server, or it is encrypted.
fn check_private(uri: &Uri) -> Result<(), Failure> {
    if uri.scheme_str() == Some("https") || is_this_host(uri) {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "credentials are not sent to {uri}: nothing is encrypted on the way; use https, or 127.0.0.1"
    )))
}

impl Target {
    /// Checks that a password can be sent there.
    ///
    /// # Errors
    /// If others could read it.
    pub fn check_private(&self) -> Result<(), Failure> {
        check_private(&uri(&self.url).map_err(Failure::Usage)?)
    }

    /// The host and port, as they name a file.
    ///
    /// # Errors
    /// If the URL is none.
    pub fn authority(&self) -> Result<String, Failure> {
        let uri = uri(&self.url).map_err(Failure::Usage)?;
        Ok(uri.authority().map(ToString::to_string).unwrap_or_default())
    }
}

/// Reads a URL. `http://` may be left out on this host, and `https://` elsewhere.
fn uri(text: &str) -> Result<Uri, String> {
    let wrong = |reason: &str| format!("`{text}` {reason}; give https://HOST:PORT with --control");
    let scheme = |uri: &Uri| if is_this_host(uri) { "http" } else { "https" };
    let whole = match text.parse::<Uri>() {
        Ok(uri) if !text.contains("://") => format!("{}://{text}", scheme(&uri)),
        _ => text.to_owned(),
    };
    let uri: Uri = whole.parse().map_err(|_| wrong("is no URL"))?;
    match uri.scheme_str() {
        Some("https") => {}
        Some("http") if is_this_host(&uri) => {}
        Some("http") => return Err(wrong("is not encrypted, and not of this host")),
        _ => return Err(wrong("is no https URL")),
    }
    if uri.port_u16().is_none() {
        return Err(wrong("has no port"));
    }
    if uri.path() != "/" || uri.query().is_some() {
        return Err(wrong("has a path"));
    }
    Ok(uri)
}

/// True if a URL is of this host.
fn is_this_host(uri: &Uri) -> bool {
    tls::is_this_host(uri.host().unwrap_or_default())
}

/// How a control plane is known to be that.
struct Tls {
    side: ClientSide,
    name: ServerName<'static>,
}

impl Tls {
    /// For a URL with https.
    fn of(uri: &Uri, target: &Target) -> Result<Option<Self>, Failure> {
        if uri.scheme_str() != Some("https") {
            return Ok(None);
        }
        let usage = |error: TlsError| match error {
            TlsError::Missing(what) => {
                let upper = what.to_uppercase();
                Failure::Usage(format!("--{what} or EDGESYNC_{upper} is needed for {uri}"))
            }
            error => Failure::Usage(error.to_string()),
        };
        let side = Material::load(&target.tls).and_then(ClientSide::make).map_err(usage)?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = target.server_name.as_deref().unwrap_or(host);
        let wrong =
            |_| Failure::Usage(format!("`{name}` is no name that a certificate can be for"));
        let name = ServerName::try_from(name.to_owned()).map_err(wrong)?;
        Ok(Some(Self { side, name }))
    }

    fn connector(
        self,
    ) -> impl tower::Service<
        Uri,
        Response = TokioIo<TlsStream<TcpStream>>,
        Error = io::Error,
        Future: Send,
    > + Send {
        tower::service_fn(move |uri: Uri| {
            let (connector, name) = (self.side.connector(), self.name.clone());
            async move {
                let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
                let stream = TcpStream::connect((host, uri.port_u16().unwrap_or_default())).await?;
                stream.set_nodelay(true)?;
                connector.connect(name, stream).await.map(TokioIo::new)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_a_ca_nobody_is_believed() {
        let told = Server::control(&Target::open("https://control.example:1"))
            .await
            .unwrap_err()
            .to_string();
        assert!(told.contains("--ca") && told.contains("EDGESYNC_CA"), "{told}");
    }

    #[test]
    fn a_url_is_host_and_port() {
        for (good, scheme) in [
            ("http://127.0.0.1:7353", "http"),
            ("http://[::1]:7353/", "http"),
            ("localhost:1", "http"),
            ("control.example:1", "https"),
            ("https://c:1", "https"),
        ] {
            assert_eq!(uri(good).unwrap().scheme_str(), Some(scheme), "{good}");
        }
        for bad in ["", "http://", "http://c:1", "unix:///x", "https://c", "https://c:1/v1", "a b"]
        {
            let refused = uri(bad).unwrap_err();
            assert!(refused.contains("--control"), "{bad}: {refused}");
        }
    }

    #[test]
    fn credentials_go_nowhere_where_others_can_read_them() {
        let sent = |url: &str| {
            let token = Some(Secret::new("hunter2".to_owned()));
            let target = Target { token, ..Target::open(url) };
            bearer(target.token.as_ref(), &url.parse().unwrap()).is_ok()
        };
        assert!(
            sent("http://127.0.0.1:1") && sent("http://[::1]:1") && sent("https://a.example:1")
        );
        assert!(!sent("http://192.0.2.1:1") && !sent("http://127.0.0.1.example:1"));
    }

    #[tokio::test]
    async fn who_does_not_answer_is_named_with_the_way_out() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let target = Target::open(&format!("http://{address}"));
        let failure = Server::control(&target).await.unwrap_err();
        assert_eq!(failure.code(), 5);
        assert_eq!(
            failure.to_string(),
            format!(
                "cannot connect to http://{address}: connection refused; is edgesync-control \
                 running? set --control or EDGESYNC_CONTROL"
            )
        );
        let failure = Server::edge(Path::new("/nowhere/edgesyncd.sock")).await.unwrap_err();
        assert_eq!(
            failure.to_string(),
            "cannot connect to /nowhere/edgesyncd.sock: no such socket; is edgesyncd running? set \
             --socket"
        );
    }
}
