//! A beginner's first client works.

use std::process::Command;

use crate::support::echod::Echod;
use crate::support::tools::require;

/// The echo client of the Python documentation's socket page, but for the server's address.
const CLIENT: &str = r#"
import socket
import sys

HOST = sys.argv[1]
PORT = int(sys.argv[2])
with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as s:
    s.connect((HOST, PORT))
    s.sendall(b'Hello, World!')
    data = s.recv(1024)
print('Received', repr(data))
"#;

#[test]
fn the_echo_client_of_the_python_documentation_works() {
    require!("python3");
    let echod = Echod::start(&["--echo=tcp://127.0.0.1:0"]);
    let address = echod.address();
    let output = Command::new("python3")
        .args(["-c", CLIENT])
        .arg(address.ip().to_string())
        .arg(address.port().to_string())
        .output()
        .expect("python3 can be started");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(stdout, "Received b'Hello, World!'\n", "{output:?}");
    assert!(output.status.success(), "{output:?}");
}
