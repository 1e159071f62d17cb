use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::keys::named;
use super::resolve::quote;
use super::*;
use crate::config::{Balance, Config, Spin};

mod faults;

const FILE: &str = "/etc/echod.toml";

/// Resolves the three sources.
fn resolve(
    flags: &[(&str, &str)],
    environment: &[(&str, &str)],
    file: &str,
) -> Result<Resolved, SettingsError> {
    let environment = environment.iter();
    let environment = environment.map(|(name, value)| (name.to_string(), value.to_string()));
    Settings::resolve(flags, environment, Some((Path::new(FILE), file)))
}

#[track_caller]
fn settings(flags: &[(&str, &str)], environment: &[(&str, &str)], file: &str) -> Settings {
    match resolve(flags, environment, file) {
        Ok(resolved) => resolved.settings,
        Err(error) => panic!("{error}"),
    }
}

#[track_caller]
fn endpoints(settings: &Settings) -> Vec<String> {
    let services = settings.config.services.iter();
    services
        .map(|(service, endpoint)| format!("{service} {endpoint}"))
        .collect()
}

#[test]
fn nothing_given_means_the_defaults() {
    assert_eq!(settings(&[], &[], ""), Settings::default());
    assert_eq!(settings(&[], &[], "").config, Config::default());
}

/// The defaults in force are those of the table.
#[test]
fn the_defaults_of_the_table_are_those_of_the_config() {
    for key in KEYS.iter().filter(|key| key.kind != Kind::List) {
        let mut set = Settings::default();
        if !(key.show)(&set).is_empty() {
            assert_eq!((key.apply)(&mut set, key.default), Ok(()), "{}", key.name);
            assert_eq!(set, Settings::default(), "{}", key.name);
        }
    }
}

#[test]
fn names_are_unique_and_spelled_as_flags() {
    let names: HashSet<_> = KEYS.iter().map(|key| key.name).collect();
    assert_eq!(names.len(), KEYS.len());
    for key in KEYS {
        let spelled = key
            .name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        assert!(spelled, "{}", key.name);
        assert!(key.help.ends_with('.'), "{}", key.name);
        assert!(!key.default.is_empty(), "{}", key.name);
    }
}

#[test]
fn a_stronger_source_wins() {
    let flag = [("idle-timeout", "1s")];
    let variable = [("ECHOD_IDLE_TIMEOUT", "2s")];
    let file = "idle-timeout = '3s'";
    for (flags, environment, file, seconds) in [
        (&flag[..], &variable[..], file, 1),
        (&flag, &[], file, 1),
        (&[], &variable, file, 2),
        (&[], &variable, "", 2),
        (&[], &[], file, 3),
    ] {
        assert_eq!(
            settings(flags, environment, file)
                .config
                .limits
                .idle_timeout,
            Some(Duration::from_secs(seconds))
        );
    }
}

#[test]
fn every_form_of_a_value_in_a_file() {
    let set = settings(
        &[],
        &[],
        "
        echo = ['tcp://127.0.0.1:0', 'udp://127.0.0.1:0']
        discard = 'unix:/run/discard.sock'
        unix-mode = 0o660
        workers = 3
        pin = true
        spin = '50us'
        balance = 'least-connections'
        no-nodelay = true
        recv-buffer = 65536
        accept-rate = 0.5
        max-connections = '10k'
        allow = []
        deny = ['10.0.0.0/8', '2001:db8::/32']
        log-format = 'json'
        ",
    );
    assert_eq!(
        endpoints(&set),
        [
            "echo tcp://127.0.0.1:0",
            "echo udp://127.0.0.1:0",
            "discard unix:/run/discard.sock"
        ]
    );
    assert_eq!(set.config.unix_mode, Some(0o660));
    assert_eq!(set.config.workers.get(), 3);
    assert!(set.config.pin);
    assert_eq!(set.config.spin, Spin::For(Duration::from_micros(50)));
    assert_eq!(set.config.balance, Balance::LeastConnections);
    assert!(!set.config.tuning.nodelay);
    assert_eq!(set.config.tuning.recv_buffer, Some(65_536));
    assert_eq!(set.config.limits.accept_rate, Some(0.5));
    assert_eq!(set.config.limits.max_connections, NonZeroUsize::new(10_000));
    assert!(set.config.limits.allow.is_empty());
    assert_eq!(set.config.limits.deny.len(), 2);
    assert_eq!(set.log_format, LogFormat::Json);
}

