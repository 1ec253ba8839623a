//! Station 1, the API: `AccessService`. Logins, and who may do what; each change of that is written into
//! the audit before it is done.

use std::future::Future;

use edgesync_host::{exit::one_line, secret::Secret};
use edgesync_proto::v1::{self, access_service_server::AccessService};
use prost_types::Timestamp;
use tonic::{Code, Request, Response, Status};

use super::{Api, status};
use crate::access::{Admitted, Given, Grant, ManageError, Principal, Token, given};

#[tonic::async_trait]
impl AccessService for Api {
    async fn login(
        &self,
        request: Request<v1::LoginRequest>,
    ) -> Result<Response<v1::LoginResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        if !admitted.access().is_kept() {
            return Err(refused(&ManageError::NotKept));
        }
        let headers = request.metadata().clone().into_headers();
        let Given::Password { user, password } = given(&headers)? else {
            return Err(Status::unauthenticated(
                "a login needs a user name and a password: send `authorization: Basic \
                 BASE64(NAME:PASSWORD)`, or `username` and `password`",
            ));
        };
        let (token, expires) = admitted.access().login(&user, password, &admitted).await?;
        let (token, principal) = (token.expose().to_owned(), user);
        let expires = Some(expires.into());
        Ok(Response::new(v1::LoginResponse { token, expires, principal }))
    }

    async fn logout(
        &self,
        request: Request<v1::LogoutRequest>,
    ) -> Result<Response<v1::LogoutResponse>, Status> {
        Admitted::of(&request)?.log_out();
        Ok(Response::new(v1::LogoutResponse {}))
    }

    async fn who_am_i(
        &self,
        request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let (principal, grants) = (admitted.principal().to_owned(), grants(admitted.grants()));
        Ok(Response::new(v1::WhoAmIResponse { principal, grants }))
    }

    async fn list_principals(
        &self,
        request: Request<v1::ListPrincipalsRequest>,
    ) -> Result<Response<v1::ListPrincipalsResponse>, Status> {
        let all = Admitted::of(&request)?.access().principals().map_err(|e| refused(&e))?;
        let principals = all.into_iter().map(|(name, in_file, principal)| v1::Principal {
            name,
            in_file,
            has_password: principal.password.is_some(),
            tokens: principal.tokens.iter().map(token).collect(),
            grants: grants(&principal),
        });
        let principals = principals.collect();
        Ok(Response::new(v1::ListPrincipalsResponse { principals }))
    }

    async fn set_password(
        &self,
        request: Request<v1::SetPasswordRequest>,
    ) -> Result<Response<v1::SetPasswordResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let v1::SetPasswordRequest { principal, password } = request.into_inner();
        let (access, detail) = (admitted.access().clone(), principal.clone());
        let set = async move { access.set_password(&principal, Secret::new(password)).await };
        done(&admitted, &detail, set).await?;
        Ok(Response::new(v1::SetPasswordResponse {}))
    }

    async fn remove_principal(
        &self,
        request: Request<v1::RemovePrincipalRequest>,
    ) -> Result<Response<v1::RemovePrincipalResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let name = request.into_inner().principal;
        let (access, detail) = (admitted.access().clone(), name.clone());
        done(&admitted, &detail, async move { access.remove(&name).await }).await?;
        Ok(Response::new(v1::RemovePrincipalResponse {}))
    }

    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::CreateTokenResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let v1::CreateTokenRequest { principal, label, lifetime } = request.into_inner();
        let lifetime = lifetime.map(std::time::Duration::try_from).transpose();
        let lifetime = lifetime.map_err(|_| Status::invalid_argument("lifetime is negative"))?;
        let (access, detail) = (admitted.access().clone(), principal.clone());
        let make = async move { access.create_token(&principal, &label, lifetime).await };
        let made = done(&admitted, &detail, make).await?;
        let (token, id) = (made.token.expose().to_owned(), made.id);
        Ok(Response::new(v1::CreateTokenResponse { token, id }))
    }

    async fn revoke_token(
        &self,
        request: Request<v1::RevokeTokenRequest>,
    ) -> Result<Response<v1::RevokeTokenResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let id = request.into_inner().id;
        let (access, detail) = (admitted.access().clone(), id.clone());
        done(&admitted, &detail, async move { access.revoke_token(&id).await }).await?;
        Ok(Response::new(v1::RevokeTokenResponse {}))
    }

    async fn grant_role(
        &self,
        request: Request<v1::GrantRoleRequest>,
    ) -> Result<Response<v1::GrantRoleResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let v1::GrantRoleRequest { principal, grant } = request.into_inner();
        let v1::Grant { role, zones } =
            grant.ok_or_else(|| Status::invalid_argument("grant is missing"))?;
        let detail = format!("{principal}: {role} in {}", zones.join(", "));
        let access = admitted.access().clone();
        let give = async move { access.grant(&principal, &role, &zones).await };
        done(&admitted, &detail, give).await?;
        Ok(Response::new(v1::GrantRoleResponse {}))
    }

    async fn revoke_role(
        &self,
        request: Request<v1::RevokeRoleRequest>,
    ) -> Result<Response<v1::RevokeRoleResponse>, Status> {
        let admitted = Admitted::of(&request)?;
        let v1::RevokeRoleRequest { principal, role, zones } = request.into_inner();
        let place = if zones.is_empty() { "all".to_owned() } else { zones.join(", ") };
        let detail = format!("{principal}: {role} in {place}");
        let access = admitted.access().clone();
        let take = async move { access.revoke(&principal, &role, &zones).await };
        done(&admitted, &detail, take).await?;
        Ok(Response::new(v1::RevokeRoleResponse {}))
    }
}

/// Does something between two lines of the audit.
async fn done<T: Send + 'static>(
    admitted: &Admitted,
    detail: &str,
    act: impl Future<Output = Result<T, ManageError>> + Send + 'static,
) -> Result<T, Status> {
    admitted.around(detail, async move { act.await.map_err(|error| refused(&error)) }).await
}

fn refused(error: &ManageError) -> Status {
    let code = match error {
        ManageError::Store(error) => return status::refused(error),
        ManageError::NotKept | ManageError::InFile(_) => Code::FailedPrecondition,
        ManageError::Unknown(_) | ManageError::NoToken(_) | ManageError::NoGrant(..) => {
            Code::NotFound
        }
        ManageError::Many(_) => Code::ResourceExhausted,
        ManageError::Name(_)
        | ManageError::Role(_)
        | ManageError::Zones(_)
        | ManageError::Credential(_) => Code::InvalidArgument,
    };
    Status::new(code, one_line(error))
}

fn grants(principal: &Principal) -> Vec<v1::Grant> {
    let grant = |grant: &Grant| v1::Grant {
        role: grant.role.name().to_owned(),
        zones: grant.zones.texts(),
    };
    principal.grants.iter().map(grant).collect()
}

fn token(token: &Token) -> v1::Token {
    v1::Token {
        id: token.kept.id(),
        label: token.label.clone(),
        created: Some(Timestamp::from(token.created)),
        expires: token.expires.map(Timestamp::from),
    }
}
