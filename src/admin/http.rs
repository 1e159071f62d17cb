//! The admin port's subset of HTTP: one request per connection, one response, then a close. A pure
//! function of the bytes received so far.
//!
//! Request targets are compared verbatim, without their query. Header fields must be well-formed
//! and are otherwise ignored; each response says `Connection: close`.

use std::borrow::Cow;
use std::fmt::Write;

use httparse::{Error, Header, Request, Status};

/// The most bytes in the head of a request: request line, header fields, empty line.
pub const MAX_HEAD_LEN: usize = 8 << 10;
/// The most header fields in a request.
const MAX_HEADERS: usize = 64;

/// The current content of the admin port's pages.
pub trait Pages {
    /// All metrics in the text format of Prometheus.
    fn metrics(&self) -> String;
    /// A JSON object about the server.
    fn info(&self) -> String;
    /// Whether a load balancer should send clients here.
    fn readiness(&self) -> Readiness;
    /// Whether a request may be meant for this server, by the host that it names, perhaps with a
    /// port.
    fn is_known_host(&self, host: &str) -> bool;
}

/// Whether the server accepts more clients.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Readiness {
    /// It does.
    Ready,
    /// It is draining.
    Draining,
}

/// The result of parsing the bytes received so far.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Parse {
    /// The beginning of a request; more bytes are needed. Never returned for [`MAX_HEAD_LEN`] bytes
    /// or more.
    Incomplete,
    /// The whole response to a complete request, or to bytes that can't become a valid one.
    Response(Vec<u8>),
}

/// Answers the request at the start of `bytes_so_far`. Bytes after the request are ignored, and so
/// are bytes beyond [`MAX_HEAD_LEN`].
pub fn respond(bytes_so_far: &[u8], pages: &impl Pages) -> Parse {
    let head = &bytes_so_far[..bytes_so_far.len().min(MAX_HEAD_LEN)];
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut request = Request::new(&mut headers);
    let parsed = request.parse(head);
    let (answer, body) = match parsed {
        Ok(Status::Complete(_)) => {
            let method = request.method.unwrap_or_default();
            let target = request.path.unwrap_or_default();
            let answer = if is_misdirected(target, request.headers, pages) {
                Answer::MISDIRECTED
            } else {
                answer(method, target, pages)
            };
            let body = if method == "HEAD" {
                Body::Left
            } else {
                Body::Sent
            };
            (answer, body)
        }
        Ok(Status::Partial) if head.len() < MAX_HEAD_LEN => return Parse::Incomplete,
        // Without a version the request line is incomplete, so the target is too long.
        Ok(Status::Partial) if request.version.is_none() => (Answer::URI_TOO_LONG, Body::Sent),
        Ok(Status::Partial) | Err(Error::TooManyHeaders) => (Answer::HEAD_TOO_LARGE, Body::Sent),
        Err(_) => (Answer::BAD_REQUEST, Body::Sent),
    };
    Parse::Response(answer.encode(body))
}

/// The response to a client whose request took too long.
pub(super) fn request_timeout() -> Vec<u8> {
    Answer::REQUEST_TIMEOUT.encode(Body::Sent)
}

/// The response to a client that shut its side down within a request.
pub(super) fn bad_request() -> Vec<u8> {
    Answer::BAD_REQUEST.encode(Body::Sent)
}

/// Whether the body follows the head; the answer to HEAD only states its length.
#[derive(Clone, Copy)]
enum Body {
    Sent,
    Left,
}

/// A response before it is written out.
struct Answer {
    status: &'static str,
    content_type: &'static str,
    /// A header field with its line end, or nothing.
    extra: &'static str,
    body: Cow<'static, str>,
}

const TEXT: &str = "text/plain; charset=utf-8";
/// The text format that Prometheus scrapes (its "Exposition formats").
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";
const JSON: &str = "application/json";

impl Answer {
    const BAD_REQUEST: Self = Self::text("400 Bad Request", "not an HTTP/1 request\n");
    const NOT_FOUND: Self = Self::text(
        "404 Not Found",
        "there are /metrics, /livez, /readyz and /info\n",
    );
    const METHOD_NOT_ALLOWED: Self = Self {
        status: "405 Method Not Allowed",
        content_type: TEXT,
        extra: "Allow: GET, HEAD\r\n",
        body: Cow::Borrowed("only GET and HEAD\n"),
    };
    const REQUEST_TIMEOUT: Self = Self::text("408 Request Timeout", "the request took too long\n");
    /// RFC 9110, section 15.5.20.
    const MISDIRECTED: Self = Self::text(
        "421 Misdirected Request",
        "this host name is not known here; use an IP address, or start echod with --admin-host NAME\n",
    );
    const URI_TOO_LONG: Self = Self::text("414 URI Too Long", "the request line is too long\n");
    const HEAD_TOO_LARGE: Self = Self::text(
        "431 Request Header Fields Too Large",
        "the header fields are too many or too long\n",
    );
    const LIVE: Self = Self::text("200 OK", "alive\n");
    const READY: Self = Self::text("200 OK", "ready\n");
    const DRAINING: Self = Self::text("503 Service Unavailable", "draining\n");