#[test]
fn a_flag_can_undo_a_setting_of_a_file() {
    let set = settings(
        &[("pin", "false"), ("no-nodelay", "false")],
        &[("ECHOD_UDP_CHARGEN", "no")],
        "pin = true\nno-nodelay = true\nudp-chargen = true",
    );
    assert_eq!(set, Settings::default());
}

/// The printed settings are those in force, with their reason.
#[test]
fn steering_by_cpu_implies_pinning() {
    for (environment, pin) in [
        (&[][..], "pin = true # --balance"),
        (&[("ECHOD_PIN", "true")], "pin = true # ECHOD_PIN"),
    ] {
        let resolved = resolve(&[("balance", "incoming-cpu")], environment, "").unwrap();
        assert!(resolved.settings.config.pin);
        let toml = resolved.to_toml();
        assert!(toml.lines().any(|line| line == pin), "{toml}");
    }
    let error = resolve(&[("balance", "incoming-cpu")], &[], "\npin = false").unwrap_err();
    let said = "pin: balance incoming-cpu binds every worker to its CPU; leave this out";
    assert_eq!(error.to_string(), format!("{FILE}:2: {said}"));
}

#[test]
fn a_list_replaces_the_whole_list_of_a_weaker_source() {
    let file = "deny = ['10.0.0.0/8', '192.0.2.0/24']";
    let deny = |set: &Settings| named("deny").map(|key| (key.show)(set)).unwrap();
    let set = settings(&[], &[("ECHOD_DENY", " ::1/128 ,, 192.0.2.1/32,")], file);
    assert_eq!(deny(&set), ["::1/128", "192.0.2.1/32"]);
    let set = settings(&[("deny", "::/0"), ("deny", "0.0.0.0/0")], &[], file);
    assert_eq!(deny(&set), ["::/0", "0.0.0.0/0"]);
}

#[test]
fn endpoints_of_all_services_are_replaced_together() {
    let file = "echo = 'tcp://[::1]:1'\nchargen = 'tcp://[::1]:2'";
    let variable = [("ECHOD_DISCARD", "tcp://[::1]:3,tcp://[::1]:4")];
    assert_eq!(
        endpoints(&settings(&[], &[], file)),
        ["echo tcp://[::1]:1", "chargen tcp://[::1]:2"]
    );
    assert_eq!(
        endpoints(&settings(&[], &variable, file)),
        ["discard tcp://[::1]:3", "discard tcp://[::1]:4"]
    );
    assert_eq!(
        endpoints(&settings(&[("chargen", "tcp://[::1]:5")], &variable, file)),
        ["chargen tcp://[::1]:5"]
    );
}

#[test]
fn a_misspelt_variable_is_told_from_those_of_an_orchestrator() {
    let refused = |name: &str| {
        let resolved = resolve(&[], &[(name, "tcp://10.0.0.1:7")], "").unwrap();
        resolved
            .refuse_misspelt_variables()
            .map_err(|e| e.to_string())
    };
    for name in [
        "ECHOD_PORT",
        "ECHOD_SERVICE_HOST",
        "ECHOD_SERVICE_PORT",
        "ECHOD_SERVICE_PORT_ECHO",
        "ECHOD_PORT_7777_TCP",
        "ECHOD_PORT_7777_UDP_PROTO",
        "ECHOD_ADMIN_SERVICE_HOST",
        "ECHOD_ADMIN_PORT",
        "ECHOD_ADMIN_PORT_9777_TCP_ADDR",
    ] {
        assert_eq!(refused(name), Ok(()), "{name}");
    }
    for (name, hint) in [
        ("ECHOD_WORKRS", "did you mean ECHOD_WORKERS?"),
        (
            "ECHOD_MAXCONNECTIONS",
            "did you mean ECHOD_MAX_CONNECTIONS?",
        ),
        ("ECHOD_PORT_X_TCP", "see echod --help"),
        ("ECHOD_", "see echod --help"),
        ("ECHOD_COLOUR", "see echod --help"),
    ] {
        let error = refused(name).unwrap_err();
        assert!(
            error.starts_with(&format!("{name}: sets nothing; ")),
            "{error}"
        );
        assert!(error.ends_with(hint), "{error}");
    }
}

