//! The exact numbers of one day, while its rows are read. They stay in memory and are never shown.
//!
//! Nothing is allocated for a row: a value is looked up by the text that the storage lends, and kept when it is new.

use std::collections::HashMap;

use pulse_telemetry_core::contract::{FIELDS, Field, FieldKind};

/// Where the sizes of a histogram begin: 0, 1, 2 to 5, and so on.
pub(super) const SIZES: [u32; 10] = [0, 1, 2, 6, 11, 26, 51, 101, 251, 1001];

/// A value of a row, as the storage lends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lent<'a> {
    /// A text, a word or a choice.
    Text(&'a str),
    /// A count.
    Count(u32),
    /// A flag.
    Flag(bool),
}

/// The fields that are counted, in the order of the contract: all but those that tell installations apart, and those
/// that only make sense beside the version.
pub fn counted_fields() -> impl Iterator<Item = &'static Field> {
    FIELDS.iter().filter(|field| !NOT_COUNTED.contains(&field.name))
}

const NOT_COUNTED: [&str; 5] = ["install_id", "event", "version_raw", "version_build", "version_is_development"];

/// The fields that a version decides. They are no tables of their own: beside one of versions they would tell what is
/// folded there.
pub(super) const VERSION: [&str; 3] = ["version", "version_channel", "version_is_published_release"];

/// What is counted together with a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct VersionClass {
    /// Its channel.
    pub(super) channel: &'static str,
    /// Whether it is that of a published release.
    pub(super) published: bool,
}

/// The exact numbers of one field.
#[derive(Debug)]
pub(super) enum FieldTally {
    Words(HashMap<Box<str>, u64>),
    Sizes([u64; SIZES.len()]),
    Flags { yes: u64, no: u64 },
}

/// The exact numbers of one day.
#[derive(Debug)]
pub struct DayTally {
    pub(super) ids: u64,
    pub(super) versions: HashMap<Box<str>, Vec<(VersionClass, u64)>>,
    pub(super) fields: Vec<(&'static Field, FieldTally)>,
}

impl Default for DayTally {
    fn default() -> Self {
        let tables = counted_fields().filter(|field| !VERSION.contains(&field.name));
        let fields = tables.map(|field| {
            let tally = match field.kind {
                FieldKind::Count => FieldTally::Sizes([0; SIZES.len()]),
                FieldKind::Flag => FieldTally::Flags { yes: 0, no: 0 },
                FieldKind::InstallId | FieldKind::Text { .. } | FieldKind::Word | FieldKind::Choice(_) => {
                    FieldTally::Words(HashMap::new())
                }
            };
            (field, tally)
        });
        Self { ids: 0, versions: HashMap::new(), fields: fields.collect() }
    }
}

impl DayTally {
    /// Counts one ID by the values of its last ping of the day, in the order of [`counted_fields`].
    pub fn add(&mut self, values: &[Lent<'_>]) {
        self.ids += 1;
        let (mut version, mut class) = ("", VersionClass { channel: "unknown", published: false });
        let mut tallies = self.fields.iter_mut();
        for (field, value) in counted_fields().zip(values) {
            match (field.name, *value) {
                ("version", Lent::Text(text)) => version = text,
                ("version_channel", Lent::Text(text)) => class.channel = channel(field, text),
                ("version_is_published_release", Lent::Flag(flag)) => class.published = flag,
                (_, value) => {
                    if let Some((_, tally)) = tallies.next() {
                        tally.add(value);
                    }
                }
            }
        }
        let classes = match self.versions.get_mut(version) {
            Some(classes) => classes,
            None => self.versions.entry(version.into()).or_default(),
        };
        match classes.iter_mut().find(|(known, _)| *known == class) {
            Some((_, ids)) => *ids += 1,
            None => classes.push((class, 1)),
        }
    }
}

impl FieldTally {
    fn add(&mut self, value: Lent<'_>) {
        match (self, value) {
            (Self::Words(words), Lent::Text(text)) => match words.get_mut(text) {
                Some(ids) => *ids += 1,
                None => {
                    words.insert(text.into(), 1);
                }
            },
            (Self::Sizes(sizes), Lent::Count(count)) => {
                let at = SIZES.iter().rposition(|from| *from <= count).unwrap_or_default();
                if let Some(ids) = sizes.get_mut(at) {
                    *ids += 1;
                }
            }
            (Self::Flags { yes, .. }, Lent::Flag(true)) => *yes += 1,
            (Self::Flags { no, .. }, Lent::Flag(false)) => *no += 1,
            // The storage lends a value of the field's kind.
            (Self::Words(_) | Self::Sizes(_) | Self::Flags { .. }, _) => {}
        }
    }
}

/// The contract's own word for a channel.
fn channel(field: &'static Field, text: &str) -> &'static str {
    match field.kind {
        FieldKind::Choice(words) => words.iter().copied().find(|word| *word == text).unwrap_or("unknown"),
        _ => "unknown",
    }
}