    const fn text(status: &'static str, body: &'static str) -> Self {
        Self {
            status,
            content_type: TEXT,
            extra: "",
            body: Cow::Borrowed(body),
        }
    }

    fn page(content_type: &'static str, body: String) -> Self {
        Self {
            status: "200 OK",
            content_type,
            extra: "",
            body: body.into(),
        }
    }

    fn encode(&self, body: Body) -> Vec<u8> {
        let mut text = String::with_capacity(256 + self.body.len());
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
             {}Connection: close\r\n\r\n",
            self.status,
            self.content_type,
            self.body.len(),
            self.extra,
        );
        match body {
            Body::Sent => text.push_str(&self.body),
            Body::Left => {}
        }
        text.into_bytes()
    }
}

fn answer(method: &str, target: &str, pages: &impl Pages) -> Answer {
    let page: fn(_) -> Answer = match path_of(target) {
        "/metrics" => |pages: &_| Answer::page(EXPOSITION, Pages::metrics(pages)),
        "/info" => |pages: &_| Answer::page(JSON, Pages::info(pages)),
        "/livez" => |_: &_| Answer::LIVE,
        "/readyz" => |pages: &_| match Pages::readiness(pages) {
            Readiness::Ready => Answer::READY,
            Readiness::Draining => Answer::DRAINING,
        },
        _ => return Answer::NOT_FOUND,
    };
    match method {
        "GET" | "HEAD" => page(pages),
        _ => Answer::METHOD_NOT_ALLOWED,
    }
}