#[test]
fn empty_variables_are_unset_and_unknown_ones_are_reported() {
    let resolved = resolve(
        &[],
        &[
            ("ECHOD_IDLE_TIMEOUT", ""),
            ("ECHOD_DENY", " "),
            ("ECHOD_SERVICE_HOST", "10.0.0.1"),
            ("ECHOD_PORT", "tcp://10.0.0.1:7"),
            ("ECHOD_CONFIG", FILE),
            ("PATH", "/bin"),
        ],
        "",
    )
    .unwrap();
    assert_eq!(resolved.settings, Settings::default());
    assert_eq!(
        resolved.unknown_variables,
        ["ECHOD_PORT", "ECHOD_SERVICE_HOST"]
    );
}

#[test]
fn an_error_names_its_origin_and_its_key() {
    let no_unit = "`3` is not a duration: its unit is missing; write for example 250ms, 10s or 2m";
    for (result, text) in [
        (
            resolve(&[("idle-timeout", "3")], &[], ""),
            format!("--idle-timeout: {no_unit}"),
        ),
        (
            resolve(&[], &[("ECHOD_IDLE_TIMEOUT", "3")], ""),
            format!("ECHOD_IDLE_TIMEOUT: {no_unit}"),
        ),
        (
            resolve(&[], &[], "\n# two lines\nidle-timeout = 3"),
            format!("/etc/echod.toml:3: idle-timeout: {no_unit}"),
        ),
        (
            // A mistake although it is overridden.
            resolve(&[("idle-timeout", "3s")], &[], "idle-timeout = 3"),
            format!("/etc/echod.toml:1: idle-timeout: {no_unit}"),
        ),
        (
            resolve(&[("no-such", "3")], &[], ""),
            "unknown option `--no-such`".to_owned(),
        ),
    ] {
        assert_eq!(result.unwrap_err().to_string(), text);
    }
}

#[test]
fn an_error_in_a_file_names_its_line() {
    for (file, text) in [
        (
            "pin = true\nmax-conections = 3",
            "2: unknown key `max-conections`; did you mean `max-connections`?",
        ),
        (
            "idle_timeout = '3s'",
            "1: unknown key `idle_timeout`; did you mean `idle-timeout`?",
        ),
        ("fruit = 3", "1: unknown key `fruit`"),
        (
            "\n[limits]\npin = true",
            "2: `limits` is a table; all keys stand at the top, without one",
        ),
        (
            "echo.tcp = 'x'",
            "1: `echo` is a table; all keys stand at the top, without one",
        ),
        (
            "pin = true\npin = false",
            "2: not valid TOML: duplicate key at `pin`",
        ),
        (
            "pin = 'true'",
            "1: pin: must be true or false, but this is of type string",
        ),
        (
            "workers = true",
            "1: workers: must be a string or a number, but this is of type boolean",
        ),
        (
            "deny = [\n'10.0.0.0/8',\n7]",
            "3: deny: must be a string or an array of strings, but this is of type integer",
        ),
        (
            "backlog = 0x10",
            "1: backlog: `0x10` is not a count: its unit is unknown; write for example 500, 10k \
             or 2M",
        ),
        (
            "deny = [\n'10.0.0.0/8',\n'10.0.0.1/8']",
            "3: deny: `10.0.0.1/8` is not an address prefix: bits are set beyond the first 8; \
             write for example 10.0.0.0/8",
        ),
        (
            "congestion = \"\"\"b\nr\"\"\"",
            "1: congestion: `b\\nr` is not the name of an algorithm; write for example cubic or bbr",
        ),
        (
            "unix-mode = 668",
            "1: unix-mode: `668` is not octal permissions from 0 to 777; write for example 660",
        ),
    ] {
        let error = resolve(&[], &[], file).unwrap_err().to_string();
        assert_eq!(error, format!("{FILE}:{text}"));
    }
}

