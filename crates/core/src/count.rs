//! Counts the elements of JSON arrays while the document arrives, in memory that does not grow with it.
//!
//! Accepts exactly the documents that `serde_json` accepts from a slice when it ignores their content, but for the
//! depth: more than 127 arrays and objects inside of each other are refused, as in `serde_json::Value`.

use crate::observation::Reason;

/// Why a document could not be counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A byte that no JSON document has at this place.
    #[error("it is not JSON")]
    NotJson,
    /// The input ended inside of the document.
    #[error("it ends inside of the JSON document")]
    CutShort,
    /// JSON, but something else than an array stands where one should.
    #[error("it has no array where one is expected")]
    WrongShape,
    /// More than 127 arrays and objects inside of each other.
    #[error("it is nested too deeply")]
    TooDeep,
}

impl From<Malformed> for Reason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::NotJson => Self::NotJson,
            Malformed::CutShort => Self::CutShort,
            Malformed::WrongShape | Malformed::TooDeep => Self::WrongShape,
        }
    }
}

/// The lengths that were counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    names: &'static [&'static str],
    lengths: Vec<Length>,
}

impl Counts {
    /// How many elements the document has, for [`Counter::elements`].
    #[must_use]
    pub fn elements(&self) -> u64 {
        self.lengths.first().copied().and_then(Length::known).unwrap_or(0)
    }

    /// How many elements the member of that name has, for [`Counter::members`]; `None` where the document has no such
    /// member, or its name was not asked for.
    #[must_use]
    pub fn member(&self, name: &str) -> Option<u64> {
        let at = self.names.iter().position(|known| *known == name)?;
        self.lengths.get(at).copied().and_then(Length::known)
    }
}

/// Takes a JSON document piece by piece and counts the elements of the arrays that were asked for.
#[derive(Clone, Debug)]
pub struct Counter {
    wanted: Wanted,
    lengths: Vec<Length>,
    /// The array that is open and counted.
    counting: Option<usize>,
    /// The wanted member whose key has just been read.
    member: Option<usize>,
    key: Key,
    state: ScanState,
    depth: u32,
    /// One bit for each open container, the innermost lowest: 1 is an object.
    objects: u128,
    root_is_wrong: bool,
    broken: Option<Malformed>,
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Elements,
    Members(&'static [&'static str]),
}

impl Wanted {
    /// The depth of what is counted: elements of the document itself, or of its members.
    fn depth(self) -> u32 {
        match self {
            Self::Elements => 1,
            Self::Members(_) => 2,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Length {
    Absent,
    NotAnArray,
    Known(u64),
}

impl Length {
    fn of_value(first_byte: u8) -> Self {
        match first_byte {
            // Go writes an empty list that was never made as null.
            b'[' | b'n' => Self::Known(0),
            _ => Self::NotAnArray,
        }
    }

    fn known(self) -> Option<u64> {
        match self {
            Self::Known(length) => Some(length),
            Self::Absent | Self::NotAnArray => None,
        }
    }
}

/// What the next byte belongs to.
#[derive(Clone, Copy, Debug)]
enum ScanState {
    Value,
    FirstElement,
    FirstKey,
    Key,
    Colon,
    AfterValue,
    Text(Text),
    Escape(Text),
    /// How many digits of a `\u` escape are missing, and what those before them say.
    Hex(Text, u8, u16),
    /// What is missing of `true`, `false` or `null`.
    Word(&'static [u8]),
    Number(Number),
}

#[derive(Clone, Copy, Debug)]
enum Text {
    Value,
    Key,
}

#[derive(Clone, Copy, Debug)]
enum Number {
    Minus,
    Zero,
    Integer,
    Point,
    Fraction,
    Exponent,
    ExponentSign,
    ExponentDigits,
}

impl Number {
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Integer, b'0'..=b'9') => Self::Integer,
            (Self::Zero | Self::Integer, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Integer | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::ExponentSign,
            (Self::Exponent | Self::ExponentSign | Self::ExponentDigits, b'0'..=b'9') => Self::ExponentDigits,
            _ => return None,
        })
    }

    /// Whether it stays as it is, however many digits follow.
    fn takes_digits(self) -> bool {
        matches!(self, Self::Integer | Self::Fraction | Self::ExponentDigits)
    }

    fn is_whole(self) -> bool {
        matches!(self, Self::Zero | Self::Integer | Self::Fraction | Self::ExponentDigits)
    }
}

/// As many bytes of a key as a wanted name can have.
#[derive(Clone, Copy, Debug, Default)]
struct Key {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl Key {
    const MAX: usize = 32;

    fn push(&mut self, more: &[u8]) {
        if let Some(free) = self.bytes.get_mut(self.len..).and_then(|free| free.get_mut(..more.len())) {
            free.copy_from_slice(more);
            self.len += more.len();
        } else {
            self.spoil();
        }
    }

