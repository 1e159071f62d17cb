//! Whatever a client of the admin port sends, the answer is one whole HTTP response, and it is the
//! same however the bytes were cut into segments. The first byte says where they are cut.
#![no_main]

use echomark::internal::{MAX_HEAD_LEN, Pages, Parse, Readiness, respond};
use libfuzzer_sys::fuzz_target;

struct Fixed;

impl Pages for Fixed {
    fn metrics(&self) -> String {
        "up 1\n".to_owned()
    }

    fn info(&self) -> String {
        "{}\n".to_owned()
    }

    fn readiness(&self) -> Readiness {
        Readiness::Draining
    }

    fn is_known_host(&self, host: &str) -> bool {
        host.starts_with("localhost")
    }
}

fuzz_target!(|bytes: &[u8]| {
    let Some((&cut, request)) = bytes.split_first() else {
        return;
    };
    let start = &request[..request.len() * usize::from(cut) / 256];
    let answered_early = respond(start, &Fixed);
    match respond(request, &Fixed) {
        Parse::Incomplete => {
            assert!(request.len() < MAX_HEAD_LEN);
            assert_eq!(answered_early, Parse::Incomplete);
        }
        Parse::Response(response) => {
            check(request, &response);
            if let Parse::Response(early) = answered_early {
                assert_eq!(early, response);
            }
        }
    }
});

/// Checks a response after RFC 9112, without the parser that the admin port uses.
fn check(request: &[u8], response: &[u8]) {
    let response = std::str::from_utf8(response).expect("responses are text");
    let (head, body) = response
        .split_once("\r\n\r\n")
        .expect("the head has an end");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 "));
    let code = status.and_then(|it| it.split_once(' ')?.0.parse::<u16>().ok());
    assert!(
        code.is_some_and(|code| (200..600).contains(&code)),
        "{head}"
    );
    let fields: Vec<_> = lines
        .map(|line| line.split_once(": ").expect("a field"))
        .collect();
    let values = |name: &str| {
        let named = fields
            .iter()
            .filter(|(it, _)| it.eq_ignore_ascii_case(name));
        named.map(|&(_, value)| value).collect::<Vec<_>>()
    };
    assert_eq!(values("connection"), ["close"]);
    let lengths = values("content-length");
    // Empty lines in front of a request are passed over (RFC 9112, section 2.2).
    if body.is_empty() && request.trim_ascii_start().starts_with(b"HEAD ") {
        assert_eq!(lengths.len(), 1);
    } else {
        assert_eq!(lengths, [body.len().to_string()]);
    }
}
