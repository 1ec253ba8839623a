//! Who may do what: principals with what they prove themselves with, and their roles in zones. Default
//! deny: who is not here may nothing, and a role without zones is none.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, SystemTime},
};

use edgesync_core::{edge_id::EdgeId, name::Name};
use edgesync_host::credential::{KeptPassword, KeptToken};

use super::{
    function::{Function, Scope},
    role::{Rights, Role},
    zones::Zones,
};
use edgesync_proto::Rpc;

/// How far a clock may have been set back before what it has made is no longer believed.
const CLOCK_BACK: Duration = Duration::from_secs(60);
/// What the name of an edge's principal begins with.
const EDGE: &str = "edge/";
/// The principal of every edge that has none of its own.
const ANY_EDGE: &str = "edge/*";

/// A role in zones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The role.
    pub role: Role,
    /// The zones.
    pub zones: Zones,
}

/// A token of a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// What is kept of it.
    pub kept: KeptToken,
    /// What it is for.
    pub label: String,
    /// When it was made.
    pub created: SystemTime,
    /// When it ends, if it does.
    pub expires: Option<SystemTime>,
}

impl Token {
    /// True if it is good now.
    #[must_use]
    pub fn is_good(&self, now: SystemTime) -> bool {
        is_good(self.created, self.expires, now)
    }
}

/// True between a beginning and an end. A clock that was set back to before the beginning is not
/// believed: it would make the old young again.
#[must_use]
pub fn is_good(created: SystemTime, expires: Option<SystemTime>, now: SystemTime) -> bool {
    now.checked_add(CLOCK_BACK).is_some_and(|latest| created <= latest)
        && expires.is_none_or(|expires| now < expires)
}

/// A principal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Principal {
    /// Its password, if it has one.
    pub password: Option<KeptPassword>,
    /// Its tokens.
    pub tokens: Vec<Token>,
    /// What it may do.
    pub grants: Vec<Grant>,
}

impl Principal {
    /// One that may do everything, as everybody may where nothing is asked.
    #[must_use]
    pub fn everybody() -> Self {
        let grant = |role| Grant { role, zones: Zones::all() };
        Self { grants: Role::ALL.map(grant).to_vec(), ..Self::default() }
    }

    /// True if it may call a function at all: in which zone is asked where that is known.
    #[must_use]
    pub fn may_call(&self, function: Function) -> bool {
        let need = function.need();
        let held = |grant: &Grant| need.roles.contains(&grant.role);
        match need.scope {
            Scope::Open | Scope::Known => true,
            Scope::Zone | Scope::Somewhere | Scope::Edge => self.grants.iter().any(held),
            Scope::Everywhere => {
                self.grants.iter().any(|grant| held(grant) && grant.zones.are_all())
            }
        }
    }

    /// True if it may call a function in a zone.
    #[must_use]
    pub fn may_in(&self, function: Function, zone: &Name) -> bool {
        let need = function.need();
        let held = |grant: &Grant| need.roles.contains(&grant.role) && grant.zones.cover(zone);
        need.scope == Scope::Zone && self.grants.iter().any(held)
    }

    /// What a write may do in a zone.
    #[must_use]
    pub fn rights_in(&self, function: Function, zone: &Name) -> Rights {
        let held = self.grants.iter().filter(|grant| grant.zones.cover(zone));
        held.fold(Rights::NONE, |rights, grant| {
            let restores =
                grant.role == Role::Operator && function == Function::Rpc(Rpc::RestoreZone);
            rights.and(if restores { Rights::ALL } else { grant.role.rights() })
        })
    }

    /// The zones that it may receive; none if it may receive nothing.
    #[must_use]
    pub fn receives(&self) -> Option<Zones> {
        let edge = self.grants.iter().filter(|grant| grant.role == Role::Edge);
        edge.map(|grant| grant.zones.clone()).reduce(|all, zones| all.with(&zones))
    }
}

/// All principals.
#[derive(Debug, Default)]
pub struct Policy {
    principals: BTreeMap<Arc<str>, Arc<Principal>>,
    tokens: HashMap<KeptToken, Arc<str>>,
}

impl Policy {
    /// A policy of principals; the first of two of one name counts.
    pub fn new<'a>(principals: impl Iterator<Item = (&'a String, &'a Arc<Principal>)>) -> Self {
        let mut policy = Self::default();
        for (name, principal) in principals {
            let name: Arc<str> = name.as_str().into();
            if policy.principals.contains_key(&name) {
                continue;
            }
            for token in &principal.tokens {
                policy.tokens.insert(token.kept, Arc::clone(&name));
            }
            policy.principals.insert(name, Arc::clone(principal));
        }
        policy
    }

    /// A principal.
    #[must_use]
    pub fn principal(&self, name: &str) -> Option<&Arc<Principal>> {
        self.principals.get(name)
    }

    /// The principal of an edge.
    #[must_use]
    pub fn edge(&self, id: &EdgeId) -> Option<&Arc<Principal>> {
        self.principal(&format!("{EDGE}{id}")).or_else(|| self.principal(ANY_EDGE))
    }

    /// Whose a token is, if it is good now.
    #[must_use]
    pub fn of_token(&self, kept: &KeptToken, now: SystemTime) -> Option<(Arc<str>, &Token)> {
        let name = self.tokens.get(kept)?;
        let tokens = &self.principals.get(name)?.tokens;
        let token = tokens.iter().find(|token| token.kept.is(kept) && token.is_good(now))?;
        Some((Arc::clone(name), token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_back_makes_nothing_young_again() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        for (now, good) in [(939, false), (940, true), (1_000, true), (1_099, true), (1_100, false)]
        {
            assert_eq!(is_good(at(1_000), Some(at(1_100)), at(now)), good, "{now}");
        }
        assert!(is_good(at(1_000), None, at(u32::MAX.into())));
    }

    #[test]
    fn an_edge_without_a_principal_of_its_own_is_any_edge() {
        let receives = |zone: &str| {
            let zones = Zones::parse(&[zone]).unwrap();
            let grants = vec![Grant { role: Role::Edge, zones }];
            Arc::new(Principal { grants, ..Principal::default() })
        };
        let names = ["edge/fra-1".to_owned(), "edge/*".to_owned()];
        let [own, any] = [receives("example.com"), receives("net")];
        let zones = |policy: &Policy, id: &str| {
            policy.edge(&id.parse().unwrap()).and_then(|edge| edge.receives())
        };
        let policy = Policy::new([(&names[0], &own), (&names[1], &any)].into_iter());
        assert_eq!(zones(&policy, "fra-1"), own.receives());
        assert_eq!(zones(&policy, "fra-2"), any.receives());
        let policy = Policy::new([(&names[0], &own)].into_iter());
        assert_eq!(zones(&policy, "fra-2"), None);
    }
}
