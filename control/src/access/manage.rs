//! Principals that are managed by calls: rows of the log's store, changed one at a time, durable before
//! they count. What stands in the policy file is changed only there.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use edgesync_host::{
    credential::{CredentialError, KeptPassword, KeptToken, TokenKind, new_token},
    secret::Secret,
};
use tokio::task::spawn_blocking;

use super::{
    Access, Kept, Principals, locked,
    policy::{Grant, Principal, Token},
    role::{NoRole, Role},
    text::{self, PER_PRINCIPAL_MAX, PRINCIPALS_MAX, PolicyError},
    zones::{Zones, ZonesError},
};
use crate::log::WriteError;

/// Why a principal is not changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManageError {
    /// Nothing is asked of anybody here.
    #[error("access is not kept here: set [access] in the control plane's configuration")]
    NotKept,
    /// It stands in the policy file.
    #[error("principal {0} stands in the policy file: change it there")]
    InFile(String),
    /// There is no such principal.
    #[error("there is no principal {0}: `edgesync access list` shows them")]
    Unknown(String),
    /// There is no such token.
    #[error(
        "there is no token {0}, or it stands in the policy file: `edgesync access list` shows them"
    )]
    NoToken(String),
    /// The principal has not this role.
    #[error("principal {0} has not the role {1} there")]
    NoGrant(String, Role),
    /// There are too many.
    #[error("there are as many {0} as may be: remove some")]
    Many(&'static str),
    /// Its name is none.
    #[error(transparent)]
    Name(#[from] PolicyError),
    /// Its role is none.
    #[error(transparent)]
    Role(#[from] NoRole),
    /// Its zones are none.
    #[error(transparent)]
    Zones(#[from] ZonesError),
    /// Its password is none.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// It cannot be made durable.
    #[error(transparent)]
    Store(#[from] WriteError),
}

/// A token that was made.
#[derive(Debug)]
pub struct NewToken {
    /// The token: shown once.
    pub token: Secret,
    /// Its id.
    pub id: String,
}

impl Access {
    fn kept(&self) -> Result<&Arc<Kept>, ManageError> {
        self.kept.as_ref().ok_or(ManageError::NotKept)
    }

    /// All principals, and whether they stand in the file.
    ///
    /// # Errors
    /// If access is not kept.
    pub fn principals(&self) -> Result<Vec<(String, bool, Arc<Principal>)>, ManageError> {
        let sources = locked(&self.kept()?.sources);
        let none = Principals::new();
        let file = sources.file.as_ref().unwrap_or(&none);
        let rows = sources.rows.iter().filter(|(name, _)| !file.contains_key(*name));
        let all = file.iter().map(|one| (one, true)).chain(rows.map(|one| (one, false)));
        let mut all: Vec<_> = all
            .map(|((name, principal), in_file)| (name.clone(), in_file, Arc::clone(principal)))
            .collect();
        all.sort_by(|(one, ..), (other, ..)| one.cmp(other));
        Ok(all)
    }

    /// Gives a principal a password.
    ///
    /// # Errors
    /// If it cannot be.
    pub async fn set_password(&self, name: &str, password: Secret) -> Result<(), ManageError> {
        let hashed = spawn_blocking(move || KeptPassword::of(&password)).await;
        let kept = hashed.unwrap_or_else(|error| Err(CredentialError::Hash(error.to_string())))?;
        let set = |principal: &mut Principal| {
            principal.password = Some(kept);
            Ok(())
        };
        self.change(name, set).await
    }

    /// Takes a principal out.
    ///
    /// # Errors
    /// If it cannot be.
    pub async fn remove(&self, name: &str) -> Result<(), ManageError> {
        let kept = self.kept()?;
        let _one = kept.changing.lock().await;
        if kept.row(name)?.is_none() {
            return Err(ManageError::Unknown(name.to_owned()));
        }
        kept.log.save_access(name.to_owned(), None).await?;
        kept.update(|sources| drop(sources.rows.remove(name)));
        Ok(())
    }

    /// Gives a principal a further token.
    ///
    /// # Errors
    /// If it cannot be.
    pub async fn create_token(
        &self,
        name: &str,
        label: &str,
        lifetime: Option<Duration>,
    ) -> Result<NewToken, ManageError> {
        let token = new_token(TokenKind::Machine);
        let (_, kept) = KeptToken::of(&token).ok_or(CredentialError::Token)?;
        let (created, label) = (SystemTime::now(), text::label(label));
        let expires = lifetime.and_then(|lifetime| created.checked_add(lifetime));
        let add = |principal: &mut Principal| {
            if principal.tokens.len() >= PER_PRINCIPAL_MAX {
                return Err(ManageError::Many("tokens"));
            }
            principal.tokens.push(Token { kept, label, created, expires });
            Ok(())
        };
        self.change(name, add).await?;
        Ok(NewToken { token, id: kept.id() })
    }

    /// Ends a token.
    ///
    /// # Errors
    /// If there is none, or it stands in the file.
    pub async fn revoke_token(&self, id: &str) -> Result<(), ManageError> {
        let owner = {
            let sources = locked(&self.kept()?.sources);
            let has = |principal: &Principal| principal.tokens.iter().any(|t| t.kept.id() == id);
            let owner = sources.rows.iter().find(|(_, principal)| has(principal));
            owner.map(|(name, _)| name.clone())
        };
        let owner = owner.ok_or_else(|| ManageError::NoToken(text::label(id)))?;
        let end = |principal: &mut Principal| {
            principal.tokens.retain(|token| token.kept.id() != id);
            Ok(())
        };
        self.change(&owner, end).await
    }

    /// Gives a principal a role in zones.
    ///
    /// # Errors
    /// If it cannot be.
    pub async fn grant(&self, name: &str, role: &str, zones: &[String]) -> Result<(), ManageError> {
        let (role, zones): (Role, _) = (role.parse()?, Zones::parse(zones)?);
        let give = |principal: &mut Principal| {
            if let Some(grant) = principal.grants.iter_mut().find(|grant| grant.role == role) {
                grant.zones = grant.zones.with(&zones);
                if grant.zones.names().len() > super::zones::ZONES_MAX {
                    return Err(ManageError::Many("zones"));
                }
            } else {
                principal.grants.push(Grant { role, zones });
            }
            Ok(())
        };
        self.change(name, give).await
    }

    /// Takes a role away, in zones or in all.
    ///
    /// # Errors
    /// If it has not the role there.
    pub async fn revoke(
        &self,
        name: &str,
        role: &str,
        zones: &[String],
    ) -> Result<(), ManageError> {
        let role: Role = role.parse()?;
        let zones = if zones.is_empty() { None } else { Some(Zones::parse(zones)?) };
        let owner = name.to_owned();
        let take = move |principal: &mut Principal| {
            let before = principal.grants.clone();
            principal.grants = Vec::new();
            for grant in &before {
                let left = match &zones {
                    _ if grant.role != role => Some(grant.zones.clone()),
                    Some(zones) => grant.zones.without(zones),
                    None => None,
                };
                let role = grant.role;
                principal.grants.extend(left.map(|zones| Grant { role, zones }));
            }
            if principal.grants == before { Err(ManageError::NoGrant(owner, role)) } else { Ok(()) }
        };
        if self.kept()?.row(name)?.is_none() {
            return Err(ManageError::Unknown(name.to_owned()));
        }
        self.change(name, take).await
    }

    /// Changes one principal of the store, which is made if it is not there.
    async fn change(
        &self,
        name: &str,
        change: impl FnOnce(&mut Principal) -> Result<(), ManageError>,
    ) -> Result<(), ManageError> {
        let kept = self.kept()?;
        let name = text::name(name)?;
        let _one = kept.changing.lock().await;
        let before = kept.row(&name)?;
        if before.is_none() && locked(&kept.sources).rows.len() >= PRINCIPALS_MAX {
            return Err(ManageError::Many("principals"));
        }
        let mut principal = before.map(|before| (*before).clone()).unwrap_or_default();
        change(&mut principal)?;
        kept.log.save_access(name.clone(), Some(text::row(&name, &principal))).await?;
        kept.update(|sources| drop(sources.rows.insert(name, Arc::new(principal))));
        Ok(())
    }
}

impl Kept {
    /// A principal of the store, if it is one; an error if it is one of the file.
    fn row(&self, name: &str) -> Result<Option<Arc<Principal>>, ManageError> {
        let sources = locked(&self.sources);
        if sources.file.as_ref().is_some_and(|file| file.contains_key(name)) {
            return Err(ManageError::InFile(name.to_owned()));
        }
        Ok(sources.rows.get(name).cloned())
    }
}
