//! How Pulse was installed.

use crate::words::words;
words! {
    /// How Pulse was installed.
    pub enum Platform {
        /// In a container.
        Docker = "docker",
        /// Anything else.
        Binary = "binary",
    }
}
