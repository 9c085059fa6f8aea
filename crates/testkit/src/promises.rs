//! The promises of the privacy page, as `docs/promises.toml` lists them.

pub struct Promise {
    pub number: i64,
    pub sentence: String,
    pub proof: String,
    /// As `file::name`; none while nothing proves it yet.
    pub tests: Vec<String>,
}

pub fn promises() -> Vec<Promise> {
    let path = crate::project().join("docs/promises.toml");
    let document: toml::Table = std::fs::read_to_string(path).unwrap().parse().unwrap();
    let promises = document["promise"].as_array().unwrap();
    promises
        .iter()
        .map(|promise| Promise {
            number: promise["number"].as_integer().unwrap(),
            sentence: promise["sentence"].as_str().unwrap().to_owned(),
            proof: promise["proof"].as_str().unwrap().to_owned(),
            tests: promise["tests"].as_array().unwrap().iter().map(|t| t.as_str().unwrap().to_owned()).collect(),
        })
        .collect()
}

/// The promises as the list of `docs/PRIVACY.md`.
pub fn markdown_list() -> String {
    let items = promises().into_iter().map(|p| format!("{}. {} *{}*\n", p.number, p.sentence, p.proof));
    items.collect()
}
