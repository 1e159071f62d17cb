//! Faults behind the question mark of an endpoint.

use super::*;
use crate::faults::Faults;

fn faults(settings: &Settings) -> Vec<String> {
    let endpoints = settings.config.endpoints();
    endpoints
        .map(|(service, endpoint, faults)| {
            let faults = faults.map(ToString::to_string).unwrap_or_default();
            format!("{service} {endpoint} {faults}")
        })
        .collect()
}

#[test]
fn faults_stay_with_their_endpoints() {
    let flags = [
        ("whoami", "tcp://h:4"),
        ("discard", "tcp://h:3?work=1ms"),
        ("echo", "tcp://h:1"),
        ("echo", "unix:/run/echo?delay=exp:1ms&drop=0.1%"),
    ];
    let settings = settings(&flags, &[], "");
    assert_eq!(
        faults(&settings),
        [
            "echo tcp://h:1 ",
            "echo unix:/run/echo delay=exp:1ms&drop=0.001",
            "discard tcp://h:3 work=1ms",
            "whoami tcp://h:4 ",
        ]
    );
}

/// A comma separates endpoints, and also the parts of a mix.
#[test]
fn a_variable_may_have_several_endpoints_with_mixes() {
    for (list, expected) in [
        (
            "tcp://h:1?delay=mix:1ms=90,20ms=10&seed=3, udp://h:1?drop=1%,unix:/run/a,tcp://h:2",
            &[
                "echo tcp://h:1 delay=mix:1ms=90,20ms=10&seed=3",
                "echo udp://h:1 drop=0.01",
                "echo unix:/run/a ",
                "echo tcp://h:2 ",
            ][..],
        ),
        ("tcp://h:1,,", &["echo tcp://h:1 "]),
        (
            "tcp://h:1?delay=normal:5ms,1ms,",
            &["echo tcp://h:1 delay=normal:5ms,1ms"],
        ),
    ] {
        assert_eq!(
            faults(&settings(&[], &[("ECHOD_ECHO", list)], "")),
            expected
        );
    }
    let error = resolve(&[], &[("ECHOD_ECHO", "tcp://h:1,nonsense")], "").unwrap_err();
    assert!(
        error.to_string().contains("`nonsense` is not an endpoint"),
        "{error}"
    );
}

#[test]
fn faults_need_no_restart_and_endpoints_do() {
    let file = |echo: &str| settings(&[], &[], &format!("echo = [{echo}]"));
    let running = file("'tcp://h:1?delay=1ms', 'tcp://h:0', 'tcp://h:0?drop=1%'");
    let changed = file("'tcp://h:1', 'tcp://h:0?reset=1%', 'tcp://h:0'");
    assert!(changed.needing_restart(&running).is_empty());
    let mut in_force = running.config.clone();
    in_force.take_faults(&changed.config);
    let reset: Faults = "reset=1%".parse().unwrap();
    assert_eq!(
        in_force.faults,
        [Faults::default(), reset, Faults::default()]
    );

    // An endpoint that is not there any more keeps its own until the restart.
    let other = file("'tcp://h:2?delay=9ms', 'tcp://h:0?reset=1%'");
    assert_eq!(other.needing_restart(&running), ["echo"]);
    let mut in_force = running.config;
    in_force.take_faults(&other.config);
    let expected = ["delay=1ms", "reset=0.01", "drop=0.01"];
    let in_force: Vec<_> = in_force.faults.iter().map(Faults::to_string).collect();
    assert_eq!(in_force, expected);
}

#[test]
fn a_fault_without_sense_is_refused_with_its_origin() {
    let error = resolve(&[], &[], "echo = [\n  'udp://h:1?reset=1%',\n]").unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with(&format!("{FILE}:1: echo: udp://h:1 can't have reset")),
        "{said}"
    );
}
