//! Faults on order behind TLS.

use super::{Authority, run, wait_for_closed};
use crate::support::echod::{Echod, PROGRAM};
use crate::support::tools::{require, require_python};

/// The port of the n-th endpoint.
fn port_of(echod: &Echod, number: usize) -> u16 {
    let endpoint = echod.listening().nth(number).expect("an endpoint");
    let port = endpoint.rsplit(':').next().expect("a port");
    port.parse().expect("a port")
}

#[test]
fn delays_losses_resets_and_ends_are_those_of_messages_in_records() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let endpoint = |options: &str| format!("--echo=tls://127.0.0.1:0?{options}");
    let mut command = std::process::Command::new(PROGRAM);
    command.args([
        endpoint("delay=50ms&close-after=3"),
        endpoint("duplicate=100%&corrupt=100%&drop=0.000001"),
        endpoint("reset=100%&delay=20ms"),
        "--admin=127.0.0.1:0".to_owned(),
        format!("--tls-cert={}", authority.cert("server")),
        format!("--tls-key={}", authority.key("server")),
        "--sandbox=auto".to_owned(),
    ]);
    let echod = Echod::start_command(&mut command);
    for (number, task) in [
        (0, "delayed"),
        (0, "delayed_end"),
        (1, "twice_and_corrupt"),
        (2, "reset"),
    ] {
        run(&mut authority.client(port_of(&echod, number), task, None));
    }
    wait_for_closed(&echod, "fault", 4);
    let fault = |name: &str| echod.metric(&format!("echod_faults_total{{fault=\"{name}\"}}"));
    // Three messages with each version of TLS, one that is the last, and one that is reset.
    assert_eq!((fault("delay"), fault("close_after")), (7, 2));
    assert_eq!((fault("duplicate"), fault("corrupt")), (2, 2));
    assert_eq!(fault("reset"), 2);
}
