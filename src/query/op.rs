//! The operators of conditions.

use crate::fields::Kind;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// No prefix: text contains all these words; values of other kinds are equal.
    Has,
    /// `=`: the whole text, case-sensitive.
    Is,
    /// `~`, with the wildcards `*` and `?`; case-sensitive, like all operators below.
    Contains,
    /// `^`
    Starts,
    /// `$`
    Ends,
    /// `@`: a regular expression that matches the whole text.
    Regex,
    Above,
    AtLeast,
    Below,
    AtMost,
    /// `__null__`: there is no value.
    Null,
    /// `__true__`
    True,
}

impl Op {
    /// Prefixes of two characters come before their first characters alone.
    pub(super) const PREFIXES: [(&str, Op); 9] = [
        (">=", Op::AtLeast),
        ("<=", Op::AtMost),
        (">", Op::Above),
        ("<", Op::Below),
        ("=", Op::Is),
        ("~", Op::Contains),
        ("^", Op::Starts),
        ("$", Op::Ends),
        ("@", Op::Regex),
    ];

    /// Whether a text starts with an operator.
    pub(super) fn starts(text: &str) -> bool {
        Self::PREFIXES
            .iter()
            .any(|(prefix, _)| text.starts_with(prefix))
    }

    pub(crate) fn prefix(self) -> &'static str {
        match self {
            Op::Null => "__null__",
            Op::True => "__true__",
            _ => Self::PREFIXES
                .iter()
                .find(|(_, op)| *op == self)
                .map_or("", |(prefix, _)| prefix),
        }
    }

    pub fn is_range(self) -> bool {
        matches!(self, Op::Above | Op::AtLeast | Op::Below | Op::AtMost)
    }

    /// Whether a field of this kind supports the operator.
    pub(crate) fn suits(self, kind: Kind) -> bool {
        match self {
            Op::Has | Op::Null => true,
            Op::True => kind == Kind::Bool,
            Op::Is | Op::Contains | Op::Starts | Op::Ends | Op::Regex => kind.is_text(),
            Op::Above | Op::AtLeast | Op::Below | Op::AtMost => {
                matches!(
                    kind,
                    Kind::Integer | Kind::Float | Kind::Date | Kind::Version | Kind::Address
                )
            }
        }
    }
}
