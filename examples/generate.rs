//! Writes the files that are made from the code, and the reduced captures where `../shared` is there: `make generate`.
#![expect(clippy::unwrap_used, reason = "whoever runs it sees what failed")]

#[path = "../tests/support/mod.rs"]
mod support;

fn main() {
    // One after the other, for two of them may be sections of one file.
    for number in 0..support::generated::generated().len() {
        let (path, content) = support::generated::generated().swap_remove(number);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
    }
    for (path, content) in support::reduced::fixtures() {
        std::fs::write(&path, content).unwrap();
    }
}
