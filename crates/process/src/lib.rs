//! What both programs need of the machine that they run on.
//!
//! [`command`], [`output`] and [`runtime`] run a command and end it; [`signals`] asks it to stop, and [`log`] writes
//! what it does. [`config`] reads the layers of a configuration and checks them. Only [`clock`] reads the time, and
//! only [`rng`] asks for randomness. [`supervisor`] tells systemd that the program lives, [`no_core`] keeps its
//! memory private, and [`acting`] lets root's commands act as the owner of the daemon's files.

pub mod acting;
pub mod clock;
pub mod command;
pub mod config;
pub mod log;
pub mod no_core;
pub mod output;
pub mod rng;
pub mod runtime;
pub mod signals;
pub mod supervisor;
