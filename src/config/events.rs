//! `[events]`: whether local-only commercial events are recorded.

use serde::Deserialize;

/// Whether local-only commercial events are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// False is an off that only the configuration can take back. True does not overrule any other off.
    pub record: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEvents {
    record: bool,
}

impl RawEvents {
    pub(super) fn check(self) -> Events {
        Events { record: self.record }
    }
}
