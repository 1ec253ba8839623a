//! Stands before every service, for single calls and for streams: nothing is called that was not let
//! through here, and what was let through is cut when it may not go on.

use std::{
    future::{Future, ready},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use edgesync_host::{
    credential::{KeptToken, TokenKind},
    peer::{Peer, Transport},
    secret::Secret,
};
use hyper::{
    Request, Response,
    body::{Body as HttpBody, Bytes, Frame, SizeHint},
    http::{HeaderMap, request::Parts},
};
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{
    Access, Line,
    admitted::{ANONYMOUS, Admitted, Proof, count},
    body::Bounded,
    denied::Denied,
    function::{Function, Scope},
    given::{Given, given, is_private, peer_of},
    policy::Principal,
};

/// Who somebody is, and how that was proved.
type Known = (Arc<str>, Proof, Arc<Principal>);

impl Access {
    /// Lets a call through, or not.
    pub(super) fn admit(&self, parts: &Parts) -> Result<Admitted, Denied> {
        let function = Function::of_path(parts.uri.path());
        let peer = peer_of(&parts.extensions);
        if !self.is_kept() {
            peer.standing.becomes_known();
            let known = (ANONYMOUS.into(), Proof::None);
            let everybody = Arc::new(Principal::everybody());
            return Ok(Admitted::new(self.clone(), function, known, peer, everybody));
        }
        let who = self.identify(function, &parts.headers, &peer);
        let admitted = |(name, proof, principal): Known| {
            Admitted::new(self.clone(), function, (name, proof), peer.clone(), principal)
        };
        match who {
            Ok(known) => {
                let admitted = admitted(known);
                // An edge that has proved nothing says in its Hello which one it is.
                let is_asked = match function.need().scope {
                    Scope::Open => false,
                    Scope::Edge => admitted.is_proved(),
                    _ => true,
                };
                if is_asked {
                    admitted.goes_on()?;
                }
                if function.need().scope != Scope::Open {
                    peer.standing.becomes_known();
                }
                Ok(admitted)
            }
            Err(denied) => {
                if let Some(kept) = &self.kept {
                    let (what, result) = (function.name(), format!("{:?}", denied.code()));
                    let (who, peer) = ("-".to_owned(), peer.to_string());
                    kept.trail.denied(Line { who, peer, what, result, ..Line::default() });
                    count(&denied);
                }
                Err(denied)
            }
        }
    }

    fn identify(
        &self,
        function: Function,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Result<Known, Denied> {
        let nobody = || ("-".into(), Proof::None, Arc::<Principal>::default());
        let scope = function.need().scope;
        if function == Function::Health {
            return Ok(nobody());
        }
        let Some(kept) = &self.kept else { return Ok(nobody()) };
        let policy = kept.policy().ok_or(Denied::NotLoaded)?;
        let given = given(headers)?;
        if given != Given::Nothing && !is_private(peer) {
            return Err(Denied::Unencrypted);
        }
        match given {
            // Login looks at its credentials itself.
            _ if scope == Scope::Open => Ok(nobody()),
            Given::Token(token) => self.by_token(&token),
            Given::Password { .. } => Err(Denied::Password { function: function.name() }),
            Given::Nothing => {
                let edge = peer.certificate.as_ref().and_then(|certificate| certificate.edge_id());
                match edge {
                    Some(id) => {
                        let id = id.parse().map_err(|_| Denied::BadToken)?;
                        let principal = policy.edge(&id).cloned().unwrap_or_default();
                        Ok((format!("edge/{id}").into(), Proof::Certificate, principal))
                    }
                    // Without TLS an edge is who it says it is: only on this host.
                    None if scope == Scope::Edge
                        && peer.transport != Transport::Tls
                        && is_private(peer) =>
                    {
                        Ok(nobody())
                    }
                    None => Err(Denied::NoCredentials { function: function.name() }),
                }
            }
        }
    }

    fn by_token(&self, token: &Secret) -> Result<Known, Denied> {
        let Some(kept) = &self.kept else { return Err(Denied::BadToken) };
        let policy = kept.policy().ok_or(Denied::NotLoaded)?;
        let (kind, hash) = KeptToken::of(token).ok_or(Denied::BadToken)?;
        let now = SystemTime::now();
        let (name, proof) = match kind {
            TokenKind::Machine => {
                (policy.of_token(&hash, now).map(|(name, _)| name), Proof::Machine(hash))
            }
            TokenKind::Login => {
                (kept.logins.of(&hash, now).map(|login| login.principal), Proof::Login(hash))
            }
        };
        let name = name.ok_or(Denied::BadToken)?;
        let principal = policy.principal(&name).cloned().ok_or(Denied::BadToken)?;
        Ok((name, proof, principal))
    }
}

/// Wraps all services of a server.
#[derive(Clone, Debug)]
pub struct AccessLayer(pub Access);

impl<S> Layer<S> for AccessLayer {
    type Service = Guarded<S>;

    fn layer(&self, inner: S) -> Guarded<S> {
        Guarded { inner, access: self.0.clone() }
    }
}

/// A service that is called only by who may.
#[derive(Clone, Debug)]
pub struct Guarded<S> {
    inner: S,
    access: Access,
}

impl<S> Service<Request<Body>> for Guarded<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (mut parts, body) = request.into_parts();
        let admitted = match self.access.admit(&parts) {
            Ok(admitted) => admitted,
            Err(denied) => return Box::pin(ready(Ok(denied.status().into_http()))),
        };
        parts.extensions.insert(admitted.clone());
        let body = match admitted.function().bounds() {
            Some(bounds) => Body::new(Bounded::new(body, bounds)),
            None => body,
        };
        let response = self.inner.call(Request::from_parts(parts, body));
        // A session looks itself whether its edge may have what it has; but not at the clock.
        let scope = admitted.function().need().scope;
        let is_session = scope == Scope::Edge;
        let is_uncut = admitted.function().is_at_once()
            || scope == Scope::Open
            || (is_session && !admitted.ends());
        if is_uncut || !self.access.is_kept() {
            return Box::pin(response);
        }
        Box::pin(async move {
            tokio::select! {
                biased;
                response = response => {
                    let ended = admitted.clone();
                    let ended = Box::pin(async move { ended.ended(!is_session).await });
                    response.map(|response| response.map(|body| Body::new(Cut::new(body, ended))))
                }
                denied = admitted.ended(false) => Ok(denied.status().into_http()),
            }
        })
    }
}

/// Resolves when an answer may not go on.
type Ended = Pin<Box<dyn Future<Output = Denied> + Send>>;

/// The body of an answer, until its caller may have no more of it.
struct Cut {
    inner: Option<Body>,
    ended: Ended,
}

impl Cut {
    fn new(inner: Body, ended: Ended) -> Self {
        Self { inner: Some(inner), ended }
    }
}

impl HttpBody for Cut {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        // First what ends it: an answer that always has more would never be cut.
        if inner.is_end_stream() {
            return Pin::new(inner).poll_frame(context);
        }
        if let Poll::Ready(denied) = self.ended.as_mut().poll(context) {
            self.inner = None;
            let mut trailers = HeaderMap::new();
            return Poll::Ready(Some(match denied.status().add_header(&mut trailers) {
                Ok(()) => Ok(Frame::trailers(trailers)),
                Err(status) => Err(status),
            }));
        }
        self.inner.as_mut().map_or(Poll::Ready(None), |inner| Pin::new(inner).poll_frame(context))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}
