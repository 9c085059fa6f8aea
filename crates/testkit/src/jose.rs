//! Another implementation of JOSE, which knows nothing of ours: joserfc, for Python.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::alone::program_or_skip;
use super::built;

/// Verifies receipts, one a line, after a JWK set.
const VERIFY: &str = r#"
import json, sys
from joserfc import jws
from joserfc.jwk import KeySet
keys = KeySet.import_key_set(json.loads(sys.stdin.readline()))
registry = jws.JWSRegistry(algorithms=["Ed25519"])
for line in sys.stdin:
    token = jws.deserialize_compact(line.strip(), keys, registry=registry)
    print(json.dumps([token.protected, json.loads(token.payload)]))
"#;

/// The header and the claims of each receipt, where that JWK set verifies all of them; `Some(None)` where it does not.
/// `None` where the library is not here, which is said.
pub fn verify(keys: &Value, receipts: &[&str], test: &str) -> Option<Option<Vec<[Value; 2]>>> {
    let python = built().with_file_name("schemathesis").join("bin/python");
    if !program_or_skip(python.to_str().unwrap(), &["-c", "import joserfc"], test) {
        return None;
    }
    let piped = Stdio::piped;
    let mut child = Command::new(&python).args(["-c", VERIFY]).stdin(piped()).stdout(piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{keys}\n{}\n", receipts.join("\n")).as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    Some(output.status.success().then(|| lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()))
}