#[test]
fn contradictions_are_refused() {
    for (file, text) in [
        ("echo = []", "1: echo: there is nothing to serve"),
        (
            "\nchargen = 'udp://[::1]:19'",
            "2: chargen: udp://[::1]:19 would answer to forged addresses; set udp-chargen",
        ),
        (
            "chargen = 'unix:/run/x'",
            "1: chargen: unix:/run/x can't be: Unix sockets have echo and discard",
        ),
        (
            "discard = 'tcp://[::1]:7'\necho = 'tcp://[::1]:7'",
            "1: discard: tcp://[::1]:7 is given to echo already; choose another",
        ),
        (
            "echo = 'tcp://[::1]:7'\nadmin = '[::1]:7'",
            "2: admin: [::1]:7 is given to echo already; choose another",
        ),
        (
            "echo = 'unix:/run/x'\nhandover = '/run/x'",
            "2: handover: unix:/run/x is an endpoint of a service; choose another",
        ),
        (
            "echo = 'unix:/run/x'\nadmin = 'unix:/run/x'",
            "2: admin: unix:/run/x is given to echo already; choose another",
        ),
        (
            "admin = 'unix:/run/x'\nhandover = '/run/x'",
            "2: handover: unix:/run/x is the admin port; choose another",
        ),
    ] {
        let error = resolve(&[], &[], file).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{FILE}:{text}")), "{error}");
    }
    let error = resolve(&[], &[("ECHOD_ADMIN", "127.0.0.1:7777")], "").unwrap_err();
    assert!(error.to_string().starts_with("ECHOD_ADMIN: "), "{error}");
}

#[test]
fn the_same_port_is_free_for_tcp_and_udp_and_port_0_always() {
    settings(
        &[],
        &[],
        "echo = ['tcp://[::1]:7', 'udp://[::1]:7', 'tcp://[::1]:0', 'tcp://[::1]:0']",
    );
    settings(
        &[],
        &[],
        "udp-chargen = true\nchargen = ['udp://[::1]:19', 'tcp://[::1]:19']",
    );
}

#[test]
fn invalid_values_are_refused() {
    for (name, value) in [
        ("workers", "0"),
        ("workers", "1G"),
        ("backlog", "0"),
        ("recv-buffer", "0"),
        ("recv-buffer", "2GiB"),
        ("stall-bytes", "0"),
        ("idle-timeout", "0"),
        ("idle-timeout", "10"),
        ("user-timeout", "10us"),
        ("user-timeout", "597h"),
        ("keepalive", "0"),
        ("keepalive", "1500ms"),
        ("keepalive", "10h"),
        ("keepalive", "1m,"),
        ("keepalive", "1m,10s,0"),
        ("keepalive", "1m,10s,128"),
        ("keepalive", "1m,10s,5,1"),
        ("ipv6-prefix", "0"),
        ("ipv6-prefix", "129"),
        ("ipv6-prefix", "/64"),
        ("accept-rate-per-ip", "never"),
        ("workers", "off"),
        ("max-connections", "0"),
        ("accept-rate", "0"),
        ("udp-rate", "2G"),
        ("echo", "127.0.0.1:7"),
        ("admin", "http://127.0.0.1:9777"),
        ("admin", "unix:"),
        ("admin-host", "http://echod"),
        ("admin-host", "echod:9777"),
        ("user", ""),
        ("user", "echo:"),
        ("user", "a:b:c"),
        ("sandbox", "on"),
        ("handover", ""),
        ("spin", "sometimes"),
        ("balance", "round-robin"),
        ("pin", "maybe"),
        ("log-level", "loud"),
    ] {
        let error = resolve(&[(name, value)], &[], "").unwrap_err();
        assert!(error.is_in_flags());
        assert!(error.to_string().starts_with(&format!("--{name}: ")));
    }
}