    /// Makes it a key that has no wanted name.
    fn spoil(&mut self) {
        self.len = usize::MAX;
    }

    fn is(&self, name: &str) -> bool {
        self.bytes.get(..self.len) == Some(name.as_bytes())
    }
}

impl Counter {
    /// Counts the elements of a document that is an array; `null` has none.
    #[must_use]
    pub fn elements() -> Self {
        Self::new(Wanted::Elements, 1)
    }

    /// Counts the elements of the named members of a document that is an object; `null` has none.
    ///
    /// Names are ASCII and have 32 bytes at most. Where the document has a member twice, the last one counts.
    #[must_use]
    pub fn members(names: &'static [&'static str]) -> Self {
        debug_assert!(names.iter().all(|name| name.is_ascii() && name.len() <= Key::MAX));
        Self::new(Wanted::Members(names), names.len())
    }

    fn new(wanted: Wanted, lengths: usize) -> Self {
        Self {
            wanted,
            lengths: vec![Length::Absent; lengths],
            counting: None,
            member: None,
            key: Key::default(),
            state: ScanState::Value,
            depth: 0,
            objects: 0,
            root_is_wrong: false,
            broken: None,
        }
    }

    /// Takes the next piece of the document.
    ///
    /// # Errors
    /// [`Malformed::NotJson`] or [`Malformed::TooDeep`], from then on at every call.
    pub fn push(&mut self, chunk: &[u8]) -> Result<(), Malformed> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        self.scan(chunk).inspect_err(|&malformed| self.broken = Some(malformed))
    }

    /// The counts, once the whole document has been pushed.
    ///
    /// # Errors
    /// What `push` found; [`Malformed::CutShort`] where the document is not whole; [`Malformed::WrongShape`] where it,
    /// or one of the members, is neither an array (or object) nor null.
    pub fn finish(self) -> Result<Counts, Malformed> {
        if let Some(broken) = self.broken {
            return Err(broken);
        }
        let value_is_whole = match self.state {
            ScanState::AfterValue => true,
            ScanState::Number(number) => number.is_whole(),
            _ => false,
        };
        if self.depth > 0 || !value_is_whole {
            return Err(Malformed::CutShort);
        }
        if self.root_is_wrong || self.lengths.contains(&Length::NotAnArray) {
            return Err(Malformed::WrongShape);
        }
        let names = match self.wanted {
            Wanted::Elements => &[],
            Wanted::Members(names) => names,
        };
        Ok(Counts { names, lengths: self.lengths })
    }

    fn scan(&mut self, mut rest: &[u8]) -> Result<(), Malformed> {
        loop {
            // Strings and numbers are most of a document, so what is plain in them is passed over at once.
            match self.state {
                ScanState::Text(text) => {
                    let (plain, special) = rest.split_at(plain_len(rest));
                    self.note(text, plain);
                    rest = special;
                }
                ScanState::Number(number) => {
                    let digits = if number.takes_digits() { leading_digits(rest) } else { 0 };
                    rest = rest.get(digits..).unwrap_or_default();
                    if rest.first().is_some_and(|&byte| number.is_whole() && number.next(byte).is_none()) {
                        self.state = ScanState::AfterValue;
                    }
                }
                ScanState::Word(missing) if rest.starts_with(missing) => {
                    self.state = ScanState::AfterValue;
                    rest = rest.get(missing.len()..).unwrap_or_default();
                }
                _ => {}
            }
            let Some((&byte, tail)) = rest.split_first() else { return Ok(()) };
            self.step(byte)?;
            rest = tail;
        }
    }

