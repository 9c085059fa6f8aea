//! The receiving end of the promise: it keeps the fields of the contract for 90 days, and nothing else.
//!
//! A connection gets one of the [`places`], and of its other end only [`network`] sees the address. A request's bytes pass
//! the [`limiter`], and [`ingest`], which makes a row of them or says which field is wrong. The [`queue`] commits rows in
//! groups, for as long as the [`capacity`] allows it, and only then the request is answered. Where they are
//! kept is behind the trait of [`storage`]: [`sqlite`] for one machine, [`postgres`] for several collectors. The
//! [`purge`] drops whole days; [`report`] and [`export`] read what is left. [`server`] listens, [`metrics`] counts, and
//! [`cli`] puts it all together.

pub mod capacity;
pub mod cli;
pub mod config;
pub mod export;
pub mod ingest;
pub mod limiter;
pub mod metrics;
pub mod network;
pub mod places;
pub mod postgres;
pub mod purge;
pub mod queue;
pub mod report;
pub mod retry;
pub mod server;
pub mod sqlite;
pub mod storage;
