//! The manual pages and the completions: made from the command line as clap knows it, and from tables and sections of
//! the documents, so that there is no second text to keep true.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

/// What a manual page has besides the command line: sections by title and what they hold.
pub struct Sections<'a>(pub &'a [(&'a str, &'a [Part<'a>])]);

/// A piece of a section.
pub enum Part<'a> {
    /// All that a document says between this heading (none: its first) and the next, but for what is generated there.
    Said { document: &'a str, heading: Option<&'a str> },
    /// The tables there.
    Tables { document: &'a str, heading: &'a str },
    /// This.
    Text(&'a str),
}

/// The page and the completions of a program, each with its path.
pub fn of_program(mut program: Command, root: &Path, sections: &Sections<'_>) -> Vec<(PathBuf, String)> {
    program.build();
    let name = program.get_name().to_owned();
    let mut files = vec![(root.join(format!("man/{name}.1")), page(&program, root, sections))];
    for (shell, file) in [
        (Shell::Bash, format!("completions/{name}.bash")),
        (Shell::Zsh, format!("completions/_{name}")),
        (Shell::Fish, format!("completions/{name}.fish")),
    ] {
        let mut script = Vec::new();
        clap_complete::generate(shell, &mut program, &name, &mut script);
        files.push((root.join(file), without_trailing_spaces(&script)));
    }
    files
}

fn without_trailing_spaces(text: &[u8]) -> String {
    std::str::from_utf8(text).unwrap().lines().flat_map(|line| [line.trim_end(), "\n"]).collect()
}

fn page(program: &Command, root: &Path, sections: &Sections<'_>) -> String {
    let man = Man::new(program.clone());
    // Without a date, so that it changes with its content only.
    let (name, version) = (program.get_name(), program.get_version().unwrap());
    let mut page =
        format!(".TH {} 1 \"\" \"{name} {version}\" \"Pulse telemetry\"\n", name.to_uppercase()).into_bytes();
    man.render_name_section(&mut page).unwrap();
    man.render_synopsis_section(&mut page).unwrap();
    man.render_description_section(&mut page).unwrap();
    man.render_options_section(&mut page).unwrap();
    let mut roff = Roff::new();
    roff.control("SH", ["COMMANDS"]);
    for command in program.get_subcommands().filter(|command| command.get_name() != "help") {
        describe(&mut roff, command);
    }
    for (title, parts) in sections.0 {
        roff.control("SH", [*title]);
        for part in *parts {
            match part {
                Part::Said { document, heading } => write(&mut roff, &section(root, document, *heading), false),
                Part::Tables { document, heading } => write(&mut roff, &section(root, document, Some(heading)), true),
                Part::Text(text) => {
                    roff.text([roman(*text)]);
                }
            }
        }
    }
    page.extend(roff.to_roff().bytes());
    without_trailing_spaces(&page)
}

/// A command, what it does, and the options that are its own.
fn describe(roff: &mut Roff, command: &Command) {
    let own = |argument: &&Arg| !argument.is_global_set() && argument.get_id() != "help";
    roff.control("SS", [command.get_name()]);
    let about = command.get_long_about().or(command.get_about()).unwrap().to_string();
    for (number, paragraph) in about.split("\n\n").enumerate() {
        if number > 0 {
            roff.control("PP", []);
        }
        roff.text([roman(paragraph)]);
    }
    for argument in command.get_arguments().filter(own) {
        let mut option = vec![bold(format!("--{}", argument.get_long().unwrap()))];
        if argument.get_action().takes_values() {
            option.extend([roman(" "), italic(argument.get_value_names().unwrap()[0].as_str())]);
        }
        roff.control("TP", []).text(option).text([roman(argument.get_help().unwrap().to_string())]);
    }
}

/// What a document says between a heading and the next, without what `make generate` writes there.
fn section(root: &Path, document: &str, heading: Option<&str>) -> String {
    let text = fs::read_to_string(root.join(document)).unwrap();
    let start = heading.map_or(text.find("\n\n").unwrap(), |heading| {
        let line = format!("\n## {heading}\n");
        text.find(&line).unwrap_or_else(|| panic!("{document} has no heading {heading}")) + line.len()
    });
    let rest = &text[start..];
    let end = ["\n## ", "\n<!--"].iter().filter_map(|mark| rest.find(mark)).min();
    rest[..end.unwrap_or(rest.len())].to_owned()
}

/// Markdown as roff. A row of a table is a term and what is said of it.
fn write(roff: &mut Roff, markdown: &str, only_tables: bool) {
    let mut line: Vec<Inline> = Vec::new();
    let (mut in_table, mut in_head, mut cells, mut number) = (false, false, 0, None);
    for event in Parser::new_ext(markdown, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Table(_)) => in_table = true,
            Event::End(TagEnd::Table) => {
                in_table = false;
                roff.control("PP", []);
            }
            _ if only_tables && !in_table => {}
            Event::Start(Tag::TableHead) => in_head = true,
            Event::Start(Tag::TableRow) => {
                cells = 0;
                roff.control("TP", []);
            }
            Event::End(TagEnd::TableHead) => {
                in_head = false;
                line.clear();
            }
            Event::End(TagEnd::TableCell) if !in_head => {
                cells += 1;
                // Further cells follow in the same text.
                if cells == 1 {
                    roff.text(std::mem::take(&mut line));
                } else {
                    line.push(roman(" "));
                }
            }
            Event::Start(Tag::List(first)) => number = first,
            Event::Start(Tag::Item) => {
                let mark = number.map_or("\\(bu".to_owned(), |number| format!("{number}."));
                roff.control("IP", [mark.as_str(), "4"]);
                number = number.map(|number| number + 1);
            }
            Event::Start(Tag::Paragraph) => {
                roff.control("PP", []);
            }
            Event::End(TagEnd::TableRow | TagEnd::Item | TagEnd::Paragraph) => {
                roff.text(std::mem::take(&mut line));
            }
            Event::Text(text) => line.push(roman(text.to_string())),
            Event::Code(text) => line.push(bold(text.to_string())),
            Event::SoftBreak => line.push(roman(" ")),
            _ => {}
        }
    }
}