    #[inline]
    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        match self.state {
            ScanState::Text(text) => self.special_in_text(text, byte)?,
            ScanState::Escape(text) => self.escaped(text, byte)?,
            ScanState::Hex(text, missing, unit) => self.hex(text, missing, unit, byte)?,
            ScanState::Word(missing) => match missing.split_first() {
                Some((&expected, [])) if expected == byte => self.state = ScanState::AfterValue,
                Some((&expected, missing)) if expected == byte => self.state = ScanState::Word(missing),
                _ => return Err(Malformed::NotJson),
            },
            ScanState::Number(number) => self.state = ScanState::Number(number.next(byte).ok_or(Malformed::NotJson)?),
            _ if matches!(byte, b' ' | b'\n' | b'\t' | b'\r') => {}
            ScanState::FirstElement if byte == b']' => self.close(),
            ScanState::Value | ScanState::FirstElement => self.value(byte)?,
            ScanState::FirstKey if byte == b'}' => self.close(),
            ScanState::FirstKey | ScanState::Key if byte == b'"' => {
                self.key = Key::default();
                self.state = ScanState::Text(Text::Key);
            }
            ScanState::Colon if byte == b':' => self.state = ScanState::Value,
            ScanState::AfterValue => self.after_value(byte)?,
            ScanState::FirstKey | ScanState::Key | ScanState::Colon => return Err(Malformed::NotJson),
        }
        Ok(())
    }

    fn value(&mut self, first_byte: u8) -> Result<(), Malformed> {
        if self.depth <= self.wanted.depth() {
            self.count(first_byte);
        }
        match first_byte {
            b'[' => return self.open(false),
            b'{' => return self.open(true),
            b'"' => self.state = ScanState::Text(Text::Value),
            b't' => self.state = ScanState::Word(b"rue"),
            b'f' => self.state = ScanState::Word(b"alse"),
            b'n' => self.state = ScanState::Word(b"ull"),
            b'-' => self.state = ScanState::Number(Number::Minus),
            b'0' => self.state = ScanState::Number(Number::Zero),
            b'1'..=b'9' => self.state = ScanState::Number(Number::Integer),
            _ => return Err(Malformed::NotJson),
        }
        Ok(())
    }

    /// Notes that a value begins, and with it perhaps an array to be counted.
    fn count(&mut self, first_byte: u8) {
        if self.depth == self.wanted.depth() {
            if let Some(Length::Known(length)) = self.counting.and_then(|at| self.lengths.get_mut(at)) {
                *length += 1;
            }
            return;
        }
        let begins = match self.wanted {
            Wanted::Elements => Some(0),
            Wanted::Members(_) if self.depth == 0 => {
                self.root_is_wrong = first_byte != b'{';
                None
            }
            Wanted::Members(_) => self.member.take(),
        };
        if let Some(at) = begins {
            if let Some(length) = self.lengths.get_mut(at) {
                *length = Length::of_value(first_byte);
            }
            self.counting = (first_byte == b'[').then_some(at);
        }
    }

    fn open(&mut self, is_object: bool) -> Result<(), Malformed> {
        if self.depth == 127 {
            return Err(Malformed::TooDeep);
        }
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(is_object);
        self.state = if is_object { ScanState::FirstKey } else { ScanState::FirstElement };
        Ok(())
    }

    fn close(&mut self) {
        if self.depth == self.wanted.depth() {
            self.counting = None;
        }
        self.depth -= 1;
        self.objects >>= 1;
        self.state = ScanState::AfterValue;
    }

    fn after_value(&mut self, byte: u8) -> Result<(), Malformed> {
        let in_object = self.objects & 1 == 1;
        match byte {
            _ if self.depth == 0 => return Err(Malformed::NotJson),
            b',' => self.state = if in_object { ScanState::Key } else { ScanState::Value },
            b']' if !in_object => self.close(),
            b'}' if in_object => self.close(),
            _ => return Err(Malformed::NotJson),
        }
        Ok(())
    }

    fn special_in_text(&mut self, text: Text, byte: u8) -> Result<(), Malformed> {
        match (byte, text) {
            (b'\\', _) => self.state = ScanState::Escape(text),
            (b'"', Text::Value) => self.state = ScanState::AfterValue,
            (b'"', Text::Key) => {
                self.state = ScanState::Colon;
                if let Wanted::Members(names) = self.wanted
                    && self.depth == 1
                {
                    self.member = names.iter().position(|name| self.key.is(name));
                }
            }
            // A control character that is not escaped.
            _ => return Err(Malformed::NotJson),
        }
        Ok(())
    }

    fn escaped(&mut self, text: Text, byte: u8) -> Result<(), Malformed> {
        let decoded = match byte {
            b'"' | b'\\' | b'/' => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                self.state = ScanState::Hex(text, 4, 0);
                return Ok(());
            }
            _ => return Err(Malformed::NotJson),
        };
        self.note(text, &[decoded]);
        self.state = ScanState::Text(text);
        Ok(())
    }

    fn hex(&mut self, text: Text, missing: u8, unit: u16, byte: u8) -> Result<(), Malformed> {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return Err(Malformed::NotJson),
        };
        let unit = unit << 4 | u16::from(digit);
        if missing > 1 {
            self.state = ScanState::Hex(text, missing - 1, unit);
            return Ok(());
        }
        match u8::try_from(unit) {
            Ok(decoded) if decoded.is_ascii() => self.note(text, &[decoded]),
            // All wanted names are ASCII.
            _ => self.key.spoil(),
        }
        self.state = ScanState::Text(text);
        Ok(())
    }

    /// Keeps what has been read of a key that may be a wanted member's.
    fn note(&mut self, text: Text, decoded: &[u8]) {
        if let (Text::Key, 1, Wanted::Members(_)) = (text, self.depth, self.wanted) {
            self.key.push(decoded);
        }
    }
}

fn leading_digits(text: &[u8]) -> usize {
    text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len())
}

