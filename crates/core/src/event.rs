//! Why a ping is sent.

use crate::words::{serde_word, words};

words! {
    /// Why a ping is sent.
    pub enum Event {
        /// The first ping after a start of the sidecar.
        Startup = "startup",
        /// The daily ping.
        Heartbeat = "heartbeat",
    }
}
serde_word!(Event);
