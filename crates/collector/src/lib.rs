//! The receiving end of the promise: it keeps the fields of the contract for 90 days, and nothing else.
//!
//! A ping goes this way. [`server`] accepts a connection, [`network`] turns its address into a value that nobody can
//! print, and [`places`] gives it a place. The [`limiter`] counts it for its networks. [`ingest`] makes a row of
//! its bytes, or says which field is wrong, and [`capacity`] says whether the disk has room. The [`queue`] commits what
//! waits together to the [`storage`] ([`sqlite`] for one machine, [`postgres`] for several collectors), and only then
//! is the request answered, with a signed receipt ([`receipts`]); [`retry`] says when the refused come back. A deletion
//! goes the same way.
//!
//! Beside that way: [`purge`] drops whole days, [`rewrite`] frees PostgreSQL's files of deleted rows, [`export`] reads
//! what is left, [`numbers`] makes of the rows of a day what may be shown, and [`publish`] keeps that for good and
//! shows it; [`metrics`] counts, [`cli`] puts all together by the [`config`].

pub mod capacity;
pub mod cli;
pub mod config;
pub mod export;
pub mod ingest;
pub mod limiter;
pub mod metrics;
pub mod network;
pub mod numbers;
pub mod places;
pub mod postgres;
pub mod publish;
pub mod purge;
pub mod queue;
pub mod receipts;
pub mod retry;
pub mod rewrite;
pub mod server;
pub mod sqlite;
pub mod storage;
