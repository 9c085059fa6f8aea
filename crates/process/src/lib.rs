//! What both programs need of the machine that they run on.
//!
//! [`command`], [`output`] and [`runtime`] are how a command runs and ends, [`signals`] how it is asked to, [`log`] what it
//! tells. [`config`] reads layers of configuration and checks them. [`clock`] and [`chance`] are the only modules that read the
//! time and ask for randomness, [`supervisor`] tells systemd that the program lives, [`no_core`] keeps its memory its own,
//! and [`acting`] lets root's commands act as the daemon's user.

pub mod acting;
pub mod chance;
pub mod clock;
pub mod command;
pub mod config;
pub mod log;
pub mod no_core;
pub mod output;
pub mod runtime;
pub mod signals;
pub mod supervisor;
