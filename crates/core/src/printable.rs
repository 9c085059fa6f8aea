//! Texts that others chose, as a terminal may show them.

/// The text, with U+FFFD in place of each character that could change how what stands around it is shown.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_printable(c) { c } else { char::REPLACEMENT_CHARACTER }).collect()
}

/// Whether the character is shown where it stands and changes nothing else: it is no control character, no format
/// character (direction marks, joiners, tags: Unicode's category Cf), and ends no line or paragraph.
#[must_use]
pub fn is_printable(c: char) -> bool {
    let is_format = matches!(
        c,
        '\u{ad}'
            | '\u{600}'..='\u{605}'
            | '\u{61c}'
            | '\u{6dd}'
            | '\u{70f}'
            | '\u{890}'..='\u{891}'
            | '\u{8e2}'
            | '\u{180e}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{110bd}'
            | '\u{110cd}'
            | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e007f}'
    );
    !c.is_control() && !is_format
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_change_what_stands_around_it_is_replaced_and_letters_of_any_script_are_not() {
        for hostile in [
            '\0',
            '\t',
            '\n',
            '\r',
            '\u{1b}',
            '\u{7f}',
            '\u{85}',
            '\u{9b}',
            '\u{ad}',
            '\u{61c}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{fff9}',
            '\u{1d173}',
            '\u{e0041}',
            '\u{e007f}',
        ] {
            assert_eq!(printable(&format!("a{hostile}b")), "a\u{fffd}b", "U+{:04X}", u32::from(hostile));
        }
        for shown in ["pve01 – Büro", "日本語", "عربى", "a\u{301}", "\u{fffd}", " "] {
            assert_eq!(printable(shown), shown);
        }
    }
}