#[test]
fn each_printed_line_has_its_origin() {
    let resolved = resolve(
        &[("pin", "true")],
        &[("ECHOD_MAX_CONNECTIONS", "10k")],
        "# A comment.\nidle-timeout = '90s'\nudp-rate = 0.5",
    )
    .unwrap();
    let toml = resolved.to_toml();
    for line in [
        "pin = true # --pin",
        "max-connections = 10000 # ECHOD_MAX_CONNECTIONS",
        "idle-timeout = \"90s\" # /etc/echod.toml:2",
        "udp-rate = 0.5 # /etc/echod.toml:3",
        "echo = [\"tcp://127.0.0.1:7777\"] # default",
        "# lifetime is unset: never",
    ] {
        assert!(toml.lines().any(|l| l == line), "no `{line}` in\n{toml}");
    }
    assert_eq!(toml.lines().count(), KEYS.len());
}

/// A stronger source can take a limit back, and the printed settings say so.
#[test]
fn a_limit_is_switched_off_by_one_word() {
    for key in KEYS {
        let is_limit = key.default == "no limit" || key.default == "never";
        if !is_limit && !["udp-rate-per-source", "user-timeout", "keepalive"].contains(&key.name) {
            continue;
        }
        let limited = match key.value {
            "DURATION" | "IDLE[,INTERVAL[,COUNT]]" => "7s",
            _ => "7",
        };
        let file = format!("{} = '{limited}'", key.name);
        assert_ne!(settings(&[], &[], &file), settings(&[], &[], ""), "{file}");
        let off = resolve(&[(key.name, "off")], &[], &file).unwrap();
        let printed = off.to_toml();
        let line = format!("{} = \"off\" # --{}", key.name, key.name);
        assert!(printed.lines().any(|it| it == line), "{line} in\n{printed}");
        let shown = off.settings.to_json(Audience::ThisMachine);
        let value = &shown[key.name];
        assert!(value.is_null() || value == "off", "{} {value}", key.name);
    }
}

#[test]
fn a_source_that_gives_one_service_is_why_the_others_have_no_endpoint() {
    let resolved = resolve(
        &[("discard", "tcp://[::1]:0")],
        &[],
        "echo = 'tcp://[::1]:7'",
    );
    let toml = resolved.unwrap().to_toml();
    assert!(
        toml.starts_with("echo = [] # --discard\ndiscard = ["),
        "{toml}"
    );
}

#[test]
fn settings_that_need_a_restart_are_named() {
    let running = settings(&[], &[], "idle-timeout = '3s'\nworkers = 1");
    let new = settings(
        &[],
        &[],
        "idle-timeout = '4s'\nworkers = 2\ndeny = '::1'\nlog-level = 'warn'",
    );
    assert_eq!(new.needing_restart(&running), ["workers", "log-level"]);
    assert!(new.needing_restart(&new).is_empty());
}

