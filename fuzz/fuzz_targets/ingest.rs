//! Whatever the bytes are, what the collector stores of them holds to the contract: `make fuzz`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pulse_telemetry_collector::ingest::{Cell, read};
use pulse_telemetry_core::contract::{FIELDS, validate};
use serde_json::{Map, Value};

fuzz_target!(|body: &[u8]| {
    let Ok(accepted) = read(body) else { return };
    let mut row = Map::new();
    for (field, cell) in FIELDS.iter().zip(&*accepted.cells) {
        let value = match cell {
            Cell::Null => continue,
            Cell::Text(text) => Value::from(text.as_str()),
            Cell::Count(count) => Value::from(*count),
            Cell::Flag(flag) => Value::from(*flag),
        };
        row.insert(field.name.to_owned(), value);
    }
    validate(&Value::Object(row)).expect("a row holds to the contract");
});
