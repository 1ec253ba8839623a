//! The roles, and what they let a write do in a zone.

use std::{fmt, str::FromStr};

/// A role. What each may call stands in `function`; it means nothing without zones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Reads.
    Reader,
    /// Adds and changes records.
    Editor,
    /// Takes records out.
    Deleter,
    /// Does all of these, and begins and ends zones.
    ZoneAdmin,
    /// Receives zones.
    Edge,
    /// Freezes, restores, overrides guards, compacts, and says who may do what.
    Operator,
    /// Reads, and reads who did what.
    Auditor,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Reader,
        Self::Editor,
        Self::Deleter,
        Self::ZoneAdmin,
        Self::Edge,
        Self::Operator,
        Self::Auditor,
    ];

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reader => "reader",
            Self::Editor => "editor",
            Self::Deleter => "deleter",
            Self::ZoneAdmin => "zone_admin",
            Self::Edge => "edge",
            Self::Operator => "operator",
            Self::Auditor => "auditor",
        }
    }

    /// What a write may do by it, whichever function writes.
    #[must_use]
    pub const fn rights(self) -> Rights {
        match self {
            Self::Editor => Rights::EDIT,
            Self::Deleter => Rights::DELETE,
            Self::ZoneAdmin => Rights::EDIT.and(Rights::DELETE).and(Rights::ZONE),
            Self::Operator => Rights::OVERRIDE,
            Self::Reader | Self::Edge | Self::Auditor => Rights::NONE,
        }
    }
}

/// A word that is no role.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no role: there are reader, editor, deleter, zone_admin, edge, operator and auditor"
)]
pub struct NoRole(String);

impl FromStr for Role {
    type Err = NoRole;

    fn from_str(text: &str) -> Result<Self, NoRole> {
        let named = Self::ALL.into_iter().find(|role| role.name() == text);
        named.ok_or_else(|| NoRole(text.chars().filter(|c| !c.is_control()).take(40).collect()))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a write may do in a zone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Add and change records.
    pub const EDIT: Self = Self(1);
    /// Take records out.
    pub const DELETE: Self = Self(2);
    /// Begin and end the zone.
    pub const ZONE: Self = Self(4);
    /// Do more than the guard lets pass.
    pub const OVERRIDE: Self = Self(8);
    /// Everything.
    pub const ALL: Self = Self(15);

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The first of what is needed and is not here, in words.
    #[must_use]
    pub fn lacks(self, needed: Self) -> Option<&'static str> {
        let missing = needed.0 & !self.0;
        let words = [
            (Self::EDIT, "adding and changing records needs the role editor or zone_admin"),
            (Self::DELETE, "deleting records needs the role deleter or zone_admin"),
            (Self::ZONE, "beginning and ending the zone needs the role zone_admin"),
            (Self::OVERRIDE, "overriding the guard needs the role operator"),
        ];
        words.into_iter().find(|(right, _)| missing & right.0 != 0).map(|(_, words)| words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_reads_back_and_another_word_is_refused_with_the_roles() {
        for role in Role::ALL {
            assert_eq!(role.name().parse(), Ok(role));
        }
        assert!("root".parse::<Role>().unwrap_err().to_string().contains("zone_admin"));
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(Rights::ALL.lacks(Rights::ALL), None);
        let editor = Role::Editor.rights();
        assert!(editor.lacks(Rights::EDIT.and(Rights::DELETE)).unwrap().contains("deleter"));
        assert!(Rights::NONE.lacks(Rights::OVERRIDE).unwrap().contains("operator"));
    }
}
