# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pulse_telemetry_collector_global_optspecs
    string join \n config= h/help V/version
end

function __fish_pulse_telemetry_collector_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_pulse_telemetry_collector_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_pulse_telemetry_collector_using_subcommand
    set -l cmd (__fish_pulse_telemetry_collector_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_needs_command" -l config -d 'The configuration file [default: /etc/pulse-telemetry-collector/config.toml, where it exists]' -r -F
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_needs_command" -s V -l version -d 'Print version'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_needs_command" -f -a "run" -d 'Take pings (the default)'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_needs_command" -f -a "purge" -d 'Drop the days that are 90 days old now; the collector does this by itself every hour'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_needs_command" -f -a "report" -d 'Tell how many installations there are, and of what kind, without showing any single one'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_needs_command" -f -a "publish" -d 'Write these numbers as a site that any web server can show'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_needs_command" -f -a "export" -d 'Write the rows of the last 90 days in the form that Pulse\'s own adoption report reads'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_needs_command" -f -a "keygen" -d 'Make a key that signs receipts, for receipts.key_file'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_needs_command" -f -a "check" -d 'Check the configuration and the storage, and show every setting with its origin'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand run" -l config -d 'The configuration file [default: /etc/pulse-telemetry-collector/config.toml, where it exists]' -r -F
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand run" -s h -l help -d 'Print help'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand purge" -l config -d 'The configuration file [default: /etc/pulse-telemetry-collector/config.toml, where it exists]' -r -F
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand purge" -l trust-clock -d 'Also where the clock is more than a week ahead of the newest ping, or a day behind it'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand purge" -s h -l help -d 'Print help'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand report" -l config -d 'The configuration file [default: /etc/pulse-telemetry-collector/config.toml, where it exists]' -r -F
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand report" -l json -d 'As JSON'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand report" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand publish" -l config -d 'The configuration file [default: /etc/pulse-telemetry-collector/config.toml, where it exists]' -r -F
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand publish" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand export" -l sqlite -d 'The SQLite file to make; it must not be there yet' -r -F
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand export" -l config -d 'The configuration file [default: /etc/pulse-telemetry-collector/config.toml, where it exists]' -r -F
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand export" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand keygen" -l config -d 'The configuration file [default: /etc/pulse-telemetry-collector/config.toml, where it exists]' -r -F
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand keygen" -s h -l help -d 'Print help'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand check" -l config -d 'The configuration file [default: /etc/pulse-telemetry-collector/config.toml, where it exists]' -r -F
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand check" -s h -l help -d 'Print help'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand help; and not __fish_seen_subcommand_from run purge report publish export keygen check help" -f -a "run" -d 'Take pings (the default)'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand help; and not __fish_seen_subcommand_from run purge report publish export keygen check help" -f -a "purge" -d 'Drop the days that are 90 days old now; the collector does this by itself every hour'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand help; and not __fish_seen_subcommand_from run purge report publish export keygen check help" -f -a "report" -d 'Tell how many installations there are, and of what kind, without showing any single one'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand help; and not __fish_seen_subcommand_from run purge report publish export keygen check help" -f -a "publish" -d 'Write these numbers as a site that any web server can show'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand help; and not __fish_seen_subcommand_from run purge report publish export keygen check help" -f -a "export" -d 'Write the rows of the last 90 days in the form that Pulse\'s own adoption report reads'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand help; and not __fish_seen_subcommand_from run purge report publish export keygen check help" -f -a "keygen" -d 'Make a key that signs receipts, for receipts.key_file'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand help; and not __fish_seen_subcommand_from run purge report publish export keygen check help" -f -a "check" -d 'Check the configuration and the storage, and show every setting with its origin'
complete -c pulse-telemetry-collector -n "__fish_pulse_telemetry_collector_using_subcommand help; and not __fish_seen_subcommand_from run purge report publish export keygen check help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
