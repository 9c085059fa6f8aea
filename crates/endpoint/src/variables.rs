//! The variables that name a proxy, as they were found.

use std::fmt;

/// A variable that was found set and not empty. Its `Debug` does not show the value, which may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub value: String,
}

impl fmt::Debug for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variable").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The proxy that pings are to take, as it was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyVariables {
    /// The first that is set and not empty of `https_proxy`, `HTTPS_PROXY`, `all_proxy`, `ALL_PROXY`: curl's order.
    pub https: Option<Variable>,
    /// `no_proxy`, else `NO_PROXY`: the hosts that are reached directly.
    pub no_proxy: Option<Variable>,
}
