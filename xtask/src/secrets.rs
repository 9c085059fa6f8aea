//! No private key is in the repository: tests make theirs.

use std::fs;
use std::process::Command;

use pulse_telemetry_testkit::project;

/// What stands before a key in PEM (OpenSSH's among them), in OpenPGP's armour, and of age.
const BEGINNINGS: [&str; 3] = ["PRIVATE KEY-----", "PRIVATE KEY BLOCK-----", "AGE-SECRET-KEY-1"];

/// How many characters of a key stand together at least. What a test writes in the place of one has fewer.
const CHARACTERS_MIN: usize = 32;

/// How many words may stand before them: headers, the end of a line.
const WORDS_MAX: usize = 16;

/// The files with a private key, of those that are tracked or will be.
pub(crate) fn found() -> Vec<String> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let listed = Command::new("git").args(list).current_dir(project()).output().unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let files = listed.stdout.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let files = files.map(|name| String::from_utf8(name.to_vec()).unwrap());
    // One that is removed and not yet committed is still tracked.
    let has_one = |file: &String| {
        fs::read(project().join(file)).is_ok_and(|bytes| has_a_private_key(&String::from_utf8_lossy(&bytes)))
    };
    files.filter(has_one).map(|file| format!("{file} has a private key")).collect()
}

fn has_a_private_key(text: &str) -> bool {
    let is_of_none = |c: char| !c.is_ascii_alphanumeric() && !"+/=".contains(c);
    let is_key = |rest: &str| rest.split(is_of_none).take(WORDS_MAX).any(|word| word.len() >= CHARACTERS_MIN);
    BEGINNINGS.iter().any(|before| text.match_indices(before).any(|(at, _)| is_key(&text[at + before.len()..])))
}

#[cfg(test)]
mod tests {
    use super::has_a_private_key;

    #[test]
    fn a_private_key_is_told_from_the_words_for_one() {
        let key = "x+/1".repeat(16);
        for begins in ["BEGIN PRIVATE KEY-----\n", "BEGIN OPENSSH PRIVATE KEY-----\\n", "BEGIN EC PRIVATE KEY-----\r\n"]
        {
            assert!(has_a_private_key(&format!("a = \"-----{begins}{key}")), "{begins}");
        }
        let armour = format!("-----BEGIN PGP PRIVATE KEY BLOCK-----\nVersion: 1\n\n{key}");
        assert!(has_a_private_key(&armour) && has_a_private_key(&format!("AGE-SECRET-KEY-1{key}")));
        let words = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
        assert!(!has_a_private_key(words) && !has_a_private_key(&format!("-----BEGIN CERTIFICATE-----\n{key}")));
    }
}
