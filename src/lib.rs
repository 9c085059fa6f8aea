//! The telemetry of a [Pulse](https://github.com/rcourtman/Pulse) installation, outside Pulse.
//!
//! Pulse's privacy page promises a small pseudonymous ping: once a start and once a day, on by default, off by a
//! switch, every field listed, the exact bytes shown before they leave. This program keeps that promise so that anybody
//! can check it: it reads the counts from Pulse's API, builds the ping, shows it on a local page, records it and sends
//! it.
//!
//! A ping goes this way. [`cli`] starts the program with its [`config`] and has the kernel [`confine`] it. [`daemon`]
//! is a thin loop around [`Engine::handle`](pulse_telemetry_core::engine::Engine::handle), the state machine that
//! decides: what happened goes in, and what is to be done comes out. When a ping is due the engine asks for a reading,
//! [`readings`] says when one may start, and [`pulse`] makes it: values that are known, or unknown for a named reason
//! ([`pulse_telemetry_core::observation`]). With that reading the engine checks
//! [consent](pulse_telemetry_core::consent), what else keeps a ping back, and the [install
//! ID](pulse_telemetry_core::identity), and has [`pulse_telemetry_core::ping`] make the bytes, whose fields are those
//! of [`pulse_telemetry_core::contract`]. [`store`] puts the state and the ledger's entry on disk, and only then
//! [`Sender`](pulse_telemetry_endpoint::Sender) makes one attempt. [`pulse_telemetry_core::verdict`] says what the
//! answer means: delivered, try the same bytes again, or drop them.
//!
//! Beside that way: [`serve`] is the local page and API, which asks the daemon; [`status`] and [`metrics`] are what it
//! shows. [`posture`] is what else may leave by Pulse's own settings, [`comparison`] our ping beside Pulse's own, and
//! [`events`] the local events that never leave. What builds and sends a ping lives in crates that do not depend on
//! this one, so it cannot name any of them.
//!
//! `ARCHITECTURE.md` says what must hold and which module may touch what. The modules stand in the order in which data
//! flows.

pub mod cli;
pub mod config;
pub mod confine;

pub mod daemon;
pub mod pulse;
pub mod readings;
pub mod store;

pub mod serve;
pub mod status;

pub mod metrics;

pub mod comparison;
pub mod events;
pub mod posture;