/// Whether the request names a host that is not this one. A page of a foreign name, which an attacker
/// lets point here (DNS rebinding), makes a browser send such requests. A request that names no host
/// is not from a browser.
fn is_misdirected(target: &str, fields: &[Header<'_>], pages: &impl Pages) -> bool {
    let in_fields = fields
        .iter()
        .filter(|field| field.name.eq_ignore_ascii_case("host"))
        .map(|field| std::str::from_utf8(field.value).unwrap_or_default());
    let mut named = in_fields.chain(split(target).0);
    named.any(|host| !pages.is_known_host(host.trim()))
}

/// The path of a target.
fn path_of(target: &str) -> &str {
    let (_, path) = split(target);
    path.split_once('?').map_or(path, |(path, _)| path)
}

/// The host, if there is one, and the path with the query of a target in origin-form, `/path?query`,
/// or absolute-form, `http://host/path?query`, which every server has to understand (RFC 9112, 3.2.2).
fn split(target: &str) -> (Option<&str>, &str) {
    const SCHEME: &str = "http://";
    let after_scheme = match target.get(..SCHEME.len()) {
        Some(scheme) if scheme.eq_ignore_ascii_case(SCHEME) => &target[SCHEME.len()..],
        _ => "",
    };
    match after_scheme.find('/') {
        Some(start) => (Some(&after_scheme[..start]), &after_scheme[start..]),
        None => (None, target),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Fixed(Readiness);

    impl Pages for Fixed {
        fn metrics(&self) -> String {
            "up 1\n".to_owned()
        }

        fn info(&self) -> String {
            "{}".to_owned()
        }

        fn readiness(&self) -> Readiness {
            self.0
        }

        fn is_known_host(&self, host: &str) -> bool {
            host.starts_with("known")
        }
    }

    const READY: Fixed = Fixed(Readiness::Ready);

    fn text(bytes: &[u8], pages: &Fixed) -> String {
        match respond(bytes, pages) {
            Parse::Incomplete => "incomplete".to_owned(),
            Parse::Response(response) => String::from_utf8(response).unwrap(),
        }
    }

    #[track_caller]
    fn expect(request: &str, status: &str) -> String {
        let response = text(request.as_bytes(), &READY);
        let line = response.lines().next().unwrap();
        assert_eq!(line, format!("HTTP/1.1 {status}"), "{request:?}");
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert!(head.contains("\r\nConnection: close"));
        if !request.starts_with("HEAD") {
            assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
        }
        response
    }

    #[test]
    fn each_page_has_its_type() {
        let response = expect("GET /metrics HTTP/1.1\r\nHost: known\r\n\r\n", "200 OK");
        assert!(response.contains("Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
        assert!(response.ends_with("\r\n\r\nup 1\n"));
        let response = expect("GET /info HTTP/1.0\r\n\r\n", "200 OK");
        assert!(response.contains("Content-Type: application/json\r\n"));
        assert!(response.ends_with("\r\n\r\n{}"));
        expect("GET /livez HTTP/1.1\r\n\r\n", "200 OK");
        expect("GET /readyz HTTP/1.1\r\n\r\n", "200 OK");
        let draining = text(b"GET /readyz HTTP/1.1\r\n\r\n", &Fixed(Readiness::Draining));
        assert!(draining.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
    }

    #[test]
    fn head_has_the_header_of_get() {
        let got = expect("GET /metrics HTTP/1.1\r\n\r\n", "200 OK");
        let head = expect("HEAD /metrics HTTP/1.1\r\n\r\n", "200 OK");
        assert_eq!(got.strip_suffix("up 1\n"), Some(head.as_str()));
    }

    #[test]
    fn targets_are_understood_in_both_forms_and_without_their_query() {
        for target in [
            "/livez?verbose",
            "/livez?",
            "http://known:1/livez",
            "HTTP://known/livez?x=/metrics",
        ] {
            let response = expect(&format!("GET {target} HTTP/1.1\r\n\r\n"), "200 OK");
            assert!(response.ends_with("alive\n"));
        }
        for target in [
            "/",
            "/livez/",
            "livez",
            "*",
            "http://host",
            "http://known/x",
            "/é",
        ] {
            expect(&format!("GET {target} HTTP/1.1\r\n\r\n"), "404 Not Found");
        }
    }

    #[test]
    fn a_request_for_another_host_is_refused_before_anything_else() {
        let misdirected = "421 Misdirected Request";
        for fields in [
            "Host: evil.example\r\n",
            "host:evil.example:9777\r\n",
            "Host:\r\n",
            "Host: known\r\nHost: evil.example\r\n",
            "Host: evil.example\r\nHost: known\r\n",
        ] {
            for start in ["GET /info", "POST /info", "GET /nowhere"] {
                expect(&format!("{start} HTTP/1.1\r\n{fields}\r\n"), misdirected);
            }
        }
        for target in ["http://evil.example/info", "http:///info"] {
            let request = format!("GET {target} HTTP/1.1\r\nHost: known\r\n\r\n");
            expect(&request, misdirected);
        }
        let response = text(b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n", &READY);
        assert!(response.contains("421"), "{response}");
    }

    #[test]
    fn refused_requests_have_distinct_codes() {
        let response = expect("POST /info HTTP/1.1\r\n\r\n", "405 Method Not Allowed");
        assert!(response.contains("\r\nAllow: GET, HEAD\r\n"));
        for bad in [
            "\0",
            "GET\r\n\r\n",
            "GET / HTTP/2.0\r\n\r\n",
            "GET /livez HTTP/1.1\r\nno colon\r\n\r\n",
            "GET /livez HTTP/1.1\r\na : b\r\n\r\n",
        ] {
            expect(bad, "400 Bad Request");
        }
        let long = "x".repeat(MAX_HEAD_LEN);
        expect(&format!("GET /{long} HTTP/1.1\r\n\r\n"), "414 URI Too Long");
        let too_large = "431 Request Header Fields Too Large";
        expect(&format!("GET / HTTP/1.1\r\na: {long}\r\n\r\n"), too_large);
        let many = "a: b\r\n".repeat(MAX_HEADERS + 1);
        expect(&format!("GET / HTTP/1.1\r\n{many}\r\n"), too_large);
    }

    #[test]
    fn a_head_of_the_greatest_length_is_answered() {
        let start = "GET /livez HTTP/1.1\r\na: ";
        let fill = "x".repeat(MAX_HEAD_LEN - start.len() - 4);
        let request = format!("{start}{fill}\r\n\r\n");
        assert_eq!(request.len(), MAX_HEAD_LEN);
        expect(&request, "200 OK");
    }

    fn valid_request() -> impl Strategy<Value = String> {
        let method = prop_oneof![
            Just("GET"),
            Just("HEAD"),
            Just("POST"),
            "[A-Z]{1,9}".prop_map(|_| "DELETE")
        ];
        let target = "(/metrics|/livez|/readyz|/info|/[a-z%0-9]{0,8})(\\?[a-z=&]{0,8})?";
        let headers =
            proptest::collection::vec("[A-Za-z-]{1,12}: ?[ -~]{0,20}\r\n", 0..MAX_HEADERS);
        (method, target, "1\\.[01]", headers).prop_map(|(method, target, version, headers)| {
            format!(
                "{method} {target} HTTP/{version}\r\n{}\r\n",
                headers.concat()
            )
        })
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            respond(&bytes, &READY);
        }

        #[test]
        fn no_mutation_makes_it_panic(
            request in valid_request(),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut bytes = request.into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            respond(&bytes, &READY);
        }

        #[test]
        fn a_request_is_answered_when_its_last_byte_came_and_not_before(
            request in valid_request(),
            garbage in proptest::collection::vec(any::<u8>(), 0..40),
        ) {
            let bytes = request.as_bytes();
            for len in 0..bytes.len() {
                prop_assert_eq!(respond(&bytes[..len], &READY), Parse::Incomplete);
            }
            let whole = respond(bytes, &READY);
            prop_assert_ne!(&whole, &Parse::Incomplete);
            let more = [bytes, &garbage].concat();
            prop_assert_eq!(respond(&more, &READY), whole);
        }

        #[test]
        fn endless_heads_end(byte in any::<u8>()) {
            prop_assert_ne!(respond(&[byte; MAX_HEAD_LEN], &READY), Parse::Incomplete);
        }
    }
}