/// How many bytes of a string come before the first quote, backslash or control character.
fn plain_len(text: &[u8]) -> usize {
    let is_special = |&byte: &u8| byte == b'"' || byte == b'\\' || byte < 0x20;
    let (eights, rest) = text.as_chunks::<8>();
    for (at, eight) in eights.iter().enumerate() {
        let special = special_bytes(u64::from_le_bytes(*eight));
        if special != 0 {
            return at * 8 + (special.trailing_zeros() / 8) as usize;
        }
    }
    eights.len() * 8 + rest.iter().position(is_special).unwrap_or(rest.len())
}

/// The high bits of the bytes that are a quote, a backslash or a control character, all eight looked at together. Only
/// the lowest bit that is set is sure to be right.
fn special_bytes(eight: u64) -> u64 {
    const EACH: u64 = u64::MAX / 255;
    const HIGH: u64 = EACH * 0x80;
    // The high bit of a byte below `n`, for n ≤ 128: subtracting borrows into it. A borrow that runs on into a higher
    // byte only comes from one that was below `n` itself, so the lowest is right.
    let below = |bytes: u64, n: u64| bytes.wrapping_sub(EACH * n) & !bytes & HIGH;
    let equal = |byte: u8| below(eight ^ (EACH * u64::from(byte)), 1);
    below(eight, 0x20) | equal(b'"') | equal(b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &str) -> Result<u64, Malformed> {
        let mut counter = Counter::elements();
        let _ = counter.push(text.as_bytes());
        counter.finish().map(|counts| counts.elements())
    }

    fn members(text: &str) -> Result<[Option<u64>; 2], Malformed> {
        let mut counter = Counter::members(&["vms", "nodes"]);
        let _ = counter.push(text.as_bytes());
        counter.finish().map(|counts| [counts.member("vms"), counts.member("nodes")])
    }

    #[test]
    fn elements_are_those_of_the_document_and_not_of_what_it_holds() {
        assert_eq!(elements(" [1, [2, 3], {\"a\": [4]}, \"]\", null] "), Ok(5));
        assert_eq!(elements("[]"), Ok(0));
        assert_eq!(elements("null"), Ok(0));
    }

    #[test]
    fn members_are_those_of_the_top_and_are_told_from_absent_ones() {
        assert_eq!(members(r#"{"x":{"vms":[1]},"nodes":[1,[2],{"vms":[3]}],"y":["vms"]}"#), Ok([None, Some(3)]));
        assert_eq!(members(r#"{"vms":null,"nodes":[]}"#), Ok([Some(0), Some(0)]));
        assert_eq!(members(r#"{"v\u006ds":[1],"node\u0073\u00e9":[1]}"#), Ok([Some(1), None]));
        assert_eq!(members(r#"{"vms":7,"vms":[1,2],"vms":[1]}"#), Ok([Some(1), None]));
    }

    #[test]
    fn another_shape_is_told_from_a_count_of_zero() {
        for other in ["{}", "7", "true", "\"[]\""] {
            assert_eq!(elements(other), Err(Malformed::WrongShape), "{other}");
        }
        for other in ["[]", "null", "7", r#"{"vms":{}}"#, r#"{"vms":[],"nodes":0}"#, r#"{"vms":"[]"}"#] {
            assert_eq!(members(other), Err(Malformed::WrongShape), "{other}");
        }
    }

    #[test]
    fn an_end_inside_of_the_document_is_told_from_nonsense() {
        for cut in ["", " ", "[", "[1", "[1,", "[\"a", "[\"\\", "[\"\\u00", "[{\"a\":", "tru", "-", "[[]"] {
            assert_eq!(elements(cut), Err(Malformed::CutShort), "{cut}");
        }
        for nonsense in ["<html>", "[1 2]", "[1,]", "[] x", "[]]", "{,}", "[01]", "[\"\n\"]", "[\"\\x\"]", "\u{feff}[]"]
        {
            assert_eq!(elements(nonsense), Err(Malformed::NotJson), "{nonsense}");
        }
    }

    #[test]
    fn depth_is_limited_as_in_serde_json() {
        for depth in [126, 127, 128, 129, 1000] {
            let text = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
            let value = serde_json::from_str::<serde_json::Value>(&text);
            assert_eq!(elements(&text).is_ok(), value.is_ok(), "{depth}");
        }
        assert_eq!(elements(&"[".repeat(1000)), Err(Malformed::TooDeep));
    }

    #[test]
    fn what_broke_once_stays_broken() {
        let mut counter = Counter::elements();
        assert_eq!(counter.push(b"[}"), Err(Malformed::NotJson));
        assert_eq!(counter.push(b"]"), Err(Malformed::NotJson));
        assert_eq!(counter.finish(), Err(Malformed::NotJson));
    }
}
