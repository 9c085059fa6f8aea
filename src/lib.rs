//! The telemetry of a [Pulse](https://github.com/rcourtman/Pulse) installation, outside Pulse.
//!
//! Pulse's privacy page promises a small pseudonymous ping: once a start and once a day, on by default, off by a switch,
//! every field listed, the exact bytes shown before they leave. This program makes that page executable. It reads the
//! counts from Pulse's API, builds the ping, shows it on a local page, keeps a ledger of every byte that it sent, and is
//! meant to be the only thing of a Pulse installation that reports.
//!
//! What decides is pure: [`version`] and [`identity`] hold Pulse's own rules, [`snapshot`] turns answers into values that
//! are known or unknown, [`consent`] says who switched telemetry off, [`verdict`] what an answer means, and [`engine`] is
//! the state machine that all of it comes together in: what happened goes in, what is to be done comes out. What waits is
//! thin: [`daemon`] feeds the engine and carries out its actions. Each part of the world has one module that touches it:
//! [`pulse`] dials Pulse, [`send`] the endpoint, [`store`] keeps the state, [`clock`] reads the time, [`chance`] asks for
//! randomness, [`serve`] listens, [`config`] reads what the operator wrote. Beside all this, and unknown to what sends,
//! [`posture`] tells what else may leave by Pulse's own settings, [`comparison`] lays our ping beside Pulse's own, and [`events`] keeps the local-only commercial events;
//! [`metrics`] counts for Prometheus, in the formats of [`exposition`], [`supervisor`] tells systemd that the program lives,
//! [`confine`] has the kernel hold the program to what it needs, and [`acting`] lets root's commands act as the daemon's
//! user. [`runtime`] ends when what it ran has ended, whatever a name server does, and [`output`] takes what a command says. After the doorway and the
//! configuration, the modules below stand in the order in which data flows.
//!
//! The receiving end, so that the whole promise can be run and checked, is a second program behind the feature
//! `collector`: the module of that name.

pub mod cli;
pub mod config;

pub mod comparison;

pub mod posture;
pub mod pulse;

pub mod store;

pub mod events;
pub mod metrics;

pub mod confine;
pub mod daemon;
pub mod serve;
pub mod status;
