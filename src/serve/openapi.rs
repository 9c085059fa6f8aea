//! `GET /openapi.json`: the routes in a form that programs read. `tests/openapi.rs` holds it against the code.

use serde_json::{Value, json};

use crate::contract;

const WRITTEN: &str = include_str!("openapi.json");

/// The document: what is written, with the version and the contract's schema of the ping put in.
#[must_use]
pub fn document() -> Value {
    // A test parses what is written; were it no JSON, there would be nothing to tell.
    let mut document: Value = serde_json::from_str(WRITTEN).unwrap_or_default();
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["components"]["schemas"]["Ping"] = contract::schema();
    document
}
