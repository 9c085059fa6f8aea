//! As much of an X.509 certificate as the TLS library does not tell: from when to when it holds.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// The version, which a certificate of version 1 leaves out.
const VERSION: u8 = 0xa0;

/// From when to when a certificate holds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// Its first second.
    pub not_before: Timestamp,
    /// Its last second.
    pub not_after: Timestamp,
}

/// From when to when the certificate in `der` holds; `None` where it is no certificate.
#[must_use]
pub fn validity(der: &[u8]) -> Option<Validity> {
    let mut fields = Der(Der(der).only(SEQUENCE)?.next(SEQUENCE)?);
    if fields.0.first() == Some(&VERSION) {
        fields.next(VERSION)?;
    }
    fields.next(INTEGER)?;
    // The algorithm of the signature, and the issuer.
    fields.next(SEQUENCE)?;
    fields.next(SEQUENCE)?;
    let mut times = Der(fields.next(SEQUENCE)?);
    let validity = Validity { not_before: times.time()?, not_after: times.time()? };
    times.0.is_empty().then_some(validity)
}

/// DER that is read from its beginning.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// The content of the next value, where it has that tag.
    fn next(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&found, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = if first < 0x80 {
            (usize::from(first), rest)
        } else {
            // Of a certificate none is longer than fits into four bytes.
            let bytes = usize::from(first & 0x7f);
            let (length, rest) = rest.split_at_checked(bytes).filter(|_| (1..=4).contains(&bytes))?;
            (length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        };
        let (content, rest) = rest.split_at_checked(length).filter(|_| found == tag)?;
        self.0 = rest;
        Some(content)
    }

    /// The content of the one value that there is.
    fn only(mut self, tag: u8) -> Option<Self> {
        let content = self.next(tag)?;
        self.0.is_empty().then_some(Self(content))
    }

    /// A time, as a certificate writes it: in UTC, with seconds, in two or four digits of the year.
    fn time(&mut self) -> Option<Timestamp> {
        let (text, century) = match self.0.first()? {
            &UTC_TIME => (self.next(UTC_TIME)?, None),
            _ => {
                let text = self.next(GENERALIZED_TIME)?;
                let (century, rest) = text.split_at_checked(2)?;
                (rest, Some(two_digits(century)?))
            }
        };
        let digits = text.strip_suffix(b"Z").filter(|digits| digits.len() == 12)?;
        let mut parts = digits.chunks_exact(2).map(two_digits);
        let mut next = || parts.next().flatten();
        let (year, month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?, next()?);
        // RFC 5280: two digits stand for 1950 to 2049.
        let century = century.unwrap_or(if year < 50 { 20 } else { 19 });
        let year = i16::from(century) * 100 + i16::from(year);
        let civil = DateTime::new(year, month, day, hour, minute, second, 0).ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    }
}

fn two_digits(text: &[u8]) -> Option<i8> {
    match text {
        [tens @ b'0'..=b'9', ones @ b'0'..=b'9'] => i8::try_from((tens - b'0') * 10 + (ones - b'0')).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    fn certificate(from: (i32, u8, u8), to: (i32, u8, u8)) -> Vec<u8> {
        let mut params = CertificateParams::new(vec!["pulse.lan".to_owned()]).unwrap();
        params.not_before = date_time_ymd(from.0, from.1, from.2);
        params.not_after = date_time_ymd(to.0, to.1, to.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_times_of_a_certificate_are_read_in_both_of_their_spellings() {
        for (from, to, read) in [
            ((2026, 11, 26), (2027, 1, 2), ("2026-11-26T00:00:00Z", "2027-01-02T00:00:00Z")),
            ((1970, 1, 1), (2049, 12, 31), ("1970-01-01T00:00:00Z", "2049-12-31T00:00:00Z")),
            ((2050, 1, 1), (4096, 1, 1), ("2050-01-01T00:00:00Z", "4096-01-01T00:00:00Z")),
        ] {
            let Validity { not_before, not_after } = validity(&certificate(from, to)).unwrap();
            assert_eq!((not_before.to_string().as_str(), not_after.to_string().as_str()), read);
        }
    }

    proptest! {
        #[test]
        fn what_is_no_certificate_has_no_times_and_panics_nowhere(
            at in any::<prop::sample::Index>(),
            byte: u8,
            cut: bool,
        ) {
            let mut der = certificate((2026, 1, 1), (2027, 1, 1));
            let at = at.index(der.len());
            if cut { der.truncate(at) } else { der[at] = byte }
            let read = validity(&der);
            prop_assert!(!cut || read.is_none());
        }
    }
}
