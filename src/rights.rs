//! What a caller may do: scopes, sets of scopes, and the roles of people.

use std::fmt;

/// One permission. The names are those in tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Send reports. The collector requires no token for this.
    Submit = 0,
    /// Upload symbols.
    SymbolsWrite = 1,
    /// Read public fields, download symbols.
    Read = 2,
    /// Also read protected fields, comments and dumps.
    ReadProtected = 3,
    /// Have crashes reprocessed.
    Reprocess = 4,
    /// Everything.
    Admin = 5,
}

impl Scope {
    pub const ALL: [Self; 6] = [
        Self::Submit,
        Self::SymbolsWrite,
        Self::Read,
        Self::ReadProtected,
        Self::Reprocess,
        Self::Admin,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::SymbolsWrite => "symbols:write",
            Self::Read => "read",
            Self::ReadProtected => "read:protected",
            Self::Reprocess => "reprocess",
            Self::Admin => "admin",
        }
    }

    /// A description of what the scope permits, for forms.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Submit => "send reports",
            Self::SymbolsWrite => "upload symbols",
            Self::Read => "read public fields",
            Self::ReadProtected => "read protected fields and dumps",
            Self::Reprocess => "reprocess crashes",
            Self::Admin => "everything",
        }
    }

    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.name() == name)
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of scopes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    pub const NONE: Self = Self(0);
    pub(crate) const ALL: Self = Self((1 << Scope::ALL.len()) - 1);

    /// The rights that the scopes give, including implied ones: `admin` implies everything, and reading
    /// protected fields implies reading public ones.
    pub fn of(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let mut rights = Self::NONE;
        for scope in scopes {
            rights.0 |= match scope {
                Scope::Admin => Self::ALL.0,
                Scope::ReadProtected => scope.bit() | Scope::Read.bit(),
                _ => scope.bit(),
            };
        }
        rights
    }

    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// The rights that both sets contain.
    pub(crate) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.and(other) == other
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// Ignores bits that no scope has.
    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits & Self::ALL.0)
    }

    /// The scopes, without those that another one implies.
    pub(crate) fn scopes(self) -> Vec<Scope> {
        if self.has(Scope::Admin) {
            vec![Scope::Admin]
        } else {
            Scope::ALL
                .into_iter()
                .filter(|scope| self.has(*scope))
                .filter(|scope| *scope != Scope::Read || !self.has(Scope::ReadProtected))
                .collect()
        }
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = self.scopes().into_iter().map(Scope::name).collect();
        f.write_str(&names.join(","))
    }
}

/// What an account may do. Its tokens may do the same or less. Each role includes the roles before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reads public fields.
    Viewer = 0,
    /// Also reads protected fields, comments and dumps.
    Protected = 1,
    /// Everything.
    Admin = 2,
}

impl Role {
    pub(crate) const ALL: [Self; 3] = [Self::Viewer, Self::Protected, Self::Admin];

    pub fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Protected => "protected",
            Self::Admin => "admin",
        }
    }

    pub(crate) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    pub fn rights(self) -> Rights {
        match self {
            Self::Viewer => Rights::of([Scope::Submit, Scope::Read]),
            Self::Protected => Rights::of([Scope::Submit, Scope::ReadProtected]),
            Self::Admin => Rights::ALL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_brings_what_it_implies_and_nothing_else() {
        assert_eq!(Rights::of([Scope::Admin]), Rights::ALL);
        let reads = Rights::of([Scope::ReadProtected]);
        assert!(reads.has(Scope::Read) && !reads.has(Scope::Reprocess));
        assert!(!Rights::of([Scope::Read]).has(Scope::ReadProtected));
        assert_eq!(Rights::of([]), Rights::NONE);
        let mixed = Rights::of([Scope::SymbolsWrite, Scope::ReadProtected]);
        assert_eq!(mixed.to_string(), "symbols:write,read:protected");
        assert_eq!(Rights::from_bits(0xff), Rights::ALL);
        for scope in Scope::ALL {
            assert_eq!(Scope::by_name(scope.name()), Some(scope));
        }
    }

    #[test]
    fn each_role_includes_the_one_before() {
        for pair in Role::ALL.windows(2) {
            assert!(pair[1].rights().contains(pair[0].rights()));
            assert!(!pair[0].rights().contains(pair[1].rights()));
        }
    }
}