/// The file in deploy/, unchanged and with every commented setting enabled.
#[test]
fn the_example_is_accepted_and_mentions_every_key() {
    let example = include_str!("../../deploy/echod.toml");
    let set = settings(&[], &[], example);
    assert!(set.config.limits.max_connections.is_some());
    let uncommented: String = example
        .lines()
        .filter_map(|line| match line.strip_prefix('#') {
            // Prose has a space after the #, settings have none.
            Some(setting) if !setting.starts_with(' ') => Some(setting),
            Some(_) => None,
            None => Some(line),
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    settings(&[], &[], &uncommented);
    for key in KEYS {
        let start = format!("{} = ", key.name);
        let mentioned = uncommented.lines().any(|line| line.starts_with(&start));
        assert!(mentioned, "no {}", key.name);
    }
}

/// A regular expression for values that the key takes.
fn values(key: &Key) -> &'static str {
    match (key.name, key.value) {
        ("whoami-env", _) => "[A-Z_]{1,9}",
        ("admin-host", _) => "[a-z0-9._-]{1,20}",
        ("unix-mode", _) => "0?[0-7]{1,3}",
        ("balance", _) => "kernel|least-connections|incoming-cpu",
        ("user-timeout", _) => "[1-9][0-9]{0,2}(ms|s|m)",
        ("keepalive", _) => "[1-9]s|[1-9]m,[1-9]s|90s,10s,[1-9]|off",
        ("ipv6-prefix", _) => "[1-9]|[1-9][0-9]|12[0-8]",
        ("idle-timeout", _) => "off|[1-9]m",
        ("max-connections" | "udp-rate-per-source", _) => "off|[1-9]",
        ("stall-bytes", _) => "[1-9][0-9]{0,12}(k|MB)?",
        (_, "ENDPOINT") => {
            "tcp://([a-z]{1,9}|\\[::1\\]):[0-9]{1,4}(\\?stall=[1-9]ms/1s(&work=exp:[1-9]us)?)?"
        }
        (_, "FILE") => "/?[a-z.]{1,20}",
        (_, "BOOL") => "true|false|yes|no|0|1",
        (_, "N|auto") => "auto|[1-9][0-9]{0,2}",
        (_, "DURATION|auto|always") => "auto|always|0|[1-9][0-9]{0,4}(us|ms)",
        (_, "DURATION") => "[1-9][0-9]{0,2}(\\.[0-9]{1,9})?(ms|s|m|h)",
        (_, "N") => "[1-9][0-9]{0,5}|[1-9][0-9]{0,2}[kM]",
        (_, "RATE") => "[1-9][0-9]{0,2}(\\.[0-9]{1,6})?[kM]?|0\\.0{0,7}[1-9]",
        (_, "SIZE|auto|off") => "auto|off|[0-9]{1,5}(k|MiB|GB)?",
        (_, "SIZE") => "[1-9][0-9]{0,4}(k|KiB|kB)?",
        (_, "NAME") => "[!-~]{1,15}",
        (_, "CIDR") => "10\\.[1-9][0-9]?\\.0\\.0/16|[1-9a-f][0-9a-f]{0,3}::/16|127\\.0\\.0\\.1",
        (_, "PATH") => "\\PC{1,20}",
        (_, "HOST:PORT|unix:PATH") => "[a-z]{1,9}:[0-9]{1,4}|unix:/[a-z]{1,20}",
        (_, "NAME[:GROUP]") => "[a-z0-9_-]{1,9}(:[a-z0-9_-]{1,9})?",
        (_, "off|accept|require") => "off|accept|require",
        (_, "auto|off|require") => "auto|off|require",
        (_, "stdout|off") => "stdout|off",
        (_, "FORMAT") => "text|json",
        (_, "LEVEL") => "error|warn|info|debug|trace",
        (name, value) => panic!("no values for {name} {value}"),
    }
}

fn key() -> impl Strategy<Value = &'static Key> {
    (0..KEYS.len()).prop_map(|index| &KEYS[index])
}

fn flags() -> impl Strategy<Value = Vec<(&'static str, String)>> {
    let flag = key().prop_flat_map(|key| {
        let values = prop::string::string_regex(values(key)).expect("a regular expression");
        values.prop_map(move |value| (key.name, value))
    });
    prop::collection::vec(flag, 0..20)
}

proptest! {
    #[test]
    fn printed_settings_read_back_the_same(flags in flags()) {
        // Endpoints drawn twice are refused, as they should be.
        if let Ok(resolved) = Settings::resolve(&flags, [], None) {
            let toml = resolved.to_toml();
            let again = resolve(&[], &[], &toml);
            prop_assert_eq!(again.map(|r| r.settings), Ok(resolved.settings), "{}", toml);
        }
    }

    #[test]
    fn every_drawn_value_is_taken(flags in flags()) {
        for (name, value) in flags {
            let key = named(name).expect("a key");
            let taken = (key.apply)(&mut Settings::default(), &value);
            prop_assert_eq!(taken, Ok(()), "{} {}", name, value);
        }
    }

    #[test]
    fn no_file_makes_the_parser_panic(text in "(\\PC|\n|[a-z='\"\\[\\]{}.#-]){0,60}") {
        if let Err(error) = resolve(&[], &[], &text) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
        }
    }

    #[test]
    fn no_value_makes_a_key_panic(
        key in key(),
        value in "([0-9.]{0,6})?\\PC{0,12}|\\s*",
    ) {
        let quoted = format!("{} = {}", key.name, quote(&value));
        let file = resolve(&[], &[], &quoted);
        let flag = Settings::resolve(&[(key.name, &value)], [], None);
        if let (Err(error), Kind::Value) = (&flag, key.kind) {
            prop_assert_eq!(error.to_string().lines().count(), 1);
            prop_assert!(file.is_err());
        }
    }
}
