//! Results that follow each other on one stream, as the logs of several processes do.

use std::io::{self, BufRead};

use loadgen::RunResult;
use loadgen::result::Stored;

use super::kind;
use crate::exit::Failure;

/// Maximum of bytes of one result: a hundred times what a long run has.
const MAX_RESULT: usize = 1 << 30;

/// The results on a stream, each with its name. Between them, lines that don't begin with a brace are left
/// out: a log has what its program wrote to stderr, too.
pub(crate) struct Stream<R> {
    input: R,
    /// Number of the current result, from 1.
    number: usize,
    is_over: bool,
}

impl<R: BufRead> Stream<R> {
    pub(crate) fn of(input: R) -> Self {
        Self {
            input,
            number: 0,
            is_over: false,
        }
    }

    fn next_result(&mut self) -> Result<Option<(String, RunResult)>, String> {
        let Some(json) = self.next_object().map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        match Stored::read(&json).map_err(|error| error.to_string())? {
            Stored::Run(result) => Ok(Some((format!("stdin {}", self.number), *result))),
            other => Err(format!(
                "it is the result of {}; give those of loadgen run",
                kind(&other)
            )),
        }
    }

    /// The bytes of the next object, line by line until its braces are closed.
    fn next_object(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut object = Vec::new();
        let mut scan = Scan::default();
        loop {
            let begin = object.len();
            let left = (MAX_RESULT - begin) as u64;
            io::Read::take(&mut self.input, left).read_until(b'\n', &mut object)?;
            let line = &object[begin..];
            if line.is_empty() {
                return match begin {
                    0 => Ok(None),
                    MAX_RESULT => Err(io::Error::other("it has more than a gigabyte")),
                    _ => Err(io::Error::other("it is cut off at the end of the stream")),
                };
            }
            if begin == 0 {
                if line[0] != b'{' {
                    object.clear();
                    continue;
                }
                self.number += 1;
            } else if line[0] == b'{' {
                // Objects within a result are indented.
                return Err(io::Error::other("it is cut off, and another one follows"));
            }
            if scan.closes(line) {
                return Ok(Some(object));
            }
        }
    }
}

impl<R: BufRead> Iterator for Stream<R> {
    type Item = Result<(String, RunResult), Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = self.next_result().transpose();
        self.is_over = !matches!(next, Some(Ok(_)));
        next.map(|result| {
            result.map_err(|problem| {
                let number = self.number.max(1);
                Failure::usage(format!("cannot read result {number} of stdin: {problem}"))
            })
        })
    }
}

/// The state of a scanner of JSON that only counts braces.
#[derive(Default)]
struct Scan {
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
}

impl Scan {
    /// Whether the object ends in these bytes, which continue those before.
    fn closes(&mut self, bytes: &[u8]) -> bool {
        for &byte in bytes {
            match byte {
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' if self.is_in_string => self.is_escaped = true,
                b'"' => self.is_in_string = !self.is_in_string,
                _ if self.is_in_string => {}
                b'{' => self.depth += 1,
                b'}' => {
                    self.depth = self.depth.saturating_sub(1);
                    if self.depth == 0 {
                        return true;
                    }
                }
                _ => {}
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(text: &str) -> Vec<Result<String, String>> {
        let mut stream = Stream::of(text.as_bytes());
        let mut all = Vec::new();
        loop {
            match stream.next_object() {
                Ok(None) => return all,
                Ok(Some(object)) => all.push(Ok(String::from_utf8(object).unwrap())),
                Err(error) => {
                    all.push(Err(error.to_string()));
                    return all;
                }
            }
        }
    }

    #[test]
    fn objects_are_found_between_the_lines_of_a_log() {
        let text =
            "loadgen: a line of stderr {\n{\"a\": \"}\\\"{\"}\n\n{\n  \"b\": {\n  }\n}\nthe end\n";
        let found: Vec<String> = objects(text).into_iter().map(Result::unwrap).collect();
        assert_eq!(found, ["{\"a\": \"}\\\"{\"}\n", "{\n  \"b\": {\n  }\n}\n"]);
        assert!(objects("").is_empty());
    }

    #[test]
    fn an_object_that_is_cut_off_is_told() {
        for (text, words) in [
            ("{\n  \"a\": 1,\n", "end of the stream"),
            ("{\n  \"a\": \"x\n{\n}\n", "another one follows"),
            ("{\"a\": {}", "end of the stream"),
        ] {
            let found = objects(text);
            let problem = found[0].as_ref().unwrap_err();
            assert!(problem.contains(words), "{text:?}: {problem}");
        }
    }
}
