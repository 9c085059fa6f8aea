//! Which token Pulse did not take, and what to do about it.

use std::fmt;

/// The token that Pulse asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// None is configured.
    Missing {
        /// Where one was looked for.
        looked_at: String,
    },
    /// Pulse refused it.
    Refused {
        /// Where it comes from; never the token itself.
        origin: String,
        /// Whose it is, where each organization has one.
        organization: Option<String>,
    },
}

/// Where each token comes from, in words for people.
#[derive(Clone, Debug, Default)]
pub struct TokenOrigins {
    /// Where a single token was looked for.
    pub looked_at: String,
    /// Where a single token comes from.
    pub single: String,
    /// Where the token of each organization comes from.
    pub organizations: Vec<(String, String)>,
}

impl TokenOrigins {
    /// The token of that organization, or the single one.
    #[must_use]
    pub fn credential(&self, organization: Option<&str>, is_configured: bool) -> Credential {
        if !is_configured {
            return Credential::Missing { looked_at: self.looked_at.clone() };
        }
        let named = self.organizations.iter().find(|(name, _)| Some(name.as_str()) == organization);
        let origin = named.map_or(&self.single, |(_, origin)| origin).clone();
        Credential::Refused { origin, organization: organization.map(str::to_owned) }
    }
}

/// As it is where nobody said where the token comes from.
impl Default for Credential {
    fn default() -> Self {
        Self::Refused { origin: String::new(), organization: None }
    }
}

/// How a token is made in Pulse.
const MAKE_ONE: &str = "In Pulse, under Settings, API Access (Security), create one with the scopes monitoring:read \
                        and settings:read";

impl fmt::Display for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { looked_at } => {
                f.write_str("Pulse asks for an API token, and none is configured")?;
                if !looked_at.is_empty() {
                    write!(f, " ({looked_at})")?;
                }
                write!(
                    f,
                    ". {MAKE_ONE}, write it to a file that only the sidecar can read, name the file in \
                     pulse.token_file (PULSE_TOKEN_FILE), and restart the sidecar."
                )
            }
            Self::Refused { origin, organization } => {
                f.write_str("Pulse refused the API token")?;
                if !origin.is_empty() {
                    write!(f, " of {origin}")?;
                }
                if let Some(organization) = organization {
                    write!(f, ", that of the organization {organization}")?;
                }
                write!(
                    f,
                    ": it has expired, was revoked, or belongs to another Pulse. {MAKE_ONE}, write it there, and \
                     restart the sidecar, which reads it at its start only. Where a new one is refused too, a proxy \
                     before Pulse asks for a login of its own."
                )
            }
        }
    }
}
