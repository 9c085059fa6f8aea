//! The manual pages and the completions: made from the command line as clap knows it.

use std::path::{Path, PathBuf};

use clap::{Arg, Command};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

/// The page and the completions of a program, each with its path.
pub fn of_program(mut program: Command, root: &Path, see_also: &str) -> Vec<(PathBuf, String)> {
    program.build();
    let name = program.get_name().to_owned();
    let mut files = vec![(root.join(format!("man/{name}.1")), page(&program, see_also))];
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

fn page(program: &Command, see_also: &str) -> String {
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
    roff.control("SH", ["FILES"]);
    roff.text([roman(format!(
        "The documents, every key of the configuration and every file are described in /usr/share/doc/{name}."
    ))]);
    roff.control("SH", ["SEE ALSO"]).text([roman(see_also)]);
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
        let mut option: Vec<_> = argument.get_long().map(|long| bold(format!("--{long}"))).into_iter().collect();
        if argument.get_action().takes_values() {
            let space = argument.get_long().map(|_| roman(" "));
            option.extend(space.into_iter().chain([italic(argument.get_value_names().unwrap()[0].as_str())]));
        }
        roff.control("TP", []).text(option).text([roman(argument.get_help().unwrap().to_string())]);
    }
}
