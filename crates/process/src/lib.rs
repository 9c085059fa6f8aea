//! What both programs need of the machine that they run on.
//!
//! [`config`] reads layers of configuration and checks them. [`clock`] and [`chance`] are the only modules that read the
//! time and ask for randomness, [`supervisor`] tells systemd that the program lives, [`no_core`] keeps its memory its own,
//! and [`acting`] lets root's commands act as the daemon's user.

pub mod acting;
pub mod chance;
pub mod clock;
pub mod config;
pub mod no_core;
pub mod supervisor;
