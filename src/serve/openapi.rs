//! `GET /openapi.json`: the routes in a form that programs read. `tests/it/openapi.rs` holds it against the code.

use pulse_telemetry_core::contract;
use serde_json::{Value, json};

const WRITTEN: &str = include_str!("openapi.json");

/// The document: what is written, with the version and the contract's schema of the ping put in.
#[must_use]
#[expect(clippy::expect_used, reason = "it is a part of the program, and a test reads it")]
pub fn document() -> Value {
    let mut document: Value = serde_json::from_str(WRITTEN).expect("openapi.json is JSON");
    document["info"]["version"] = json!(env!("CARGO_PKG_VERSION"));
    document["components"]["schemas"]["Ping"] = contract::schema();
    document
}
