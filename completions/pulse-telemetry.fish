# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pulse_telemetry_global_optspecs
    string join \n config= h/help V/version
end

function __fish_pulse_telemetry_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_pulse_telemetry_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_pulse_telemetry_using_subcommand
    set -l cmd (__fish_pulse_telemetry_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -l config -d 'The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -s V -l version -d 'Print version'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -f -a "run" -d 'Run the daemon: send the pings, serve the local page and API (the default)'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -f -a "preview" -d 'Print the exact bytes of the heartbeat that would be sent now, and nothing else'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -f -a "reset-id" -d 'Replace the install ID by a new one at once'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -f -a "forget" -d 'Have everything that was sent deleted at the endpoint, where that offers it'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -f -a "status" -d 'Tell whether telemetry is on, who decided it, what is due next and what became of the last ping'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -f -a "check" -d 'Check the configuration, the token\'s scopes and what Pulse answers; the endpoint is not contacted'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -f -a "history" -d 'Show what was sent, tried, held back and switched, one line an entry, the newest last'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -f -a "events" -d 'Show the local-only commercial events that are kept, one line each, the newest last, and who decides about them'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -f -a "audit" -d 'Check the history against what this program promises, and say what was checked and what was found'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -f -a "on" -d 'Turn the local switch on'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -f -a "off" -d 'Turn the local switch off: nothing is sent any more, and the install ID is deleted'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -f -a "healthcheck" -d 'End with 0 where the daemon answers, for containers'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand run" -l config -d 'The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand run" -s h -l help -d 'Print help'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand preview" -l config -d 'The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand preview" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand reset-id" -l config -d 'The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand reset-id" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand forget" -l config -d 'The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand forget" -l cancel -d 'Ask for no deletion any more that is not done yet'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand forget" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand status" -l config -d 'The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand status" -l json -d 'As JSON'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand status" -s h -l help -d 'Print help'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand check" -l config -d 'The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand check" -l compare -d 'Compare the ping with the one that Pulse would send itself, field by field; ends with 7 where they differ'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand history" -l limit -d 'The newest N entries' -r
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand history" -l config -d 'The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand history" -l json -d 'As it is stored: one JSON object a line, the exact bytes of every attempt included'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand history" -l bodies -d 'Show the exact bytes of every attempt'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand history" -l erase -d 'Erase the whole history, and leave one entry that says so'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand history" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand events" -l config -d 'The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand events" -l json -d 'As JSON'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand events" -l erase -d 'Erase them'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand events" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand audit" -l since -d 'A line of the history must have this hash: what an earlier audit told of its newest line' -r
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand audit" -l receipt-keys -d 'Verify the receipts with the public keys in this file, a JWK set [default: telemetry.receipt_keys_file]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand audit" -l config -d 'The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand audit" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand on" -l config -d 'The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand on" -s h -l help -d 'Print help'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand off" -l config -d 'The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand off" -s h -l help -d 'Print help'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand healthcheck" -l config -d 'The configuration file [default: /etc/pulse-telemetry/config.toml, where it exists]' -r -F
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand healthcheck" -s h -l help -d 'Print help'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand help; and not __fish_seen_subcommand_from run preview reset-id forget status check history events audit on off healthcheck help" -f -a "run" -d 'Run the daemon: send the pings, serve the local page and API (the default)'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand help; and not __fish_seen_subcommand_from run preview reset-id forget status check history events audit on off healthcheck help" -f -a "preview" -d 'Print the exact bytes of the heartbeat that would be sent now, and nothing else'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand help; and not __fish_seen_subcommand_from run preview reset-id forget status check history events audit on off healthcheck help" -f -a "reset-id" -d 'Replace the install ID by a new one at once'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand help; and not __fish_seen_subcommand_from run preview reset-id forget status check history events audit on off healthcheck help" -f -a "forget" -d 'Have everything that was sent deleted at the endpoint, where that offers it'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand help; and not __fish_seen_subcommand_from run preview reset-id forget status check history events audit on off healthcheck help" -f -a "status" -d 'Tell whether telemetry is on, who decided it, what is due next and what became of the last ping'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand help; and not __fish_seen_subcommand_from run preview reset-id forget status check history events audit on off healthcheck help" -f -a "check" -d 'Check the configuration, the token\'s scopes and what Pulse answers; the endpoint is not contacted'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand help; and not __fish_seen_subcommand_from run preview reset-id forget status check history events audit on off healthcheck help" -f -a "history" -d 'Show what was sent, tried, held back and switched, one line an entry, the newest last'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand help; and not __fish_seen_subcommand_from run preview reset-id forget status check history events audit on off healthcheck help" -f -a "events" -d 'Show the local-only commercial events that are kept, one line each, the newest last, and who decides about them'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand help; and not __fish_seen_subcommand_from run preview reset-id forget status check history events audit on off healthcheck help" -f -a "audit" -d 'Check the history against what this program promises, and say what was checked and what was found'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand help; and not __fish_seen_subcommand_from run preview reset-id forget status check history events audit on off healthcheck help" -f -a "on" -d 'Turn the local switch on'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand help; and not __fish_seen_subcommand_from run preview reset-id forget status check history events audit on off healthcheck help" -f -a "off" -d 'Turn the local switch off: nothing is sent any more, and the install ID is deleted'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand help; and not __fish_seen_subcommand_from run preview reset-id forget status check history events audit on off healthcheck help" -f -a "healthcheck" -d 'End with 0 where the daemon answers, for containers'
complete -c pulse-telemetry -n "__fish_pulse_telemetry_using_subcommand help; and not __fish_seen_subcommand_from run preview reset-id forget status check history events audit on off healthcheck help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
